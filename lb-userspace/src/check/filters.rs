//! What firewalls do to Services, and what they do not do any more.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::facts::{Facts, Front};
use super::finding::{Finding, named, or_ok};
use super::firewall::{Chain, Firewall, Rule, Verdict};
use super::settings::NODE_PORTS;

/// Rules that are named.
const NAMED: usize = 8;
/// Chains that lead to each other are followed this far.
const DEPTH: usize = 8;

fn not_asked(firewall: &Firewall) -> Option<Finding> {
    firewall.asked.is_empty().then(|| {
        let why = if firewall.failed.is_empty() {
            "nft and iptables-save are not installed".to_owned()
        } else {
            firewall.failed.join("; ")
        };
        Finding::skipped(
            format!("the rules of the firewall cannot be read: {why}"),
            "run `sluice check` on the host, as root, with nftables or iptables installed",
        )
    })
}

/// What becomes of most packets that a chain sees.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    /// All that come this far are dropped.
    drops: bool,
    /// Some are let through before.
    accepts: bool,
}

fn fate(firewall: &Firewall, chain: &Chain, depth: usize) -> Fate {
    let mut fate = Fate { drops: chain.drops, accepts: false };
    for rule in &chain.rules {
        match (&rule.verdict, rule.conditional) {
            (Verdict::Accept, true) => fate.accepts |= !rule.established,
            (Verdict::Accept, false) => return Fate { drops: false, ..fate },
            (Verdict::Drop, false) => return Fate { drops: true, ..fate },
            (Verdict::Jump(name), conditional) => {
                // A chain of kube-proxy's lets through what is on its mark, which nobody sets any more.
                let target = firewall.target(chain, name).filter(|chain| !chain.is_kube_proxys());
                if let Some(target) = target.filter(|_| depth < DEPTH) {
                    let inner = self::fate(firewall, target, depth + 1);
                    fate.accepts |= inner.accepts;
                    if inner.drops && !conditional {
                        return Fate { drops: true, ..fate };
                    }
                }
            }
            (Verdict::Drop | Verdict::Other, _) => {}
        }
    }
    fate
}

pub(super) fn forward_policy(facts: &Facts) -> Vec<Finding> {
    let firewall = &facts.firewall;
    if let Some(skipped) = not_asked(firewall) {
        return vec![skipped];
    }
    let mut found = Vec::new();
    for (v6, packets) in [(false, "IPv4"), (true, "IPv6")] {
        for chain in firewall.forwarding(v6) {
            let Fate { drops, accepts } = fate(firewall, chain, 0);
            if !drops {
                continue;
            }
            let says = format!("{} drops {packets} packets that the node forwards", chain.place());
            let todo = match &*chain.tool {
                "nft" => format!(
                    "nft add rule {} {} {} ip daddr POD-CIDR accept, and ip saddr",
                    chain.family, chain.table, chain.name
                ),
                tool => format!("{tool} -I FORWARD -d POD-CIDR -j ACCEPT, and -s POD-CIDR; kube-proxy made such rules"),
            };
            found.push(if accepts {
                Finding::warning(
                    format!("{says}, but for what its rules let through"),
                    format!("see that these are all Pods: else {todo}"),
                )
            } else {
                Finding::problem(format!("{says}: nothing reaches a Pod"), todo)
            });
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|finding| seen.insert(finding.todo.clone()));
    or_ok(found, || format!("forwarded packets are not dropped ({})", firewall.asked.join(", ")))
}

/// The destination that a rule names and that Sluice translates before any rule sees it.
fn bypassed<'a>(rule: &Rule, fronts: &'a [Front]) -> Option<&'a Front> {
    fronts.iter().find(|front| rule.names(front.addr.ip(), front.addr.port(), front.node_port))
}

pub(super) fn firewall_rules(facts: &Facts) -> Vec<Finding> {
    let firewall = &facts.firewall;
    if let Some(skipped) = not_asked(firewall) {
        return vec![skipped];
    }
    // Before anything is served: whatever names a port from which NodePorts are taken.
    let someday: Vec<Front> =
        if facts.frontends.is_empty() { (NODE_PORTS.0..=NODE_PORTS.1).map(node_port).collect() } else { Vec::new() };
    let fronts = if facts.frontends.is_empty() { &someday } else { &facts.frontends };
    let mut rules = Vec::new();
    let mut first = None;
    for chain in firewall.chains.iter().filter(|chain| !chain.is_kube_proxys()) {
        let names = chain.rules.iter().filter(|rule| !rule.ports.is_empty() || !rule.addresses.is_empty());
        for rule in names {
            if let Some(front) = bypassed(rule, fronts) {
                first.get_or_insert((front, chain.place()));
                rules.push(rule.text.clone());
            }
        }
    }
    let found = first.map(|(front, place)| {
        let what = if facts.frontends.is_empty() {
            format!("port {}, from which NodePorts are taken", front.addr.port())
        } else if front.node_port {
            format!("NodePort {} of {}", front.addr.port(), front.service)
        } else {
            format!("{} of {}", front.addr, front.service)
        };
        Finding::warning(
            format!(
                "{} rules of the firewall name an address or port of a Service ({place} has {what}): Sluice translates \
                 before any rule is asked, so they are never reached",
                rules.len()
            ),
            format!(
                "use loadBalancerSourceRanges or a NetworkPolicy, or filter at the Pod's own address and port; the rules: \
                 {}",
                named(&rules, NAMED)
            ),
        )
    });
    or_ok(found.into_iter().collect(), || {
        format!("no rule names an address or port of a Service ({})", firewall.asked.join(", "))
    })
}

fn node_port(port: u16) -> Front {
    Front {
        addr: (IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into(),
        protocol: 6,
        node_port: true,
        cluster_ip: false,
        service: String::new(),
    }
}
