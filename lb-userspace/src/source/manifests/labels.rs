//! Labels of a folder's Services, for people who select by them. The model keeps none: nothing follows from them.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::ManifestsError;
use super::decode::{kind_of, parse};
use super::folder::list;
use super::split::pieces;
use crate::model::desired::ServiceName;

/// Labels of a Service.
pub type Labels = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Labelled {
    metadata: ObjectMeta,
}

/// The labels of each Service. A file that cannot be read has none.
pub fn labels(folder: &Path) -> Result<BTreeMap<ServiceName, Labels>, ManifestsError> {
    let failed = |source| ManifestsError::Folder { path: folder.to_owned(), source };
    let mut all = BTreeMap::new();
    for name in list(folder).map_err(failed)? {
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        add(&text, &mut all);
    }
    Ok(all)
}

fn add(text: &str, all: &mut BTreeMap<ServiceName, Labels>) {
    for piece in pieces(text) {
        if kind_of(&piece).as_deref() != Some("Service") {
            continue;
        }
        let Ok(Labelled { metadata }) = parse::<Labelled>(&piece) else { continue };
        let name = ServiceName {
            namespace: metadata.namespace.unwrap_or_else(|| "default".to_owned()),
            name: metadata.name.unwrap_or_default(),
        };
        all.entry(name).or_insert_with(|| metadata.labels.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_services_in_files_and_lists() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {app: shop}}\nspec: {}\n---\n\
            kind: EndpointSlice\nmetadata: {name: x, labels: {app: other}}\n---\napiVersion: v1\nkind: List\nitems:\n\
            - apiVersion: v1\n  kind: Service\n  metadata:\n    name: db\n    namespace: back\n    labels:\n      app: db\n";
        let mut all = BTreeMap::new();
        add(text, &mut all);
        let shown: Vec<String> = all.iter().map(|(name, labels)| format!("{name} {labels:?}")).collect();
        assert_eq!(shown, [r#"back/db {"app": "db"}"#, r#"default/web {"app": "shop"}"#]);
    }
}
