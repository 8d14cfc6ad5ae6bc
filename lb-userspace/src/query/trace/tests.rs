//! A node in plain memory: each fault behind Sluice is named in the first three lines.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{
    BackendValue, Be16, Cidr, DeviceValue, FamilyConfig, FrontendKey, FrontendValue, SetRef, StatsValue, V4, algorithm,
    backend_flag, config_flag, device_flag, frontend_flag, frontend_kind, proto,
};
use lb_common::datapath::{Arrival, Hook};

use super::*;
use crate::linux::firewall::{Chain, Ruleset};
use crate::linux::routes::{Link, Neighbour, RouteTo};

const UPLINK: u32 = 2;
pub(super) const CLIENT: u32 = 5;
pub(super) const POD: u32 = 6;
const VIP: &str = "10.96.0.10:80";
pub(super) const LOCAL: &str = "10.244.0.20";
const REMOTE: &str = "10.244.1.5";
const ROUTER: &str = "192.168.0.2";

/// The node, and what can be wrong with it.
struct Node {
    no_route: Vec<&'static str>,
    neighbours: HashMap<&'static str, Neighbour>,
    settings: HashMap<String, &'static str>,
    links: HashMap<u32, Link>,
    rules: Result<Ruleset, String>,
}

fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.into(), mtu: 1500, running: true, up: true, resolves: true, master: 0 }
}

impl Node {
    fn new() -> Self {
        let links = [link(UPLINK, "eth0"), link(CLIENT, "veth5"), link(POD, "veth6")];
        let forwards = ["eth0", "veth5", "veth6"].map(|name| (format!("net/ipv4/conf/{name}/forwarding"), "1"));
        Self {
            no_route: Vec::new(),
            neighbours: HashMap::new(),
            settings: forwards.into(),
            links: links.map(|link| (link.index, link)).into(),
            rules: Ok(Ruleset::default()),
        }
    }

    fn change(mut self, index: u32, change: impl FnOnce(&mut Link)) -> Self {
        change(self.links.get_mut(&index).unwrap());
        self
    }

    fn with_rules(mut self, chains: Vec<Chain>) -> Self {
        self.rules = Ok(Ruleset { chains, ..Ruleset::default() });
        self
    }
}

impl Surroundings for Node {
    fn route(&self, dst: IpAddr, _src: Option<IpAddr>, _by: Option<u32>) -> io::Result<RouteTo> {
        let text = dst.to_string();
        if self.no_route.contains(&text.as_str()) {
            return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
        }
        let (device, gateway) = match text.as_str() {
            "10.244.0.10" => (CLIENT, None),
            LOCAL => (POD, None),
            _ => (UPLINK, ROUTER.parse().ok()),
        };
        Ok(RouteTo { device, gateway, ..RouteTo::default() })
    }

    fn neighbour(&self, _device: u32, ip: IpAddr) -> io::Result<Neighbour> {
        Ok(self.neighbours.get(ip.to_string().as_str()).copied().unwrap_or(Neighbour::Known))
    }

    fn link(&self, index: u32) -> io::Result<Link> {
        self.links.get(&index).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn setting(&self, path: &str) -> Option<String> {
        self.settings.get(path).map(|value| (*value).to_owned())
    }

    fn firewall(&self) -> Result<&Ruleset, String> {
        self.rules.as_ref().map_err(Clone::clone)
    }

    fn legacy_tables(&self, _v6: bool) -> Vec<String> {
        Vec::new()
    }
}

pub(super) fn v4(text: &str) -> V4 {
    text.parse::<std::net::Ipv4Addr>().unwrap().into()
}

/// One Service with these endpoints, for clients inside and outside alike.
fn maps(endpoints: &[&str], change: impl FnOnce(&mut FrontendValue)) -> Lookups<V4> {
    let set = SetRef { base: 100, count: u32::try_from(endpoints.len()).unwrap() };
    let vip: SocketAddr = VIP.parse().unwrap();
    let key = FrontendKey { addr: v4(&vip.ip().to_string()), port: Be16::new(vip.port()), proto: proto::TCP, scope: 0 };
    let kind = frontend_kind::CLUSTER_IP;
    let mut frontend = FrontendValue { internal: set, external: set, service: 7, kind, ..FrontendValue::default() };
    change(&mut frontend);
    let frontends = HashMap::from([(key, frontend)]);
    let backend = |ip: &str| BackendValue {
        addr: v4(ip),
        port: Be16::new(8080),
        flags: backend_flag::IN_CLUSTER | if ip == LOCAL { backend_flag::LOCAL } else { 0 },
        generation: 1,
        service: 7,
        ..BackendValue::default()
    };
    let backends: HashMap<u32, _> = (1..).zip(endpoints.iter().map(|ip| backend(ip))).collect();
    let devices = HashMap::from([
        (UPLINK, DeviceValue { flags: device_flag::UPLINK, v4: v4("192.168.0.1"), ..DeviceValue::default() }),
        (CLIENT, DeviceValue { flags: device_flag::POD, ..DeviceValue::default() }),
        (POD, DeviceValue { flags: device_flag::POD, ..DeviceValue::default() }),
    ]);
    Lookups {
        config: FamilyConfig {
            abi: 1,
            flags: config_flag::DETECT_LOCAL,
            node: v4("192.168.0.1"),
            cluster: [Cidr { net: v4("10.244.0.0"), mask: v4("255.255.0.0") }; 4],
            services: [Cidr { net: V4(u32::MAX), mask: V4(0) }; 2],
            snat_lo: Be16::new(61_000),
            snat_hi: Be16::new(65_000),
            ..FamilyConfig::default()
        },
        frontends: Box::new(move |key| frontends.get(key).copied()),
        slots: Box::new(|slot| Some(slot - 99)),
        backends: Box::new(move |id| backends.get(id).copied()),
        stats: Box::new(|id| Some(StatsValue { generation: 1, open: 10 + id, ..StatsValue::default() })),
        ranges: Box::new(|_| None),
        flows: Box::new(|_| None),
        half_open: Box::new(|_| None),
        affinity: Box::new(|_| None),
        sockets: Box::new(|_| None),
        front_filter: Box::new(|_| None),
        back_filter: Box::new(|_| None),
        flow_filter: Box::new(|_| None),
        lately: Box::new(|_| Some(0)),
        devices: Box::new(move |index| devices.get(index).copied()),
    }
}

/// A Pod of this node asks.
fn question() -> Question {
    Question {
        client: "10.244.0.10:40000".parse().unwrap(),
        entry: Entry::Device(Arrival { ifindex: CLIENT, hook: Hook::PodIngress, from: CLIENT }),
        target: VIP.parse().unwrap(),
        protocol: proto::TCP,
        size: 0,
    }
}

fn ask(node: &Node, maps: &Lookups<V4>, question: &Question) -> Trace {
    trace(maps, node, &HashMap::from([(7, "shop/web:http/TCP".to_owned())]), question)
}

pub(super) fn dropping(name: &str) -> Chain {
    Chain {
        family: 2,
        table: "filter".into(),
        name: name.into(),
        kind: "filter".into(),
        hook: Some((2, 0)),
        drops: true,
        rules: Vec::new(),
    }
}

#[test]
fn a_node_in_order_delivers_to_each_backend_and_back() {
    let answer = ask(&Node::new(), &maps(&[LOCAL, REMOTE, REMOTE], |_| ()), &question());
    assert_eq!(answer.verdict, "delivered to one of 3 backends", "{answer:#?}");
    assert!(answer.delivered && answer.backends.len() == 3);
    assert!(answer.backends.iter().all(|row| (row.probability - 1.0 / 3.0).abs() < 1e-9), "{answer:#?}");
    let local = answer.backends.iter().find(|row| row.backend == "10.244.0.20:8080").unwrap();
    assert_eq!(
        local.rewrite,
        "TCP 10.244.0.10:40000 -> 10.96.0.10:80 becomes TCP 10.244.0.10:40000 -> 10.244.0.20:8080"
    );
    assert!(
        local.reply.iter().any(|line| line.contains("becomes TCP 10.96.0.10:80 -> 10.244.0.10:40000")),
        "{local:#?}"
    );
    assert!(answer.steps.iter().any(|step| step.found.contains("shop/web:http/TCP")), "{answer:#?}");
}

#[test]
fn the_counts_that_least_connections_go_by_are_told_and_each_backend_is_tried() {
    let least = |frontend: &mut FrontendValue| frontend.algorithm = algorithm::LEAST_CONNECTIONS;
    let answer = ask(&Node::new(), &maps(&[LOCAL, REMOTE, REMOTE], least), &question());
    assert!(answer.delivered && answer.backends.len() == 3, "{answer:#?}");
    for (id, open) in [(1, "11"), (2, "12"), (3, "13")] {
        let asked = format!("open connections of backend id {id}");
        assert!(answer.steps.iter().any(|step| step.asked == asked && step.found == open), "{answer:#?}");
    }
}

#[test]
fn each_fault_behind_sluice_is_named_in_the_first_three_lines() {
    type Break = fn(Node) -> Node;
    let faults: [(&str, &str, Break); 11] = [
        ("no neighbour", "does not answer on veth6", |mut node| {
            node.neighbours.insert(LOCAL, Neighbour::Unanswered);
            node
        }),
        ("no neighbour", "no neighbour entry for 10.244.0.20", |mut node| {
            node.neighbours.insert(LOCAL, Neighbour::Absent);
            node
        }),
        ("no route", "no route to 10.244.0.20", |mut node| {
            node.no_route.push(LOCAL);
            node
        }),
        ("no route (reply)", "no route to 10.244.0.10", |mut node| {
            node.no_route.push("10.244.0.10");
            node
        }),
        ("firewall drop (request)", "FORWARD drop: the policy of chain ip filter FORWARD", |node| {
            node.with_rules(vec![dropping("FORWARD")])
        }),
        ("forwarding off", "net.ipv4.ip_forward is 0", |mut node| {
            node.settings.extend([("net/ipv4/conf/veth5/forwarding".into(), "0"), ("net/ipv4/ip_forward".into(), "0")]);
            node
        }),
        ("forwarding off", "net.ipv4.conf.veth5.forwarding is 0", |mut node| {
            node.settings.insert("net/ipv4/conf/veth5/forwarding".into(), "0");
            node
        }),
        ("forwarding off (reply)", "net.ipv4.conf.veth6.forwarding is 0", |mut node| {
            node.settings.insert("net/ipv4/conf/veth6/forwarding".into(), "0");
            node
        }),
        ("MTU", "veth6 takes 1400", |node| node.change(POD, |link| link.mtu = 1400)),
        ("device down", "veth6 towards 10.244.0.20 has no carrier", |node| {
            node.change(POD, |link| link.running = false)
        }),
        ("firewall not seen", "Operation not permitted", |mut node| {
            node.rules = Err("Operation not permitted".into());
            node
        }),
    ];
    for (cause, why, spoil) in faults {
        let answer = ask(&spoil(Node::new()), &maps(&[LOCAL], |_| ()), &question());
        assert!(answer.verdict.contains(cause) && answer.why.contains(why), "{cause}: {why}: {answer:#?}");
        assert!(!answer.advice.is_empty());
        let only_a_note = ["MTU", "firewall not seen"].contains(&cause) || why.contains("entry");
        assert_eq!(answer.delivered, only_a_note, "{cause}: {}", answer.verdict);
    }
}

#[test]
fn what_sluice_itself_decides_is_named_by_its_counter() {
    type Set = fn(&mut FrontendValue);
    let cases: [(&str, &str, Set); 3] = [
        ("refused", "reject_no_endpoints", |frontend| frontend.internal.count = 0),
        ("dropped", "drop_no_local_endpoints", |frontend| {
            (frontend.internal.count, frontend.flags) = (0, frontend_flag::INTERNAL_EMPTY_DROPS);
        }),
        ("dropped", "drop_source_range", |frontend| frontend.flags = frontend_flag::SOURCE_RANGES),
    ];
    for (verdict, counter, change) in cases {
        let answer = ask(&Node::new(), &maps(&[LOCAL], change), &question());
        assert!(answer.verdict.contains(verdict) && answer.why.contains(counter), "{answer:#?}");
    }
    let other = Question { target: "10.99.0.1:80".parse().unwrap(), ..question() };
    assert!(ask(&Node::new(), &maps(&[LOCAL], |_| ()), &other).verdict.contains("not a frontend"));
    let bare = Question { entry: Entry::Bare(UPLINK), ..question() };
    assert!(ask(&Node::new(), &maps(&[LOCAL], |_| ()), &bare).verdict.contains("no program"));
}

#[test]
fn of_several_backends_the_broken_ones_are_counted() {
    let mut node = Node::new();
    node.neighbours.insert(ROUTER, Neighbour::Unanswered);
    let answer = ask(&node, &maps(&[LOCAL, REMOTE], |_| ()), &question());
    assert_eq!(answer.verdict, "not delivered: no neighbour (request), for 1 of 2 backends");
    assert_eq!(answer.backends[0].backend, "10.244.1.5:8080", "the broken one comes first");
}

#[test]
fn a_client_outside_is_source_nated_towards_another_node_and_gets_its_reply() {
    let outside = Question {
        client: "203.0.113.9:40000".parse().unwrap(),
        entry: Entry::Device(Arrival { ifindex: UPLINK, hook: Hook::UplinkIngress, from: UPLINK }),
        ..question()
    };
    let answer = ask(&Node::new(), &maps(&[REMOTE], |_| ()), &outside);
    assert!(answer.delivered, "{answer:#?}");
    assert!(answer.backends[0].rewrite.contains("becomes TCP 192.168.0.1:6"), "{answer:#?}");
    assert!(
        answer.backends[0].reply.iter().any(|line| line.contains("becomes TCP 10.96.0.10:80 -> 203.0.113.9:40000"))
    );
}

#[test]
fn a_packet_that_is_larger_than_its_way_takes_does_not_arrive() {
    let node = Node::new().change(POD, |link| link.mtu = 1400);
    let answer = ask(&node, &maps(&[LOCAL], |_| ()), &Question { size: 1500, ..question() });
    assert!(answer.verdict.starts_with("not delivered: MTU") && !answer.delivered, "{answer:#?}");
    assert!(ask(&node, &maps(&[LOCAL], |_| ()), &Question { size: 1400, ..question() }).delivered);
}

#[test]
fn a_process_of_the_node_is_translated_at_its_socket() {
    let process = Question { client: "192.168.0.1:40000".parse().unwrap(), entry: Entry::Socket(None), ..question() };
    let answer = ask(&Node::new(), &maps(&[LOCAL], |_| ()), &process);
    assert!(answer.delivered && answer.backends[0].decision == "translated when it connects", "{answer:#?}");
    let empty = ask(&Node::new(), &maps(&[], |_| ()), &process);
    assert!(empty.verdict.contains("refused") && empty.why.contains("no endpoints"), "{empty:#?}");
    let dropped = Node::new().with_rules(vec![Chain { hook: Some((3, 0)), ..dropping("OUTPUT") }]);
    assert!(ask(&dropped, &maps(&[LOCAL], |_| ()), &process).why.contains("OUTPUT drop"));
}
