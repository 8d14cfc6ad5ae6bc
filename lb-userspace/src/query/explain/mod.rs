//! Why a Service, or an address, is served as it is: the deciding rule, by the functions that program the kernel.

mod compare;
mod decide;
mod decision;
mod target;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::compare::differences;
pub use self::decision::{Decision, Rule, Verdict};
pub use self::target::{Client, Target, TargetError};
use crate::model::desired::Family;
use crate::model::endpoints::{SliceUse, slice_use};
use crate::model::topology::{Endpoint, Standing};
use crate::model::view::View;
use crate::model::world::World;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What becomes of clients, what is worst first.
    pub decisions: Vec<Decision>,
    /// Every endpoint of the Service ports in question.
    pub endpoints: Vec<EndpointRow>,
    /// Every EndpointSlice of the Services in question.
    pub slices: Vec<SliceRow>,
    /// Parts of the objects that are not served: reason and message.
    pub refusals: Vec<(String, String)>,
    /// What to know about this answer.
    pub notes: Vec<String>,
    /// What is wrong on the way to its backends, behind Sluice.
    pub behind: Vec<String>,
    /// Where the kernel's maps are not what they should be.
    pub differences: Vec<String>,
}

/// One endpoint of one service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointRow {
    /// The service port.
    pub port: String,
    /// Address and port.
    pub endpoint: String,
    /// The slice that it is taken from.
    pub slice: String,
    /// On this node.
    pub local: bool,
    /// In the cluster-wide set or not, and why; none: no client uses the set.
    pub cluster: Option<Standing>,
    /// In the set of this node or not, and why; none: no client uses the set.
    pub node: Option<Standing>,
}

/// What a slice has for a service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SliceRow {
    /// The slice's name.
    pub slice: String,
    /// The service port.
    pub port: String,
    /// What it has.
    pub usage: SliceUse,
}

/// Explains what clients of this kind (none: of every kind) meet at the target. None: there is no such Service.
pub fn explain(world: &World, target: &Target, client: Option<Client>) -> Option<Explanation> {
    let views = world.views(|name, service, node| target.concerns(name, service, node));
    if views.is_empty() && matches!(target, Target::Service { .. }) {
        return None;
    }
    let mut answer = Explanation::default();
    for view in &views {
        answer.decisions.extend(decide::decisions(view, target, client));
        rows(view, target, &mut answer);
        answer.refusals.extend(view.refusals.iter().map(|row| (row.reason.name().to_owned(), row.message.clone())));
    }
    if let Target::Address(addr) = target {
        let served = |decision: &Decision| decision.rule != Rule::UnknownPort && !decision.is_left_out();
        if answer.decisions.iter().any(served) {
            answer.decisions.retain(served);
        }
        if answer.decisions.is_empty() {
            answer.decisions.push(decide::nobody(*addr));
        }
    }
    answer.decisions.sort_by_key(Decision::severity);
    if views.iter().any(|view| view.node.name.is_empty()) {
        answer.notes.push("the node is not known (--node-name): no endpoint counts as local".to_owned());
    }
    Some(answer)
}

fn rows(view: &View<'_>, target: &Target, answer: &mut Explanation) {
    let Some(service) = view.service.filter(|service| service.skip.is_none()) else { return };
    for port in service.ports.iter().filter(|port| target.wants_port(port)) {
        for family in Family::ALL {
            if !service.cluster_ips.iter().any(|ip| Family::of(ip) == family) {
                continue;
            }
            let name = format!("{}/{} {}", port.name, port.protocol.name(), family.name());
            answer.slices.extend(view.slices.iter().map(|slice| SliceRow {
                slice: slice.name.to_string(),
                port: name.clone(),
                usage: slice_use(slice, &port.name, port.protocol, family),
            }));
            let sourced = view.sourced(port, family);
            let endpoints: Vec<Endpoint<'_>> = sourced.iter().map(|e| e.endpoint).collect();
            let rules = view.set_rules(service, port, family, &endpoints);
            answer.endpoints.extend(sourced.iter().map(|e| EndpointRow {
                port: name.clone(),
                endpoint: e.endpoint.addr.to_string(),
                slice: e.slice.name.to_string(),
                local: e.endpoint.local,
                cluster: rules.cluster.map(|rule| rule.judge(&e.endpoint)),
                node: rules.local.map(|rule| rule.judge(&e.endpoint)),
            }));
        }
    }
}
