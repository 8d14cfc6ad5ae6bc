//! What socket hooks decide, in plain memory.
#![cfg(feature = "testkit")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed expectation should stop the test where it stands")]

use lb_common::abi::{
    BackendValue, Be16, Counter, FrontendKey, FrontendValue, SetRef, V4, V6, backend_flag, config_flag, frontend_flag,
    frontend_kind, frontend_scope, proto,
};
use lb_common::datapath::{
    Host as _, SocketCall, SocketVerdict, socket_answered, socket_bind, socket_closed, socket_connect, socket_is_led,
    socket_peer, socket_released, socket_send, socket_unanswered,
};
use lb_common::testkit::{Family, Memory};

const SERVICE: u32 = 7;

/// A node whose frontend `A::VIP:80` has these backends, by id from 1 on.
fn node<A: Family>(protocol: u8, backends: &[A]) -> Memory<A> {
    let mut memory = Memory::<A>::default();
    let count = u32::try_from(backends.len()).unwrap();
    for (id, addr) in (1..).zip(backends) {
        let flags = backend_flag::IN_CLUSTER;
        let value = BackendValue {
            addr: *addr,
            port: Be16::new(8080),
            flags,
            generation: id,
            service: SERVICE,
            weight: 1,
            ..BackendValue::default()
        };
        memory.backends.insert(id, value);
        memory.slots.insert(id, id);
    }
    let value = FrontendValue {
        internal: SetRef { base: 1, count },
        service: SERVICE,
        kind: frontend_kind::CLUSTER_IP,
        ..FrontendValue::default()
    };
    memory.frontends.insert(key(A::VIP, 80, protocol), value);
    let known = FrontendValue { service: SERVICE, kind: frontend_kind::KNOWN_VIP, ..FrontendValue::default() };
    memory.frontends.insert(FrontendKey::of_address(A::VIP), known);
    (memory.config.abi, memory.config.node) = (1, A::NODE);
    (memory.config.vip_lo, memory.config.vip_hi) = (A::VIP, A::VIP);
    memory
}

fn key<A>(addr: A, port: u16, proto: u8) -> FrontendKey<A> {
    FrontendKey { addr, port: Be16::new(port), proto, scope: frontend_scope::ALL }
}

fn caller<A>(addr: A, port: u16, proto: u8) -> SocketCall<A> {
    SocketCall { cookie: [1, 0], netns: [9, 0], host: false, addr, port: Be16::new(port), proto }
}

fn edit<A: Family>(memory: &mut Memory<A>, protocol: u8, change: impl FnOnce(&mut FrontendValue)) {
    change(memory.frontends.get_mut(&key(A::VIP, 80, protocol)).unwrap());
}

fn led_to<A: Copy>(called: SocketVerdict<A>) -> A {
    match called {
        SocketVerdict::To(addr, port) if port == Be16::new(8080) => addr,
        _ => panic!("not led to a backend"),
    }
}

fn count<A: Family>(memory: &Memory<A>, counter: Counter) -> u64 {
    memory.counters.borrow().get(&counter.index()).copied().unwrap_or(0)
}

macro_rules! both_families {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                on::$name::<V4>();
                on::$name::<V6>();
            }
        )*
    };
}

both_families! {
    a_socket_is_led_to_a_backend_and_told_of_the_frontend
    no_endpoints_and_unknown_ports_are_refused_and_silence_is_left_to_packets
    an_unconnected_socket_keeps_its_backend_until_that_goes_or_falls_idle
    an_own_dealing_with_a_backend_is_not_told_as_the_frontends
    entries_of_an_unconnected_socket_go_with_it_and_are_few
    answer_to_a_moved_socket_is_told_of_the_new_backend_alone
    loopback_node_ports_are_for_the_host_alone
    source_ranges_judge_the_host_by_its_address_and_leave_pods_to_packets
    affinity_is_kept_by_namespace_and_its_clock_by_connections
    a_full_table_costs_the_peers_name_and_not_the_connection
    a_node_port_cannot_be_bound
    slot_of_another_service_leads_nowhere
    ping_connects_where_it_is_answered
    a_socket_that_is_not_answered_warns_those_that_come_after
}

mod on {
    use super::*;

    /// iputils probe by UDP which source address they get, then connect a socket for ICMP.
    pub(super) fn ping_connects_where_it_is_answered<A: Family>() {
        let mut memory = node::<A>(proto::UDP, &[A::LOCAL]);
        let probe = caller(A::VIP, 1025, proto::UDP);
        let connects = |memory: &Memory<A>, call| socket_connect(memory, &call) == SocketVerdict::Pass;
        assert!(!connects(&memory, probe), "the Service has no such port, and its address does not answer");
        memory.frontends.get_mut(&FrontendKey::of_address(A::VIP)).unwrap().flags = frontend_flag::ANSWERS_ECHO;
        assert!(connects(&memory, probe));
        for (port, proto) in [(1026, proto::UDP), (1025, proto::TCP)] {
            assert!(!connects(&memory, caller(A::VIP, port, proto)));
        }
        let icmp = if A::IS_V6 { proto::ICMPV6 } else { proto::ICMP };
        assert!(connects(&memory, caller(A::VIP, 0, icmp)));
        memory.config.flags |= config_flag::NO_ECHO;
        assert!(!connects(&memory, probe));
    }

    pub(super) fn a_socket_is_led_to_a_backend_and_told_of_the_frontend<A: Family>() {
        let memory = node(proto::TCP, &[A::LOCAL]);
        assert!(led_to(socket_connect(&memory, &caller(A::VIP, 80, proto::TCP))) == A::LOCAL);
        let peer = |proto| socket_peer(&memory, [1, 0], proto, A::LOCAL, Be16::new(8080));
        assert!(peer(proto::TCP) == Some((A::VIP, Be16::new(80))));
        assert!(peer(proto::UDP).is_none());
        assert!(socket_peer(&memory, [2, 0], proto::TCP, A::LOCAL, Be16::new(8080)).is_none());
        socket_closed(&memory, [1, 0], proto::TCP, A::LOCAL, Be16::new(8080));
        assert!(memory.sockets.borrow().is_empty());
        assert!(matches!(socket_connect(&memory, &caller(A::CLIENT, 80, proto::TCP)), SocketVerdict::Pass));
    }

    pub(super) fn no_endpoints_and_unknown_ports_are_refused_and_silence_is_left_to_packets<A: Family>() {
        for protocol in [proto::TCP, proto::UDP] {
            let mut memory = node::<A>(protocol, &[]);
            for port in [80, 81] {
                assert!(matches!(socket_connect(&memory, &caller(A::VIP, port, protocol)), SocketVerdict::Refused));
                assert!(matches!(socket_send(&memory, &caller(A::VIP, port, protocol)), SocketVerdict::Refused));
            }
            assert_eq!(count(&memory, Counter::SocketRefused), 4);
            edit(&mut memory, protocol, |frontend| frontend.flags = frontend_flag::INTERNAL_EMPTY_DROPS);
            assert!(matches!(socket_connect(&memory, &caller(A::VIP, 80, protocol)), SocketVerdict::Pass));
        }
    }

    pub(super) fn an_unconnected_socket_keeps_its_backend_until_that_goes_or_falls_idle<A: Family>() {
        let mut memory = node(proto::UDP, &[A::LOCAL, A::LOCAL2]);
        let send = |memory: &Memory<A>| led_to(socket_send(memory, &caller(A::VIP, 80, proto::UDP)));
        let first = send(&memory);
        assert!((0..50).all(|_| send(&memory) == first));
        assert_eq!(count(&memory, Counter::SocketConnected), 1);
        let id = if first == A::LOCAL { 1 } else { 2 };
        memory.backends.get_mut(&id).unwrap().generation += 10;
        memory.slots.insert(id, 3 - id);
        assert!(send(&memory) != first);
        assert_eq!(count(&memory, Counter::SocketConnected), 2);
        memory.now_ns.set(memory.now_ns() + 200_000_000_000);
        send(&memory);
        assert_eq!(count(&memory, Counter::SocketConnected), 3);
    }

    pub(super) fn an_own_dealing_with_a_backend_is_not_told_as_the_frontends<A: Family>() {
        let memory = node(proto::UDP, &[A::LOCAL]);
        let peer = || socket_peer(&memory, [1, 0], proto::UDP, A::LOCAL, Be16::new(8080));
        for call in [socket_connect::<A, Memory<A>>, socket_send] {
            call(&memory, &caller(A::VIP, 80, proto::UDP));
            assert!(peer().is_some());
            assert!(matches!(call(&memory, &caller(A::LOCAL, 8080, proto::UDP)), SocketVerdict::Pass));
            assert!(peer().is_none());
        }
        socket_send(&memory, &caller(A::VIP, 80, proto::UDP));
        assert!(peer().is_some());
    }

    pub(super) fn entries_of_an_unconnected_socket_go_with_it_and_are_few<A: Family>() {
        let mut memory = node(proto::UDP, &[A::LOCAL, A::LOCAL2]);
        let value = memory.frontends[&key(A::VIP, 80, proto::UDP)];
        for port in 1_000..1_100 {
            memory.frontends.insert(key(A::VIP, port, proto::UDP), value);
        }
        let other = SocketCall { cookie: [2, 0], ..caller(A::VIP, 80, proto::UDP) };
        socket_send(&memory, &other);
        let others = memory.sockets.borrow().clone();
        assert_eq!(others.len(), 4);
        for round in 0..3 {
            for port in [80].into_iter().chain(1_000..1_100) {
                led_to(socket_send(&memory, &caller(A::VIP, port, proto::UDP)));
            }
            // For each of 16 frontends a place and an entry, the number of places, and an entry for each backend.
            let few = 2 * 16 + 1 + 2 + others.len();
            assert!(memory.sockets.borrow().len() <= few, "round {round}: {}", memory.sockets.borrow().len());
        }
        let last = caller(A::VIP, 1_099, proto::UDP);
        let backend = led_to(socket_send(&memory, &last));
        let peer = socket_peer(&memory, [1, 0], proto::UDP, backend, Be16::new(8080));
        assert!(peer == Some((A::VIP, Be16::new(1_099))));
        socket_released::<A, _>(&memory, [1, 0], proto::UDP);
        assert_eq!(*memory.sockets.borrow(), others);
        socket_released::<A, _>(&memory, [2, 0], proto::UDP);
        assert!(memory.sockets.borrow().is_empty());
    }

    pub(super) fn answer_to_a_moved_socket_is_told_of_the_new_backend_alone<A: Family>() {
        let mut memory = node(proto::UDP, &[A::LOCAL, A::LOCAL2]);
        let call = caller(A::VIP, 80, proto::UDP);
        let first = led_to(socket_send(&memory, &call));
        let id = if first == A::LOCAL { 1 } else { 2 };
        memory.backends.get_mut(&id).unwrap().generation += 10;
        memory.slots.insert(id, 3 - id);
        let second = led_to(socket_send(&memory, &call));
        let peer = |addr| socket_peer(&memory, [1, 0], proto::UDP, addr, Be16::new(8080));
        assert!(first != second && peer(first).is_none() && peer(second) == Some((A::VIP, Be16::new(80))));
        socket_released::<A, _>(&memory, [1, 0], proto::UDP);
        assert!(memory.sockets.borrow().is_empty());
    }

    pub(super) fn loopback_node_ports_are_for_the_host_alone<A: Family>() {
        let mut memory = node(proto::TCP, &[A::LOCAL]);
        let value = memory.frontends[&key(A::VIP, 80, proto::TCP)];
        let node_port = FrontendValue { kind: frontend_kind::NODE_PORT, ..value };
        let scope = frontend_scope::HOST;
        let addr = A::LOOPBACK;
        memory.frontends.insert(FrontendKey { addr, port: Be16::new(30080), proto: proto::TCP, scope }, node_port);
        let pod = caller(addr, 30080, proto::TCP);
        assert!(matches!(socket_connect(&memory, &pod), SocketVerdict::Pass));
        assert!(led_to(socket_connect(&memory, &SocketCall { host: true, ..pod })) == A::LOCAL);
    }

    pub(super) fn source_ranges_judge_the_host_by_its_address_and_leave_pods_to_packets<A: Family>() {
        let mut memory = node(proto::TCP, &[A::LOCAL]);
        edit(&mut memory, proto::TCP, |frontend| frontend.flags = frontend_flag::SOURCE_RANGES);
        let pod = caller(A::VIP, 80, proto::TCP);
        let host = SocketCall { host: true, ..pod };
        assert!(matches!(socket_connect(&memory, &host), SocketVerdict::Pass));
        memory.ranges.push((SERVICE, A::NODE, A::BITS));
        assert!(led_to(socket_connect(&memory, &host)) == A::LOCAL);
        assert!(matches!(socket_connect(&memory, &pod), SocketVerdict::Pass));
    }

    pub(super) fn affinity_is_kept_by_namespace_and_its_clock_by_connections<A: Family>() {
        let mut memory = node(proto::TCP, &[A::LOCAL, A::LOCAL2]);
        edit(&mut memory, proto::TCP, |frontend| frontend.affinity_secs = 10);
        let of = |netns| SocketCall { netns: [netns, 0], ..caller(A::VIP, 80, proto::TCP) };
        let first = led_to(socket_connect(&memory, &of(1)));
        for _ in 0..50 {
            memory.now_ns.set(memory.now_ns() + 9_000_000_000);
            assert!(led_to(socket_connect(&memory, &of(1))) == first);
        }
        assert!((0..50).any(|netns| led_to(socket_connect(&memory, &of(100 + netns))) != first));
    }

    pub(super) fn a_full_table_costs_the_peers_name_and_not_the_connection<A: Family>() {
        let memory = node(proto::TCP, &[A::LOCAL]);
        memory.full.set(true);
        assert!(led_to(socket_connect(&memory, &caller(A::VIP, 80, proto::TCP))) == A::LOCAL);
        assert_eq!(count(&memory, Counter::SocketInsertFailed), 1);
    }

    pub(super) fn a_node_port_cannot_be_bound<A: Family>() {
        let mut memory = node(proto::TCP, &[A::LOCAL]);
        let value = memory.frontends[&key(A::VIP, 80, proto::TCP)];
        memory
            .frontends
            .insert(key(A::NODE, 30080, proto::TCP), FrontendValue { kind: frontend_kind::NODE_PORT, ..value });
        assert!(!socket_bind(&memory, proto::TCP, A::NODE, Be16::new(30080)));
        assert!(!socket_bind(&memory, proto::TCP, A::ZERO, Be16::new(30080)));
        assert!(socket_bind(&memory, proto::TCP, A::ZERO, Be16::new(30081)));
        assert!(socket_bind(&memory, proto::UDP, A::ZERO, Be16::new(30080)));
        assert!(socket_bind(&memory, proto::TCP, A::VIP, Be16::new(80)));
    }

    pub(super) fn slot_of_another_service_leads_nowhere<A: Family>() {
        let mut memory = node(proto::TCP, &[A::LOCAL]);
        memory.backends.get_mut(&1).unwrap().service = SERVICE + 1;
        let call = SocketCall { host: true, ..caller(A::VIP, 80, proto::TCP) };
        assert!(matches!(socket_connect(&memory, &call), SocketVerdict::Pass));
        assert!(memory.sockets.borrow().is_empty());
    }

    /// One that hangs tells of it again and again, and one tries the backend after a while.
    pub(super) fn a_socket_that_is_not_answered_warns_those_that_come_after<A: Family>() {
        let memory = node(proto::TCP, &[A::LOCAL, A::LOCAL2]);
        let connect = |cookie: u32| {
            let call = SocketCall { cookie: [cookie, 0], ..caller(A::VIP, 80, proto::TCP) };
            led_to(socket_connect(&memory, &call))
        };
        let port = Be16::new(8080);
        let hangs = (1..100).find(|cookie| connect(*cookie) == A::LOCAL).unwrap();
        let is_led = |to| socket_is_led(&memory, [hangs, 0], to, port);
        assert_eq!((is_led(A::LOCAL), is_led(A::VIP)), (Some(false), None));
        for seconds in [1, 2, 4] {
            memory.now_ns.set(memory.now_ns.get() + seconds * 1_000_000_000);
            socket_unanswered(&memory, [hangs, 0], A::LOCAL, port);
            assert!((100..200).all(|cookie| connect(cookie) == A::LOCAL2));
        }
        assert_eq!((count(&memory, Counter::BackendSilent), count(&memory, Counter::SilentPassedOver) > 0), (1, true));
        memory.now_ns.set(memory.now_ns.get() + 2_000_000_000);
        let tries: Vec<u32> = (200..300).filter(|cookie| connect(*cookie) == A::LOCAL).collect();
        assert_eq!(tries.len(), 1);
        socket_answered(&memory, [tries[0], 0], A::LOCAL, port);
        assert_eq!(count(&memory, Counter::BackendBack), 1);
        assert!((300..400).any(|cookie| connect(cookie) == A::LOCAL));
        // The old one's next SYN says nothing of a backend that has answered since.
        socket_unanswered(&memory, [hangs, 0], A::LOCAL, port);
        assert_eq!(count(&memory, Counter::BackendSilent), 1);
    }
}
