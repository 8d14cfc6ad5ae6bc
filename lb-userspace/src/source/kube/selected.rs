//! Which Services of a cluster have certain labels: asked once, for people.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::ListParams;

use crate::kube::{ClientError, ClientSettings, Observer, connect};
use crate::model::desired::ServiceName;

/// Why they cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// There is no client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The API does not answer, or refuses.
    #[error("the API cannot be asked for labels: {0}")]
    Api(#[source] Box<kube::Error>),
}

/// Services that a label selector selects.
pub async fn selected(api: &ClientSettings, selector: &str) -> Result<BTreeSet<ServiceName>, SelectError> {
    let (observer, _connection) = Observer::new(None);
    let client = connect(api, &observer).await?;
    let params = ListParams::default().labels(selector);
    let found = Api::<Service>::all(client).list_metadata(&params).await;
    let found = found.map_err(|error| SelectError::Api(Box::new(error)))?;
    let name = |object: kube::core::PartialObjectMeta<Service>| ServiceName {
        namespace: object.metadata.namespace.unwrap_or_default(),
        name: object.metadata.name.unwrap_or_default(),
    };
    Ok(found.items.into_iter().map(name).collect())
}
