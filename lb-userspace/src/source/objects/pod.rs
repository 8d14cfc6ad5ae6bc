//! Pods with host ports as records: of other Pods nothing is kept but the name.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodSpec, PodStatus};

use super::api_object::{ApiObject, Scope, Selector, Wait};
use super::fields::{namespace, parse_port, parse_protocol};
use crate::model::address::parse_ip;
use crate::model::reason::Reason;
use crate::model::record::{HostPort, Kind, PodRecord};
use crate::model::refusals::Refusals;

impl ApiObject for Pod {
    type Record = PodRecord;
    const KIND: Kind = Kind::Pod;
    const IN_MANIFESTS: bool = true;
    const WAIT: Wait = Wait::Hoped { instead: "host ports are not served, allow list and watch of pods" };

    fn selector(scope: &Scope<'_>) -> Option<Selector> {
        scope.host_ports.then(|| Selector::Fields(format!("spec.nodeName={}", scope.node_name)))
    }
}

impl From<Pod> for PodRecord {
    fn from(pod: Pod) -> Self {
        let Pod { metadata: meta, spec, status } = pod;
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let mut record = Self {
            namespace: namespace(meta.namespace),
            name: meta.name.unwrap_or_default(),
            created: meta.creation_timestamp.map(|time| time.0.as_second()),
            node: spec.node_name.clone().filter(|name| !name.is_empty()).map(Into::into),
            ips: Box::default(),
            ports: Box::default(),
            refusals: Box::default(),
        };
        // On the node's own network the ports are the containers' already; a Pod that has ended has none.
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if !ended && spec.host_network != Some(true) {
            let mut bad = Refusals::of("Pod", format!("{}/{}", record.namespace, record.name));
            record.ports = ports(&spec, &mut bad);
            if !record.ports.is_empty() {
                record.ips = addresses(&status);
            }
            record.refusals = bad.into_rows().into();
        }
        record
    }
}

/// At most one a family, as in the API.
fn addresses(status: &PodStatus) -> Box<[IpAddr]> {
    let listed = status.pod_ips.iter().flatten().map(|each| each.ip.as_str());
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in listed.chain(status.pod_ip.as_deref()).filter_map(parse_ip) {
        if !ips.iter().any(|other| other.is_ipv4() == ip.is_ipv4()) {
            ips.push(ip);
        }
    }
    ips.into()
}

/// Ports of all containers that go on running.
fn ports(spec: &PodSpec, bad: &mut Refusals) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let given = containers.flat_map(|container| container.ports.iter().flatten());
    let mut ports: Vec<HostPort> = given.filter_map(|port| host_port(port, bad)).collect();
    ports.sort_unstable();
    // The API lets no two containers have the same.
    ports.dedup_by_key(|port| (port.protocol, port.host_port, port.host_ip));
    ports.into()
}

fn host_port(port: &ContainerPort, bad: &mut Refusals) -> Option<HostPort> {
    let number = port.host_port.filter(|number| *number != 0)?;
    let (Some(host_port), Some(pod_port)) = (parse_port(number), parse_port(port.container_port)) else {
        bad.note(Reason::BadPort, || {
            format!("hostPort {number} to containerPort {} is no pair of ports: use 1 to 65535", port.container_port)
        });
        return None;
    };
    let Some(protocol) = parse_protocol(port.protocol.as_deref()) else {
        bad.note(Reason::UnknownProtocol, || {
            format!("hostPort {host_port} has protocol {:?}: use TCP or UDP", port.protocol.as_deref().unwrap_or(""))
        });
        return None;
    };
    let text = port.host_ip.as_deref().filter(|ip| !ip.is_empty());
    let host_ip = text.and_then(parse_ip);
    if host_ip.is_none()
        && let Some(text) = text
    {
        bad.note(Reason::BadAddress, || format!("hostIP {text:?} is no IP address: correct or remove it"));
        return None;
    }
    Some(HostPort { protocol, host_port, host_ip, pod_port })
}
