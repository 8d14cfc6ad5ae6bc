//! A scenario as a file: YAML documents, first the node and its settings, then objects and what happens to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::devices::NodeNetwork;
use crate::model::desired::{ExternalIps, ResolveSettings};
use crate::model::event::Object;
use crate::model::record::ServiceCidrRecord;
use crate::reconcile::{ReconcileSettings, SocketFacts};
use crate::source::manifests;

/// One scenario.
#[derive(Debug)]
pub(super) struct Scenario {
    /// The rules that it shows, as `scenarios/README.md` names them.
    pub(super) rules: Vec<String>,
    pub(super) head: Head,
    pub(super) steps: Vec<Step>,
}

/// Its first document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// What it shows, in a sentence.
    pub(super) scenario: String,
    #[serde(default)]
    pub(super) node: Node,
    #[serde(default)]
    pub(super) flags: Flags,
    #[serde(default)]
    pub(super) limits: Limits,
}

/// The node as it stands. Its name is `n1`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    /// All of its addresses.
    addresses: Vec<IpAddr>,
    /// Those towards its default routes; not given: the first of each family.
    primary: Option<Vec<IpAddr>>,
    /// `ClusterIP`s at which the node answers itself.
    #[serde(default)]
    held: Vec<IpAddr>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            addresses: vec![[192, 0, 2, 1].into(), Ipv6Addr::new(0xfd00, 0x0192, 0, 0, 0, 0, 0, 1).into()],
            primary: None,
            held: Vec::new(),
        }
    }
}

impl Node {
    pub(super) fn network(&self) -> NodeNetwork {
        let primary = self.primary.as_ref().unwrap_or(&self.addresses);
        let v4 = |ip: &IpAddr| if let IpAddr::V4(v4) = ip { Some::<Ipv4Addr>(*v4) } else { None };
        let v6 = |ip: &IpAddr| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None };
        NodeNetwork {
            addresses: self.addresses.clone(),
            held: self.held.clone(),
            primary_v4: primary.iter().find_map(v4),
            primary_v6: primary.iter().find_map(v6),
        }
    }
}

/// Flags of the agent that bear upon what is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Flags {
    external_ips: Option<bool>,
    cluster_cidr: Vec<String>,
    service_cidr: Vec<String>,
    node_port_addresses: Vec<String>,
    node_ip: Vec<IpAddr>,
    detect_local: DetectLocal,
    masquerade_all: bool,
    takeover: bool,
    /// The socket hooks are in place.
    sockets: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DetectLocal {
    #[default]
    ClusterCidr,
    NodeCidr,
    BridgeInterface,
    InterfaceNamePrefix,
}

fn nets(texts: &[String]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

impl Flags {
    pub(super) fn settings(&self) -> ReconcileSettings {
        ReconcileSettings {
            node_name: "n1".into(),
            resolve: ResolveSettings {
                external_ips: match self.external_ips {
                    Some(true) => ExternalIps::On,
                    Some(false) => ExternalIps::Off,
                    None => ExternalIps::AsCluster,
                },
                ..ResolveSettings::default()
            },
            node_ips: self.node_ip.clone(),
            node_port_addresses: self.node_port_addresses.iter().map(|text| text.parse().unwrap()).collect(),
            cluster_cidrs: nets(&self.cluster_cidr),
            node_cidrs: self.detect_local == DetectLocal::NodeCidr,
            local_devices: matches!(self.detect_local, DetectLocal::BridgeInterface | DetectLocal::InterfaceNamePrefix),
            service_cidrs: nets(&self.service_cidr),
            snat_ports: (61_000, 61_999),
            masquerade_all: self.masquerade_all,
            takeover: self.takeover,
            forward: crate::config::forward::ForwardMode::Stack,
            sockets: SocketFacts { attached: self.sockets, ..SocketFacts::default() },
            ..ReconcileSettings::default()
        }
    }
}

/// Room in the maps, per family where a map is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) services: u32,
    pub(super) backends: u32,
    pub(super) slots: u32,
    pub(super) blocks: u32,
    pub(super) frontends: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { services: 100, backends: 100, slots: 1000, blocks: 1000, frontends: usize::MAX }
    }
}

/// A step: what is taken away, then what comes, then what the agent does.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) happens: Happens,
    pub(super) objects: Vec<Object>,
}

/// The document that begins a step.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Happens {
    /// What happens, in a sentence.
    pub(super) step: String,
    /// Objects that go: `Service default/web`.
    #[serde(default)]
    pub(super) delete: Vec<String>,
    /// The node changes to this.
    pub(super) node: Option<Node>,
    /// A new agent starts on the maps that the last one left.
    pub(super) restart: Option<Restart>,
    /// A write that fails.
    pub(super) fail: Option<Fail>,
    /// What did not fit, or could not be written, is tried again.
    #[serde(default)]
    pub(super) retry: bool,
}

/// How much a new agent hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Restart {
    /// Everything.
    Synced,
    /// Nothing yet: the API does not answer.
    Unsynced,
}

/// A write that fails.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fail {
    /// Which of the step's writes, from 1.
    pub(super) write: usize,
    /// All after it fail as well, also those that would take back what was written.
    #[serde(default)]
    pub(super) and_after: bool,
    /// It fails since a map is full, not for another reason.
    #[serde(default)]
    pub(super) full: bool,
}

impl Scenario {
    /// Reads a scenario; panics with its name when it makes no sense.
    pub(super) fn read(name: &str, text: &str) -> Self {
        let mut documents = text.split("\n---\n");
        let first = documents.next().unwrap_or_default();
        let comments = first.lines().take_while(|line| line.starts_with('#'));
        let rules = comments.filter_map(|line| line.strip_prefix("# rule: ")).map(str::to_owned).collect();
        let mut scenario = Self { rules, head: yaml(name, first), steps: Vec::new() };
        for document in documents {
            let step =
                document.lines().find(|line| !line.starts_with('#')).is_some_and(|line| line.starts_with("step:"));
            if step {
                scenario.steps.push(Step { happens: yaml(name, document), objects: Vec::new() });
                continue;
            }
            if scenario.steps.is_empty() {
                let happens = Happens { step: "at first".into(), ..Happens::default() };
                scenario.steps.push(Step { happens, objects: Vec::new() });
            }
            scenario.steps.last_mut().unwrap().objects.extend(objects(name, document));
        }
        assert!(!scenario.steps.is_empty(), "{name}: nothing happens");
        scenario
    }
}

fn objects(name: &str, document: &str) -> Vec<Object> {
    // Manifests do not have them, the API does.
    if document.lines().any(|line| line == "kind: ServiceCIDR") {
        return vec![ServiceCidrRecord::from(yaml::<ServiceCIDR>(name, document)).into()];
    }
    let read = manifests::objects(document).into_iter();
    let read: Vec<Object> =
        read.map(|object| object.unwrap_or_else(|error| panic!("{name}: {error}\n{document}"))).collect();
    assert!(!read.is_empty(), "{name}: no object in\n{document}");
    read
}

fn yaml<T: DeserializeOwned>(name: &str, text: &str) -> T {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"))
}
