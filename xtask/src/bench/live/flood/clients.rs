//! Who is to notice nothing: connections that are open, and say something now and then.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Netns;

/// Port of the servers, which hold many connections.
pub(super) const PORT: u16 = 8090;
/// How long a connection may take before the flood begins.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request, and of its answer.
const MESSAGE: [u8; 16] = *b"is anybody there";
/// How often all connections are looked at.
const TICK: Duration = Duration::from_millis(5);

/// Serves in a namespace until the process ends: a thread for each connection, and one for each address over UDP.
pub(super) fn serve(ns: &Netns, addresses: &[Ipv4Addr]) -> Result<()> {
    for address in addresses {
        // A socket of all addresses would answer from the first one, whichever was asked.
        let socket = ns.run(|| UdpSocket::bind((*address, PORT)).context("cannot serve over UDP"))?;
        thread::Builder::new().name("udp echo".into()).spawn(move || {
            let mut buffer = [0; 64];
            loop {
                if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                    let _client_went_away = socket.send_to(buffer.get(..length).unwrap_or_default(), client);
                }
            }
        })?;
    }
    let listener = ns.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
        socket.listen(4096)?;
        Ok(TcpListener::from(socket))
    })?;
    thread::Builder::new().name("echo".into()).spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let _client_is_dropped = thread::Builder::new().stack_size(64 * 1024).spawn(move || echo(stream));
        }
    })?;
    Ok(())
}

fn echo(mut stream: TcpStream) {
    let _slower_then = stream.set_nodelay(true);
    let mut buffer = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let Some(request) = buffer.get(..length) else { return };
        if stream.write_all(request).is_err() {
            return;
        }
    }
}

/// An open connection.
struct Client {
    stream: TcpStream,
    /// Between two requests.
    every: Duration,
    next: Instant,
    /// Since when an answer is missing, and how many bytes of it.
    asked: Option<(Instant, usize)>,
    broken: bool,
}

/// All of them.
pub(super) struct Clients {
    all: Vec<Client>,
    answered: u64,
    worst: Duration,
}

/// What they noticed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noticed {
    /// Connections that ended.
    pub(super) broken: usize,
    /// Those whose last request was not answered at the end.
    pub(super) hanging: usize,
    /// Requests that were answered.
    pub(super) answered: u64,
    /// The longest that an answer took; of one that did not come, how long it was waited for.
    pub(super) worst: Duration,
}

impl Clients {
    /// Opens connections, in turn to each address and with each pause between requests, and asks once over each.
    pub(super) fn open(ns: &Netns, count: usize, to: &[SocketAddr], every: &[Duration]) -> Result<Self> {
        let (mut all, now) = (Vec::with_capacity(count), Instant::now());
        ns.run(|| {
            for number in 0..count {
                let dst = to.get(number % to.len().max(1)).context("no address to connect to")?;
                let pause = every.get(number / to.len().max(1) % every.len().max(1)).context("no pause")?;
                let mut stream = TcpStream::connect_timeout(dst, PATIENCE)
                    .with_context(|| format!("connection {number} to {dst}"))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(&MESSAGE)?;
                stream.read_exact(&mut [0; MESSAGE.len()]).with_context(|| format!("the first answer of {dst}"))?;
                stream.set_nonblocking(true)?;
                let next = now + pause.mul_f64(fastrand::f64());
                all.push(Client { stream, every: *pause, next, asked: None, broken: false });
            }
            Ok(())
        })?;
        Ok(Self { all, answered: 0, worst: Duration::ZERO })
    }

    /// Asks and listens for a time.
    pub(super) fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.tick(true);
            thread::sleep(TICK);
        }
    }

    /// Asks each once more, and waits for what is missing.
    pub(super) fn end(mut self, patience: Duration) -> Noticed {
        for client in &mut self.all {
            client.next = Instant::now();
        }
        self.tick(true);
        let end = Instant::now() + patience;
        while Instant::now() < end && self.all.iter().any(|client| client.asked.is_some()) {
            self.tick(false);
            thread::sleep(TICK);
        }
        let waiting = self.all.iter().filter_map(|client| Some(client.asked?.0.elapsed()));
        let worst = waiting.clone().fold(self.worst, Duration::max);
        let broken = self.all.iter().filter(|client| client.broken).count();
        Noticed { broken, hanging: waiting.count(), answered: self.answered, worst }
    }

    fn tick(&mut self, ask: bool) {
        for client in self.all.iter_mut().filter(|client| !client.broken) {
            match client.tick(ask) {
                Ok(Some(took)) => {
                    self.answered += 1;
                    self.worst = self.worst.max(took);
                }
                Ok(None) => {}
                Err(_) => (client.broken, client.asked) = (true, None),
            }
        }
    }
}

impl Client {
    /// Reads what has come, asks if it is time. How long an answer took that is now whole.
    fn tick(&mut self, ask: bool) -> std::io::Result<Option<Duration>> {
        let mut took = None;
        if let Some((since, missing)) = self.asked {
            match self.stream.read(&mut [0; MESSAGE.len()]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) if length >= missing => {
                    self.asked = None;
                    took = Some(since.elapsed());
                }
                Ok(length) => self.asked = Some((since, missing - length)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        let now = Instant::now();
        if ask && self.asked.is_none() && now >= self.next {
            self.stream.write_all(&MESSAGE)?;
            self.asked = Some((now, MESSAGE.len()));
            self.next = now + self.every;
        }
        Ok(took)
    }
}
