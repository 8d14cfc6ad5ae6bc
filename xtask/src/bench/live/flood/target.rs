//! What is asked and what is flooded: two Services over TCP, sixteen over UDP, in front of the Pods of a node.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::clients::PORT;
use crate::bench::live::arm::Arm;
use crate::bench::live::island::{LOCAL, NODE, REMOTE};
use crate::bench::live::kind::Kind;
use crate::bench::live::nft::{self, ServicePort};
use crate::lab::plan::{NODE1, NODE2};

/// The Services' port.
const SERVICE_PORT: u16 = 90;
/// The first of their `NodePort`s.
const FIRST_NODE_PORT: u16 = 30_100;
/// Services over UDP: one client has so many times as many flows as ports.
const UDP_SERVICES: usize = 16;

/// One of them.
struct Target {
    name: String,
    ip: Ipv4Addr,
    protocol: &'static str,
    node_port: u16,
    endpoint: Ipv4Addr,
    node: &'static str,
}

fn all() -> Vec<Target> {
    let (local, remote) = (LOCAL[0], REMOTE[0]);
    let tcp = [("local".to_owned(), "TCP", local, NODE1), ("remote".to_owned(), "TCP", remote, NODE2)];
    let udp = (0..UDP_SERVICES).map(|n| (format!("udp-{n}"), "UDP", local, NODE1));
    (20..)
        .zip(FIRST_NODE_PORT..)
        .zip(tcp.into_iter().chain(udp))
        .map(|((last, node_port), (name, protocol, endpoint, node))| {
            let ip = Ipv4Addr::new(10, 96, 0, last);
            Target { name, ip, protocol, node_port, endpoint, node }
        })
        .collect()
}

/// Where somebody goes to.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    /// Over TCP: the local Pod, the remote one.
    pub(super) tcp: Vec<SocketAddr>,
    /// Over UDP.
    pub(super) udp: Vec<SocketAddr>,
}

/// Whence a Service, or without one a Pod, is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By the Pods' own addresses.
    Direct,
    /// By the node's.
    NodePort,
    /// By the Services'.
    ClusterIp,
}

/// The addresses of all Services by a way.
pub(super) fn addresses(way: Way) -> Addresses {
    let each = |protocol| {
        let address = |target: &Target| match way {
            Way::Direct => (target.endpoint, PORT),
            Way::NodePort => (NODE, target.node_port),
            Way::ClusterIp => (target.ip, SERVICE_PORT),
        };
        let these = all().into_iter().filter(move |target| target.protocol == protocol);
        these.map(|target| address(&target).into()).collect()
    };
    Addresses { tcp: each("TCP"), udp: each("UDP") }
}

/// Writes the Services for agents.
pub(super) fn manifests(folder: &Path) -> Result<()> {
    let items: Vec<Value> = all().iter().flat_map(|target| [target.service(), target.slice()]).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    fs::write(folder.join("flooded.json"), format!("{list:#}\n")).context("cannot write the flooded Services")
}

/// Adds the Services to a node of kube-proxy's rules.
pub(super) fn rules(arm: &Arm, kind: Kind, dir: &Path) -> Result<()> {
    if kind != Kind::NftFew {
        return Ok(());
    }
    let targets = all();
    let named: Vec<_> = targets.iter().map(|target| (format!("flood/{}", target.name), target)).collect();
    let ports: Vec<_> = named
        .iter()
        .map(|(service, target)| ServicePort {
            service,
            name: "any",
            ip: target.ip,
            protocol: if target.protocol == "TCP" { "tcp" } else { "udp" },
            port: SERVICE_PORT,
            node_port: Some(target.node_port),
            target: PORT,
            endpoints: std::slice::from_ref(&target.endpoint),
        })
        .collect();
    nft::add(&arm.island.node, dir, &ports)
}

impl Target {
    fn service(&self) -> Value {
        let Self { name, ip, protocol, node_port, .. } = self;
        let port = json!({
            "name": "any", "protocol": protocol, "port": SERVICE_PORT, "targetPort": PORT, "nodePort": node_port,
        });
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "flood"},
            "spec": {"type": "NodePort", "clusterIP": ip, "clusterIPs": [ip], "ports": [port]},
        })
    }

    fn slice(&self) -> Value {
        let Self { name, protocol, endpoint, node, .. } = self;
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-1"),
                "namespace": "flood",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "any", "protocol": protocol, "port": PORT}],
            "endpoints": [{"addresses": [endpoint], "nodeName": node, "conditions": {"ready": true}}],
        })
    }
}
