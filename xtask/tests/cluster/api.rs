//! A client of the API server: whole objects as JSON in, whole objects out.

use futures::StreamExt as _;
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use xtask::apiserver::Cluster;

/// Requests that are under way at a time when many are to be made.
const IN_FLIGHT: usize = 32;

/// The client. Belongs to the network namespace of the thread that made it.
pub(crate) struct Api {
    runtime: Runtime,
    client: Client,
}

impl Api {
    /// An administrator of this cluster.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
        let client = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            Client::try_from(config).unwrap()
        });
        Self { runtime, client }
    }

    /// Creates the object, or makes what is given of it so (server-side apply). A status is merged into the old one.
    pub(crate) fn apply(&self, object: &Value) {
        let mut object = object.clone();
        let status = object.as_object_mut().unwrap().remove("status");
        let path = path(&object);
        let query = "fieldManager=test&force=true";
        self.send(Method::PATCH, &format!("{path}?{query}"), APPLY, &object);
        if let Some(status) = status {
            self.send(Method::PATCH, &format!("{path}/status"), MERGE, &json!({"status": status}));
        }
    }

    /// Merges a patch into an object.
    pub(crate) fn merge(&self, object: &Value, patch: &Value) {
        self.send(Method::PATCH, &path(object), MERGE, patch);
    }

    /// Replaces an object, whatever it was.
    pub(crate) fn replace(&self, object: &Value) {
        self.send(Method::PUT, &path(object), JSON, object);
    }

    /// Replaces or creates an object, unless the API finds it invalid: then its words are returned.
    pub(crate) fn try_put(&self, object: &Value, create: bool) -> Result<Value, String> {
        let path = path(object);
        let (method, path) = match path.rsplit_once('/') {
            Some((collection, _)) if create => (Method::POST, collection),
            _ => (Method::PUT, path.as_str()),
        };
        self.runtime.block_on(self.attempt(method, path, JSON, object)).map_err(|error| error.to_string())
    }

    /// Merges a status into an object's.
    pub(crate) fn merge_status(&self, object: &Value, status: &Value) {
        self.send(Method::PATCH, &format!("{}/status", path(object)), MERGE, &json!({"status": status}));
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, object: &Value) {
        self.send(Method::DELETE, &path(object), JSON, &json!({}));
    }

    /// The object as it is now.
    pub(crate) fn get(&self, object: &Value) -> Value {
        self.send(Method::GET, &path(object), JSON, &Value::Null)
    }

    /// Every object of a kind in the cluster.
    pub(crate) fn list(&self, kind: &str) -> Vec<Value> {
        let (group, plural) = resource(kind);
        let list = self.send(Method::GET, &format!("{group}/{plural}"), JSON, &Value::Null);
        list["items"].as_array().unwrap().clone()
    }

    /// Creates many objects at the same time.
    pub(crate) fn create_all(&self, objects: impl IntoIterator<Item = Value>) {
        self.runtime.block_on(futures::stream::iter(objects).for_each_concurrent(IN_FLIGHT, |object| async move {
            let path = path(&object);
            let (collection, _) = path.rsplit_once('/').unwrap();
            self.request(Method::POST, collection, JSON, &object).await;
        }));
    }

    fn send(&self, method: Method, path: &str, content: &str, body: &Value) -> Value {
        self.runtime.block_on(self.request(method, path, content, body))
    }

    async fn request(&self, method: Method, path: &str, content: &str, body: &Value) -> Value {
        let answer = self.attempt(method.clone(), path, content, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}\n{body:#}"))
    }

    async fn attempt(&self, method: Method, path: &str, content: &str, body: &Value) -> kube::Result<Value> {
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let request = Request::builder().method(&method).uri(path).header("Content-Type", content).body(bytes).unwrap();
        self.client.request(request).await
    }
}

const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// Group and version, and plural.
fn resource(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "Pod" => ("/api/v1", "pods"),
        "Service" => ("/api/v1", "services"),
        "Node" => ("/api/v1", "nodes"),
        "EndpointSlice" => ("/apis/discovery.k8s.io/v1", "endpointslices"),
        "ClusterRole" => ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
        other => panic!("no path is known for {other}"),
    }
}

fn path(object: &Value) -> String {
    let (group, plural) = resource(object["kind"].as_str().unwrap());
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{group}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("{group}/{plural}/{name}"),
    }
}
