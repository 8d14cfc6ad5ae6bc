//! Segments of somebody who sees nothing of a connection end none: RST, FIN and SYN with numbers by chance (RFC 5961).

use std::net::SocketAddr;
use std::ops::Range;

use xtask::lab::Family;
use xtask::lab::plan::NODE1_ADDR;
use xtask::lab::probe::Transport;
use xtask::lab::raw::{RawSender, TcpFlags};

use crate::fixture::FRONTENDS;
use crate::hostile::{Field, Open, Proxy, attacks, client, connect_each, spray};

/// What could end a connection, or begin another in its place. A SYN after a RST is what took connections over once.
const ENDS: [TcpFlags; 6] =
    [TcpFlags::RST, TcpFlags::RST_ACK, TcpFlags::FIN, TcpFlags::SYN, TcpFlags::RST, TcpFlags::SYN];

/// Ports of the client's connections, and those that are tried.
const LIVE: Range<u16> = 40_000..40_008;
const TRIED: Range<u16> = 39_990..40_020;
/// Those of source NAT, as many as are tried in a second.
const SNAT_PORTS: Range<u16> = 61_000..61_256;

fn targets() -> Vec<SocketAddr> {
    let [_, node_port, load_balancer, _] = FRONTENDS;
    let both = [node_port, load_balancer];
    both.iter().flat_map(|frontend| Family::ALL.map(|family| frontend.at(family, Transport::Tcp))).collect()
}

/// In the client's name.
fn forwards(_: &Field, enemy: &RawSender) {
    for to in targets() {
        spray(enemy, TRIED.map(|port| client(family_of(to), port)), to, &ENDS);
    }
}

/// In the name of a backend on this node: to the client, from what the Service's address stands for.
fn in_a_local_backends_name(field: &Field, enemy: &RawSender) {
    for family in Family::ALL {
        let backend = pod_port(field, "rt2", family);
        for port in TRIED {
            spray(enemy, [backend].into_iter(), client(family, port), &ENDS);
        }
    }
}

/// In the name of a backend on another node: to the node's address, whatever port was chosen there.
fn in_a_remote_backends_name(field: &Field, enemy: &RawSender) {
    for family in Family::ALL {
        let backend = pod_port(field, "remote1", family);
        for port in SNAT_PORTS {
            spray(enemy, [backend].into_iter(), SocketAddr::new(NODE1_ADDR.of(family), port), &ENDS);
        }
    }
}

fn pod_port(field: &Field, pod: &str, family: Family) -> SocketAddr {
    SocketAddr::new(field.lab.pod(pod).unwrap().addr.of(family), Transport::Tcp.pod_port())
}

fn family_of(address: SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn no_connection_ends(proxy: Proxy, attack: impl Fn(&Field, &RawSender)) {
    let field = Field::start(proxy, &["rt2", "remote1"], &["--snat-ports", "61000-61255"]);
    let mut open = Open::start(&field, &targets(), LIVE);
    for (name, enemy) in field.enemies() {
        attack(&field, &enemy);
        // What a stray segment has ended for the node alone shows when others take its place.
        for dst in targets() {
            let failures = connect_each(&field.lab.client, dst, std::iter::repeat_n(0, 16));
            assert!(failures.is_empty(), "after {name}: {failures:#?}\n{}", field.counters());
        }
        let failures = open.ask();
        let (count, all, counters) = (failures.len(), open.len(), field.counters());
        assert!(failures.is_empty(), "{name} broke {count} of {all}: {failures:#?}\n{counters}");
    }
}

attacks! {
    blind_segments_in_a_clients_name_end_no_connection(|proxy| no_connection_ends(proxy, forwards)): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    blind_segments_in_a_local_backends_name_end_no_connection(|proxy| no_connection_ends(proxy, in_a_local_backends_name)): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    blind_segments_in_a_remote_backends_name_end_no_connection(|proxy| no_connection_ends(proxy, in_a_remote_backends_name)): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
}
