//! The firewall's rules as the kernel lists them, carried out on a packet.

use lb_common::abi::Be16;

use super::firewall::ruling;
use super::probe::{NetHook, Probe, Ruling, tracked};
use super::tests::{CLIENT, LOCAL, POD, dropping, v4};
use crate::linux::firewall::{Chain, Element, Rule, Ruleset, Set};
use crate::linux::netlink_ask::put;

/// An expression of a rule, of attributes.
fn expression(name: &str, attributes: &[(u16, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        put(&mut body, *kind, value);
    }
    (name.to_owned(), body)
}

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, kind, value);
    body
}

fn verdict(code: i32, chain: &str) -> (String, Vec<u8>) {
    let mut verdict = nested(1, &code.to_be_bytes());
    put(&mut verdict, 2, format!("{chain}\0").as_bytes());
    expression("immediate", &[(1, &0u32.to_be_bytes()), (2, &nested(2, &verdict))])
}

fn port_is(port: u16) -> Vec<(String, Vec<u8>)> {
    let number = |value: u32| value.to_be_bytes();
    vec![
        expression("payload", &[(1, &number(1)), (2, &number(2)), (3, &number(2)), (4, &number(2))]),
        expression("cmp", &[(1, &number(1)), (2, &number(0)), (3, &nested(1, &port.to_be_bytes()))]),
    ]
}

fn rule(handle: u64, expressions: Vec<(String, Vec<u8>)>) -> Rule {
    Rule { handle, expressions }
}

fn forward(rules: &Ruleset, port: u16, state: u32) -> Ruling {
    let key = lb_common::abi::FlowKey { src: v4("10.244.0.10"), dst: v4(LOCAL), proto: 6, ..Default::default() };
    let key = lb_common::abi::FlowKey { dport: Be16::new(port), ..key };
    let packet = super::packet::Packet::new(&key, 2, 0);
    let probe = Probe {
        packet: packet.network(),
        v6: false,
        l4: 20,
        protocol: 6,
        iif: Some((CLIENT, "veth5")),
        oif: Some((POD, "veth6")),
        state,
    };
    ruling(rules, NetHook::Forward, &probe)
}

#[test]
fn the_firewalls_rules_are_carried_out_on_the_packet() {
    let (accept, drop, jump) = (1, 0, -3);
    let other = Chain { name: "PODS".into(), hook: None, drops: false, ..dropping("PODS") };
    let rules = |base: Vec<Rule>, other_rules: Vec<Rule>| Ruleset {
        chains: vec![Chain { rules: base, ..dropping("FORWARD") }, Chain { rules: other_rules, ..other.clone() }],
        ..Ruleset::default()
    };
    let with = |mut expressions: Vec<_>, last| {
        expressions.push(last);
        expressions
    };
    let only_80 = rules(vec![rule(4, with(port_is(80), verdict(accept, "")))], vec![]);
    assert_eq!(forward(&only_80, 80, tracked::NEW), Ruling::Accepts);
    assert_eq!(forward(&only_80, 81, tracked::NEW), Ruling::Drops("the policy of chain ip filter FORWARD".into()));
    // A chain that is jumped to decides; one that does not goes on behind the jump.
    let jumps = |to| rules(vec![rule(1, vec![verdict(jump, "PODS")]), rule(2, vec![verdict(accept, "")])], to);
    let drops_80 = jumps(vec![rule(9, with(port_is(80), verdict(drop, "")))]);
    assert_eq!(forward(&drops_80, 80, tracked::NEW), Ruling::Drops("rule 9 of chain ip filter PODS".into()));
    assert_eq!(forward(&drops_80, 81, tracked::NEW), Ruling::Accepts);
    // What cannot be known leaves a doubt, both ways.
    let limit = || expression("limit", &[]);
    let doubt = rules(vec![rule(3, vec![limit(), verdict(drop, "")]), rule(4, vec![verdict(accept, "")])], vec![]);
    assert_eq!(forward(&doubt, 80, tracked::NEW), Ruling::MayDrop("rule 3 of chain ip filter FORWARD".into()));
    let hope = rules(vec![rule(3, vec![limit(), verdict(accept, "")])], vec![]);
    assert!(matches!(forward(&hope, 80, tracked::NEW), Ruling::MayDrop(by) if by.contains("unless rule 3")));
    // The state of connection tracking, by a match of iptables and by nftables.
    let mut info = vec![0; 164];
    (info[146], info[150]) = (1, 2);
    let matched = expression("match", &[(1, b"conntrack\0"), (3, &info)]);
    let answers = rules(vec![rule(5, vec![matched, verdict(accept, "")])], vec![]);
    assert_eq!(forward(&answers, 80, tracked::ESTABLISHED), Ruling::Accepts);
    assert!(matches!(forward(&answers, 80, tracked::NEW), Ruling::Drops(_)));
}

#[test]
fn sets_of_the_firewall_are_looked_into() {
    let number = |value: u32| value.to_be_bytes();
    let lookup = expression("lookup", &[(1, b"ports\0"), (2, &number(1))]);
    let expressions = |lookup| vec![port_is(0).remove(0), lookup, verdict(1, "")];
    let ruleset = |intervals, keys: &[(u16, bool)]| {
        let element =
            |(key, ends): &(u16, bool)| Element { key: key.to_be_bytes().to_vec(), ends: *ends, ..Element::default() };
        let set = Set { intervals, elements: keys.iter().map(element).collect(), ..Set::default() };
        Ruleset {
            chains: vec![Chain { rules: vec![rule(1, expressions(lookup.clone()))], ..dropping("FORWARD") }],
            sets: [((2, "filter".to_owned(), "ports".to_owned()), set)].into(),
        }
    };
    let accepts = |rules: &Ruleset, port| forward(rules, port, tracked::NEW) == Ruling::Accepts;
    let single = ruleset(false, &[(80, false), (443, false)]);
    assert!(accepts(&single, 443) && !accepts(&single, 81));
    let range = ruleset(true, &[(8000, false), (9000, true)]);
    assert_eq!([7999, 8000, 8999, 9000].map(|port| accepts(&range, port)), [false, true, true, false]);
}
