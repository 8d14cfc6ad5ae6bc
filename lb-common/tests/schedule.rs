//! The shares that backends get over many connections, in packets and at sockets, in plain memory.
#![cfg(feature = "testkit")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed expectation should stop the test where it stands")]

use lb_common::abi::{Be16, V4, V6, algorithm, frontend_kind, proto};
use lb_common::datapath::{SocketCall, SocketVerdict, socket_closed, socket_connect};
use lb_common::testkit::{Endpoint, Family, Hook, HostNode, Node as _, Pkt, Scene, Service};

/// As many as the promise is about.
const CONNECTIONS: u32 = 100_000;
/// Slots of three backends with weights 1, 2 and 7.
const SLOTS: [u32; 10] = [1, 2, 2, 3, 3, 3, 3, 3, 3, 3];

fn backends<A: Family>() -> [A; 3] {
    [A::LOCAL, A::LOCAL2, A::REMOTE]
}

fn node<A: Family>(algorithm: u8) -> HostNode<A> {
    let mut node = HostNode::<A>::default();
    let mut scene = Scene::new("shares", &mut node);
    let endpoints = SLOTS.map(|id| Endpoint::remote(id, backends::<A>()[id as usize - 1]));
    let service = Service::new(proto::TCP, A::VIP, 80, frontend_kind::CLUSTER_IP);
    scene.serve(&service.endpoints(&endpoints).algorithm(algorithm));
    node
}

/// What each of the three backends got, in order of their weights.
fn assert_shares(counts: [u32; 3], what: &str) {
    for (count, weight) in counts.into_iter().zip([1, 2, 7]) {
        let expected = CONNECTIONS * weight / 10;
        assert!(count.abs_diff(expected) * 50 <= expected, "{what}: {counts:?}, {expected} expected");
    }
}

fn shares_of_sockets<A: Family>(algorithm: u8) {
    let mut counts = [0; 3];
    let memory = &node::<A>(algorithm).memory;
    for cookie in 0..CONNECTIONS {
        let call = SocketCall {
            cookie: [cookie, 0],
            netns: [9, 0],
            host: false,
            addr: A::VIP,
            port: Be16::new(80),
            proto: proto::TCP,
        };
        let SocketVerdict::To(addr, _) = socket_connect(memory, &call) else { panic!("not led to a backend") };
        counts[backends::<A>().iter().position(|known| *known == addr).unwrap()] += 1;
    }
    assert_shares(counts, "sockets");
}

fn shares_of_packets<A: Family>(algorithm: u8) {
    let mut node = node::<A>(algorithm);
    for n in 0..CONNECTIONS {
        let client = (A::POD, 1_024 + (n % 60_000) as u16);
        node.send(Hook::PodIngress, Hook::PodIngress.device(), &Pkt::syn(client, (A::VIP, 80)).bytes());
        if n % 20_000 == 0 {
            node.memory.half_open.borrow_mut().clear();
        }
    }
    let counts = [1, 2, 3].map(|id| u32::try_from(node.stats(id).connections).unwrap());
    assert_eq!(counts.iter().sum::<u32>(), CONNECTIONS);
    assert_shares(counts, "packets");
}

#[test]
fn weights_are_kept_within_two_percent_over_a_hundred_thousand_connections() {
    for algorithm in [algorithm::RANDOM, algorithm::ROUND_ROBIN] {
        shares_of_sockets::<V4>(algorithm);
        shares_of_sockets::<V6>(algorithm);
    }
    shares_of_packets::<V4>(algorithm::RANDOM);
}

/// Sockets that connect and stay: the shares of the weights. One that is closed makes room for the next.
#[test]
fn least_connections_fills_by_weight_and_where_there_is_room() {
    let mut node = node::<V4>(algorithm::LEAST_CONNECTIONS);
    for (id, weight) in [(1, 1), (2, 2), (3, 7)] {
        node.memory.backends.get_mut(&id).unwrap().weight = weight;
    }
    let memory = &node.memory;
    let call = |cookie| SocketCall {
        cookie: [cookie, 0],
        netns: [9, 0],
        host: false,
        addr: V4::VIP,
        port: Be16::new(80),
        proto: proto::TCP,
    };
    let connect = |cookie| match socket_connect(memory, &call(cookie)) {
        SocketVerdict::To(addr, _) => addr,
        _ => panic!("not led to a backend"),
    };
    let open = || [1, 2, 3].map(|id| memory.stats.borrow()[&id].open);
    let backends = backends::<V4>();
    let peers: Vec<V4> = (0..1_000).map(connect).collect();
    // Eight of ten slots are looked at.
    let near = |expected: [u32; 3]| {
        let open = open();
        assert!(open.iter().zip(expected).all(|(got, expected)| got.abs_diff(expected) <= 3), "{open:?}");
    };
    near([100, 200, 700]);
    let [one, _, three] = open();
    for (cookie, addr) in (0..).zip(&peers).filter(|(_, addr)| **addr == backends[1]) {
        socket_closed(memory, [cookie, 0], proto::TCP, *addr, Be16::new(8080));
        // Closed twice, as by its peer's reset and then by its process, it counts once.
        socket_closed(memory, [cookie, 0], proto::TCP, *addr, Be16::new(8080));
    }
    assert_eq!(open(), [one, 0, three]);
    let there = (2_000..2_200).filter(|cookie| connect(*cookie) == backends[1]).count();
    assert!(there >= 160, "{there}");
    (2_200..2_300).for_each(|cookie| _ = connect(cookie));
    near([110, 220, 770]);
}

#[test]
fn clients_of_source_hash_are_spread_and_each_keeps_its_backend() {
    let memory = &node::<V4>(algorithm::SOURCE_HASH).memory;
    let mut counts = [0; 3];
    for n in 0..CONNECTIONS {
        let call = |cookie| SocketCall {
            cookie: [cookie, 0],
            netns: [n, 0],
            host: false,
            addr: V4::VIP,
            port: Be16::new(80),
            proto: proto::TCP,
        };
        let (first, second) = (socket_connect(memory, &call(n)), socket_connect(memory, &call(n + 1)));
        assert!(first == second);
        let SocketVerdict::To(addr, _) = first else { panic!("not led to a backend") };
        counts[backends::<V4>().iter().position(|known| *known == addr).unwrap()] += 1;
    }
    for (count, weight) in counts.into_iter().zip([1, 2, 7]) {
        assert!(u32::abs_diff(count, CONNECTIONS * weight / 10) <= 1_000, "{counts:?}");
    }
}
