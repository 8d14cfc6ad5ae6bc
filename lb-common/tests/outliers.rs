//! What counts against a backend, and what its clients do: in packets and at sockets, in plain memory.
#![cfg(feature = "testkit")]
#![expect(clippy::panic, reason = "a failed expectation should stop the test where it stands")]

use lb_common::abi::{Be16, OutlierValue, V4, V6, frontend_kind, proto, rest};
use lb_common::datapath::{SocketCall, SocketVerdict, socket_answered, socket_connect, socket_failed, socket_is_led};
use lb_common::testkit::{Endpoint, Family, Hook, HostNode, Node as _, Pkt, Scene, Service};
use lb_common::wire::tcp::flag;

/// The first number of either side in test packets, and the one behind it.
const FIRST: u32 = 0x0102_0304;
const NEXT: u32 = FIRST + 1;
const FRONT: u16 = 443;
const RESET: u8 = flag::RST | flag::ACK;

fn node<A: Family>(rest: u16) -> HostNode<A> {
    let mut node = HostNode::<A>::default();
    let service = Service::new(proto::TCP, A::LB, FRONT, frontend_kind::LOAD_BALANCER).rest(1, rest);
    Scene::new("outliers", &mut node).serve(&service.endpoints(&[Endpoint::local(1, A::LOCAL)]));
    node
}

/// A packet of the client.
fn client<A: Family>(node: &mut HostNode<A>, port: u16, flags: u8, seq: u32) {
    let packet = Pkt::tcp((A::POD, port), (A::LB, FRONT), flags).sequence(seq);
    node.send(Hook::PodIngress, Hook::PodIngress.device(), &packet.bytes());
}

/// A packet of the backend.
fn backend<A: Family>(node: &mut HostNode<A>, port: u16, flags: u8, seq: u32, payload: &[u8]) {
    let packet = Pkt::tcp((A::LOCAL, 8080), (A::POD, port), flags).sequence(seq).payload(payload);
    node.send(Hook::PodEgress, Hook::PodEgress.device(), &packet.bytes());
}

fn open<A: Family>(node: &mut HostNode<A>, port: u16) {
    client(node, port, flag::SYN, FIRST);
    backend(node, port, flag::SYN | flag::ACK, FIRST, b"");
    client(node, port, flag::ACK, NEXT);
}

/// Connections that were answered, and those that failed.
fn counted<A: Family>(node: &HostNode<A>) -> (u64, u64) {
    let OutlierValue { answered, failed, clients, failing, .. } =
        node.memory.outliers.borrow().get(&1).copied().unwrap_or_default();
    assert!((clients == 0) == (answered == 0) && failing & !clients == 0 && (failing == 0) == (failed == 0));
    (answered, failed)
}

fn a_refusal_and_a_reset_before_any_data_count_against_the_backend<A: Family>() {
    let mut node = node::<A>(rest::NONE);
    client(&mut node, 40_000, flag::SYN, FIRST);
    backend(&mut node, 40_000, RESET, FIRST, b"");
    assert_eq!(counted(&node), (1, 1));
    open(&mut node, 40_001);
    assert_eq!(counted(&node), (2, 1));
    client(&mut node, 40_001, flag::ACK, NEXT);
    backend(&mut node, 40_001, RESET, NEXT, b"");
    assert_eq!(counted(&node), (2, 2));
    // Once for each connection.
    backend(&mut node, 40_001, RESET, NEXT, b"");
    assert_eq!(counted(&node), (2, 2));
    // Before the client has seen the answer, too.
    client(&mut node, 40_002, flag::SYN, FIRST);
    backend(&mut node, 40_002, flag::SYN | flag::ACK, FIRST, b"");
    backend(&mut node, 40_002, RESET, NEXT, b"");
    assert_eq!(counted(&node), (3, 3));
}

fn what_a_client_does_or_another_sends_does_not<A: Family>() {
    let mut node = node::<A>(rest::NONE);
    // It resets, and its backend answers what comes afterwards.
    open(&mut node, 40_000);
    client(&mut node, 40_000, flag::RST, NEXT);
    backend(&mut node, 40_000, RESET, NEXT, b"");
    // It closes first.
    open(&mut node, 40_001);
    client(&mut node, 40_001, flag::FIN | flag::ACK, NEXT);
    backend(&mut node, 40_001, RESET, NEXT, b"");
    // The backend has served it.
    open(&mut node, 40_002);
    backend(&mut node, 40_002, flag::ACK, NEXT, b"hello");
    backend(&mut node, 40_002, RESET, NEXT + 5, b"");
    // Somebody guesses.
    open(&mut node, 40_003);
    backend(&mut node, 40_003, RESET, NEXT + 100, b"");
    backend(&mut node, 40_003, RESET, FIRST, b"");
    assert_eq!(counted(&node), (4, 0));
}

fn nothing_is_counted_where_nobody_asks<A: Family>() {
    let mut node = node::<A>(rest::OFF);
    client(&mut node, 40_000, flag::SYN, FIRST);
    backend(&mut node, 40_000, RESET, FIRST, b"");
    open(&mut node, 40_001);
    backend(&mut node, 40_001, RESET, NEXT, b"");
    assert!(node.memory.outliers.borrow().is_empty());
}

fn sockets_count_as_packets_do<A: Family>() {
    let node = node::<A>(rest::NONE);
    let memory = &node.memory;
    let port = Be16::new(8080);
    for (cookie, netns) in [(1, 7), (2, 8), (3, 7)] {
        let call = SocketCall {
            cookie: [cookie, 0],
            netns: [netns, 0],
            host: false,
            addr: A::LB,
            port: Be16::new(FRONT),
            proto: proto::TCP,
        };
        let SocketVerdict::To(..) = socket_connect(memory, &call) else { panic!("not led to a backend") };
        assert_eq!(socket_is_led(memory, [cookie, 0], A::LOCAL, port), Some(true));
    }
    socket_answered(memory, [1, 0], A::LOCAL, port);
    assert_eq!(counted(&node), (1, 0));
    socket_failed(memory, [2, 0], A::LOCAL, port, true);
    assert_eq!(counted(&node), (2, 1));
    socket_answered(memory, [3, 0], A::LOCAL, port);
    socket_failed(memory, [3, 0], A::LOCAL, port, false);
    assert_eq!(counted(&node), (3, 2));
    // Nobody has led these.
    socket_failed(memory, [4, 0], A::LOCAL, port, true);
    assert_eq!(counted(&node), (3, 2));
    let cell = memory.outliers.borrow()[&1];
    assert_eq!((cell.clients.count_ones(), cell.failing.count_ones()), (2, 2));
}

macro_rules! tests {
    ($($name:ident: $rule:ident;)*) => {
        $(
            #[test]
            fn $name() {
                $rule::<V4>();
                $rule::<V6>();
            }
        )*
    };
}

tests! {
    refusals_and_early_resets: a_refusal_and_a_reset_before_any_data_count_against_the_backend;
    clients_and_strangers: what_a_client_does_or_another_sends_does_not;
    off: nothing_is_counted_where_nobody_asks;
    sockets: sockets_count_as_packets_do;
}
