//! A packet's way through the kernel, behind Sluice: route, device, forwarding, firewall, neighbour, size.

use std::io;
use std::net::IpAddr;

use super::finding::{Cause, Findings, Severity, Way};
use super::firewall::ruling;
use super::probe::{NetHook, Probe, Ruling};
use super::surroundings::Surroundings;
use crate::linux::routes::{Link, Neighbour, RouteTo};

/// A packet on its way through the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg<'a> {
    pub(super) way: Way,
    /// From the network header on.
    pub(super) packet: &'a [u8],
    /// Where the transport header begins.
    pub(super) l4: usize,
    pub(super) protocol: u8,
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    /// The device by which it comes; `None`: from a process of the node.
    pub(super) from: Option<u32>,
    /// What connection tracking makes of it.
    pub(super) state: u32,
    /// Bytes of the largest packet in question; 0: as the devices have it.
    pub(super) size: u32,
}

/// The device that a packet leaves by; `None`: it ends here, or at the node itself.
pub(super) fn forwarded(node: &dyn Surroundings, leg: &Leg<'_>, to: &mut Findings) -> Option<u32> {
    let from = leg.from.and_then(|index| node.link(index).ok());
    let src = if leg.from.is_none() { Some(leg.src) } else { None };
    let route = match node.route(leg.dst, src, None) {
        Ok(route) => route,
        Err(error) => {
            no_route(leg, &error, to);
            return None;
        }
    };
    if let Some(from) = &from {
        reverse_path(node, leg, from, to);
    }
    if route.local {
        to.line(leg.way, format!("route to {}: the node itself", leg.dst));
        let hooks: &[NetHook] =
            if leg.from.is_some() { &[NetHook::Prerouting, NetHook::Input] } else { &[NetHook::Output] };
        firewall(node, leg, hooks, from.as_ref(), None, to);
        return None;
    }
    let out = by_device(node, leg, &route, to)?;
    if let Some(from) = &from {
        forwarding(node, leg, from, to);
    }
    let hooks: &[NetHook] = if leg.from.is_some() {
        &[NetHook::Prerouting, NetHook::Forward, NetHook::Postrouting]
    } else {
        &[NetHook::Output, NetHook::Postrouting]
    };
    firewall(node, leg, hooks, from.as_ref(), Some(&out), to);
    neighbour(node, leg, &route, &out, to);
    size(leg, &route, from.as_ref(), &out, to);
    Some(out.index)
}

/// A packet that Sluice sends out of a device, past the stack.
pub(super) fn redirected(node: &dyn Surroundings, leg: &Leg<'_>, device: u32, to: &mut Findings) {
    to.line(leg.way, "leaves by redirect: forwarding settings and firewall do not see it");
    let route = match node.route(leg.dst, None, Some(device)) {
        Ok(route) => route,
        Err(error) => return no_route(leg, &error, to),
    };
    let Some(out) = by_device(node, leg, &RouteTo { device, ..route.clone() }, to) else { return };
    neighbour(node, leg, &route, &out, to);
    let from = leg.from.and_then(|index| node.link(index).ok());
    size(leg, &route, from.as_ref(), &out, to);
}

/// A packet that Sluice hands into a Pod, or back out of the device that it came by.
pub(super) fn handed_over(node: &dyn Surroundings, leg: &Leg<'_>, device: u32, to: &mut Findings) {
    to.line(leg.way, "goes straight to the device: route, neighbour and firewall do not matter");
    by_device(node, leg, &RouteTo { device, ..RouteTo::default() }, to);
}

/// Why there is no route, for people.
pub(super) fn why_no_route(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH) => "the routing table has none".to_owned(),
        Some(libc::EHOSTUNREACH) => "a route says unreachable".to_owned(),
        Some(libc::EINVAL) => "a route says blackhole".to_owned(),
        Some(libc::EACCES) => "a route says prohibit".to_owned(),
        _ => error.to_string(),
    }
}

fn no_route(leg: &Leg<'_>, error: &io::Error, to: &mut Findings) {
    let why = why_no_route(error);
    let text = format!("no route to {}: {why}", leg.dst);
    let advice = format!("ip route get {}; ip route show table all: the CNI, or the route to the other node", leg.dst);
    to.add(Severity::Fails, leg.way, Cause::NoRoute, text, advice);
}

fn by_device(node: &dyn Surroundings, leg: &Leg<'_>, route: &RouteTo, to: &mut Findings) -> Option<Link> {
    let link = match node.link(route.device) {
        Ok(link) => link,
        Err(error) => {
            let text = format!("device {} of the way to {} is gone: {error}", route.device, leg.dst);
            to.add(Severity::Fails, leg.way, Cause::DeviceDown, text, "ip link: the Pod may be restarting");
            return None;
        }
    };
    let gateway = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    to.line(leg.way, format!("route to {}: by {}{gateway}, MTU {}", leg.dst, link.name, mtu(route, &link)));
    if !link.running {
        let state = if link.up { "has no carrier" } else { "is down" };
        let text = format!("device {} towards {} {state}", link.name, leg.dst);
        let advice = format!("ip link show {0}; ip link set {0} up, or look at the other end", link.name);
        to.add(Severity::Fails, leg.way, Cause::DeviceDown, text, advice);
    }
    Some(link)
}

fn mtu(route: &RouteTo, link: &Link) -> u32 {
    route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu))
}

/// Strict filtering: who is answered by another device may not come by this one (RFC 3704 section 2.2).
fn reverse_path(node: &dyn Surroundings, leg: &Leg<'_>, from: &Link, to: &mut Findings) {
    if !leg.src.is_ipv4() {
        return;
    }
    let set = |name: &str| {
        let value = node.setting(&format!("net/ipv4/conf/{name}/rp_filter"));
        value.and_then(|value| value.parse::<u32>().ok()).unwrap_or(0)
    };
    if set("all").max(set(&from.name)) != 1 {
        return;
    }
    let way_back = node.route(leg.src, None, None);
    let other = match &way_back {
        Ok(route) if route.device == from.index => return,
        Ok(route) => node.link(route.device).map_or_else(|_gone| "another device".to_owned(), |link| link.name),
        Err(_) => "no device".to_owned(),
    };
    let text = format!(
        "rp_filter is 1 on {}: packets of {} have to come by {other}, where its route leads",
        from.name, leg.src
    );
    let advice = format!("sysctl -w net.ipv4.conf.{}.rp_filter=2, or correct the route to {}", from.name, leg.src);
    to.add(Severity::Fails, leg.way, Cause::ReversePath, text, advice);
}

/// The setting by which packets that come by a device are not forwarded, if there is one. `v6_of_device`: IPv6's setting of
/// the device counts, as for programs, and not the node's, as for the stack.
pub(super) fn forwarding_off(node: &dyn Surroundings, v6: bool, device: &str, v6_of_device: bool) -> Option<String> {
    let is_off = |path: &str| node.setting(path).as_deref() == Some("0");
    if !v6 {
        return is_off(&format!("net/ipv4/conf/{device}/forwarding")).then(|| {
            let all = is_off("net/ipv4/ip_forward");
            if all { "net.ipv4.ip_forward".to_owned() } else { format!("net.ipv4.conf.{device}.forwarding") }
        });
    }
    let all = is_off("net/ipv6/conf/all/forwarding");
    let of_device = v6_of_device && is_off(&format!("net/ipv6/conf/{device}/forwarding"));
    match (all, of_device) {
        (_, true) if !all => Some(format!("net.ipv6.conf.{device}.forwarding")),
        (true, of_device) if of_device || !v6_of_device => Some("net.ipv6.conf.all.forwarding".to_owned()),
        _ => None,
    }
}

fn forwarding(node: &dyn Surroundings, leg: &Leg<'_>, from: &Link, to: &mut Findings) {
    match forwarding_off(node, leg.dst.is_ipv6(), &from.name, false) {
        Some(name) => {
            let text = format!("forwarding is off: {name} is 0, packets that come by {} go no further", from.name);
            to.add(Severity::Fails, leg.way, Cause::ForwardingOff, text, format!("sysctl -w {name}=1"));
        }
        None => to.line(leg.way, format!("forwarding is on for {}", from.name)),
    }
}

fn firewall(
    node: &dyn Surroundings,
    leg: &Leg<'_>,
    hooks: &[NetHook],
    from: Option<&Link>,
    out: Option<&Link>,
    to: &mut Findings,
) {
    let v6 = leg.dst.is_ipv6();
    let rules = match node.firewall() {
        Ok(rules) => rules,
        Err(error) => {
            let text = format!("the firewall cannot be seen from here: nftables: {error}");
            let advice = "nft list ruleset; iptables-save, as root on the node";
            return to.add(Severity::Note, leg.way, Cause::FirewallUnseen, text, advice);
        }
    };
    for hook in hooks {
        let device =
            |link: Option<&Link>| link.map_or_else(|| (0, String::new()), |link| (link.index, link.name.clone()));
        let (iif, oif) = (device(from), device(out));
        let probe = Probe {
            packet: leg.packet,
            v6,
            l4: leg.l4,
            protocol: leg.protocol,
            iif: (iif.0 != 0 && *hook != NetHook::Postrouting).then_some((iif.0, iif.1.as_str())),
            oif: (oif.0 != 0 && *hook != NetHook::Prerouting).then_some((oif.0, oif.1.as_str())),
            state: leg.state,
        };
        let advice = |by: &str| {
            let chain = by.rsplit_once("chain ").map_or(by, |(_, chain)| chain);
            format!("nft -a list chain {chain}: accept {} -> {}", leg.src, leg.dst)
        };
        match ruling(rules, *hook, &probe) {
            Ruling::Accepts => to.line(leg.way, format!("firewall, {}: passes", hook.name())),
            Ruling::Drops(by) => {
                let text = format!("{} drop: {by} drops {} -> {}", hook.name(), leg.src, leg.dst);
                return to.add(Severity::Fails, leg.way, Cause::FirewallDrop, text, advice(&by));
            }
            Ruling::MayDrop(by) => {
                let text = format!("{} drop is possible: {by}", hook.name());
                let advice = "nft -a list ruleset: trace cannot tell whether that rule matches";
                to.add(Severity::Doubtful, leg.way, Cause::FirewallDrop, text, advice);
            }
        }
    }
    let tables = node.legacy_tables(v6);
    if !tables.is_empty() {
        let command = if v6 { "ip6tables-legacy-save" } else { "iptables-legacy-save" };
        let text = format!("the older iptables has tables ({}), which cannot be read from here", tables.join(", "));
        to.add(Severity::Note, leg.way, Cause::FirewallUnseen, text, format!("{command}: look for DROP and REJECT"));
    }
}

fn neighbour(node: &dyn Surroundings, leg: &Leg<'_>, route: &RouteTo, out: &Link, to: &mut Findings) {
    if !out.resolves {
        return;
    }
    let hop = route.gateway.unwrap_or(leg.dst);
    let show = format!("ip neigh show to {hop} dev {}", out.name);
    match node.neighbour(out.index, hop) {
        Ok(Neighbour::Known) => to.line(leg.way, format!("neighbour {hop} on {}: known", out.name)),
        Ok(Neighbour::Unanswered) => {
            let text = format!("no neighbour: {hop} does not answer on {} (ARP or neighbour discovery)", out.name);
            let advice = format!("{show}; is the Pod or node there, and the device its own?");
            to.add(Severity::Fails, leg.way, Cause::NoNeighbour, text, advice);
        }
        Ok(Neighbour::Absent) => {
            let text = format!("no neighbour entry for {hop} on {}: the kernel will ask when a packet comes", out.name);
            let advice = format!("ping -c1 {hop}, then {show}");
            to.add(Severity::Note, leg.way, Cause::NoNeighbour, text, advice);
        }
        Err(error) => to.line(leg.way, format!("neighbour {hop} on {}: cannot be seen: {error}", out.name)),
    }
}

fn size(leg: &Leg<'_>, route: &RouteTo, from: Option<&Link>, out: &Link, to: &mut Findings) {
    let limit = mtu(route, out);
    let learned = route.mtu.filter(|mtu| *mtu < out.mtu).map(|_| " (learned, or set on the route)").unwrap_or_default();
    let advice = format!(
        "ip link show {0}; the Pods' MTU has to be that of their network, and ICMP \"too big\" must come through",
        out.name
    );
    if leg.size > limit {
        let text = format!("MTU: {} bytes are too large for {}, which takes {limit}{learned}", leg.size, out.name);
        return to.add(Severity::Fails, leg.way, Cause::Mtu, text, advice);
    }
    let comes = from.map_or(0, |from| from.mtu);
    if leg.size == 0 && comes > limit {
        let by = from.map_or("", |from| from.name.as_str());
        let text = format!(
            "MTU: {by} lets packets of {comes} bytes in, {} takes {limit}{learned}: larger ones are answered \"too big\"",
            out.name
        );
        to.add(Severity::Note, leg.way, Cause::Mtu, text, advice);
    }
}
