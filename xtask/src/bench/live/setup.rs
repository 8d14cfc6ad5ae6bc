//! Everything that is up while the bench measures: manifests, nodes, agents and servers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::arm::{Arm, Built};
use super::asked::{CLUSTER_IP, NODE_PORTS, REMOTE_CLUSTER_IP, REMOTE_NODE_PORTS, SERVICE_PORTS};
use super::island::{LOCAL, REMOTE};
use super::kind::Kind;
use super::row::{Backend, Row, Source};
use super::server::{SINK, Server, TCP_ECHO, UDP_ECHO};
use crate::bench::cpu::Cpu;
use crate::bench::services;
use crate::lab::plan::{NODE1, NODE2};
use crate::lab::{Netns, RunDir};

/// A node with its servers.
pub(super) struct Node {
    /// The node.
    pub(super) arm: Arm,
    local: Server,
    remote: Server,
}

impl Node {
    /// Where the client of a row is.
    pub(super) fn client(&self, row: &Row) -> Netns {
        match row.from {
            Source::Pod => self.arm.client(false),
            Source::ServedPod => self.arm.client(true),
            Source::Outside => self.arm.island.outside.clone(),
        }
    }

    /// The threads that serve a row.
    pub(super) fn servers(&self, row: &Row) -> &[i32] {
        match row.to {
            Backend::Local => &self.local.threads,
            Backend::Remote => &self.remote.threads,
        }
    }
}

/// The nodes by their kind.
pub(super) type Nodes = HashMap<Kind, Node>;

/// Builds a node for each kind that the rows need.
pub(super) fn nodes(dir: &RunDir, rows: &[Row], built: &Built, cpu: Cpu) -> Result<Nodes> {
    let mut nodes = Nodes::new();
    for row in rows {
        if let Entry::Vacant(place) = nodes.entry(row.kind) {
            let arm = Arm::build(dir, row.kind, built).with_context(|| format!("the node of row {}", row.id))?;
            let local = Server::start(&arm.island.server, &LOCAL, cpu)?;
            let remote = Server::start(&arm.island.remote, &REMOTE, cpu)?;
            place.insert(Node { arm, local, remote });
        }
    }
    Ok(nodes)
}

/// Writes the manifests that all agents read: the two Services that are asked, and so many others.
pub(super) fn manifests(dir: &RunDir, others: u32) -> Result<()> {
    let folder = dir.manifests();
    services::write(&folder, others)?;
    let items = [
        service("local", CLUSTER_IP, NODE_PORTS),
        slice("local", NODE1, &LOCAL),
        service("remote", REMOTE_CLUSTER_IP, REMOTE_NODE_PORTS),
        slice("remote", NODE2, &REMOTE),
    ];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    fs::write(folder.join("measured.json"), format!("{list:#}\n")).context("cannot write the measured Services")
}

/// Names, protocols and target ports of the Services' ports.
const PORTS: [(&str, &str, u16); 3] = [("tcp", "TCP", TCP_ECHO), ("udp", "UDP", UDP_ECHO), ("sink", "TCP", SINK)];

fn service(name: &str, ip: Ipv4Addr, node_ports: [u16; 3]) -> Value {
    let numbers = SERVICE_PORTS.into_iter().zip(node_ports);
    let ports: Vec<_> = PORTS
        .into_iter()
        .zip(numbers)
        .map(|((name, protocol, target), (port, node_port))| {
            json!({"name": name, "protocol": protocol, "port": port, "targetPort": target, "nodePort": node_port})
        })
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "bench"},
        "spec": {"type": "NodePort", "clusterIP": ip, "clusterIPs": [ip], "ports": ports},
    })
}

fn slice(name: &str, node: &str, addresses: &[Ipv4Addr]) -> Value {
    let ports = PORTS.map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}));
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|ip| json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true, "serving": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-1"),
            "namespace": "bench",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    })
}
