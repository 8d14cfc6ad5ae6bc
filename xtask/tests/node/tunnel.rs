//! Pods behind a tunnel whose packets have no Ethernet header, as with WireGuard or IPIP.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use serde_json::json;
use xtask::lab::{Family, Lab, LabOptions, Netns, plan};

use crate::fixture::{ALL, Node, all};

const PATIENCE: Duration = Duration::from_secs(2);
const FAR_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 3, 10);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0xfd44, 3, 0, 0, 0, 0, 0, 0x10);

/// A tun device in a namespace; packets are read from and written to the file.
fn tun(ns: &Netns, name: &str) -> File {
    let file = ns
        .run(|| {
            let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
            let mut request = [0u8; 40];
            request[..name.len()].copy_from_slice(name.as_bytes());
            // IFF_TUN | IFF_NO_PI
            request[16..18].copy_from_slice(&0x1001_u16.to_ne_bytes());
            // SAFETY: TUNSETIFF reads an `ifreq` of 40 bytes, which `request` is.
            let ret = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
            anyhow::ensure!(ret == 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
            Ok(file)
        })
        .unwrap();
    ns.ip(&format!("link set {name} mtu 1400 up")).unwrap();
    file
}

fn shuttle(mut from: File, mut to: File) {
    thread::spawn(move || {
        let mut packet = [0u8; 2048];
        while let Ok(length) = from.read(&mut packet) {
            if length == 0 || to.write_all(&packet[..length]).is_err() {
                return;
            }
        }
    });
}

/// Answers with the address that it sees.
fn serve(ns: &Netns) {
    for ip in [IpAddr::from(FAR_V4), IpAddr::from(FAR_V6)] {
        let (tcp, udp) = ns
            .run(|| Ok((TcpListener::bind(SocketAddr::new(ip, 8080))?, UdpSocket::bind(SocketAddr::new(ip, 5353))?)))
            .unwrap();
        thread::spawn(move || {
            while let Ok((mut stream, peer)) = tcp.accept() {
                let _gone = stream.write_all(peer.ip().to_string().as_bytes());
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let _gone = udp.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        });
    }
}

fn tcp(dst: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&dst, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut seen = String::new();
    stream.read_to_string(&mut seen)?;
    Ok(seen)
}

fn udp(dst: SocketAddr) -> anyhow::Result<String> {
    let socket = UdpSocket::bind(if dst.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    // Connected: only an answer from the frontend's address is let through.
    socket.connect(dst)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"who?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// A node with one endpoint behind a tunnel, whose far end is given back.
fn node_with_a_tunnel() -> (Node, Netns) {
    let node = Node::with(LabOptions::default(), &all(), &[]);
    let Lab { node1, .. } = &node.lab;
    let far = node.lab.namespace("far").unwrap();
    let (near_end, far_end) = (tun(node1, "tunnel0"), tun(&far, "tunnel0"));
    shuttle(near_end.try_clone().unwrap(), far_end.try_clone().unwrap());
    shuttle(far_end, near_end);
    node1.ip("route add 10.244.3.0/24 dev tunnel0\nroute add fd44:3::/64 dev tunnel0").unwrap();
    far.ip(&format!(
        "link set lo up\naddr add {FAR_V4}/32 dev lo\naddr add {FAR_V6}/128 dev lo nodad\nroute add default dev tunnel0\nroute add ::/0 dev tunnel0"
    ))
    .unwrap();
    serve(&far);

    let slice = |ip: IpAddr, family: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": format!("{ALL}-far-{family}").to_lowercase(), "namespace": "lab",
                         "labels": {"kubernetes.io/service-name": ALL}},
            "endpoints": [{"addresses": [ip.to_string()], "nodeName": "node3", "conditions": {"ready": true}}],
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}, {"name": "dns", "protocol": "UDP", "port": 5353}],
        })
    };
    node.change(|manifests| {
        let items = [slice(FAR_V4.into(), "IPv4"), slice(FAR_V6.into(), "IPv6")];
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        manifests.put(&format!("{ALL}.endpoints.json"), &list).unwrap();
    });
    thread::sleep(Duration::from_secs(3)); // the tunnel's programs are loaded only now
    (node, far)
}

#[test]
fn pods_behind_a_tunnel_without_link_header_are_reached() {
    let (node, _far) = node_with_a_tunnel();
    for client in node.clients() {
        for family in Family::ALL {
            let own = client.name != "client";
            let at = |ip: plan::Dual, port| SocketAddr::new(ip.of(family), port);
            let asked = [
                client.ns.run(|| tcp(at(plan::cluster_ip(10), 80))),
                client.ns.run(|| udp(at(plan::cluster_ip(10), 53))),
                client.ns.run(|| tcp(at(plan::NODE1_ADDR, 30080))),
                client.ns.run(|| udp(at(plan::NODE1_ADDR, 30053))),
            ];
            for (way, seen) in ["tcp ClusterIP", "udp ClusterIP", "tcp NodePort", "udp NodePort"].iter().zip(asked) {
                let seen = seen.unwrap_or_else(|error| {
                    panic!("{} {family:?} {way}: {error:#}\n{}", client.name, node.agent.log_tail())
                });
                let node_address = plan::NODE1_ADDR.of(family).to_string();
                assert_eq!(seen != node_address, own, "{} {family:?} {way}: the Pod saw {seen}", client.name);
            }
        }
    }
}

/// Sends a datagram that is larger than the tunnel takes, and returns what the kernel then knows of the way.
fn path_mtu(dst: SocketAddr) -> anyhow::Result<libc::c_int> {
    let v4 = dst.is_ipv4();
    let socket = UdpSocket::bind(if v4 { "0.0.0.0:0" } else { "[::]:0" })?;
    let (level, discover, mtu) = if v4 {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_MTU)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_MTU)
    };
    let (mut value, mut size) = (libc::IP_PMTUDISC_DO, libc::socklen_t::try_from(size_of::<libc::c_int>())?);
    // SAFETY: the option is an int, which `value` is.
    let ret = unsafe { libc::setsockopt(socket.as_raw_fd(), level, discover, (&raw const value).cast(), size) };
    anyhow::ensure!(ret == 0, "IP_MTU_DISCOVER: {}", std::io::Error::last_os_error());
    socket.connect(dst)?;
    socket.send(&[0; 1420])?;
    thread::sleep(Duration::from_millis(100));
    // SAFETY: as above.
    let ret = unsafe { libc::getsockopt(socket.as_raw_fd(), level, mtu, (&raw mut value).cast(), &raw mut size) };
    anyhow::ensure!(ret == 0, "IP_MTU: {}", std::io::Error::last_os_error());
    Ok(value)
}

#[test]
fn a_client_is_told_how_much_the_tunnel_takes() {
    let (node, _far) = node_with_a_tunnel();
    for family in Family::ALL {
        let dst = SocketAddr::new(plan::NODE1_ADDR.of(family), 30053);
        assert_eq!(node.lab.client.run(|| path_mtu(dst)).unwrap(), 1400, "{family:?}");
    }
    let status = node.agent.json(&["status"]).unwrap();
    assert_eq!(status["counters"]["drop_too_big"].as_u64(), Some(2));
}
