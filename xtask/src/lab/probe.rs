//! Clients: TCP and UDP from inside a namespace, with the kind and the time of a failure in plain sight.

use std::fmt;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use super::http::{self, Identity};
use super::netns::Netns;
use super::{dns, plan};

/// The ordinary time limit of a probe: far above what a lab needs.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// What a Pod said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who answered.
    pub pod: String,
    /// Which client it saw.
    pub client: SocketAddr,
}

/// How a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// TCP RST or ICMP port unreachable.
    Refused,
    /// Silence.
    TimedOut,
    /// Another ICMP unreachable, or no route at the client.
    Unreachable,
    /// An established connection was reset or closed early.
    Broken,
    /// The answer was not understood, or another error.
    Other,
}

/// A failed probe.
#[derive(Debug)]
pub struct Failure {
    /// How.
    pub cause: Cause,
    /// After how long.
    pub took: Duration,
    /// The operating system's words.
    pub source: io::Error,
}

impl Failure {
    fn new(source: io::Error, since: Instant) -> Self {
        use io::ErrorKind as Kind;
        let cause = match source.kind() {
            Kind::ConnectionRefused => Cause::Refused,
            Kind::TimedOut | Kind::WouldBlock => Cause::TimedOut,
            Kind::HostUnreachable | Kind::NetworkUnreachable => Cause::Unreachable,
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => Cause::Broken,
            _ => Cause::Other,
        };
        Self { cause, took: since.elapsed(), source }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after {:?}: {}", self.cause, self.took, self.source)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// An open HTTP connection.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
    opened: Instant,
}

impl Connection {
    /// Connects from the calling thread's namespace; `source_port` 0 is any. A given port may still be held by the
    /// client's former connection to `dst`, whose FIN is not answered yet: that is waited for.
    pub fn open(dst: SocketAddr, source_port: u16, timeout: Duration) -> Result<Self, Failure> {
        Self::open_from(wildcard(dst, source_port), dst, timeout)
    }

    /// The same from one of several addresses of the client.
    pub fn open_from(source: SocketAddr, dst: SocketAddr, timeout: Duration) -> Result<Self, Failure> {
        let begun = Instant::now();
        loop {
            match Self::open_now(dst, source, timeout) {
                Err(failure)
                    if failure.source.kind() == io::ErrorKind::AddrNotAvailable && begun.elapsed() < timeout =>
                {
                    thread::sleep(Duration::from_millis(1));
                }
                done => return done,
            }
        }
    }

    fn open_now(dst: SocketAddr, source: SocketAddr, timeout: Duration) -> Result<Self, Failure> {
        let opened = Instant::now();
        let connect = || {
            let socket = Socket::new(Domain::for_address(dst), Type::STREAM, Some(Protocol::TCP))?;
            if source.port() != 0 {
                socket.set_reuse_address(true)?;
            }
            if source != wildcard(dst, 0) {
                socket.bind(&source.into())?;
            }
            socket.connect_timeout(&dst.into(), timeout)?;
            let stream = TcpStream::from(socket);
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(BufReader::new(stream))
        };
        connect().map(|reader| Self { reader, opened }).map_err(|err| Failure::new(err, opened))
    }

    /// Asks who answers; the connection stays open.
    pub fn ask(&mut self) -> Result<Answer, Failure> {
        let since = Instant::now();
        let mut exchange = || {
            let body = self.exchange("GET / HTTP/1.1\r\nHost: lab\r\n\r\n".as_bytes(), 0)?;
            let identity: Identity = serde_json::from_slice(&body)?;
            Ok(Answer { pod: identity.pod, client: identity.client })
        };
        exchange().map_err(|err| Failure::new(err, since))
    }

    /// Receives `bytes` of bulk data and returns how long it took.
    pub fn download(&mut self, bytes: u64) -> Result<Duration, Failure> {
        let since = Instant::now();
        let mut transfer = || {
            self.reader.get_mut().write_all(format!("GET /bulk/{bytes} HTTP/1.1\r\nHost: lab\r\n\r\n").as_bytes())?;
            let head = http::read_head(&mut self.reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let got = io::copy(&mut self.reader.by_ref().take(head.content_length), &mut io::sink())?;
            if got == bytes { Ok(since.elapsed()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        };
        transfer().map_err(|err| Failure::new(err, since))
    }

    /// Sends `bytes` of bulk data and returns how long it took until the Pod had all of it.
    pub fn upload(&mut self, bytes: u64) -> Result<Duration, Failure> {
        let since = Instant::now();
        let head = format!("POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: {bytes}\r\n\r\n");
        self.exchange(head.as_bytes(), bytes).map(|_| since.elapsed()).map_err(|err| Failure::new(err, since))
    }

    /// When the connection was opened.
    pub const fn opened(&self) -> Instant {
        self.opened
    }

    /// The client's own address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.reader.get_ref().local_addr()
    }

    fn exchange(&mut self, head: &[u8], zeros: u64) -> io::Result<Vec<u8>> {
        self.reader.get_mut().write_all(head)?;
        http::send_zeros(self.reader.get_mut(), zeros)?;
        let head = http::read_head(&mut self.reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if !head.first_line.contains(" 200 ") {
            return Err(io::Error::other(head.first_line));
        }
        let mut body = Vec::new();
        self.reader.by_ref().take(head.content_length).read_to_end(&mut body)?;
        Ok(body)
    }
}

/// A UDP client with one destination, so that only replies from that very address and port arrive, and ICMP errors
/// are seen.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
    next_id: u16,
}

impl UdpClient {
    /// Makes the socket in the calling thread's namespace; `source_port` 0 is any.
    pub fn open(dst: SocketAddr, source_port: u16, timeout: Duration) -> Result<Self, Failure> {
        Self::open_from(wildcard(dst, source_port), dst, timeout)
    }

    /// The same from one of several addresses of the client.
    pub fn open_from(source: SocketAddr, dst: SocketAddr, timeout: Duration) -> Result<Self, Failure> {
        let since = Instant::now();
        let connect = || {
            let socket = UdpSocket::bind(source)?;
            socket.connect(dst)?;
            socket.set_read_timeout(Some(timeout))?;
            Ok(socket)
        };
        connect().map(|socket| Self { socket, next_id: 1 }).map_err(|err| Failure::new(err, since))
    }

    /// Sends one query and waits for its answer.
    pub fn ask(&mut self) -> Result<Answer, Failure> {
        let since = Instant::now();
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let exchange = || {
            self.socket.send(&dns::query(id, dns::QUESTION))?;
            let mut packet = [0; 1500];
            loop {
                let len = self.socket.recv(&mut packet)?;
                // A late answer to an earlier query is passed over.
                if let Some(texts) = packet.get(..len).and_then(|reply| dns::texts(reply, id)) {
                    return parse_texts(&texts).ok_or_else(|| io::Error::other("unexpected answer"));
                }
            }
        };
        exchange().map_err(|err| Failure::new(err, since))
    }
}

/// Transport of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// HTTP over TCP.
    Tcp,
    /// DNS over UDP.
    Udp,
}

impl Transport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// The port of a Pod's server.
    pub const fn pod_port(self) -> u16 {
        match self {
            Self::Tcp => plan::HTTP_PORT,
            Self::Udp => plan::DNS_PORT,
        }
    }

    /// One new connection (or socket) from the calling thread's namespace, one question.
    pub fn ask_once(self, dst: SocketAddr, source_port: u16, timeout: Duration) -> Result<Answer, Failure> {
        self.ask_from(wildcard(dst, source_port), dst, timeout)
    }

    /// The same from one of several addresses of the client.
    pub fn ask_from(self, source: SocketAddr, dst: SocketAddr, timeout: Duration) -> Result<Answer, Failure> {
        match self {
            Self::Tcp => Connection::open_from(source, dst, timeout)?.ask(),
            Self::Udp => UdpClient::open_from(source, dst, timeout)?.ask(),
        }
    }
}

impl Netns {
    /// Opens an HTTP connection from this namespace; `source_port` 0 is any.
    pub fn connect(&self, dst: SocketAddr, source_port: u16, timeout: Duration) -> Result<Connection, Failure> {
        self.inside(|| Connection::open(dst, source_port, timeout))
    }

    /// Opens a UDP client in this namespace; `source_port` 0 is any.
    pub fn udp(&self, dst: SocketAddr, source_port: u16, timeout: Duration) -> Result<UdpClient, Failure> {
        self.inside(|| UdpClient::open(dst, source_port, timeout))
    }

    /// One question over a new connection or socket.
    pub fn ask(&self, transport: Transport, dst: SocketAddr) -> Result<Answer, Failure> {
        self.inside(|| transport.ask_once(dst, 0, TIMEOUT))
    }

    /// `count` questions one after the other, each over a new connection or socket, up to the first failure.
    pub fn ask_many(&self, transport: Transport, dst: SocketAddr, count: usize) -> Result<Vec<Answer>, Failure> {
        self.inside(|| (0..count).map(|_| transport.ask_once(dst, 0, TIMEOUT)).collect())
    }

    fn inside<T: Send>(&self, probe: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
        let since = Instant::now();
        self.run(|| Ok(probe())).unwrap_or_else(|err| Err(Failure::new(io::Error::other(err), since)))
    }
}

/// Resets a connection (`SO_LINGER` 0).
pub fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    // Refused, it is closed, which the other side tells apart.
    let _refused = socket.set_linger(Some(Duration::ZERO));
}

/// A Pod's answer as TXT strings.
pub(super) fn texts(pod: &str, client: SocketAddr) -> [String; 2] {
    [format!("pod={pod}"), format!("client={client}")]
}

fn parse_texts(texts: &[String]) -> Option<Answer> {
    let value = |key: &str| texts.iter().find_map(|text| text.strip_prefix(key)?.strip_prefix('='));
    Some(Answer { pod: value("pod")?.to_owned(), client: value("client")?.parse().ok()? })
}

fn wildcard(dst: SocketAddr, port: u16) -> SocketAddr {
    match dst {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}
