//! Builds the standard lab: fabric, two nodes, their Pods on two kinds of CNI, and an external client.

use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};

use super::cgroup::Cgroup;
use super::netns::Netns;
use super::plan::{
    BRIDGE_ADDR, BRIDGED_PODS, CLIENT_ADDR, Dual, EXTERNAL_CIDRS, Family, GATEWAY, LB_CIDRS, NODE1, NODE1_ADDR, NODE2,
    NODE2_ADDR, REMOTE_PODS, ROUTED_PODS, SERVICE_CIDRS, UPLINK, bridged, on_fabric, remote, routed,
};
use super::pod_server::PodServer;
use super::rundir::RunDir;

/// Reverse path filter of the node under test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RpFilter {
    /// A source must be reachable by the device that it came from.
    #[default]
    Strict,
    /// A source must be reachable.
    Loose,
    /// Any source.
    Off,
}

/// What differs between labs.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// MTU of the fabric and of the Pods.
    pub mtu: u32,
    /// Reverse path filter on the nodes.
    pub rp_filter: RpFilter,
    /// Whether senders leave checksums to their device, as all hardware allows. Off for XDP on veth, which sees
    /// packets before anything has filled the checksum in.
    pub tx_offload: bool,
    /// `bridge-nf-call-iptables` and its twin for IPv6 on the nodes, where the kernel has them: netfilter looks into
    /// bridged packets.
    pub bridge_netfilter: bool,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self { mtu: 1500, rp_filter: RpFilter::Strict, tx_offload: true, bridge_netfilter: true }
    }
}

/// How a Pod is connected, and to which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cni {
    /// On the bridge `cni0` of `node1`.
    Bridge,
    /// On a veth of its own with host routes, on `node1`.
    Routed,
    /// The same on `node2`.
    Remote,
    /// A macvlan device on the uplink of `node1`: no device of the host leads to it, and no packet between it and
    /// `node1` itself, or the Pods behind it, comes through.
    Macvlan,
}

impl Cni {
    /// The node's name.
    pub const fn node(self) -> &'static str {
        match self {
            Self::Bridge | Self::Routed | Self::Macvlan => NODE1,
            Self::Remote => NODE2,
        }
    }
}

/// A Pod: a namespace with one device `eth0`, and servers on [`super::plan::HTTP_PORT`] and [`super::plan::DNS_PORT`].
#[derive(Debug)]
pub struct Pod {
    /// Its name; also what its servers answer.
    pub name: String,
    /// How it is connected.
    pub cni: Cni,
    /// Its addresses.
    pub addr: Dual,
    /// The host side of its device; its own device if there is none.
    pub host_device: String,
    /// Where it lives.
    pub ns: Netns,
    server: Option<PodServer>,
}

impl Pod {
    /// Ends the Pod's servers: its ports are closed from now on.
    pub fn stop_serving(&mut self) {
        self.server = None;
    }

    /// From now on one of so many connections is reset as soon as it is taken; 0: none.
    pub fn reset_each(&self, nth: u32) {
        self.server.iter().for_each(|server| server.resets.store(nth, Ordering::Relaxed));
    }

    /// Starts the Pod's servers unless they run.
    pub fn serve(&mut self) -> Result<()> {
        if self.server.is_none() {
            self.server = Some(PodServer::start(&self.ns, &self.name)?);
        }
        Ok(())
    }
}

/// A running lab. Everything goes when it is dropped.
#[derive(Debug)]
pub struct Lab {
    pods: Vec<Pod>,
    /// The switch between the nodes.
    pub fabric: Netns,
    /// The node under test.
    pub node1: Netns,
    /// A node without an agent.
    pub node2: Netns,
    /// The external client.
    pub client: Netns,
    options: LabOptions,
    node_servers: Vec<PodServer>,
    pub(super) dir: RunDir,
}

impl Lab {
    /// A further namespace of this lab, connected to nothing.
    pub fn namespace(&self, name: &str) -> Result<Netns> {
        Netns::create(&self.dir.path().join("ns"), name)
    }

    /// A cgroup for threads whose sockets the agent is to serve, see [`Netns::in_cgroup`].
    pub fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::create(self.dir.path())
    }

    /// Builds the standard lab with the Pods `br1`, `br2`, `rt1`, `rt2` and `remote1`.
    pub fn start(options: LabOptions) -> Result<Self> {
        let dir = RunDir::create()?;
        let make = |name: &str| -> Result<Netns> {
            let ns = Netns::create(&dir.namespaces(), name)?;
            ns.sysctl(&[("ipv6/conf/all/accept_dad", "0"), ("ipv6/conf/default/accept_dad", "0")])?;
            Ok(ns)
        };
        let (fabric, node1, node2, client) = (make("fabric")?, make(NODE1)?, make(NODE2)?, make("client")?);
        let node_servers = Vec::new();
        let mut lab = Self { pods: Vec::new(), fabric, node1, node2, client, options, node_servers, dir };
        lab.wire_fabric().context("cannot build the lab's fabric")?;
        lab.wire_nodes().context("cannot build the lab's nodes")?;
        lab.wire_client().context("cannot build the lab's client")?;
        for (name, cni) in [
            ("br1", Cni::Bridge),
            ("br2", Cni::Bridge),
            ("rt1", Cni::Routed),
            ("rt2", Cni::Routed),
            ("remote1", Cni::Remote),
        ] {
            lab.add_pod(name, cni)?;
        }
        Ok(lab)
    }

    /// All Pods.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// A Pod by its name.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods.iter().find(|pod| pod.name == name).with_context(|| format!("the lab has no Pod {name}"))
    }

    /// A Pod by its name, to stop or start it.
    pub fn pod_mut(&mut self, name: &str) -> Result<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.name == name).with_context(|| format!("the lab has no Pod {name}"))
    }

    /// Both nodes serve on their own address as Pods do on the host's network, under the node's name.
    pub fn serve_on_nodes(&mut self) -> Result<()> {
        for (ns, addr) in [(&self.node1, NODE1_ADDR), (&self.node2, NODE2_ADDR)] {
            let addresses = Family::ALL.map(|family| addr.of(family));
            self.node_servers.push(PodServer::start_at(ns, ns.name(), &addresses)?);
        }
        Ok(())
    }

    /// Deletes a Pod, with its devices.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let pod = self.pod(name)?;
        let holder = if pod.cni == Cni::Macvlan { &pod.ns } else { self.node_of(pod.cni) };
        let (device, holder) = (pod.host_device.clone(), holder.clone());
        self.pods.retain(|pod| pod.name != name);
        holder.ip(&format!("link del {device}"))
    }

    /// Adds a Pod with the next free address of its network, already serving.
    pub fn add_pod(&mut self, name: &str, cni: Cni) -> Result<&Pod> {
        let number = (1..=200)
            .find(|n| !self.pods.iter().any(|pod| pod.addr == address(cni, *n)))
            .with_context(|| format!("no address left for Pod {name}"))?;
        let addr = address(cni, number);
        let ns = Netns::create(&self.dir.namespaces(), name)?;
        ns.sysctl(&[("ipv6/conf/all/accept_dad", "0"), ("ipv6/conf/default/accept_dad", "0")])?;
        let node = self.node_of(cni);
        let mtu = self.options.mtu;
        let host_device = match cni {
            Cni::Bridge => format!("veth{name}"),
            Cni::Routed | Cni::Remote => format!("cali{name}"),
            Cni::Macvlan => "eth0".to_owned(),
        };
        if cni == Cni::Macvlan {
            let (draft, target) = (format!("mv{name}"), ns.path().display());
            node.ip(&format!("link add link {UPLINK} name {draft} mtu {mtu} type macvlan mode bridge"))?;
            node.ip(&format!("link set {draft} netns {target}"))?;
            ns.ip(&format!("link set {draft} name eth0"))?;
        } else {
            ns.ip(&format!(
                "link add eth0 mtu {mtu} type veth peer name {host_device} mtu {mtu} netns {}",
                node.path().display()
            ))?;
        }
        let Dual { v4, v6 } = addr;
        match cni {
            Cni::Bridge => {
                node.ip(&format!("link set {host_device} master cni0 up"))?;
                ns.ip(&format!(
                    "link set eth0 up
                    addr add {v4}/24 dev eth0
                    addr add {v6}/64 dev eth0 nodad
                    route add default via {}
                    route add ::/0 via {}",
                    BRIDGE_ADDR.v4, BRIDGE_ADDR.v6
                ))?;
            }
            Cni::Macvlan => {
                let [remote_v4, remote_v6] = REMOTE_PODS;
                ns.ip(&format!(
                    "link set eth0 up
                    addr add {v4}/24 dev eth0
                    addr add {v6}/64 dev eth0 nodad
                    route add default via {}
                    route add ::/0 via {}
                    route add {remote_v4} via {}
                    route add {remote_v6} via {}",
                    GATEWAY.v4, GATEWAY.v6, NODE2_ADDR.v4, NODE2_ADDR.v6
                ))?;
            }
            Cni::Routed | Cni::Remote => {
                node.sysctl(&[
                    (&format!("ipv4/conf/{host_device}/proxy_arp"), "1"),
                    (&format!("ipv4/neigh/{host_device}/proxy_delay"), "0"),
                ])?;
                node.ip(&format!(
                    "link set {host_device} up
                    addr add fe80::1/64 dev {host_device} nodad
                    route add {v4}/32 dev {host_device}
                    route add {v6}/128 dev {host_device}"
                ))?;
                ns.ip(&format!(
                    "link set eth0 up
                    addr add {v4}/32 dev eth0
                    addr add {v6}/128 dev eth0 nodad
                    route add 169.254.1.1 dev eth0 scope link
                    route add default via 169.254.1.1
                    route add ::/0 via fe80::1 dev eth0"
                ))?;
            }
        }
        self.tune_offloads(&ns, "eth0")?;
        let mut pod = Pod { name: name.to_owned(), cni, addr, host_device, ns, server: None };
        pod.serve()?;
        self.pods.push(pod);
        self.pod(name)
    }

    fn node_of(&self, cni: Cni) -> &Netns {
        match cni {
            Cni::Bridge | Cni::Routed | Cni::Macvlan => &self.node1,
            Cni::Remote => &self.node2,
        }
    }

    fn wire_fabric(&self) -> Result<()> {
        let mtu = self.options.mtu;
        // What has no route is swallowed, so that a packet that nobody translated shows as a time-out.
        self.fabric.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
        self.fabric.ip(&format!(
            "link add fab0 mtu {mtu} type bridge mcast_snooping 0
            addr add {}/24 dev fab0
            addr add {}/64 dev fab0 nodad
            link set fab0 up
            route add blackhole default
            route add blackhole ::/0",
            GATEWAY.v4, GATEWAY.v6
        ))?;
        for peer in [&self.node1, &self.node2, &self.client] {
            let port = format!("to-{}", peer.name());
            self.fabric.ip(&format!(
                "link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}
                link set {port} master fab0 up",
                peer.path().display()
            ))?;
            self.tune_offloads(&self.fabric, &port)?;
        }
        Ok(())
    }

    fn wire_nodes(&self) -> Result<()> {
        let rp_filter = match self.options.rp_filter {
            RpFilter::Strict => "1",
            RpFilter::Loose => "2",
            RpFilter::Off => "0",
        };
        let nodes = [
            (&self.node1, NODE1_ADDR, &[REMOTE_PODS][..], NODE2_ADDR),
            (&self.node2, NODE2_ADDR, &[BRIDGED_PODS, ROUTED_PODS][..], NODE1_ADDR),
        ];
        for (node, addr, pods_of_peer, peer) in nodes {
            node.sysctl(&[
                ("ipv4/ip_forward", "1"),
                ("ipv6/conf/all/forwarding", "1"),
                ("ipv6/conf/default/forwarding", "1"),
                ("ipv4/conf/all/rp_filter", rp_filter),
                ("ipv4/conf/default/rp_filter", rp_filter),
                ("ipv4/conf/eth0/rp_filter", rp_filter),
            ])?;
            node.ip(&format!(
                "link set eth0 up
                addr add {}/24 dev eth0
                addr add {}/64 dev eth0 nodad
                route add default via {}
                route add ::/0 via {}",
                addr.v4, addr.v6, GATEWAY.v4, GATEWAY.v6
            ))?;
            for pods in pods_of_peer {
                node.ip(&routes_via(*pods, peer))?;
            }
            if Path::new("/proc/sys/net/bridge").exists() {
                let value = if self.options.bridge_netfilter { "1" } else { "0" };
                let keys = ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"];
                node.sysctl(&keys.map(|key| (key, value)))?;
            }
            self.tune_offloads(node, "eth0")?;
        }
        // The bridge's own address must not change when a port joins: Pods have it in their neighbour tables.
        self.node1.ip(&format!(
            "link add cni0 mtu {} address 02:00:0a:f4:01:01 type bridge
            addr add {}/24 dev cni0
            addr add {}/64 dev cni0 nodad
            link set cni0 up",
            self.options.mtu, BRIDGE_ADDR.v4, BRIDGE_ADDR.v6
        ))
    }

    fn wire_client(&self) -> Result<()> {
        self.client.ip(&format!(
            "link set eth0 up
            addr add {}/24 dev eth0
            addr add {}/64 dev eth0 nodad",
            CLIENT_ADDR.v4, CLIENT_ADDR.v6
        ))?;
        for cidrs in [SERVICE_CIDRS, LB_CIDRS, EXTERNAL_CIDRS] {
            self.client.ip(&routes_via(cidrs, NODE1_ADDR))?;
        }
        for (pods, node) in [(BRIDGED_PODS, NODE1_ADDR), (ROUTED_PODS, NODE1_ADDR), (REMOTE_PODS, NODE2_ADDR)] {
            self.client.ip(&routes_via(pods, node))?;
        }
        self.tune_offloads(&self.client, "eth0")
    }

    /// Without checksum offload, and with the receive side ready for frames that XDP sends back or redirects.
    fn tune_offloads(&self, ns: &Netns, device: &str) -> Result<()> {
        if self.options.tx_offload {
            return Ok(());
        }
        ns.command("ethtool", &["-K", device, "tx", "off", "gro", "on"]).map(drop)
    }
}

/// The `n`th address of a Pod network.
fn address(cni: Cni, n: u8) -> Dual {
    match cni {
        Cni::Bridge => bridged(n),
        Cni::Routed => routed(n),
        Cni::Remote => remote(n),
        Cni::Macvlan => on_fabric(n),
    }
}

/// Routes of a prefix in each family.
fn routes_via(cidrs: [&str; 2], gateway: Dual) -> String {
    let [v4, v6] = cidrs;
    format!("route add {v4} via {}\nroute add {v6} via {}", gateway.v4, gateway.v6)
}
