//! A Pod with a raw socket that sends under others' addresses: it neither gets what is theirs nor speaks for them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use xtask::lab::probe::{Connection, Transport};
use xtask::lab::raw::{Eavesdropper, Packet, RawSender, TcpFlags};
use xtask::lab::{Family, RpFilter, ServiceSpec, dns, plan};

use crate::fixture::{FRONTENDS, all};
use crate::hostile::{Field, NOBODY, PATIENCE, Proxy, attacks, client, connect_each, spray};

/// Pods with raw sockets, one on each kind of CNI.
const PODS: [&str; 2] = ["br1", "rt1"];
/// Ports of the client's that are tried, and of source NAT.
const TRIED: Range<u16> = 41_000..41_400;
const SNAT_PORTS: Range<u16> = 61_000..61_256;
/// How long what must not come is waited for.
const SILENCE: Duration = Duration::from_millis(300);

fn start(proxy: Proxy, rp_filter: RpFilter, service: &ServiceSpec) -> Field {
    Field::with(proxy, rp_filter, service, &["rt2", "remote1"], &["--snat-ports", "61000-61255"])
}

/// How many flows of an address that is not this Pod's have packets that come here.
fn stolen(ear: &Eavesdropper, whose: IpAddr) -> usize {
    let about = |packet: &Packet| [packet.src.ip(), packet.dst.ip()].contains(&whose);
    let seen = ear.during(SILENCE, about).unwrap();
    assert!(seen.iter().any(|packet| packet.src.ip() == whose), "not even what was sent was seen");
    let come = seen.iter().filter(|packet| packet.dst.ip() == whose);
    come.map(|packet| (packet.src, packet.dst)).collect::<BTreeSet<_>>().len()
}

fn replies_go_to_the_client(proxy: Proxy, rp_filter: RpFilter) {
    let field = start(proxy, rp_filter, &all());
    for name in PODS {
        let enemy = RawSender::open(field.pod(name)).unwrap();
        for frontend in &FRONTENDS {
            for family in Family::ALL {
                let dst = frontend.at(family, Transport::Tcp);
                let ear = Eavesdropper::open(field.pod(name)).unwrap();
                spray(&enemy, TRIED.map(|port| client(family, port)), dst, &[TcpFlags::SYN]);
                let failures = connect_each(&field.lab.client, dst, TRIED.step_by(101));
                let (stolen, counters) = (stolen(&ear, plan::CLIENT_ADDR.of(family)), field.counters());
                assert_eq!(stolen, 0, "{name} got what is the client's of {dst}; {failures:#?}\n{counters}");
                assert!(failures.is_empty(), "{name}: {failures:#?}\n{counters}");
            }
        }
    }
}

fn source_ranges_hold(proxy: Proxy, rp_filter: RpFilter) {
    let ranges = vec![format!("{}/32", NOBODY[0]), format!("{}/128", NOBODY[1])];
    let field = start(proxy, rp_filter, &ServiceSpec { source_ranges: ranges, ..all() });
    // Whom the range allows is served: this address is the client's as well.
    let [v4, v6] = NOBODY;
    field.lab.client.ip(&format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad")).unwrap();
    for (family, address) in Family::ALL.into_iter().zip(NOBODY) {
        let address: IpAddr = address.parse().unwrap();
        let dst = FRONTENDS[2].at(family, Transport::Tcp);
        let allowed = || Ok(Connection::open_from((address, 0).into(), dst, PATIENCE)?.ask()?);
        field.lab.client.run(allowed).unwrap();
        let refused = || Ok(Connection::open_from(client(family, 0), dst, SILENCE).unwrap_err());
        field.lab.client.run(refused).unwrap();
        for name in PODS {
            let (enemy, ear) =
                (RawSender::open(field.pod(name)).unwrap(), Eavesdropper::open(field.pod(name)).unwrap());
            spray(&enemy, TRIED.step_by(20).map(|port| (address, port).into()), dst, &[TcpFlags::SYN]);
            assert_eq!(stolen(&ear, address), 0, "{name} talks to {dst} as {address}\n{}", field.counters());
        }
    }
}

/// What a socket of the client's is told, until nothing more comes.
fn heard(socket: &UdpSocket) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut buffer, mut all) = ([0; 512], Vec::new());
    let end = Instant::now() + SILENCE;
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    while Instant::now() < end {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => all.push((from, buffer.get(..length).unwrap().to_vec())),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    all
}

fn no_answer_is_forged(proxy: Proxy, rp_filter: RpFilter) {
    let field = start(proxy, rp_filter, &all());
    let forged = b"forged".as_slice();
    for family in Family::ALL {
        let vip = FRONTENDS[2].at(family, Transport::Udp);
        let backends = ["rt2", "remote1"].map(|pod| field.lab.pod(pod).unwrap().addr.of(family));
        let node = plan::NODE1_ADDR.of(family);
        for (name, port) in PODS.into_iter().zip([42_000, 42_001]) {
            let enemy = RawSender::open(field.pod(name)).unwrap();
            let any: SocketAddr = if family == Family::V4 { ([0; 4], port).into() } else { ([0u16; 8], port).into() };
            let socket = field.lab.client.run(|| Ok(UdpSocket::bind(any)?)).unwrap();
            let attack = || {
                for backend in backends {
                    let backend = SocketAddr::new(backend, Transport::Udp.pod_port());
                    enemy.send(&Packet::udp(backend, client(family, port), forged)).unwrap();
                    for snat_port in SNAT_PORTS {
                        enemy.send(&Packet::udp(backend, SocketAddr::new(node, snat_port), forged)).unwrap();
                    }
                }
            };
            // A flow that the Pod makes by itself, in the client's name.
            enemy.send(&Packet::udp(client(family, port), vip, &dns::query(1, dns::QUESTION))).unwrap();
            attack();
            let lies = |heard: &[(SocketAddr, Vec<u8>)]| {
                heard.iter().filter(|(from, text)| *from == vip && text == forged).count()
            };
            let first = heard(&socket);
            assert_eq!(lies(&first), 0, "{name} answers for {vip}, asked by itself\n{}", field.counters());
            // The client's own: its answer comes, and no other.
            socket.send_to(&dns::query(2, dns::QUESTION), vip).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            attack();
            let second = heard(&socket);
            let answered = second.iter().any(|(from, text)| *from == vip && dns::texts(text, 2).is_some());
            assert!(answered, "the genuine answer of {vip} is missing: {second:?}\n{}", field.counters());
            assert_eq!(lies(&second), 0, "{name} answers for {vip}, asked by the client\n{}", field.counters());
        }
    }
}

// Without `rp_filter` the kernel's NAT makes no difference between devices, so that the control is with it.
attacks! {
    replies_go_to_the_client_in_whose_name_a_pod_asks(replies_go_to_the_client): by_tc(Proxy::Tc, RpFilter::Strict), by_tc_without_rp_filter(Proxy::Tc, RpFilter::Off), by_xdp(Proxy::Xdp, RpFilter::Strict), control_by_the_kernels_nat(Proxy::Nat, RpFilter::Strict);
source_ranges_hold_against_a_pod_under_an_outsiders_address(source_ranges_hold): by_tc(Proxy::Tc, RpFilter::Strict), by_tc_without_rp_filter(Proxy::Tc, RpFilter::Off), by_xdp(Proxy::Xdp, RpFilter::Strict), control_by_the_kernels_nat(Proxy::Nat, RpFilter::Strict);
    no_pod_answers_for_a_service_that_it_does_not_serve(no_answer_is_forged): by_tc(Proxy::Tc, RpFilter::Strict), by_tc_without_rp_filter(Proxy::Tc, RpFilter::Off), by_xdp(Proxy::Xdp, RpFilter::Strict), control_by_the_kernels_nat(Proxy::Nat, RpFilter::Strict);
}
