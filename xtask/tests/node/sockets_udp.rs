//! UDP sockets: unconnected, connected anew, disconnected, with packet information.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use xtask::lab::dns;
use xtask::lab::probe::{TIMEOUT, Transport};
use xtask::lab::{Family, Netns};

use crate::fixture::{ALL, CLUSTER_IP, FRONTENDS, addresses};
use crate::sockets::SocketNode;

fn open(family: Family) -> UdpSocket {
    let socket = UdpSocket::bind(if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

/// The Pod that an answer names, and whom it appears to come from.
fn receive(socket: &UdpSocket, id: u16) -> (String, SocketAddr) {
    let mut packet = [0; 1500];
    let (len, from) = socket.recv_from(&mut packet).unwrap();
    let texts = dns::texts(&packet[..len], id).unwrap();
    (texts[0].strip_prefix("pod=").unwrap().to_owned(), from)
}

fn ask(socket: &UdpSocket, dst: SocketAddr, id: u16) -> (String, SocketAddr) {
    socket.send_to(&dns::query(id, dns::QUESTION), dst).unwrap();
    receive(socket, id)
}

fn inside(ns: &Netns, probe: impl FnOnce() + Send) {
    ns.run(|| {
        probe();
        Ok(())
    })
    .unwrap();
}

#[test]
fn answers_to_an_unconnected_socket_come_from_the_frontend_and_from_one_pod() {
    let node = SocketNode::start();
    for ns in node.clients() {
        for family in Family::ALL {
            inside(&ns, || {
                let socket = open(family);
                for frontend in &FRONTENDS {
                    let dst = frontend.at(family, Transport::Udp);
                    let (first, from) = ask(&socket, dst, 1);
                    assert_eq!(from, dst, "{}", ns.name());
                    for id in 2..20 {
                        assert_eq!(ask(&socket, dst, id), (first.clone(), dst), "{}", ns.name());
                    }
                }
            });
            // They went with the socket.
            for frontend in &FRONTENDS {
                assert_eq!(node.socket_flows(frontend.at(family, Transport::Udp)), 0, "{}", ns.name());
            }
        }
    }
}

#[test]
fn an_unconnected_socket_moves_on_when_its_backend_goes() {
    let node = SocketNode::start();
    for ns in node.clients() {
        for family in Family::ALL {
            let dst = CLUSTER_IP.at(family, Transport::Udp);
            for pod in ["rt2", "br2", "remote1"] {
                let only = node.node.lab.pod("rt2").unwrap();
                node.node.change(|manifests| manifests.endpoints(ALL, &[]).unwrap());
                node.node.change(|manifests| manifests.ready(ALL, [only]).unwrap());
                let socket = ns.run(|| Ok(open(family))).unwrap();
                inside(&ns, || assert_eq!(ask(&socket, dst, 1).0, "rt2"));
                let next = node.node.lab.pod(pod).unwrap();
                if pod != "rt2" {
                    node.node.change(|manifests| manifests.ready(ALL, [next]).unwrap());
                }
                let begun = Instant::now();
                inside(&ns, || assert_eq!(ask(&socket, dst, 2), (pod.to_owned(), dst)));
                assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
            }
        }
    }
}

#[test]
fn sending_without_endpoints_is_refused_by_sendto() {
    let node = SocketNode::start();
    node.node.change(|manifests| manifests.endpoints(ALL, &[]).unwrap());
    for ns in node.clients() {
        for (transport, dst) in addresses(&CLUSTER_IP).filter(|(transport, _)| *transport == Transport::Udp) {
            let family = if dst.is_ipv4() { Family::V4 } else { Family::V6 };
            inside(&ns, || {
                let error = open(family).send_to(b"x", dst).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{transport:?} {dst}: {error}");
            });
        }
    }
}

#[test]
fn a_socket_is_connected_twice_and_disconnected() {
    let node = SocketNode::start();
    let pod = node.node.lab.pod("rt2").unwrap();
    for ns in node.clients() {
        for family in Family::ALL {
            let dst = CLUSTER_IP.at(family, Transport::Udp);
            let direct = SocketAddr::new(pod.addr.of(family), Transport::Udp.pod_port());
            inside(&ns, || {
                let socket = open(family);
                for peer in [dst, direct, dst] {
                    socket.connect(peer).unwrap();
                    assert_eq!(socket.peer_addr().unwrap(), peer);
                    socket.send(&dns::query(7, dns::QUESTION)).unwrap();
                    assert_eq!(receive(&socket, 7).1, peer);
                }
                // SAFETY: an all-zero address is valid; its family is AF_UNSPEC.
                let unspec: libc::sockaddr = unsafe { std::mem::zeroed() };
                // SAFETY: the address lives for the call and has the length that is given.
                let ret = unsafe { libc::connect(socket.as_raw_fd(), &raw const unspec, 16) };
                assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
                socket.peer_addr().unwrap_err();
                assert_eq!(ask(&socket, dst, 8).1, dst);
                // An IPv6 socket goes on to hear its former peer alone: the kernel forgets to forget it.
                if family == Family::V4 {
                    assert_eq!(ask(&socket, direct, 9), ("rt2".to_owned(), direct));
                }
            });
        }
    }
}

#[test]
fn a_given_source_address_is_kept() {
    let node = SocketNode::start();
    for name in ["br1", "rt1"] {
        let addr = node.node.lab.pod(name).unwrap().addr.v4;
        inside(&node.pod(name), || {
            let socket = open(Family::V4);
            let dst = CLUSTER_IP.at(Family::V4, Transport::Udp);
            let SocketAddr::V4(v4) = dst else { panic!("not IPv4") };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(addr).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let query = dns::query(3, dns::QUESTION);
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            let to = SockaddrIn::from(v4);
            sendmsg(socket.as_raw_fd(), &[IoSlice::new(&query)], &control, MsgFlags::empty(), Some(&to)).unwrap();
            assert_eq!(receive(&socket, 3).1, dst, "{name}");
        });
    }
}
