//! Writes Services and EndpointSlices of the lab's Pods into a folder, each file replaced in one step.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::plan::{DNS_PORT, Dual, Family, HTTP_PORT};
use super::topology::{Lab, Pod};

/// The Service port of HTTP.
pub const SERVICE_HTTP: u16 = 80;
/// The Service port of DNS.
pub const SERVICE_DNS: u16 = 53;

/// A dual-stack Service with the ports `http` (TCP 80) and `dns` (UDP 53).
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// `metadata.name`, in the namespace `lab`.
    pub name: String,
    /// `spec.clusterIPs`.
    pub cluster_ip: Dual,
    /// `nodePort` of `http` and `dns`; makes it a `NodePort` Service.
    pub node_ports: Option<[u16; 2]>,
    /// `status.loadBalancer.ingress`; makes it a `LoadBalancer` Service.
    pub load_balancer: Option<Dual>,
    /// `spec.externalIPs`.
    pub external_ips: Option<Dual>,
    /// `sessionAffinity: ClientIP` with this timeout in seconds.
    pub affinity_secs: Option<u32>,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: Vec<String>,
    /// `spec.healthCheckNodePort`.
    pub health_node_port: Option<u16>,
    /// `metadata.annotations`.
    pub annotations: Vec<(&'static str, &'static str)>,
}

impl ServiceSpec {
    /// A `ClusterIP` Service.
    pub fn new(name: &str, cluster_ip: Dual) -> Self {
        Self {
            name: name.to_owned(),
            cluster_ip,
            node_ports: None,
            load_balancer: None,
            external_ips: None,
            affinity_secs: None,
            external_local: false,
            internal_local: false,
            source_ranges: Vec::new(),
            health_node_port: None,
            annotations: Vec::new(),
        }
    }

    fn to_json(&self) -> Value {
        let [v4, v6] = Family::ALL.map(|family| self.cluster_ip.of(family).to_string());
        let kind = match (&self.load_balancer, &self.node_ports) {
            (Some(_), _) => "LoadBalancer",
            (None, Some(_)) => "NodePort",
            (None, None) => "ClusterIP",
        };
        let policy = |local: bool| if local { "Local" } else { "Cluster" };
        let both = |dual: Dual| Family::ALL.map(|family| dual.of(family).to_string());
        let mut ports = vec![
            json!({"name": "http", "protocol": "TCP", "port": SERVICE_HTTP, "targetPort": HTTP_PORT}),
            json!({"name": "dns", "protocol": "UDP", "port": SERVICE_DNS, "targetPort": DNS_PORT}),
        ];
        for (port, node_port) in ports.iter_mut().zip(self.node_ports.iter().flatten()) {
            port["nodePort"] = json!(node_port);
        }
        let mut spec = json!({
            "type": kind,
            "clusterIP": v4,
            "clusterIPs": [v4, v6],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack",
            "internalTrafficPolicy": policy(self.internal_local),
            "ports": ports,
        });
        if kind != "ClusterIP" || self.external_ips.is_some() {
            spec["externalTrafficPolicy"] = json!(policy(self.external_local));
        }
        if let Some(ips) = self.external_ips {
            spec["externalIPs"] = json!(both(ips));
        }
        if let Some(secs) = self.affinity_secs {
            spec["sessionAffinity"] = json!("ClientIP");
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": secs}});
        }
        if !self.source_ranges.is_empty() {
            spec["loadBalancerSourceRanges"] = json!(self.source_ranges);
        }
        if let Some(port) = self.health_node_port {
            spec["healthCheckNodePort"] = json!(port);
        }
        let annotations: Map<_, _> =
            self.annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let ingress: Vec<_> =
            self.load_balancer.iter().flat_map(|ips| both(*ips)).map(|ip| json!({"ip": ip})).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": "lab", "annotations": annotations},
            "spec": spec,
            "status": {"loadBalancer": {"ingress": ingress}},
        })
    }
}

/// Conditions of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Ready.
    Ready,
    /// Neither ready nor serving.
    NotReady,
    /// Terminating and still serving.
    Terminating,
}

/// A folder of manifests.
#[derive(Clone, Debug)]
pub struct Manifests {
    dir: PathBuf,
}

impl Manifests {
    /// The lab's own folder, empty at first.
    pub fn of(lab: &Lab) -> Self {
        Self { dir: lab.dir.path().join("manifests") }
    }

    /// For `--manifests`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a Service.
    pub fn service(&self, service: &ServiceSpec) -> Result<()> {
        self.put(&format!("{}.json", service.name), &service.to_json())
    }

    /// Writes the Service's endpoints, one slice per family.
    pub fn endpoints(&self, service: &str, endpoints: &[(&Pod, EndpointState)]) -> Result<()> {
        let slices = Family::ALL.map(|family| slice(service, family, endpoints));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": slices});
        self.put(&format!("{service}.endpoints.json"), &list)
    }

    /// Writes the Service's endpoints: these Pods, all ready.
    pub fn ready<'a>(&self, service: &str, pods: impl IntoIterator<Item = &'a Pod>) -> Result<()> {
        let endpoints: Vec<_> = pods.into_iter().map(|pod| (pod, EndpointState::Ready)).collect();
        self.endpoints(service, &endpoints)
    }

    /// Deletes a Service and its endpoints.
    pub fn remove(&self, service: &str) -> Result<()> {
        for name in [format!("{service}.json"), format!("{service}.endpoints.json")] {
            let path = self.dir.join(name);
            fs::remove_file(&path).with_context(|| format!("cannot delete {}", path.display()))?;
        }
        Ok(())
    }

    /// Writes any file in one step: a reader finds the old or the new content.
    pub fn put(&self, name: &str, object: &Value) -> Result<()> {
        self.put_text(name, &format!("{object:#}\n"))
    }

    /// The same with text as it is.
    pub fn put_text(&self, name: &str, text: &str) -> Result<()> {
        // The new file is prepared beside the folder, on the same file system, where nobody watches.
        let draft = self.dir.with_extension(format!("draft-{name}"));
        let path = self.dir.join(name);
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn slice(service: &str, family: Family, endpoints: &[(&Pod, EndpointState)]) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(pod, state)| {
            let (ready, serving, terminating) = match state {
                EndpointState::Ready => (true, true, false),
                EndpointState::NotReady => (false, false, false),
                EndpointState::Terminating => (false, true, true),
            };
            json!({
                "addresses": [pod.addr.of(family).to_string()],
                "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                "nodeName": pod.cni.node(),
                "targetRef": {"kind": "Pod", "namespace": "lab", "name": pod.name},
            })
        })
        .collect();
    slice_object("lab", service, family, &endpoints)
}

/// An `EndpointSlice` of a Service with the lab's ports.
pub fn slice_object(namespace: &str, service: &str, family: Family, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{}", family.name().to_lowercase()),
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family.name(),
        "ports": [
            {"name": "http", "protocol": "TCP", "port": HTTP_PORT},
            {"name": "dns", "protocol": "UDP", "port": DNS_PORT},
        ],
        "endpoints": endpoints,
    })
}
