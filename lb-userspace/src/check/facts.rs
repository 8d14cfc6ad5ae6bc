//! What the checks look at: plain facts about a node, however they were gathered.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::firewall::Firewall;
use crate::devices::Role;

/// Everything about the node. What could not be gathered is missing.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: String,
    /// File systems.
    pub mounts: Mounts,
    /// Effective capabilities of this process, a bit each.
    pub capabilities: Option<u64>,
    /// The clock.
    pub clock: Clock,
    /// Settings of the kernel.
    pub sysctls: Sysctls,
    /// Network devices.
    pub devices: Vec<DeviceFacts>,
    /// Packet filters.
    pub firewall: Firewall,
    /// What is left of kube-proxy besides rules.
    pub kube_proxy: KubeProxy,
    /// Programs of the kernel's at the hooks.
    pub programs: Programs,
    /// Addresses and TCP ports that processes of the node listen on.
    pub listening: BTreeSet<SocketAddr>,
    /// The way to each backend, and its service port.
    pub ways: Vec<(String, Way)>,
    /// What is served.
    pub frontends: Vec<Front>,
    /// Source ports for source NAT.
    pub snat_ports: (u16, u16),
    /// Maps that can run full.
    pub maps: Vec<MapFill>,
    /// The agent of this pin path; none: none has run.
    pub agent: Option<AgentFacts>,
    /// Where the API server is, as far as anybody says.
    pub api: Option<Api>,
    /// The node's name among the nodes that endpoints are on; none: the endpoints are not known.
    pub names: Option<Names>,
}

/// File systems.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    /// Where the pins are, or are to be.
    pub pin_path: PathBuf,
    /// That is on a BPF file system.
    pub on_bpffs: bool,
    /// It is not, and there are files in it.
    pub in_the_way: bool,
    /// Where cgroup v2 is mounted.
    pub cgroup2: Option<PathBuf>,
    /// This process sees a part of the cgroups only.
    pub cgroup_namespace: bool,
}

/// The clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Seconds since the epoch.
    pub now: u64,
    /// Somebody keeps it right.
    pub synchronised: Option<bool>,
}

/// Settings of the kernel.
#[derive(Clone, Debug, Default)]
pub struct Sysctls {
    /// `net.ipv4.ip_forward`.
    pub forward_v4: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`.
    pub forward_v6: Option<bool>,
    /// `net.ipv4.conf.all.rp_filter`.
    pub rp_filter_all: u8,
    /// `net.ipv4.conf.all.route_localnet`.
    pub route_localnet_all: bool,
    /// `net.ipv4.ip_local_port_range`.
    pub local_ports: Option<(u16, u16)>,
    /// `net.ipv4.ip_local_reserved_ports`.
    pub reserved_ports: Vec<(u16, u16)>,
}

/// A network device.
#[derive(Clone, Debug, Default)]
pub struct DeviceFacts {
    /// Name.
    pub name: String,
    /// Role: by the agent that runs, else as an agent without options would decide.
    pub role: Role,
    /// Why it has this role.
    pub why: String,
    /// Global addresses.
    pub addresses: Vec<IpAddr>,
    /// It has a default route.
    pub default_route: bool,
    /// A port of a bridge or bond: packets enter by that one.
    pub port: bool,
    /// `net.ipv4.conf.DEVICE.forwarding`.
    pub forwarding: Option<bool>,
    /// `net.ipv4.conf.DEVICE.rp_filter`.
    pub rp_filter: u8,
    /// `net.ipv4.conf.DEVICE.route_localnet`.
    pub route_localnet: bool,
}

/// What is left of kube-proxy besides rules.
#[derive(Clone, Debug, Default)]
pub struct KubeProxy {
    /// Its processes.
    pub processes: Vec<u32>,
    /// Device `kube-ipvs0` is there.
    pub ipvs_device: bool,
    /// Virtual servers of IPVS.
    pub ipvs_servers: usize,
}

/// Programs of the kernel's at the hooks that Sluice uses.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// Those that are there, in the order in which they run.
    pub at_hooks: Vec<HookProgram>,
    /// The kernel did not say.
    pub failed: Option<String>,
}

/// One program at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookProgram {
    /// `eth0 ingress`, `eth0 xdp`, `cgroup connect4`.
    pub hook: String,
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Of the Sluice whose pins these are.
    Own,
    /// Of a Sluice with other pins.
    OtherSluice,
    /// Of somebody else.
    Foreign,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Address and port.
    pub addr: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// It is a `NodePort`.
    pub node_port: bool,
    /// It is a `ClusterIP`.
    pub cluster_ip: bool,
    /// `namespace/name:port/PROTOCOL`.
    pub service: String,
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// Its name.
    pub map: String,
    /// Entries in use.
    pub used: usize,
    /// Entries it can hold.
    pub capacity: u32,
    /// The option that makes it larger.
    pub setting: Option<&'static str>,
    /// What is old is pushed out when it is full.
    pub evicts: bool,
}

/// The agent of this pin path.
#[derive(Clone, Debug, Default)]
pub struct AgentFacts {
    /// It runs.
    pub alive: bool,
    /// Its first full state is in the kernel.
    pub synced: bool,
    /// The name of the node.
    pub node_name: String,
    /// `manifests` or `kube`.
    pub source: String,
    /// The folder or server.
    pub from: String,
    /// Since how many seconds the source cannot be read, and why.
    pub failing: Option<(u64, String)>,
    /// Kind, object, reason, message.
    pub refusals: Vec<[String; 4]>,
    /// Its ports that somebody else has.
    pub ports_taken: Vec<String>,
    /// Clients that are not served, and why.
    pub not_served: Vec<String>,
    /// What is wrong with devices and hooks.
    pub errors: Vec<String>,
}

/// Where the API server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// Its URL.
    pub url: String,
    /// The host in it, if it is an address.
    pub addr: Option<SocketAddr>,
    /// What came of a connection; none: not tried.
    pub reached: Option<Result<(), String>>,
}

/// The node's name among those that endpoints have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The own name.
    pub own: String,
    /// There is a Node object of this name; none: it is not known.
    pub object: Option<bool>,
    /// Names of nodes with endpoints, and of Node objects.
    pub others: BTreeSet<String>,
    /// Some endpoint has the own name.
    pub here: bool,
    /// Some endpoint says no node.
    pub nowhere: bool,
}

/// The way to one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Address and port.
    pub backend: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// The endpoint is said to be on this node.
    pub local: bool,
    /// Where the routing table leads, or why nowhere.
    pub route: Result<Leads, String>,
    /// What came of a connection; none: not tried.
    pub probed: Option<Probed>,
}

/// Where a route leads.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as the kernel reports them")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leads {
    /// The device.
    pub device: String,
    /// That is an uplink.
    pub uplink: bool,
    /// It is up, and so is its other end.
    pub running: bool,
    /// The node itself has the address.
    pub own: bool,
    /// Who is asked next: a router, or the backend itself.
    pub next: Option<IpAddr>,
    /// Nobody has answered for that address.
    pub unanswered: bool,
}

/// What came of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It was taken.
    Taken,
    /// It was refused.
    Refused,
    /// No answer in time.
    Unanswered,
    /// The network says that it cannot be.
    Unreachable(String),
}
