//! What lies behind Sluice on the way to a backend, and why it may not answer.

use std::collections::BTreeMap;

use super::facts::{Facts, Probed, Way};
use super::finding::{Finding, named, or_ok};

/// Backends that a line names.
const NAMED: usize = 3;

/// What is wrong on a way, and what to do.
pub fn trouble(way: &Way) -> Option<(String, String)> {
    let Way { backend, local, route, probed, .. } = way;
    let ip = backend.ip();
    let leads = match route {
        Err(why) => {
            return Some((
                format!("there is no route ({why})"),
                format!("ip route get {ip}: does the CNI run, and has it made the routes to that node?"),
            ));
        }
        Ok(leads) => leads,
    };
    let device = &leads.device;
    if *local && leads.uplink && !leads.own {
        return Some((
            format!("it is said to be on this node, but the route leads out by {device}"),
            "ip -br link: the Pod's device is down or gone; or --node-name is another node's".to_owned(),
        ));
    }
    if !leads.running && !leads.own {
        return Some((
            format!("{device}, by which the route leads, is down or its other end is"),
            format!("ip -br link show {device}; ip link set {device} up, or start the Pod anew"),
        ));
    }
    let next = leads.next.unwrap_or(ip);
    if leads.unanswered && !leads.own && *probed != Some(Probed::Taken) {
        return Some((
            format!("nobody on {device} answers for {next} (ARP or neighbour discovery)"),
            format!("ip neigh show {next}: the Pod, its device or its node is gone"),
        ));
    }
    let port = backend.port();
    match probed {
        Some(Probed::Refused) => Some((
            format!("it refuses connections: nothing listens on port {port}"),
            "compare targetPort of the Service with what the Pod listens on".to_owned(),
        )),
        Some(Probed::Unanswered) => Some((
            "it does not answer".to_owned(),
            "the Pod or its node is gone, or a NetworkPolicy or firewall drops: kubectl get pods -o wide".to_owned(),
        )),
        Some(Probed::Unreachable(why)) => {
            Some((format!("it cannot be reached: {why}"), format!("ip route get {ip}; ip neigh show {ip}")))
        }
        Some(Probed::Taken) | None => None,
    }
}

/// One line for each thing that is wrong, whatever the number of backends.
pub(super) fn backends(facts: &Facts) -> Vec<Finding> {
    let mut by_trouble: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (service, way) in &facts.ways {
        if let Some((what, todo)) = trouble(way) {
            by_trouble.entry((what, todo)).or_default().push(format!("{} of {service}", way.backend));
        }
    }
    let found = by_trouble
        .into_iter()
        .map(|((what, todo), backends)| Finding::problem(format!("{}: {what}", named(&backends, NAMED)), todo));
    or_ok(found.collect(), || format!("there is a way to each of {} backends", facts.ways.len()))
}
