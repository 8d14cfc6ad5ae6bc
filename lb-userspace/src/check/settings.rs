//! Settings of the kernel: forwarding, filters of sources, loopback routes, ports.

use super::facts::{DeviceFacts, Facts};
use super::finding::{Finding, named, or_ok};
use crate::devices::Role;

/// Names that a line has.
const NAMED: usize = 6;
/// Where API servers take `NodePort`s from unless told otherwise.
pub(super) const NODE_PORTS: (u16, u16) = (30_000, 32_767);
/// `rp_filter`: only by the device that the route back leads to.
const STRICT: u8 = 1;

fn served(facts: &Facts) -> impl Iterator<Item = &DeviceFacts> {
    facts.devices.iter().filter(|device| device.role != Role::Ignored)
}

pub(super) fn forwarding(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (on, setting, packets) in [
        (facts.sysctls.forward_v4, "net.ipv4.ip_forward", "IPv4"),
        (facts.sysctls.forward_v6, "net.ipv6.conf.all.forwarding", "IPv6"),
    ] {
        if on == Some(false) {
            let says = format!("{setting} is 0: {packets} packets to Pods are not forwarded");
            found.push(Finding::problem(says, format!("sysctl -w {setting}=1, and in /etc/sysctl.d")));
        }
    }
    if facts.sysctls.forward_v4 == Some(true) {
        let off = served(facts).filter(|device| !device.port && device.forwarding == Some(false));
        let off: Vec<&str> = off.map(|device| &*device.name).collect();
        if let Some(first) = off.first() {
            let says = format!("IPv4 packets that come in by {} are not forwarded", named(&off, NAMED));
            found.push(Finding::problem(says, format!("sysctl -w net.ipv4.conf.{first}.forwarding=1, for each")));
        }
    }
    or_ok(found, || "the node forwards packets".to_owned())
}

pub(super) fn rp_filter(facts: &Facts) -> Vec<Finding> {
    let uplinks: Vec<&DeviceFacts> = facts.devices.iter().filter(|device| device.role == Role::Uplink).collect();
    let is_strict = |device: &&&DeviceFacts| device.rp_filter.max(facts.sysctls.rp_filter_all) == STRICT;
    let strict: Vec<&str> = uplinks.iter().filter(is_strict).map(|device| &*device.name).collect();
    match strict.first() {
        Some(first) if uplinks.len() > 1 => vec![Finding::warning(
            format!(
                "rp_filter is strict on {}, one of several uplinks: what comes in by another one than the route back \
                 leads to is dropped",
                named(&strict, NAMED)
            ),
            format!(
                "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{first}.rp_filter=2, unless routes are \
                 symmetrical"
            ),
        )],
        _ => vec![Finding::ok("rp_filter drops nothing that Services need")],
    }
}

pub(super) fn route_localnet(facts: &Facts) -> Vec<Finding> {
    let on = facts.devices.iter().filter(|device| device.route_localnet).map(|device| &*device.name);
    let on: Vec<&str> = facts.sysctls.route_localnet_all.then_some("all").into_iter().chain(on).collect();
    let Some(first) = on.first() else {
        return vec![Finding::ok("loopback addresses are not reached from outside")];
    };
    vec![Finding::warning(
        format!("route_localnet is on for {}: neighbours reach what listens on 127.0.0.1 only", named(&on, NAMED)),
        format!(
            "sysctl -w net.ipv4.conf.{first}.route_localnet=0: kube-proxy needed it, Sluice does not; leave it where the \
             CNI serves hostPorts on loopback"
        ),
    )]
}

fn overlap(a: (u16, u16), b: (u16, u16)) -> Option<(u16, u16)> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 <= both.1).then_some(both)
}

/// Whether the kernel never chooses one of these ports by itself.
fn is_reserved(range: (u16, u16), reserved: &[(u16, u16)]) -> bool {
    let mut ranges = reserved.to_vec();
    ranges.sort_unstable();
    let mut next = u32::from(range.0);
    for (low, high) in ranges {
        if u32::from(low) <= next && u32::from(high) >= next {
            next = u32::from(high) + 1;
        }
    }
    next > u32::from(range.1)
}

pub(super) fn snat_ports(facts: &Facts) -> Vec<Finding> {
    let (low, high) = facts.snat_ports;
    let mut found = Vec::new();
    if let Some(local) = facts.sysctls.local_ports
        && let Some(both) = overlap((low, high), local)
        && !is_reserved(both, &facts.sysctls.reserved_ports)
    {
        found.push(Finding::warning(
            format!(
                "--snat-ports {low}-{high} and the kernel's own source ports (net.ipv4.ip_local_port_range {} {}) share \
                 {}-{}: connections of the node are in the way of those that Sluice source-NATs",
                local.0, local.1, both.0, both.1
            ),
            format!("sysctl -w net.ipv4.ip_local_reserved_ports={}-{}, or another --snat-ports", both.0, both.1),
        ));
    }
    let taken: Vec<String> = facts
        .frontends
        .iter()
        .filter(|front| front.node_port && (low..=high).contains(&front.addr.port()))
        .map(|front| format!("{} of {}", front.addr.port(), front.service))
        .collect();
    if !taken.is_empty() {
        found.push(Finding::warning(
            format!("--snat-ports {low}-{high} holds NodePorts: {}", named(&taken, NAMED)),
            format!("end the range below {}", NODE_PORTS.0),
        ));
    }
    or_ok(found, || format!("source NAT has ports {low}-{high} for itself"))
}
