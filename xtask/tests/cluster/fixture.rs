//! A lab whose node under test serves the Services of a real API server, which listens on the node's own address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::apiserver::Cluster;
use xtask::lab::expect::Client;
use xtask::lab::plan::{BRIDGE_ADDR, NODE1, NODE1_ADDR};
use xtask::lab::{Agent, AgentOptions, Family, Lab, LabOptions, sluice_binary};

use crate::api::Api;
use crate::objects;
use crate::oracle::{self, NodeView, Served};

/// The zone of the node under test.
pub(crate) const ZONE: &str = "zone-a";

/// How long the maps may take to follow the API; usual are milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A node with its cluster. Fields drop in this order: the agent first.
pub(crate) struct Node {
    pub(crate) agent: Agent,
    pub(crate) api: Api,
    pub(crate) cluster: Cluster,
    pub(crate) lab: Lab,
}

impl Node {
    /// With a running agent.
    pub(crate) fn start() -> Self {
        let mut node = Self::prepare();
        node.agent.spawn().unwrap();
        node.agent.wait_synced(Duration::from_secs(30)).unwrap();
        node
    }

    /// With an agent that is not started yet.
    pub(crate) fn prepare() -> Self {
        let lab = Lab::start(LabOptions::default()).unwrap();
        // Every test has a thread of its own: this one, and what it starts, now lives on the node.
        lab.node1.enter().unwrap();
        let cluster = Cluster::start_on(IpAddr::V4(NODE1_ADDR.v4)).unwrap();
        let api = Api::of(&cluster);
        api.apply(&objects::node(NODE1, ZONE));
        let options = AgentOptions::kube(&sluice_binary().unwrap(), &cluster.kubeconfig());
        // Every failure of the API, not a line a minute.
        let options = options.arg("--log=info,kube_runtime=error,sluice::kube=debug");
        let agent = Agent::prepare(&lab, options);
        Self { agent, api, cluster, lab }
    }

    /// A Pod on the bridge, one on the routed CNI, and the client outside.
    pub(crate) fn clients(&self) -> [Client<'_>; 3] {
        Client::each_sort(&self.lab).unwrap()
    }

    /// What the maps hold.
    pub(crate) fn served(&self) -> Served {
        oracle::served(&self.agent.json(&["services"]).unwrap())
    }

    /// What they should hold, by the API.
    pub(crate) fn wanted(&self) -> Served {
        let addresses: Vec<IpAddr> =
            [NODE1_ADDR, BRIDGE_ADDR].iter().flat_map(|dual| Family::ALL.map(|family| dual.of(family))).collect();
        let view = NodeView {
            name: NODE1,
            zone: Some(ZONE),
            addresses: &addresses,
            // The loopback ones are for the node's own sockets.
            node_port_addresses: &[
                NODE1_ADDR.v4.into(),
                NODE1_ADDR.v6.into(),
                Ipv4Addr::LOCALHOST.into(),
                Ipv6Addr::LOCALHOST.into(),
            ],
        };
        oracle::wanted(&self.api.list("Service"), &self.api.list("EndpointSlice"), &view)
    }

    /// Waits until the maps hold what the API says, and returns how long that took.
    pub(crate) fn converge(&self) -> Duration {
        self.converge_within(PATIENCE)
    }

    /// The same with another limit.
    pub(crate) fn converge_within(&self, patience: Duration) -> Duration {
        let begin = Instant::now();
        let wanted = self.wanted();
        loop {
            let served = self.served();
            if served == wanted {
                return begin.elapsed();
            }
            let differ = || differences(&served, &wanted);
            assert!(begin.elapsed() < patience, "the maps differ from the API after {patience:?}:\n{}", differ());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A field of the agent's report on its source.
    pub(crate) fn source(&self, field: &str) -> Value {
        self.agent.json(&["status"]).unwrap()["report"]["source"][field].clone()
    }

    /// Waits until the agent says whether it is connected.
    pub(crate) fn wait_connected(&self, connected: bool, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.source("connected") != connected {
            assert!(Instant::now() < deadline, "connected is not {connected}: {}", self.source("last_error"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The Service's `ClusterIP` of a family.
    pub(crate) fn cluster_ip(&self, service: &str, family: Family) -> IpAddr {
        let path = "jsonpath={.spec.clusterIPs[*]}";
        let ips = self.cluster.kubectl(&["get", "service", service, "-o", path]).unwrap();
        let mut ips = ips.split(' ').map(|ip| ip.parse::<IpAddr>().unwrap());
        ips.find(|ip| ip.is_ipv6() == (family == Family::V6)).unwrap()
    }

    /// The same with a port.
    pub(crate) fn frontend(&self, service: &str, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.cluster_ip(service, family), port)
    }
}

/// What differs, key by key.
pub(crate) fn differences(served: &Served, wanted: &Served) -> String {
    let keys: std::collections::BTreeSet<&String> = served.keys().chain(wanted.keys()).collect();
    let line = |row: Option<&Value>| row.map_or_else(|| "nothing".to_owned(), Value::to_string);
    let differ =
        keys.into_iter().map(|key| (key, served.get(key), wanted.get(key))).filter(|(_, is, should)| is != should);
    let lines = differ.map(|(key, is, should)| format!("{key}\n  is     {}\n  should {}", line(is), line(should)));
    lines.collect::<Vec<_>>().join("\n")
}
