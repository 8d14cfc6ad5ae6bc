//! Whether the agent does its work, and whether what it serves can be reached.

use std::net::{IpAddr, SocketAddr};

use super::facts::{AgentFacts, Facts, Names};
use super::finding::{Finding, named, or_ok};
use super::names::is_alike;
use crate::devices::Role;

const NAMED: usize = 5;
/// A map is nearly full from here on, percent.
const NEARLY_FULL: usize = 85;
/// The agent's own ports: /healthz and /metrics.
const OWN_PORTS: [(u16, &str); 2] = [(10_256, "--healthz-bind-address"), (10_249, "--metrics-bind-address")];

pub(super) fn agent(facts: &Facts) -> Vec<Finding> {
    let Some(agent) = &facts.agent else {
        return vec![Finding::ok("no agent has run with this --pin-path yet")];
    };
    let mut found = Vec::new();
    if !agent.alive {
        found.push(Finding::problem(
            "the agent does not run: what is in the kernel goes on working, but follows no change",
            "kubectl -n kube-system logs daemonset/sluice --previous, or journalctl -u sluice; then start it",
        ));
    } else if !agent.synced {
        found.push(Finding::problem(
            "the first full state of this agent is not in the kernel yet",
            "look at its log: it waits for the source of Services, or for devices",
        ));
    }
    for error in agent.errors.iter().take(NAMED) {
        found.push(Finding::problem(error.clone(), "look at the agent's log; it tries again every few seconds"));
    }
    for line in agent.not_served.iter().take(NAMED) {
        found.push(Finding::warning(format!("not served: {line}"), "see docs/sockets.md and docs/devices.md"));
    }
    or_ok(found, || format!("the agent runs on node {}", agent.node_name))
}

pub(super) fn source(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(AgentFacts { alive: true, failing: Some((secs, why)), source, from, .. }) = &facts.agent {
        let todo = match &**source {
            "kube" => {
                "see whether the API server runs and whether this node reaches it; Services are served as they were"
            }
            _ => "bring the folder back; Services are served as they were",
        };
        found.push(Finding::problem(format!("{source} {from} cannot be read for {secs} s: {why}"), todo));
    }
    if let Some(api) = &facts.api {
        let is_cluster_ip = |front: &super::facts::Front| front.cluster_ip && Some(front.addr) == api.addr;
        if facts.frontends.iter().any(is_cluster_ip) {
            found.push(Finding::warning(
                format!("the API server is reached through the ClusterIP {}, which Sluice itself serves", api.url),
                "give the agent --api-server https://ADDRESS:6443 of the server itself: else it does not start on a node \
                 without Services in its maps",
            ));
        }
        if let Some(Err(why)) = &api.reached {
            found.push(Finding::problem(
                format!("the API server {} cannot be reached: {why}", api.url),
                "see whether it runs, and routes and firewalls on the way to it",
            ));
        }
    }
    or_ok(found, || match &facts.agent {
        Some(agent) => format!("{} {} can be read", agent.source, agent.from),
        None => "nothing is asked yet".to_owned(),
    })
}

pub(super) fn refusals(facts: &Facts) -> Vec<Finding> {
    let rows = facts.agent.as_ref().map(|agent| &*agent.refusals).unwrap_or_default();
    if rows.is_empty() {
        return vec![Finding::ok("nothing of a Service is left out")];
    }
    let lines: Vec<String> =
        rows.iter().map(|[kind, object, reason, message]| format!("{kind} {object}: {reason}: {message}")).collect();
    vec![Finding::warning(
        format!("{} parts of objects are not served: {}", rows.len(), named(&lines, NAMED)),
        "correct them; `sluice status` has them all, docs/manifests.md says what they mean",
    )]
}

pub(super) fn maps(facts: &Facts) -> Vec<Finding> {
    let full = facts.maps.iter().filter(|fill| {
        let capacity = usize::try_from(fill.capacity).unwrap_or(usize::MAX);
        capacity > 0 && fill.used.saturating_mul(100) >= capacity.saturating_mul(NEARLY_FULL)
    });
    let found = full.map(|fill| {
        let is_full = fill.used >= usize::try_from(fill.capacity).unwrap_or(usize::MAX);
        let says = format!("map {} holds {} of {} entries", fill.map, fill.used, fill.capacity);
        let setting = fill.setting.unwrap_or("its size");
        let todo = format!("raise {setting}: docs/operations.md, sizes");
        if is_full && !fill.evicts {
            Finding::problem(format!("{says}: what comes next is not served"), todo)
        } else if fill.evicts {
            Finding::warning(format!("{says}: what is old is pushed out"), todo)
        } else {
            Finding::warning(says, todo)
        }
    });
    or_ok(found.collect(), || format!("{} maps have room", facts.maps.len()))
}

pub(super) fn uplinks(facts: &Facts) -> Vec<Finding> {
    let uplinks: Vec<&str> =
        facts.devices.iter().filter(|device| device.role == Role::Uplink).map(|device| &*device.name).collect();
    let mut found = Vec::new();
    let asked = |ip: &IpAddr| facts.frontends.iter().any(|front| front.node_port && front.addr.ip() == *ip);
    for device in facts.devices.iter().filter(|device| device.role != Role::Uplink && !device.port) {
        let address = device.addresses.iter().find(|ip| asked(ip));
        let why = match (address, device.default_route) {
            (_, true) => "the default route leads out by it".to_owned(),
            (Some(ip), false) if !is_dummy(&device.why) => format!("NodePorts are asked at its address {ip}"),
            _ => continue,
        };
        let (name, role) = (&device.name, device.role.name());
        found.push(Finding::problem(
            format!("{why}, but {name} is no uplink: it counts as {role} ({})", device.why),
            format!("name all uplinks: --uplink {}", [uplinks.clone(), vec![name]].concat().join(" --uplink ")),
        ));
    }
    if uplinks.is_empty() && found.is_empty() {
        found.push(Finding::problem(
            "no device is an uplink: clients outside of the node are not served",
            "name it: --uplink DEVICE; `sluice status` has each device's role and why",
        ));
    }
    or_ok(found, || format!("uplinks: {}", named(&uplinks, NAMED)))
}

/// Addresses of such a device are reached by another one.
fn is_dummy(why: &str) -> bool {
    why.contains("dummy") || why.contains("loopback")
}

pub(super) fn ports(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let runs = facts.agent.as_ref().is_some_and(|agent| agent.alive);
    for line in facts.agent.iter().filter(|_| runs).flat_map(|agent| &agent.ports_taken).take(NAMED) {
        found.push(Finding::problem(format!("a port of the agent's is taken: {line}"), "find who listens: ss -ltnp"));
    }
    for (port, option) in OWN_PORTS.iter().filter(|_| !runs) {
        if facts.listening.iter().any(|addr| addr.port() == *port) {
            found.push(Finding::warning(
                format!("port {port}, which the agent wants, is taken"),
                format!("ss -ltnp 'sport = :{port}': end that program (kube-proxy has it by default) or give {option}"),
            ));
        }
    }
    let listens = |at: &SocketAddr| {
        let any = |ip: IpAddr| facts.listening.contains(&SocketAddr::new(ip, at.port()));
        facts.listening.contains(at) || any([0, 0, 0, 0].into()) || any([0_u16; 8].into())
    };
    let mut shadowed: Vec<String> = facts
        .frontends
        .iter()
        .filter(|front| front.node_port && front.protocol == 6 && !front.addr.ip().is_loopback())
        .filter(|front| listens(&front.addr))
        .map(|front| format!("{} of {}", front.addr.port(), front.service))
        .collect();
    shadowed.sort();
    shadowed.dedup();
    if !shadowed.is_empty() {
        found.push(Finding::warning(
            format!(
                "programs of the node listen on NodePorts and are not reached from outside: {}",
                named(&shadowed, NAMED)
            ),
            "ss -ltnp shows them: give them another port, or the Service",
        ));
    }
    or_ok(found, || "no port is wanted twice".to_owned())
}

pub(super) fn node_name(facts: &Facts) -> Vec<Finding> {
    let Some(names) = &facts.names else {
        return vec![Finding::skipped("endpoints are not known", "start the agent, and look again")];
    };
    let Names { own, object, others, here, nowhere } = names;
    let all: Vec<&String> = others.iter().collect();
    let meant = others.iter().find(|other| is_alike(other, own));
    let todo = match meant {
        Some(other) => format!("--node-name {other}"),
        None if all.is_empty() => "--node-name must be the name of the Node object: kubectl get nodes".to_owned(),
        None => format!("--node-name must be the name of the Node object, such as {}", named(&all, NAMED)),
    };
    let harm = "policy Local finds no endpoint here, policy Cluster hides clients behind the node's address";
    let mut found = Vec::new();
    if *object == Some(false) {
        found.push(Finding::problem(format!("there is no Node {own}: {harm}"), todo));
    } else if !here && meant.is_some() {
        found.push(Finding::problem(format!("no endpoint is on a node called {own}: {harm}"), todo));
    } else if !here && !others.is_empty() && *object != Some(true) {
        let says = format!("no endpoint is on a node called {own}: if Pods run here, {harm}");
        found.push(Finding::warning(says, todo));
    }
    if *nowhere && !here && others.is_empty() {
        found.push(Finding::warning(
            "endpoints have no nodeName: none of them counts as local",
            "give the endpoints of the EndpointSlices a nodeName",
        ));
    }
    or_ok(found, || {
        if *here {
            format!("endpoints are on this node, {own}")
        } else {
            format!("nothing speaks against the name {own}")
        }
    })
}
