//! Which endpoints of a service port are used, cluster-wide and on this node: traffic policies, topology hints and the
//! fallback to terminating endpoints, by the rules of kube-proxy's `CategorizeEndpoints`.

use std::net::SocketAddr;

use super::record::Hints;

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
    /// Topology hints.
    pub hints: Option<&'a Hints>,
}

impl Endpoint<'_> {
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

/// Sorts a service port's endpoints into its sets.
pub fn categorize(endpoints: &[Endpoint<'_>], policy: Policy, node: &str, zone: Option<&str>) -> Categories {
    if endpoints.is_empty() {
        return Categories::default();
    }
    let mut has_any = false;
    let mut mode = Mode::Anywhere;
    let cluster = policy.uses_cluster().then(|| {
        mode = topology_mode(endpoints, node, zone);
        let ready = select(endpoints, |e| e.ready && available(e, mode));
        // KEP-1669: better a Pod that drains than none, wherever it is.
        if ready.is_empty() { select(endpoints, drains) } else { ready }
    });
    has_any |= cluster.as_ref().is_some_and(|set| !set.is_empty());
    if !policy.uses_local() {
        return Categories { reachable: cluster.clone(), cluster, local: None, has_any };
    }

    has_any |= endpoints.iter().any(|e| e.ready || drains(e));
    let ready = select(endpoints, |e| e.local && e.ready);
    let (local, fell_back) = if ready.is_empty() {
        let draining = select(endpoints, |e| e.local && drains(e));
        let fell_back = !draining.is_empty();
        (fell_back.then_some(draining), fell_back)
    } else {
        (Some(ready), false)
    };
    let reachable = match &cluster {
        None => local.clone(),
        // Without topology and fallback the cluster-wide set contains the local one.
        Some(cluster) if mode == Mode::Anywhere && !fell_back => Some(cluster.clone()),
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

fn available(endpoint: &Endpoint<'_>, mode: Mode<'_>) -> bool {
    match mode {
        Mode::Anywhere => true,
        Mode::SameNode(node) => names(endpoint.node_hints(), node),
        Mode::SameZone(zone) => names(endpoint.zone_hints(), zone),
    }
}

fn names(hints: &[Box<str>], place: &str) -> bool {
    hints.iter().any(|hint| &**hint == place)
}

fn select(endpoints: &[Endpoint<'_>], wanted: impl Fn(&Endpoint<'_>) -> bool) -> Vec<usize> {
    endpoints.iter().enumerate().filter(|(_, e)| wanted(e)).map(|(index, _)| index).collect()
}
