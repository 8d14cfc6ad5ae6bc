//! Which rule decided, from what the model made of the Service.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::decision::{Decision, Rule, Verdict};
use super::target::{Client, Target};
use crate::model::algorithm::Algorithm;
use crate::model::desired::{DesiredPort, Family, Frontend, FrontendKind, Protocol, SetKind, WhenEmpty};
use crate::model::ejection::Ejection;
use crate::model::endpoints::{SliceUse, slice_use};
use crate::model::reason::Reason;
use crate::model::record::{PortRecord, ServiceRecord, Skip};
use crate::model::topology::{Endpoint, Mode, SetRule};
use crate::model::view::View;

/// Nodes that a note names.
const NODES: usize = 5;

/// What becomes of clients of the Service.
pub(super) fn decisions(view: &View<'_>, target: &Target, client: Option<Client>) -> Vec<Decision> {
    let object = || format!("Service {}", view.name);
    let Some(service) = view.service else { return vec![Decision::not_served(Rule::NoSuchService, object())] };
    let skipped = service.skip.map(|skip| match skip {
        Skip::Headless => Rule::Headless,
        Skip::ExternalName => Rule::ExternalName,
        Skip::OtherProxy => Rule::OtherProxy,
    });
    if let Some(rule) = skipped {
        return vec![Decision::not_served(rule, object())];
    }
    let wanted: Vec<&PortRecord> = service.ports.iter().filter(|port| target.wants_port(port)).collect();
    if wanted.is_empty() {
        return vec![without_port(view, service, target)];
    }
    let mut all = Vec::new();
    for port in wanted {
        let of_port =
            |desired: &&DesiredPort| desired.id.protocol == port.protocol && desired.id.port_name == *port.name;
        let before = all.len();
        for desired in view.desired.ports.iter().filter(of_port) {
            for frontend in desired.frontends.iter().filter(|frontend| target.wants_frontend(frontend.addr)) {
                let clients = client.map_or_else(|| usual_clients(frontend), |client| vec![client]);
                let at = At { view, service, port, desired, frontend };
                all.extend(clients.into_iter().map(|client| at.decide(client)));
            }
        }
        if all.len() == before {
            all.push(left_out(view, port, target));
        }
    }
    all
}

/// An address that no Service has.
pub(super) fn nobody(addr: SocketAddr) -> Decision {
    let mut decision = Decision::not_served(Rule::UnknownAddress, format!("address {addr}"));
    decision.notes.push("in --service-cidr such packets are dropped, elsewhere they go on untranslated".to_owned());
    decision
}

fn usual_clients(frontend: &Frontend) -> Vec<Client> {
    match frontend.kind {
        FrontendKind::ClusterIp => vec![Client::Pod],
        _ => vec![Client::Pod, Client::Outside],
    }
}

fn without_port(view: &View<'_>, service: &ServiceRecord, target: &Target) -> Decision {
    let object = format!("Service {}", view.name);
    if service.ports.is_empty() {
        let reason = view.refusals.first().map_or(Rule::NoPorts, |row| Rule::Refusal(row.reason));
        return Decision::not_served(reason, object);
    }
    let names = service.ports.iter().map(|port| format!("{}:{}/{}", port.name, port.port, port.protocol.name()));
    let mut decision = Decision::not_served(Rule::UnknownPort, object);
    if let Target::Address(addr) = target {
        decision.frontend = Some(addr.to_string());
        if service.cluster_ips.contains(&addr.ip()) {
            decision.verdict = Verdict::Refused;
        }
    }
    decision.notes.push(format!("its ports are {}", names.collect::<Vec<_>>().join(", ")));
    decision
}

/// Why a port has no such frontend: the refusal that says so.
fn left_out(view: &View<'_>, port: &PortRecord, target: &Target) -> Decision {
    let object = format!("Service {}:{}/{}", view.name, port.name, port.protocol.name());
    let of_service = view.refusals.iter().filter(|row| row.kind == "Service");
    let about = match target {
        Target::Address(addr) => {
            let service = view.service;
            let is_external = service.is_some_and(|service| service.external_ips.contains(&addr.ip()));
            let is_balancer = service.is_some_and(|service| service.load_balancer_ips.contains(&addr.ip()));
            let ip = addr.ip().to_string();
            of_service.clone().find(|row| match row.reason {
                Reason::ExternalIpsOff => is_external,
                Reason::SourceRangesUnreadable => is_balancer,
                Reason::AnsweredByNode | Reason::WrongFamily => row.message.starts_with(&ip),
                Reason::DuplicateFrontend => row.message.starts_with(&addr.to_string()),
                _ => false,
            })
        }
        Target::Service { .. } => of_service.clone().next(),
    };
    let mut decision = Decision::not_served(about.map_or(Rule::UnknownPort, |row| Rule::Refusal(row.reason)), object);
    decision.notes.extend(about.map(|row| row.message.clone()));
    decision
}

/// A frontend of a Service.
struct At<'a> {
    view: &'a View<'a>,
    service: &'a ServiceRecord,
    port: &'a PortRecord,
    desired: &'a DesiredPort,
    frontend: &'a Frontend,
}

impl At<'_> {
    fn decide(&self, client: Client) -> Decision {
        let (view, desired, frontend, family) = (self.view, self.desired, self.frontend, self.desired.id.family);
        let kind = client.kind(view);
        let outside = kind == Client::Outside;
        let set = if outside { frontend.external } else { frontend.internal };
        let backends: Vec<String> = desired.members(set).map(|addr| addr.to_string()).collect();
        let endpoints = self.endpoints(family);
        let ranges = &desired.source_ranges;
        let denied =
            frontend.source_ranges && client.ip().is_some_and(|ip| !ranges.iter().any(|range| range.contains(&ip)));
        let (verdict, rule) = if self.port.protocol == Protocol::Sctp {
            (Verdict::NotServed, Rule::Refusal(Reason::ProtocolNotServed))
        } else if denied {
            (Verdict::Dropped, Rule::SourceRange)
        } else if !backends.is_empty() {
            (Verdict::Served, self.served_by(&endpoints, family, set))
        } else {
            let verdict =
                if desired.when_empty(set) == WhenEmpty::Refuse { Verdict::Refused } else { Verdict::Dropped };
            (verdict, self.why_empty(&endpoints, family))
        };
        Decision {
            verdict,
            rule,
            object: format!("Service {} ({})", desired.id, family.name()),
            frontend: Some(frontend.addr.to_string()),
            kind: Some(kind_name(frontend.kind)),
            client: kind.name(),
            backends,
            endpoints: endpoints.len(),
            notes: self.notes(outside, set, rule),
        }
    }

    fn endpoints(&self, family: Family) -> Vec<Endpoint<'_>> {
        self.view.sourced(self.port, family).into_iter().map(|sourced| sourced.endpoint).collect()
    }

    fn served_by(&self, endpoints: &[Endpoint<'_>], family: Family, set: SetKind) -> Rule {
        let rules = self.view.set_rules(self.service, self.port, family, endpoints);
        let rule = match set {
            SetKind::Cluster => rules.cluster,
            SetKind::Local => rules.local,
        };
        match rule {
            Some(SetRule { draining: true, .. }) => Rule::Draining,
            Some(SetRule { local: true, .. }) => Rule::LocalOnly,
            Some(SetRule { mode: Mode::SameNode(_), .. }) => Rule::SameNode,
            Some(SetRule { mode: Mode::SameZone(_), .. }) => Rule::SameZone,
            Some(SetRule { mode: Mode::Anywhere, .. }) | None => Rule::AllReady,
        }
    }

    fn why_empty(&self, endpoints: &[Endpoint<'_>], family: Family) -> Rule {
        if endpoints.iter().any(Endpoint::is_usable) {
            return Rule::NoneLocal;
        }
        if !endpoints.is_empty() {
            return Rule::NoneReady;
        }
        let port = self.port;
        let uses: Vec<SliceUse> =
            self.view.slices.iter().map(|slice| slice_use(slice, &port.name, port.protocol, family)).collect();
        // What comes nearest to an endpoint is the mistake that is most likely meant.
        let nearest = [
            (SliceUse::Empty, Rule::NoEndpoint),
            (SliceUse::OtherProtocol, Rule::PortProtocolDiffers),
            (SliceUse::NoSuchPort, Rule::PortNameDiffers),
            (SliceUse::OtherFamily, Rule::OtherFamily),
            (SliceUse::NotUsed, Rule::SliceNotUsed),
        ];
        let nearest = nearest.iter().find(|(usage, _)| uses.contains(usage));
        nearest.map_or(if uses.is_empty() { Rule::NoSlice } else { Rule::NoEndpoint }, |(_, rule)| *rule)
    }

    /// Where the endpoints are, by the names of nodes: a wrong `--node-name` shows there.
    fn whereabouts(&self) -> String {
        let endpoints = self.view.slices.iter().flat_map(|slice| &slice.endpoints);
        let nodes: BTreeSet<&str> = endpoints.filter_map(|endpoint| endpoint.node.as_deref()).collect();
        let nodes: Vec<&str> = nodes.into_iter().take(NODES).collect();
        format!("this node is {:?}; endpoints are on {}", self.view.node.name, nodes.join(", "))
    }

    fn notes(&self, outside: bool, set: SetKind, rule: Rule) -> Vec<String> {
        let mut notes = Vec::new();
        if rule == Rule::NoneLocal {
            notes.push(self.whereabouts());
        }
        if self.desired.affinity_secs != 0 {
            let secs = self.desired.affinity_secs;
            notes
                .push(format!("session affinity: a client keeps its backend, until {secs} s without a new connection"));
        }
        let weighted = self.desired.backends.values().any(|backend| backend.weight != 1);
        if self.desired.algorithm != Algorithm::Random || weighted {
            let by = if weighted { ", by weight" } else { "" };
            notes.push(format!("new connections are spread by {}{by}", self.desired.algorithm.name()));
        }
        if self.desired.ejection != Ejection::Off {
            notes.push(format!("backends that fail far more often than their fellows rest: {}", self.desired.ejection));
        }
        if self.frontend.source_ranges {
            let ranges: Vec<String> = self.desired.source_ranges.iter().map(ToString::to_string).collect();
            notes.push(format!("only clients in {} get through", ranges.join(", ")));
        }
        notes.push(match (outside, self.frontend.kind, set) {
            (true, FrontendKind::ClusterIp, _) => {
                "source: the node's address where --cluster-cidr tells that the client is outside of the cluster".into()
            }
            (true, _, SetKind::Cluster) => "source: kept for a backend here, the node's for one elsewhere".into(),
            (true, _, SetKind::Local) => "source: kept".into(),
            (false, _, _) => "source: kept, but for a client that is the backend itself".to_owned(),
        });
        notes
    }
}

const fn kind_name(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "ClusterIP",
        FrontendKind::NodePort => "NodePort",
        FrontendKind::LoadBalancer => "LoadBalancer",
        FrontendKind::ExternalIp => "ExternalIP",
    }
}
