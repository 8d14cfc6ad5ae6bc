//! Pods with host ports: each is kept as a separate Service, whose only endpoint it is.

use std::net::SocketAddr;

use super::World;
use crate::model::desired::{Family, ServiceName};
use crate::model::record::{
    EndpointRecord, HostPort, Keeps, PodRecord, PortRecord, ServiceRecord, SlicePort, SliceRecord,
};
use crate::model::weights::PodId;

impl Keeps<PodRecord> for World {
    fn put(&mut self, pod: Box<PodRecord>) {
        let name = ServiceName::of_pod(&pod.namespace, &pod.name);
        let is_elsewhere = pod.node.as_deref().is_some_and(|node| node != self.given.name);
        if is_elsewhere || (pod.ports.is_empty() && pod.refusals.is_empty()) {
            take_out(self, &name);
            return;
        }
        for family in Family::ALL {
            match slice(&name, &pod, family, &self.given.name) {
                Some(slice) => Keeps::<SliceRecord>::put(self, Box::new(slice)),
                None => Keeps::<SliceRecord>::remove(self, &slice_name(&name, family)),
            }
        }
        Keeps::<ServiceRecord>::put(self, Box::new(service(name, *pod)));
    }

    fn remove(&mut self, name: &ServiceName) {
        take_out(self, &ServiceName::of_pod(&name.namespace, &name.name));
    }

    fn names(&self) -> Vec<ServiceName> {
        let kept = self.entries.iter().flatten().filter(|entry| entry.service.is_some());
        let pods = kept.filter_map(|entry| Some((&entry.name.namespace, entry.name.pod()?)));
        pods.map(|(namespace, name)| ServiceName { namespace: namespace.clone(), name: name.to_owned() }).collect()
    }
}

fn take_out(world: &mut World, name: &ServiceName) {
    Keeps::<ServiceRecord>::remove(world, name);
    for family in Family::ALL {
        Keeps::<SliceRecord>::remove(world, &slice_name(name, family));
    }
}

fn slice_name(name: &ServiceName, family: Family) -> ServiceName {
    ServiceName { namespace: name.namespace.clone(), name: format!("{}/{}", name.name, family.name()) }
}

/// No two host ports of a Pod have the same.
fn port_name(port: &HostPort) -> Box<str> {
    let name = match port.host_ip {
        Some(ip) => SocketAddr::new(ip, port.host_port).to_string(),
        None => port.host_port.to_string(),
    };
    name.into()
}

fn service(name: ServiceName, pod: PodRecord) -> ServiceRecord {
    let port = |port: &HostPort| PortRecord {
        name: port_name(port),
        protocol: port.protocol,
        port: port.host_port,
        node_port: 0,
        host_ip: port.host_ip,
    };
    ServiceRecord {
        created: pod.created,
        ports: pod.ports.iter().map(port).collect(),
        pod_ips: pod.ips,
        refusals: pod.refusals,
        ..ServiceRecord::empty(name)
    }
}

/// Where the Pod answers in a family; none: it has no address of it.
fn slice(name: &ServiceName, pod: &PodRecord, family: Family, node: &str) -> Option<SliceRecord> {
    let ip = *pod.ips.iter().find(|ip| Family::of(ip) == family)?;
    let port = |port: &HostPort| SlicePort { name: port_name(port), protocol: port.protocol, port: port.pod_port };
    let endpoint = EndpointRecord {
        ip,
        // Its host ports lead to it as soon as it has an address, ready or not.
        ready: true,
        serving: true,
        terminating: false,
        pod: PodId::of(&pod.name),
        node: Some(node.into()),
        hints: None,
    };
    Some(SliceRecord {
        namespace: name.namespace.as_str().into(),
        name: slice_name(name, family).name.into(),
        service: name.name.as_str().into(),
        family: Some(family),
        ports: pod.ports.iter().map(port).collect(),
        endpoints: Box::new([endpoint]),
        weights: None,
        triggered_ns: None,
        refusals: Box::default(),
    })
}
