//! Kubernetes objects as records, a file for each kind: what the API and manifests have in common.

mod annotations;
mod api_object;
mod endpoint_slice;
mod fields;
mod node;
mod pod;
mod service;
mod service_cidr;
#[cfg(test)]
mod tests;

pub(crate) use api_object::{ApiObject, Scope, Selector, Wait};

/// Expands `$each!(Type)` for the API type of every kind.
macro_rules! for_each_kind {
    ($each:ident) => {
        $each!(k8s_openapi::api::core::v1::Node);
        $each!(k8s_openapi::api::core::v1::Pod);
        $each!(k8s_openapi::api::core::v1::Service);
        $each!(k8s_openapi::api::discovery::v1::EndpointSlice);
        $each!(k8s_openapi::api::networking::v1::ServiceCIDR);
    };
}
pub(crate) use for_each_kind;
