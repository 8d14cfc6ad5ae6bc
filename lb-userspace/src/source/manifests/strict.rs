//! What a folder says that nobody reads: fields, values and kinds that look like a slip of the pen.

use std::path::Path;

use serde_json::Value;
use strsim::damerau_levenshtein;

use super::decode::{head, is_of_kind, parse};
use super::folder::list;
use super::split::{Piece, pieces};
use super::{ManifestsError, Unreadable};
use crate::source::objects::{ApiObject, for_each_kind};

/// Names that are this close may be meant for each other.
const CLOSE: usize = 2;
/// Fields of the objects that are read, and what they may be.
const VALUES: [(&str, &[&str]); 8] = [
    ("spec.type", &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
    ("spec.externalTrafficPolicy", &["Cluster", "Local"]),
    ("spec.internalTrafficPolicy", &["Cluster", "Local"]),
    ("spec.sessionAffinity", &["None", "ClientIP"]),
    ("spec.ipFamilyPolicy", &["SingleStack", "PreferDualStack", "RequireDualStack"]),
    ("spec.ports[].protocol", &["TCP", "UDP", "SCTP"]),
    ("ports[].protocol", &["TCP", "UDP", "SCTP"]),
    ("addressType", &["IPv4", "IPv6", "FQDN"]),
];
/// Fields that people write by hand.
const FIELDS: [&str; 30] = [
    "addresses",
    "addressType",
    "annotations",
    "clusterIP",
    "clusterIPs",
    "conditions",
    "endpoints",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "labels",
    "loadBalancerSourceRanges",
    "metadata",
    "name",
    "namespace",
    "nodeName",
    "nodePort",
    "port",
    "ports",
    "protocol",
    "ready",
    "selector",
    "sessionAffinity",
    "spec",
    "targetPort",
    "type",
];

/// What one document says in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slip {
    /// File and line of the document.
    pub place: String,
    /// Kind and name of the object.
    pub object: String,
    /// What is wrong.
    pub what: SlipKind,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlipKind {
    /// A field that the kind does not have, and the one that may be meant.
    Field(String, Option<&'static str>),
    /// A value that the field does not take, and those that it does.
    Value(String, String, &'static [&'static str]),
    /// A kind that is not read, and the one that may be meant.
    Kind(String, &'static str),
}

/// All of a folder. What cannot be read at all is the source's to tell.
pub fn slips(folder: &Path) -> Result<Vec<Slip>, ManifestsError> {
    let names = list(folder).map_err(|source| ManifestsError::Folder { path: folder.to_owned(), source })?;
    let mut found = Vec::new();
    for name in names {
        let Ok(text) = std::fs::read_to_string(folder.join(&name)) else { continue };
        for piece in pieces(&text) {
            let place = format!("{name}:{}", piece.line);
            found.extend(of_piece(&piece, &place).unwrap_or_default());
        }
    }
    Ok(found)
}

fn of_piece(piece: &Piece<'_>, place: &str) -> Result<Vec<Slip>, Unreadable> {
    let head = head(piece)?;
    let Some(kind) = head.kind.as_deref().or(piece.item_kind) else { return Ok(Vec::new()) };
    let given: Value = parse(piece)?;
    let name = given["metadata"]["name"].as_str().unwrap_or("-");
    let object = match given["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    };
    let mut whats = Vec::new();
    macro_rules! try_kind {
        ($api:ty) => {
            if is_of_kind::<$api>(kind, head.api_version.as_deref()) {
                let read: $api = parse(piece)?;
                if let Ok(known) = serde_json::to_value(&read) {
                    unknown(&given, &known, "", &mut whats);
                }
                values(&given, "", &mut whats);
            } else if <$api>::IN_MANIFESTS
                && kind != <$api as ApiObject>::KIND.name()
                && is_close(kind, <$api as ApiObject>::KIND.name())
            {
                whats.push(SlipKind::Kind(kind.to_owned(), <$api as ApiObject>::KIND.name()));
            }
        };
    }
    for_each_kind!(try_kind);
    if kind == "Endpoints" {
        whats.push(SlipKind::Kind(kind.to_owned(), "EndpointSlice"));
    }
    Ok(whats.into_iter().map(|what| Slip { place: place.to_owned(), object: object.clone(), what }).collect())
}

fn is_close(given: &str, meant: &str) -> bool {
    damerau_levenshtein(&given.to_ascii_lowercase(), &meant.to_ascii_lowercase()) <= CLOSE
}

/// Fields that are given and that the typed object has lost.
fn unknown(given: &Value, known: &Value, path: &str, found: &mut Vec<SlipKind>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (field, value) in given.iter().filter(|(_, value)| !is_nothing(value)) {
                let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                match known.get(field) {
                    Some(known) => unknown(value, known, &path, found),
                    None => found.push(SlipKind::Field(path, meant(field))),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (value, known) in given.iter().zip(known) {
                unknown(value, known, &format!("{path}[]"), found);
            }
        }
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn meant(field: &str) -> Option<&'static str> {
    let nearest = FIELDS
        .into_iter()
        .min_by_key(|known| damerau_levenshtein(&field.to_ascii_lowercase(), &known.to_ascii_lowercase()));
    nearest.filter(|known| is_close(field, known))
}

fn values(given: &Value, path: &str, found: &mut Vec<SlipKind>) {
    match given {
        Value::Object(fields) => {
            for (field, value) in fields {
                values(value, &if path.is_empty() { field.clone() } else { format!("{path}.{field}") }, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| values(item, &format!("{path}[]"), found)),
        Value::String(text) => {
            let taken = VALUES.iter().find(|(field, _)| *field == path).map(|(_, taken)| *taken);
            if let Some(taken) = taken.filter(|taken| !taken.contains(&&**text)) {
                found.push(SlipKind::Value(path.to_owned(), text.clone(), taken));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slips_of(text: &str) -> Vec<SlipKind> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), text).unwrap();
        slips(dir.path()).unwrap().into_iter().map(|slip| slip.what).collect()
    }

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {any: thing}}\nspec:\n  clusterIP: \
                           10.96.0.1\n  type: ClusterIP\n  selector: {}\n  ports: [{port: 80, targetPort: http}]\n";

    #[test]
    fn what_every_field_of_an_object_says_is_read_and_is_no_slip() {
        assert_eq!(slips_of(SERVICE), []);
        let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, annotations: {x: y}}\n\
                     addressType: IPv4\nports: [{port: 80, name: ''}]\nendpoints: [{addresses: [10.0.0.1], conditions: \
                     {ready: true}, deprecatedTopology: {a: b}, nodeName: n}]\n";
        assert_eq!(slips_of(slice), []);
        assert_eq!(slips_of("apiVersion: apps/v1\nkind: Deployment\nspec: {whatever: 1}\n"), []);
    }

    #[test]
    fn fields_kinds_and_values_that_nobody_reads_are_named_with_what_may_be_meant() {
        let field = |path: &str, meant| vec![SlipKind::Field(path.to_owned(), meant)];
        assert_eq!(
            slips_of(&SERVICE.replace("targetPort", "targetport")),
            field("spec.ports[].targetport", Some("targetPort"))
        );
        assert_eq!(slips_of(&SERVICE.replace("clusterIP:", "clusterIp:")), field("spec.clusterIp", Some("clusterIP")));
        assert_eq!(slips_of(&SERVICE.replace("  type:", "  replicas: 3\n  type:")), field("spec.replicas", None));
        let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  spec: {prots: [1]}\n";
        assert_eq!(slips_of(list), field("spec.prots", Some("ports")));
        let json = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"externalIps": ["192.0.2.1"]}}"#;
        assert_eq!(slips_of(json), field("spec.externalIps", Some("externalIPs")));
        let [SlipKind::Value(path, given, _)] = &slips_of(&SERVICE.replace("type: ClusterIP", "type: Nodeport"))[..]
        else {
            panic!()
        };
        assert_eq!((&**path, &**given), ("spec.type", "Nodeport"));
        assert_eq!(
            slips_of("apiVersion: v1\nkind: Sevice\nmetadata: {name: x}\n"),
            [SlipKind::Kind("Sevice".into(), "Service")]
        );
        assert_eq!(
            slips_of("apiVersion: v1\nkind: Endpoints\nmetadata: {name: x}\n"),
            [SlipKind::Kind("Endpoints".into(), "EndpointSlice")]
        );
    }
}
