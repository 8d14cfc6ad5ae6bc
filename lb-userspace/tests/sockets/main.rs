//! Destroying real sockets, in network namespaces that processes and bind mounts keep.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod namespace;

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use sluice::linux::netns::own_netns_cookie;
use sluice::sockets::{DestroyError, Destroyer, Outcome, Victim, supported};

use namespace::{
    Bound, Netns, PATIENCE, TCP, UDP, V4, V6, any, bind, on_a_thread, path_of, socket_in, udp, victim, without_rights,
};

/// What became of the victims: destroyed, gone, failed, not found.
fn ends(outcome: &Outcome) -> (usize, usize, usize, usize) {
    let failed = outcome.failed.iter().map(|failure| failure.victims.len()).sum();
    (outcome.destroyed, outcome.gone, failed, outcome.not_found.len())
}

fn assert_destroyed(socket: &UdpSocket) {
    assert_eq!(socket.take_error().unwrap().map(|e| e.kind()), Some(ErrorKind::ConnectionAborted));
    assert!(socket.peer_addr().is_err(), "still connected");
}

/// A datagram gets through from a connected socket to the other end.
fn assert_alive(socket: &UdpSocket, other_end: &UdpSocket) {
    other_end.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(b"alive").expect("the socket lives");
    let (length, from) = other_end.recv_from(&mut [0; 16]).unwrap();
    assert_eq!(length, 5);
    other_end.send_to(b"yes", from).unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).expect("the socket lives"), 3);
}

fn connected_socket_is_moved(bind: IpAddr, other_end: IpAddr, through: impl Fn(SocketAddr) -> SocketAddr) {
    let netns = Netns::new();
    let (_old, old) = netns.listener(other_end);
    let (new, next) = netns.listener(other_end);
    let socket = netns.udp(any(bind), through(old));
    let bystander = netns.udp(any(bind), through(old));
    new.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::scope(|scope| {
        // Whoever waits for an answer waits on, and hears the new peer.
        let waiting = scope.spawn(|| socket.recv(&mut [0; 16]));
        std::thread::sleep(Duration::from_millis(50));
        let victim = Victim { frontend: Some(next), ..netns.victim(UDP, &socket, old) };
        let outcome = Destroyer::default().destroy(&[victim]);
        assert_eq!((outcome.moved, ends(&outcome)), (1, (0, 0, 0, 0)), "{outcome:?}");
        assert_eq!(socket.peer_addr().unwrap(), through(next));
        socket.send(b"hello").unwrap();
        let (_, from) = new.recv_from(&mut [0; 16]).unwrap();
        new.send_to(b"yes", from).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), 3);
    });
    assert_eq!(socket.take_error().unwrap().map(|error| error.kind()), None);
    assert_eq!(bystander.peer_addr().unwrap(), through(old));
    // Connected to something else meanwhile, it is left alone.
    let victim = Victim { frontend: Some(old), ..netns.victim(UDP, &socket, old) };
    let outcome = Destroyer::default().destroy(&[victim]);
    assert_eq!((outcome.moved, ends(&outcome)), (0, (0, 1, 0, 0)), "{outcome:?}");
    assert_eq!(socket.peer_addr().unwrap(), through(next));
}

#[test]
fn a_connected_socket_is_connected_anew_and_its_owner_waits_on() {
    connected_socket_is_moved(V4, V4, |peer| peer);
    connected_socket_is_moved(V6, V6, |peer| peer);
    connected_socket_is_moved(Ipv6Addr::UNSPECIFIED.into(), V4, |peer| match peer {
        SocketAddr::V4(peer) => SocketAddr::new(peer.ip().to_ipv6_mapped().into(), peer.port()),
        SocketAddr::V6(_) => peer,
    });
}

fn connected_socket_is_destroyed(bind: IpAddr, other_end: IpAddr, through: impl Fn(SocketAddr) -> SocketAddr) {
    let netns = Netns::new();
    let (server, peer) = netns.listener(other_end);
    let socket = netns.udp(any(bind), through(peer));
    let bystander = netns.udp(any(bind), through(peer));
    let mut destroyer = Destroyer::default();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let began = Instant::now();
            (socket.recv(&mut [0; 16]), began.elapsed())
        });
        std::thread::sleep(Duration::from_millis(50));
        let outcome = destroyer.destroy(&[netns.victim(UDP, &socket, peer)]);
        assert_eq!(ends(&outcome), (1, 0, 0, 0), "{outcome:?}");
        let (received, waited) = waiting.join().unwrap();
        assert_eq!(received.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert!(waited < PATIENCE, "woken at once, not after {waited:?}");
    });
    assert!(socket.peer_addr().is_err(), "still connected");
    assert_alive(&bystander, &server);
}

#[test]
fn receive_that_waits_on_a_destroyed_ipv4_socket_fails_at_once() {
    connected_socket_is_destroyed(V4, V4, |peer| peer);
}

#[test]
fn receive_that_waits_on_a_destroyed_ipv6_socket_fails_at_once() {
    connected_socket_is_destroyed(V6, V6, |peer| peer);
}

#[test]
fn ipv6_socket_with_an_ipv4_peer_is_destroyed() {
    let mapped = |peer: SocketAddr| SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), peer.port());
    connected_socket_is_destroyed(Ipv6Addr::UNSPECIFIED.into(), V4, mapped);
}

#[test]
fn socket_with_the_same_addresses_in_another_namespace_lives_on() {
    let (here, there) = (Netns::new(), Netns::new());
    let fixed = |port| SocketAddr::new(V4, port);
    let pair = |netns: &Netns| {
        let server = netns.inside(|| UdpSocket::bind(fixed(5353)).unwrap());
        (netns.udp(fixed(4000), fixed(5353)), server)
    };
    let ((victim, _server), (twin, server)) = (pair(&here), pair(&there));
    let outcome = Destroyer::default().destroy(&[here.victim(UDP, &victim, fixed(5353))]);
    assert_eq!(ends(&outcome), (1, 0, 0, 0), "{outcome:?}");
    assert_destroyed(&victim);
    assert_alive(&twin, &server);
}

#[test]
fn tcp_connection_is_destroyed_when_asked() {
    let netns = Netns::new();
    let (listener, client, bystander) = netns.inside(|| {
        let listener = TcpListener::bind((V4, 0)).unwrap();
        let peer = listener.local_addr().unwrap();
        (listener, TcpStream::connect(peer).unwrap(), TcpStream::connect(peer).unwrap())
    });
    let peer = listener.local_addr().unwrap();
    // As UDP it is no socket that there is.
    let outcome = Destroyer::default().destroy(&[netns.victim(UDP, &client, peer)]);
    assert_eq!(ends(&outcome), (0, 1, 0, 0), "{outcome:?}");
    let outcome = Destroyer::default().destroy(&[netns.victim(TCP, &client, peer)]);
    assert_eq!(ends(&outcome), (1, 0, 0, 0), "{outcome:?}");
    assert_eq!((&client).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    bystander.set_nonblocking(true).unwrap();
    assert_eq!((&bystander).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock, "the other lives");
}

#[test]
fn closed_socket_is_gone_and_no_failure() {
    let netns = Netns::new();
    let (_server, peer) = netns.listener(V4);
    let closed = netns.victim(UDP, &netns.udp(any(V4), peer), peer);
    let outcome = Destroyer::default().destroy(&[closed]);
    assert_eq!(ends(&outcome), (0, 1, 0, 0), "{outcome:?}");
}

#[test]
fn socket_that_has_connected_elsewhere_is_left_alone() {
    let netns = Netns::new();
    let (_dead, dead) = netns.listener(V4);
    // The same port, so that the kernel lists it.
    let elsewhere = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), dead.port());
    let server = netns.inside(|| UdpSocket::bind(elsewhere).unwrap());
    let socket = netns.udp(any(V4), dead);
    let stale = netns.victim(UDP, &socket, dead);
    socket.connect(elsewhere).unwrap();
    let outcome = Destroyer::default().destroy(&[stale]);
    assert_eq!(ends(&outcome), (0, 1, 0, 0), "{outcome:?}");
    assert_alive(&socket, &server);
}

/// Sockets with all addresses and ports in common, and the other end.
fn alike<const N: usize>(netns: &Netns, ip: IpAddr) -> ([UdpSocket; N], UdpSocket, SocketAddr) {
    let (server, peer) = netns.listener(ip);
    let port = netns.udp(any(ip), peer).local_addr().unwrap();
    (std::array::from_fn(|_| netns.udp(port, peer)), server, peer)
}

#[test]
fn sockets_that_share_addresses_and_ports_are_all_destroyed() {
    for ip in [V4, V6] {
        let netns = Netns::new();
        let (sockets, _server, peer) = alike::<5>(&netns, ip);
        let victims = sockets.each_ref().map(|socket| netns.victim(UDP, socket, peer));
        let outcome = Destroyer::default().destroy(&victims);
        assert_eq!(ends(&outcome), (5, 0, 0, 0), "{outcome:?}");
        sockets.iter().for_each(assert_destroyed);
    }
}

#[test]
fn victim_behind_a_socket_that_is_to_live_is_a_failure() {
    let mut hidden = 0;
    // Which of two the kernel finds is its own affair: in one order of trying, the other is in the way.
    for order in [[0, 1], [1, 0]] {
        let netns = Netns::new();
        let (sockets, _server, peer) = alike::<2>(&netns, V4);
        for number in order {
            let outcome = Destroyer::default().destroy(&[netns.victim(UDP, &sockets[number], peer)]);
            let lives = outcome.destroyed == 0;
            assert_eq!(sockets[number].peer_addr().is_ok(), lives);
            if lives {
                assert_eq!(ends(&outcome), (0, 0, 1, 0), "{outcome:?}");
                assert!(matches!(outcome.failed[0].why, DestroyError::Hidden), "{outcome:?}");
                hidden += 1;
            }
        }
    }
    assert!(hidden > 0);
}

#[test]
fn thousand_victims_of_one_namespace_take_one_listing() {
    let netns = Netns::new();
    let (_server, peer) = netns.listener(V4);
    let sockets: Vec<_> = netns.inside(|| (0..1000).map(|_| udp(any(V4), peer)).collect());
    let victims: Vec<_> = sockets.iter().map(|socket| netns.victim(UDP, socket, peer)).collect();
    let outcome = Destroyer::default().destroy(&victims);
    assert_eq!(ends(&outcome), (1000, 0, 0, 0), "{outcome:?}");
    assert_eq!(outcome.listings, 1);
    sockets.iter().for_each(assert_destroyed);
}

#[test]
fn unknown_namespace_is_reported_with_what_was_seen() {
    let netns = Netns::new();
    let (_server, peer) = netns.listener(V4);
    let socket = netns.udp(any(V4), peer);
    let known = netns.victim(UDP, &socket, peer);
    let unknown = Victim { netns_cookie: u64::MAX, ..known };
    let outcome = Destroyer::default().destroy(&[unknown, known]);
    assert_eq!(ends(&outcome), (1, 0, 0, 1), "{outcome:?}");
    assert_eq!(outcome.not_found, [unknown]);
    let survey = outcome.survey.unwrap();
    assert!(survey.namespaces >= 2 && survey.processes >= 2, "{survey}");
}

#[test]
fn protocol_without_destruction_fails_by_name() {
    let netns = Netns::new();
    let (_server, peer) = netns.listener(V4);
    let socket = netns.udp(any(V4), peer);
    let outcome = Destroyer::default().destroy(&[netns.victim(132, &socket, peer)]);
    assert_eq!(ends(&outcome), (0, 0, 1, 0), "{outcome:?}");
    assert!(matches!(outcome.failed[0].why, DestroyError::Protocol(132)));
}

#[test]
fn own_namespace_is_not_entered() {
    let netns = Netns::new();
    netns.inside(|| {
        let server = UdpSocket::bind((V4, 0)).unwrap();
        let peer = server.local_addr().unwrap();
        let socket = udp(any(V4), peer);
        let outcome = Destroyer::default().destroy(&[netns.victim(UDP, &socket, peer)]);
        assert_eq!((ends(&outcome), outcome.entered, outcome.survey), ((1, 0, 0, 0), 0, None));
        assert_destroyed(&socket);
        assert_eq!(own_netns_cookie().unwrap(), netns.cookie, "the calling thread stays where it is");
    });
}

#[test]
fn destroys_from_a_runtime() {
    let netns = Netns::new();
    let (_server, peer) = netns.listener(V4);
    let socket = netns.udp(any(V4), peer);
    let victims = [netns.victim(UDP, &socket, peer)];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let before = own_netns_cookie().unwrap();
        let (outcome, after) = tokio::task::spawn_blocking(move || {
            let outcome = Destroyer::default().destroy(&victims);
            (outcome, own_netns_cookie().unwrap())
        })
        .await
        .unwrap();
        assert_eq!(ends(&outcome), (1, 0, 0, 0), "{outcome:?}");
        assert_eq!(after, before);
    });
    assert_destroyed(&socket);
}

#[test]
fn namespace_that_was_reached_before_may_end_and_is_forgotten() {
    let netns = Netns::new();
    let cookie = netns.cookie;
    let link = fs::read_link(path_of(&netns.process)).unwrap();
    let (server, peer) = netns.listener(V4);
    let socket = netns.udp(any(V4), peer);
    let mut destroyer = Destroyer::default();
    let last = netns.victim(UDP, &socket, peer);
    assert_eq!(ends(&destroyer.destroy(&[last])), (1, 0, 0, 0));
    // No handle of it stays open.
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        assert_ne!(fs::read_link(entry.path()).unwrap_or_default(), link);
    }
    drop((socket, server, netns));
    let outcome = destroyer.destroy(&[last]);
    assert_eq!((ends(&outcome), outcome.entered), ((0, 0, 0, 1), 0), "{outcome:?}");
    assert_eq!(outcome.not_found[0].netns_cookie, cookie);
}

#[test]
fn one_socket_among_many_namespaces_costs_one_entry() {
    let bound = Bound::new(40);
    let mut destroyer = Destroyer::default();
    let (first, socket, _server) = socket_in(&bound, 7);
    let outcome = destroyer.destroy(&[first]);
    assert_eq!(ends(&outcome), (1, 0, 0, 0), "{outcome:?}");
    assert!(outcome.survey.unwrap().namespaces >= 40);
    assert_destroyed(&socket);
    for number in [7, 31] {
        let (victim, socket, _server) = socket_in(&bound, number);
        let outcome = destroyer.destroy(&[victim]);
        assert_eq!((ends(&outcome), outcome.entered, outcome.survey), ((1, 0, 0, 0), 1, None));
        assert_destroyed(&socket);
    }
}

#[test]
fn namespace_bound_where_nobody_named_it_is_found() {
    let bound = Bound::new(1);
    let (victim, socket, _server) = socket_in(&bound, 0);
    let outcome = Destroyer::default().destroy(&[victim]);
    assert_eq!((ends(&outcome), outcome.entered), ((1, 0, 0, 0), 1), "{outcome:?}");
    assert_destroyed(&socket);
}

#[test]
fn path_that_leads_to_another_namespace_by_now_is_not_trusted() {
    let bound = Bound::new(2);
    let mut destroyer = Destroyer::default();
    destroyer.survey().unwrap();
    let (moved, socket, _server) = socket_in(&bound, 0);
    bind(&bound.path(0), &bound.path(2));
    umount2(&bound.path(0), MntFlags::MNT_DETACH).unwrap();
    bind(&bound.path(1), &bound.path(0));
    let outcome = destroyer.destroy(&[moved]);
    assert_eq!((ends(&outcome), outcome.entered), ((1, 0, 0, 0), 1), "{outcome:?}");
    assert_destroyed(&socket);
}

#[test]
fn missing_rights_are_named() {
    let bound = Bound::new(1);
    let (elsewhere, _socket, _server) = socket_in(&bound, 0);
    fs::set_permissions(bound.0.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut knows = Destroyer::default();
    knows.survey().unwrap();
    on_a_thread(|| {
        without_rights();
        let server = UdpSocket::bind((V4, 0)).unwrap();
        let peer = server.local_addr().unwrap();
        let socket = udp(any(V4), peer);
        let here = victim(own_netns_cookie().unwrap(), UDP, &socket, peer);
        let outcome = Destroyer::default().destroy(&[here, elsewhere]);
        assert_eq!(ends(&outcome), (0, 0, 1, 1), "{outcome:?}");
        assert!(matches!(outcome.failed[0].why, DestroyError::NotAllowed), "{outcome:?}");
        let survey = outcome.survey.unwrap();
        assert!(survey.refused > 0 && survey.unreadable > 0, "{survey}");
        let outcome = knows.destroy(&[elsewhere]);
        assert!(matches!(outcome.failed[0].why, DestroyError::Enter { .. }), "{outcome:?}");
        assert!(supported().unwrap_err().to_string().contains("CAP_NET_ADMIN"));
    });
}

#[test]
fn kernel_of_the_tests_destroys_udp_sockets() {
    Netns::new().inside(|| supported().unwrap());
    let no_loopback = on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        supported().unwrap_err()
    });
    assert!(no_loopback.to_string().contains("loopback"), "{no_loopback}");
}
