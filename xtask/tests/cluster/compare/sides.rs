//! Two equal labs on one API server: kube-proxy serves the node of the one, Sluice that of the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use xtask::apiserver::{Cluster, KubeProxy, SERVICE_CIDRS};
use xtask::lab::expect::Client;
use xtask::lab::plan::{
    CLIENT_ADDR, CLUSTER_CIDRS, EXTERNAL_CIDRS, HTTP_PORT, LB_CIDRS, NODE1, NODE1_ADDR, NODE2, NODE2_ADDR,
};
use xtask::lab::probe::Transport;
use xtask::lab::{Agent, AgentOptions, Cgroup, Cni, Dual, Family, Lab, LabOptions, Netns, sluice_binary};

use super::relay::Relay;
use super::setups::Setup;
use crate::api::Api;
use crate::objects;

/// The zone that the node is in at first.
pub(crate) const ZONE: &str = "zone-a";

/// How long either may take to follow the API.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who asks, on both sides alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A process of the node under test.
    Host,
    /// A Pod on the bridge, packet by packet.
    Bridge,
    /// A routed Pod, packet by packet.
    Routed,
    /// A Pod on the bridge whose sockets are served.
    BridgeSocket,
    /// A routed Pod whose sockets are served.
    RoutedSocket,
    /// A Pod of the other node, through the node under test.
    RemotePod,
    /// A process of the other node, through the node under test.
    OtherNode,
    /// From outside of the cluster.
    Outside,
    /// Many clients from outside, each asking once: only they meet everybody behind an affinity.
    Strangers,
}

impl Who {
    pub(crate) const ALL: [Self; 9] = [
        Self::Host,
        Self::Bridge,
        Self::Routed,
        Self::BridgeSocket,
        Self::RoutedSocket,
        Self::RemotePod,
        Self::OtherNode,
        Self::Outside,
        Self::Strangers,
    ];

    /// What it answers to as an endpoint.
    pub(crate) const fn pod(self) -> Option<&'static str> {
        match self {
            Self::Outside | Self::Strangers => None,
            Self::Host => Some(NODE1),
            Self::OtherNode => Some(NODE2),
            Self::Bridge => Some("br1"),
            Self::Routed => Some("rt1"),
            Self::BridgeSocket => Some("br2"),
            Self::RoutedSocket => Some("rt2"),
            Self::RemotePod => Some("remote1"),
        }
    }

    /// The client in one of the labs.
    fn in_lab(self, lab: &Lab) -> (Netns, Dual) {
        match (self, self.pod()) {
            (Self::Host, _) => (lab.node1.clone(), NODE1_ADDR),
            (Self::OtherNode, _) => (lab.node2.clone(), NODE2_ADDR),
            (_, None) => (lab.client.clone(), CLIENT_ADDR),
            (_, Some(name)) => {
                let client = Client::pod(lab.pod(name).unwrap());
                (client.ns.clone(), client.addr)
            }
        }
    }

    /// Whether its sockets belong to the node's cgroup.
    pub(crate) const fn by_socket(self) -> bool {
        matches!(self, Self::Host | Self::BridgeSocket | Self::RoutedSocket)
    }

    /// Whether it is outside of the node.
    pub(crate) const fn off_node(self) -> bool {
        matches!(self, Self::RemotePod | Self::OtherNode | Self::Outside | Self::Strangers)
    }
}

/// How many strangers there are.
pub(crate) const STRANGERS: u16 = 120;

/// The address of one of them.
pub(crate) fn stranger(number: u16, family: Family) -> IpAddr {
    let number = number % STRANGERS;
    match family {
        Family::V4 => Ipv4Addr::new(10, 90, 0, 130 + number.to_be_bytes()[1]).into(),
        Family::V6 => Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 1, number).into(),
    }
}

/// Both sides. Fields drop in this order: the proxies first.
pub(crate) struct Sides {
    pub(crate) agent: Agent,
    pub(crate) kube_proxy: KubeProxy,
    _relay: Relay,
    pub(crate) api: Api,
    _cluster: Cluster,
    cgroup: Cgroup,
    /// kube-proxy's.
    pub(crate) theirs: Lab,
    /// Sluice's.
    pub(crate) ours: Lab,
    rounds: u16,
    _dir: tempfile::TempDir,
}

impl Sides {
    /// Both proxies run and have their first state. With `xdp`, Sluice's uplink runs it.
    pub(crate) fn start(xdp: bool, setup: &'static Setup) -> Self {
        let (theirs, ours) = (lab(xdp), lab(xdp));
        // Every test has a thread of its own: this one, and what it starts, now lives on kube-proxy's node.
        theirs.node1.enter().unwrap();
        let cluster = Cluster::start_on(IpAddr::V4(NODE1_ADDR.v4)).unwrap();
        let api = Api::of(&cluster);
        api.apply(&objects::node(NODE1, ZONE));
        let relay = Relay::start(cluster.address(), &ours.node1, &theirs.node1);
        let dir = tempfile::tempdir().unwrap();
        let kube_proxy = KubeProxy::start(&cluster, dir.path(), NODE1, CLUSTER_CIDRS, &(setup.theirs)()).unwrap();
        let cgroup = ours.cgroup().unwrap();
        let options = AgentOptions::kube(&sluice_binary().unwrap(), &cluster.kubeconfig())
            .arg("--cgroup")
            .arg(&cgroup.path().to_string_lossy())
            .arg("--xdp")
            .arg(if xdp { "native" } else { "auto" });
        let options = setup.ours.iter().fold(options, |options, arg| options.arg(arg));
        let agent = Agent::start(&ours, options).unwrap();
        let mut sides = Self {
            agent,
            kube_proxy,
            _relay: relay,
            api,
            _cluster: cluster,
            cgroup,
            theirs,
            ours,
            rounds: 0,
            _dir: dir,
        };
        sides.settle();
        sides
    }

    /// A client's namespaces and address: at kube-proxy's lab, at Sluice's.
    pub(crate) fn client(&self, who: Who) -> ([Netns; 2], Dual) {
        let (theirs, addr) = who.in_lab(&self.theirs);
        let (ours, _) = who.in_lab(&self.ours);
        ([theirs, if who.by_socket() { ours.in_cgroup(&self.cgroup) } else { ours }], addr)
    }

    /// Waits until both serve what the API has now: a Service and a slice that are changed last are seen in both
    /// families.
    pub(crate) fn settle(&mut self) {
        self.rounds += 1;
        let port = 7000 + self.rounds % 1000;
        let pod = if self.rounds.is_multiple_of(2) { "br2" } else { "rt2" };
        let ports = json!([{"name": "http", "port": port, "targetPort": HTTP_PORT}]);
        let service = objects::service("sentinel", &json!({ "ports": ports }));
        if self.rounds == 1 {
            self.api.apply(&service);
        } else {
            self.api.replace(&service);
        }
        for slice in objects::pods("sentinel", [self.ours.pod(pod).unwrap()]) {
            self.api.apply(&slice);
        }
        let service = self.api.get(&service);
        let ips: Vec<IpAddr> = service["spec"]["clusterIPs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ip| ip.as_str().unwrap().parse().unwrap())
            .collect();
        let deadline = Instant::now() + PATIENCE;
        let ([theirs, ours], _) = self.client(Who::Host);
        for (ns, side) in [(theirs, "kube-proxy"), (ours, "sluice")] {
            for ip in &ips {
                let dst = SocketAddr::new(*ip, port);
                loop {
                    let asked = ns.run(|| Ok(Transport::Tcp.ask_once(dst, 0, Duration::from_millis(200)))).unwrap();
                    if asked.as_ref().is_ok_and(|answer| answer.pod == pod) {
                        break;
                    }
                    self.kube_proxy.check_running().unwrap();
                    assert!(
                        Instant::now() < deadline,
                        "{side} does not follow ({dst}: {asked:?}):\n{}\n{}",
                        self.kube_proxy.log_tail(),
                        self.agent.log_tail()
                    );
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

/// A lab in which everybody finds Services by way of the node under test, and whose nodes have servers of their own.
fn lab(xdp: bool) -> Lab {
    // XDP on veth sees packets before anything has filled their checksum in.
    let mut lab = Lab::start(LabOptions { tx_offload: !xdp, ..LabOptions::default() }).unwrap();
    lab.serve_on_nodes().unwrap();
    let route = |cidrs: [&str; 2]| {
        let lines = Family::ALL
            .iter()
            .zip(cidrs)
            .map(|(family, cidr)| format!("route replace {cidr} via {}", NODE1_ADDR.of(*family)));
        lines.collect::<Vec<_>>().join("\n")
    };
    for pod in lab.pods().iter().filter(|pod| pod.cni == Cni::Bridge) {
        // As bridge plugins do: with netfilter looking into the bridge, a Pod's way to itself by its Service needs it.
        lab.node1.ip(&format!("link set {} type bridge_slave hairpin on", pod.host_device)).unwrap();
    }
    // kube-proxy refuses by ICMP, and so do Pods: by default one a second.
    lab.node1.sysctl(&[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")]).unwrap();
    // Nobody is to learn a way past the node from it while an address is nobody's.
    lab.node1.sysctl(&[("ipv4/conf/all/send_redirects", "0"), ("ipv4/conf/eth0/send_redirects", "0")]).unwrap();
    let pods = lab.pods().iter().map(|pod| &pod.ns);
    for ns in pods.chain([&lab.client, &lab.node2]) {
        ns.sysctl(&[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")]).unwrap();
        ns.sysctl(&[("ipv4/conf/eth0/accept_redirects", "0"), ("ipv6/conf/eth0/accept_redirects", "0")]).unwrap();
    }
    let strangers = (0..STRANGERS).flat_map(|number| {
        let [v4, v6] = Family::ALL.map(|family| stranger(number, family));
        [format!("addr add {v4}/24 dev eth0"), format!("addr add {v6}/64 dev eth0 nodad preferred_lft 0")]
    });
    lab.client.ip(&strangers.collect::<Vec<_>>().join("\n")).unwrap();
    for ns in [&lab.client, &lab.node2] {
        for cidrs in [SERVICE_CIDRS, LB_CIDRS, EXTERNAL_CIDRS] {
            ns.ip(&route(cidrs)).unwrap();
        }
    }
    lab
}
