//! What is wanted, from outside: a folder of manifests or the Kubernetes API, both as a stream of events.

pub mod kube;
pub mod manifests;
mod objects;
