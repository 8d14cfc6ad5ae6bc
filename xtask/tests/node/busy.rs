//! Much ordinary use at once: ports and flows are held as long as somebody needs them, and not for longer.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use xtask::lab::plan::cluster_ip;
use xtask::lab::probe::{Connection, TIMEOUT, Transport};
use xtask::lab::{Family, Manifests, Netns, ServiceSpec};

use crate::fixture::FRONTENDS;
use crate::hostile::{Field, PATIENCE, Proxy, attacks, size};

/// A server that closes first: a line is answered by itself, `late` only when it is time.
struct Server {
    time: Arc<AtomicBool>,
}

impl Server {
    fn start(ns: &Netns, port: u16) -> Self {
        let listener = ns.run(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?)).unwrap();
        let time = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&time);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let told = Arc::clone(&told);
                thread::spawn(move || answer(stream, &told));
            }
        });
        Self { time }
    }
}

fn answer(mut stream: TcpStream, told: &AtomicBool) {
    let mut line = String::new();
    let read = stream.try_clone().and_then(|reader| BufReader::new(reader).read_line(&mut line));
    while read.is_ok() && line == "late\n" && !told.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(10));
    }
    let _client_went_away = stream.write_all(line.as_bytes());
}

/// A connection on which something was said.
fn say(ns: &Netns, dst: SocketAddr, line: &str) -> std::io::Result<TcpStream> {
    let connect = || Ok(TcpStream::connect_timeout(&dst, PATIENCE));
    let mut stream = ns.run(connect).unwrap()?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(line.as_bytes())?;
    Ok(stream)
}

fn hear(mut stream: TcpStream) -> std::io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A node in front of a Pod elsewhere that closes first; clients outside get an SNAT port.
fn closing_first(proxy: Proxy, args: &[&str]) -> (Field, Server) {
    let mut field = Field::start(proxy, &["remote1"], args);
    field.lab.pod_mut("remote1").unwrap().stop_serving();
    let server = Server::start(field.pod("remote1"), Transport::Tcp.pod_port());
    (field, server)
}

/// Those who have said all that they have to say, and wait.
fn half_closed_connections_stay(proxy: Proxy) {
    let (field, server) = closing_first(proxy, &["--snat-ports", "61000-61255"]);
    let client = &field.lab.client;
    for family in Family::ALL {
        server.time.store(false, Ordering::Relaxed);
        let dst = FRONTENDS[1].at(family, Transport::Tcp);
        let waiting: Vec<_> = (0..60)
            .map(|_| {
                let stream = say(client, dst, "late\n").unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                stream
            })
            .collect();
        for number in 0..size(180, 10_000) {
            let heard = say(client, dst, "now\n").and_then(hear);
            assert_eq!(heard.ok().as_deref(), Some("now\n"), "new connection {number}; {}", field.counters());
        }
        server.time.store(true, Ordering::Relaxed);
        let all = waiting.len();
        let answered = waiting.into_iter().filter_map(|stream| hear(stream).ok()).filter(|text| text == "late\n");
        assert_eq!(answered.count(), all, "half-closed connections; {}", field.counters());
    }
}

/// The backend then holds what is over for a minute (TIME-WAIT), and the next client's numbers are not above it.
fn ports_of_ended_connections_are_good_again(proxy: Proxy) {
    const PER_SECOND: u32 = 300;
    let seconds = u32::try_from(size(7, 60)).unwrap();
    let (field, _server) = closing_first(proxy, &[]);
    let dst = FRONTENDS[1].at(Family::V4, Transport::Tcp);
    let begun = Instant::now();
    for number in 0..PER_SECOND * seconds {
        let ns = if number % 2 == 0 { &field.lab.client } else { &field.outsider };
        let heard = say(ns, dst, "now\n").and_then(hear);
        assert_eq!(heard.ok().as_deref(), Some("now\n"), "connection {number}; {}", field.counters());
        let next = begun + Duration::from_secs(1) * number / PER_SECOND;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// As resolvers ask: each question from a new port. More than there are SNAT ports.
fn each_question_from_a_new_port_is_answered(proxy: Proxy) {
    let questions = size(6_000, 120_000);
    let field = Field::start(proxy, &["remote1"], &[]);
    for family in Family::ALL {
        let dst = FRONTENDS[1].at(family, Transport::Udp);
        let begun = Instant::now();
        let answers = field.lab.client.ask_many(Transport::Udp, dst, questions);
        let took = begun.elapsed();
        assert!(answers.is_ok(), "{dst}, after {took:?}: {}; {}", answers.unwrap_err(), field.counters());
    }
}

/// Ports of the masquerade, of which one in ten is a `NodePort` as well.
const MASQUERADE: &str = "30000-30999";
const SERVICES: u16 = 100;

/// What the node masquerades at random meets a `NodePort` now and then; the answer is not for the Service.
fn masqueraded_connections_are_answered(proxy: Proxy) {
    let connections = size(300, 1_000);
    let field = Field::start(proxy, &["rt2"], &[]);
    if proxy != Proxy::Nat {
        add_node_ports(&field);
    }
    let rules = format!(
        "table inet cni {{
chain postrouting {{ type nat hook postrouting priority 90
oifname \"eth0\" meta l4proto {{ tcp, udp }} ip saddr 10.244.1.0/24 masquerade to :{MASQUERADE} fully-random
oifname \"eth0\" meta l4proto {{ tcp, udp }} ip6 saddr fd44:1::/64 masquerade to :{MASQUERADE} fully-random
}}
}}
"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(rules.as_bytes()).unwrap();
    field.lab.node1.command("nft", &["-f", &file.path().to_string_lossy()]).unwrap();
    let _server = Server::start(&field.outsider, 9_000);
    let echo = field.outsider.run(|| Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 9_000))?)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            let _sender_went_away = echo.send_to(&buffer[..length], from);
        }
    });
    let pod = field.pod("br1");
    for address in ["10.90.0.66", "fd90::66"] {
        let address: IpAddr = address.parse().unwrap();
        let dst = SocketAddr::new(address, 9_000);
        let tcp = (0..connections).filter(|_| say(pod, dst, "now\n").and_then(hear).is_err()).count();
        let ask = || {
            let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(dst)?;
            socket.send(b"now")?;
            Ok(socket.recv(&mut [0; 64]).is_err())
        };
        let udp = (0..connections).filter(|_| pod.run(ask).unwrap()).count();
        assert_eq!((tcp, udp), (0, 0), "lost of {connections} over TCP and UDP to {dst}; {}", field.counters());
    }
}

/// A hundred Services, and with them two hundred ports.
fn add_node_ports(field: &Field) {
    let manifests = Manifests::of(&field.lab);
    for n in 0..SERVICES {
        let name = format!("n{n}");
        let last = u8::try_from(100 + n).unwrap();
        let node_ports = Some([30_000 + 2 * n, 30_001 + 2 * n]);
        let service = ServiceSpec { node_ports, ..ServiceSpec::new(&name, cluster_ip(last)) };
        manifests.service(&service).unwrap();
        manifests.ready(&name, [field.lab.pod("rt2").unwrap()]).unwrap();
    }
    let last = SocketAddr::new(FRONTENDS[1].ip.of(Family::V6), 30_000 + 2 * (SERVICES - 1));
    let end = Instant::now() + Duration::from_secs(20);
    let served = || Ok(Connection::open(last, 0, PATIENCE).is_ok());
    while !field.lab.client.run(served).unwrap() {
        assert!(Instant::now() < end, "{last} is not served");
    }
}

attacks! {
    half_closed_connections_stay_while_new_ones_come(half_closed_connections_stay): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    ports_are_good_again_after_a_server_closed_first(ports_of_ended_connections_are_good_again): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    each_question_from_a_new_port_to_a_pod_elsewhere_is_answered(each_question_from_a_new_port_is_answered): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
    connections_masqueraded_at_random_beside_node_ports_are_answered(masqueraded_connections_are_answered): by_tc(Proxy::Tc), by_xdp(Proxy::Xdp), control_by_the_kernels_nat(Proxy::Nat);
}
