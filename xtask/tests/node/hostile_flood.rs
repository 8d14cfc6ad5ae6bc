//! Floods of flows that nobody answers cost those who are served nothing: no port, no table, no affinity of theirs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use xtask::lab::probe::{Connection, Transport};
use xtask::lab::raw::{Packet, RawSender, TcpFlags};
use xtask::lab::{Family, RpFilter, ServiceSpec, dns};

use crate::fixture::{FRONTENDS, all};
use crate::hostile::{Field, Open, PATIENCE, Proxy, attacks, client, connect_each, size, spray};

/// An address of nobody's, far away, by chance.
fn nobody(family: Family) -> SocketAddr {
    let ip: IpAddr = match family {
        Family::V4 => Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) | fastrand::u32(..1 << 17)).into(),
        Family::V6 => {
            Ipv6Addr::from(u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0)) | fastrand::u128(..1 << 64))
                .into()
        }
    };
    SocketAddr::new(ip, fastrand::u16(1024..))
}

fn new_connections_are_served(proxy: Proxy) {
    let syns = size(12_000, 1_000_000);
    let field = Field::start(proxy, &["remote1"], &[]);
    for (name, enemy) in field.enemies() {
        for family in Family::ALL {
            let dst = FRONTENDS[1].at(family, Transport::Tcp);
            let flood =
                || spray(&enemy, std::iter::repeat_with(|| nobody(family)).take(syns / 2), dst, &[TcpFlags::SYN]);
            for when in ["half", "all"] {
                flood();
                let failures = connect_each(&field.lab.client, dst, std::iter::repeat_n(0, 20));
                let counters = field.counters();
                assert!(
                    failures.is_empty(),
                    "{name}, {when} sent, {} of 20: {failures:#?}\n{counters}",
                    failures.len()
                );
            }
        }
    }
}

/// What is sent in a flood, round by round, until the time is over.
type Flood = fn(&RawSender, Family, own: IpAddr);

/// How many packets a round of a flood has.
const ROUND: usize = 500;

fn each_frontend(family: Family, transport: Transport) -> impl Iterator<Item = SocketAddr> {
    FRONTENDS.iter().cycle().map(move |frontend| frontend.at(family, transport)).take(ROUND)
}

fn syns(enemy: &RawSender, family: Family, _: IpAddr) {
    for dst in each_frontend(family, Transport::Tcp) {
        enemy.send(&Packet::tcp(nobody(family), dst, TcpFlags::SYN)).unwrap();
    }
}

/// Who guesses right once in 2^32 times is not waited for; the node does not know what the right number is.
fn syns_and_later_acks(enemy: &RawSender, family: Family, _: IpAddr) {
    let flows: Vec<_> =
        each_frontend(family, Transport::Tcp).map(|dst| (nobody(family), dst, fastrand::u32(..))).collect();
    for (src, dst, seq) in &flows {
        enemy.send(&Packet::tcp(*src, *dst, TcpFlags::SYN).numbers(*seq, 0)).unwrap();
    }
    for (src, dst, seq) in flows {
        enemy.send(&Packet::tcp(src, dst, TcpFlags::ACK).numbers(seq.wrapping_add(1), fastrand::u32(..))).unwrap();
    }
}

fn datagrams(enemy: &RawSender, family: Family, _: IpAddr) {
    for dst in each_frontend(family, Transport::Udp) {
        enemy.send(&Packet::udp(nobody(family), dst, &dns::query(1, dns::QUESTION))).unwrap();
    }
}

/// Twice the same question, from ports that are the sender's: what looks most like a client.
fn datagrams_of_ones_own(enemy: &RawSender, _: Family, own: IpAddr) {
    let family = if own.is_ipv4() { Family::V4 } else { Family::V6 };
    for dst in each_frontend(family, Transport::Udp) {
        let question = Packet::udp(SocketAddr::new(own, fastrand::u16(1024..)), dst, &dns::query(1, dns::QUESTION));
        enemy.send(&question).unwrap();
        enemy.send(&question).unwrap();
    }
}

fn connections_outlive(proxy: Proxy, flood: Flood) {
    const TIME: Duration = Duration::from_secs(2);
    let small = ["--max-flows", "4096", "--max-embryonic-flows", "4096"];
    let field = Field::start(proxy, &["rt2", "remote1"], &small);
    let targets: Vec<_> =
        Family::ALL.iter().flat_map(|family| [1, 2].map(|at| FRONTENDS[at].at(*family, Transport::Tcp))).collect();
    // Those that say nothing meanwhile are the oldest in any table.
    let mut idle = Open::start(&field, &targets, 40_000..40_010);
    let mut open = Open::start(&field, &targets, 40_010..40_015);
    let own = [
        ["10.90.0.66", "fd90::66"].map(|text| text.parse().unwrap()),
        Family::ALL.map(|family| field.lab.pod("br1").unwrap().addr.of(family)),
        Family::ALL.map(|family| field.lab.pod("rt1").unwrap().addr.of(family)),
    ];
    for ((name, enemy), own) in field.enemies().into_iter().zip(own) {
        let over = AtomicBool::new(false);
        let (failures, sent) = thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                let (begun, mut rounds) = (Instant::now(), 0);
                while begun.elapsed() < TIME {
                    for (family, own) in Family::ALL.into_iter().zip(own) {
                        flood(&enemy, family, own);
                    }
                    rounds += 2;
                }
                over.store(true, Ordering::Relaxed);
                rounds * ROUND
            });
            let mut failures = Vec::new();
            while !over.load(Ordering::Relaxed) && failures.is_empty() {
                failures = open.ask();
                thread::sleep(Duration::from_millis(500));
            }
            (failures, flooding.join().unwrap())
        });
        let mut failures = if failures.is_empty() { open.ask() } else { failures };
        failures.extend(idle.ask());
        let (count, all, counters) = (failures.len(), open.len() + idle.len(), field.counters());
        assert!(failures.is_empty(), "{name}, {sent} flows: broke {count} of {all}: {failures:#?}\n{counters}");
    }
}

fn direct_connections_are_not_stalled(proxy: Proxy) {
    let field = Field::start(proxy, &["rt2"], &[]);
    for ((name, enemy), first) in field.enemies().into_iter().zip([43_000, 43_100, 43_200]) {
        let ports = first..first + 30;
        for family in Family::ALL {
            spray(
                &enemy,
                ports.clone().map(|port| client(family, port)),
                FRONTENDS[2].at(family, Transport::Tcp),
                &[TcpFlags::SYN],
            );
            let direct = SocketAddr::new(field.lab.pod("rt2").unwrap().addr.of(family), Transport::Tcp.pod_port());
            let failures = connect_each(&field.lab.client, direct, ports.clone());
            let counters = field.counters();
            assert!(failures.is_empty(), "{name} stalled {} of 30: {failures:#?}\n{counters}", failures.len());
        }
    }
}

/// Who has connected stays at its Pod, whoever else sends a SYN, in its own name or in theirs. There is no other proxy to
/// compare with: kube-proxy's nftables mode notes a client at the first packet.
fn affinity_stays(proxy: Proxy) {
    const CLIENTS: u8 = 200;
    let service = ServiceSpec { affinity_secs: Some(600), ..all() };
    let pods = ["br2", "rt2", "remote1"];
    let field = Field::with(proxy, RpFilter::Strict, &service, &pods, &["--max-affinity", "4096"]);
    let prefixes = [("10.93.0.", "/24", "10.90.0.100"), ("fd93::", "/64", "fd90::100")];
    for (family, (prefix, length, via)) in Family::ALL.into_iter().zip(prefixes) {
        let address = |n: u8| format!("{prefix}{n}").parse::<IpAddr>().unwrap();
        let add: String = (1..=CLIENTS)
            .map(|n| format!("addr add {}/{} dev lo\n", address(n), if via.contains(':') { 128 } else { 32 }))
            .collect();
        field.lab.client.ip(&add).unwrap();
        field.lab.node1.ip(&format!("route add {prefix}0{length} via {via}")).unwrap();
        field.lab.node2.ip(&format!("route add {prefix}0{length} via {via}")).unwrap();
        let dst = FRONTENDS[2].at(family, Transport::Tcp);
        let ask = |n: u8| Ok(Connection::open_from((address(n), 0).into(), dst, PATIENCE)?.ask()?.pod);
        let choices = || field.lab.client.run(|| (1..=CLIENTS).map(ask).collect::<anyhow::Result<Vec<_>>>()).unwrap();
        let before = choices();
        assert_eq!(choices(), before, "without an attack");
        for (name, enemy) in field.enemies() {
            let clients = (1..=CLIENTS).map(|n| SocketAddr::new(address(n), fastrand::u16(1024..)));
            let others = std::iter::repeat_with(|| nobody(family)).take(8_000);
            spray(&enemy, others.chain(clients), dst, &[TcpFlags::SYN]);
            let moved = choices().iter().zip(&before).filter(|(now, before)| now != before).count();
            assert_eq!(moved, 0, "{name} moved {moved} of {CLIENTS}; {}", field.counters());
        }
    }
}

attacks! {
    spoofed_syns_leave_snat_ports_to_others(new_connections_are_served): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    connections_outlive_a_flood_of_syns(|proxy| connections_outlive(proxy, syns)): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    connections_outlive_a_flood_of_syns_and_later_acks(|proxy| connections_outlive(proxy, syns_and_later_acks)): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    connections_outlive_a_flood_of_answered_datagrams(|proxy| connections_outlive(proxy, datagrams)): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    connections_outlive_a_flood_of_datagrams_from_ones_own_address(|proxy| connections_outlive(proxy, datagrams_of_ones_own)): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    half_open_flows_in_a_clients_name_stall_no_direct_connection(direct_connections_are_not_stalled): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    unanswered_syns_move_no_clients_affinity(affinity_stays): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp);
}
