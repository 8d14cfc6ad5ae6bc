//! Which endpoints of a service port are used, cluster-wide and on this node: traffic policies, topology hints and the
//! fallback to terminating endpoints, by the rules of kube-proxy's `CategorizeEndpoints`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::record::Hints;
use super::weights::PodId;

/// One endpoint of one service port, as seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the conditions of the API are independent")]
pub struct Endpoint<'a> {
    /// Address and target port, unique in its service port.
    pub addr: SocketAddr,
    /// Ready. Excludes terminating ones, except where `publishNotReadyAddresses` says otherwise.
    pub ready: bool,
    /// Serving, ready or not.
    pub serving: bool,
    /// Terminating.
    pub terminating: bool,
    /// On this node.
    pub local: bool,
    /// Its Pod.
    pub pod: PodId,
    /// Topology hints.
    pub hints: Option<&'a Hints>,
}

impl Endpoint<'_> {
    /// Whether it may be a member of a set at all: ready, or terminating and still of service.
    pub fn is_usable(&self) -> bool {
        self.ready || drains(self)
    }

    fn zone_hints(&self) -> &[Box<str>] {
        self.hints.map_or(&[], |hints| &hints.zones)
    }

    fn node_hints(&self) -> &[Box<str>] {
        self.hints.map_or(&[], |hints| &hints.nodes)
    }
}

/// The settings of a service port that decide about its sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// Has a `NodePort`, a load balancer address or an external IP.
    pub externally_accessible: bool,
}

impl Policy {
    /// Whether some client uses the cluster-wide set: also under `externalTrafficPolicy: Local`, for clients inside.
    pub const fn uses_cluster(self) -> bool {
        !self.internal_local || self.externally_accessible
    }

    /// Whether some client uses the node-local set.
    pub const fn uses_local(self) -> bool {
        self.internal_local || (self.external_local && self.externally_accessible)
    }
}

/// How far topology narrows the cluster-wide set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode<'a> {
    /// Not at all.
    Anywhere,
    /// Endpoints whose hints name this node.
    SameNode(&'a str),
    /// Endpoints whose hints name this zone.
    SameZone(&'a str),
}

/// The sets, as indexes of the endpoints. None: the set is not used by this service port (not the same as empty).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Categories {
    /// Cluster-wide.
    pub cluster: Option<Vec<usize>>,
    /// On this node.
    pub local: Option<Vec<usize>>,
    /// Reachable by either.
    pub reachable: Option<Vec<usize>>,
    /// Whether usable endpoints exist, here or elsewhere: an empty set then drops instead of refusing.
    pub has_any: bool,
}

/// What decides about the members of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetRule<'a> {
    /// Only endpoints on this node.
    pub local: bool,
    /// How far topology narrows the set.
    pub mode: Mode<'a>,
    /// No endpoint that could be a member is ready: those that terminate and still serve are its members (KEP-1669).
    pub draining: bool,
}

/// Whether an endpoint is a member of a set, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// A member: ready.
    Ready,
    /// A member: it terminates, still serves, and nothing is ready.
    Draining,
    /// Left out: not ready, and not terminating either.
    NotReady,
    /// Left out: it terminates and does not serve any more.
    NotServing,
    /// Left out: it terminates, and others are ready.
    Spare,
    /// Left out: not on this node.
    OtherNode,
    /// Left out: its hints name other nodes.
    NoNodeHint,
    /// Left out: its hints name other zones.
    NoZoneHint,
}

impl Standing {
    /// Whether the endpoint is a member.
    pub const fn is_member(self) -> bool {
        matches!(self, Self::Ready | Self::Draining)
    }
}

impl SetRule<'_> {
    /// Whether an endpoint is a member of the set, and why.
    pub fn judge(&self, endpoint: &Endpoint<'_>) -> Standing {
        if !endpoint.is_usable() {
            return if endpoint.terminating { Standing::NotServing } else { Standing::NotReady };
        }
        if self.local && !endpoint.local {
            return Standing::OtherNode;
        }
        match (self.draining, self.mode) {
            (true, _) if drains(endpoint) => Standing::Draining,
            (false, _) if !endpoint.ready => Standing::Spare,
            (false, Mode::SameNode(node)) if !names(endpoint.node_hints(), node) => Standing::NoNodeHint,
            (false, Mode::SameZone(zone)) if !names(endpoint.zone_hints(), zone) => Standing::NoZoneHint,
            // A set that drains has nothing ready, so the second case does not occur.
            _ => Standing::Ready,
        }
    }

    /// The set's rule once it is known whether something is ready.
    fn settled(self, endpoints: &[Endpoint<'_>]) -> Self {
        let ready = endpoints.iter().any(|endpoint| self.judge(endpoint).is_member());
        // Better a Pod that drains than none, wherever it is.
        if ready { self } else { Self { mode: Mode::Anywhere, draining: true, ..self } }
    }
}

/// The rules of a service port's two sets. None: the set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetRules<'a> {
    /// Of the cluster-wide set.
    pub cluster: Option<SetRule<'a>>,
    /// Of the set of this node.
    pub local: Option<SetRule<'a>>,
}

/// The rules of a service port's sets.
pub fn set_rules<'a>(endpoints: &[Endpoint<'_>], policy: Policy, node: &'a str, zone: Option<&'a str>) -> SetRules<'a> {
    let rule = |local, mode| SetRule { local, mode, draining: false }.settled(endpoints);
    SetRules {
        cluster: policy.uses_cluster().then(|| rule(false, topology_mode(endpoints, node, zone))),
        local: policy.uses_local().then(|| rule(true, Mode::Anywhere)),
    }
}

/// Sorts a service port's endpoints into its sets.
pub fn categorize(endpoints: &[Endpoint<'_>], policy: Policy, node: &str, zone: Option<&str>) -> Categories {
    if endpoints.is_empty() {
        return Categories::default();
    }
    let rules = set_rules(endpoints, policy, node, zone);
    let members = |rule: SetRule<'_>| select(endpoints, |e| rule.judge(e).is_member());
    let cluster = rules.cluster.map(members);
    let mut has_any = cluster.as_ref().is_some_and(|set| !set.is_empty());
    let Some(local_rule) = rules.local else {
        return Categories { reachable: cluster.clone(), cluster, local: None, has_any };
    };

    has_any |= endpoints.iter().any(Endpoint::is_usable);
    let local = Some(members(local_rule)).filter(|set| !set.is_empty());
    let fell_back = local_rule.draining && local.is_some();
    let narrowed = rules.cluster.is_some_and(|rule| rule.mode != Mode::Anywhere);
    let reachable = match &cluster {
        None => local.clone(),
        // Without topology and fallback the cluster-wide set contains the local one.
        Some(cluster) if !narrowed && !fell_back => Some(cluster.clone()),
        Some(cluster) => {
            let mut union: Vec<usize> = cluster.iter().chain(local.iter().flatten()).copied().collect();
            union.sort_unstable();
            union.dedup();
            Some(union)
        }
    };
    Categories { cluster, local, reachable, has_any }
}

/// Hints count only when every ready endpoint has them and one of them names this place: a partly updated set of hints
/// must not send everything to a few endpoints.
pub fn topology_mode<'a>(endpoints: &[Endpoint<'_>], node: &'a str, zone: Option<&'a str>) -> Mode<'a> {
    let mut ready = endpoints.iter().filter(|e| e.ready).peekable();
    if ready.peek().is_none() {
        return Mode::Anywhere;
    }
    let (mut all_node, mut any_node, mut all_zone, mut any_zone) = (true, false, true, false);
    for endpoint in ready {
        all_node &= !endpoint.node_hints().is_empty();
        any_node |= names(endpoint.node_hints(), node);
        all_zone &= !endpoint.zone_hints().is_empty();
        any_zone |= zone.is_some_and(|zone| names(endpoint.zone_hints(), zone));
    }
    match zone {
        _ if all_node && any_node => Mode::SameNode(node),
        Some(zone) if all_zone && any_zone => Mode::SameZone(zone),
        _ => Mode::Anywhere,
    }
}

/// Terminating, but still of service.
fn drains(endpoint: &Endpoint<'_>) -> bool {
    endpoint.serving && endpoint.terminating
}

fn names(hints: &[Box<str>], place: &str) -> bool {
    hints.iter().any(|hint| &**hint == place)
}

fn select(endpoints: &[Endpoint<'_>], wanted: impl Fn(&Endpoint<'_>) -> bool) -> Vec<usize> {
    endpoints.iter().enumerate().filter(|(_, e)| wanted(e)).map(|(index, _)| index).collect()
}
