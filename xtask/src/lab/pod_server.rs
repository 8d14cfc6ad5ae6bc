//! The servers of one Pod: HTTP over TCP and DNS over UDP, both families, until dropped.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::http::{self, Identity};
use super::netns::Netns;
use super::plan::{DNS_PORT, HTTP_PORT};
use super::{dns, probe};

/// Serves until dropped. Connections that are open then end when their client closes them.
#[derive(Debug)]
pub(super) struct PodServer {
    /// Of so many connections one is reset as soon as it is taken; 0: none.
    pub(super) resets: Arc<AtomicU32>,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl PodServer {
    /// On every address of the Pod.
    pub(super) fn start(ns: &Netns, pod: &str) -> Result<Self> {
        // Sockets on the IPv6 wildcard address serve IPv4 too.
        Self::start_at(ns, pod, &[Ipv6Addr::UNSPECIFIED.into()])
    }

    /// On these addresses alone, from which answers then come.
    pub(super) fn start_at(ns: &Netns, pod: &str, addresses: &[IpAddr]) -> Result<Self> {
        let sockets = ns
            .run(|| {
                addresses
                    .iter()
                    .map(|address| Sockets::bind(*address))
                    .collect::<io::Result<Vec<_>>>()
                    .map_err(Into::into)
            })
            .with_context(|| format!("cannot serve in Pod {pod}"))?;
        // No process that is started meanwhile may hold the other end: this thread would never see it close.
        let (stopped, stop) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        let (name, resets) = (pod.to_owned(), Arc::new(AtomicU32::new(0)));
        let asked = Arc::clone(&resets);
        let thread = thread::Builder::new()
            .name(format!("pod {pod}"))
            .spawn(move || serve(&name, &sockets, &stopped, &asked))
            .context("cannot start a server's thread")?;
        Ok(Self { resets, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for PodServer {
    fn drop(&mut self) {
        // The other end of the pipe becomes readable.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// What is listened on at one address.
struct Sockets {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Sockets {
    fn bind(address: IpAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind((address, HTTP_PORT))?;
        let udp = UdpSocket::bind((address, DNS_PORT))?;
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Ok(Self { tcp, udp })
    }
}

fn serve(pod: &str, sockets: &[Sockets], stopped: &OwnedFd, resets: &AtomicU32) {
    let mut taken = 0_u32;
    loop {
        let each = sockets.iter().flat_map(|socket| [socket.tcp.as_fd(), socket.udp.as_fd()]);
        let mut fds: Vec<_> =
            std::iter::once(stopped.as_fd()).chain(each).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        if fds.first().is_none_or(|stop| stop.any().unwrap_or(false)) {
            return;
        }
        // None of them blocks, so all are asked whichever it was.
        for Sockets { tcp, udp } in sockets {
            accept_connections(pod, tcp, resets.load(Ordering::Relaxed), &mut taken);
            answer_queries(pod, udp);
        }
    }
}

fn accept_connections(pod: &str, tcp: &TcpListener, resets: u32, taken: &mut u32) {
    while let Ok((stream, client)) = tcp.accept() {
        *taken = taken.wrapping_add(1);
        if resets != 0 && taken.is_multiple_of(resets) {
            probe::reset(stream);
            continue;
        }
        let identity = Identity { pod: pod.to_owned(), client: canonical(client) };
        // A thread that cannot start costs the client its connection, which is what the client then reports.
        let _connection_is_dropped = thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            let _client_went_away = serve_connection(stream, &identity);
        });
    }
}

fn serve_connection(stream: std::net::TcpStream, identity: &Identity) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(600)))?;
    http::serve(stream, identity)
}

fn answer_queries(pod: &str, udp: &UdpSocket) {
    let mut packet = [0; 1500];
    while let Ok((len, client)) = udp.recv_from(&mut packet) {
        let texts = probe::texts(pod, canonical(client));
        let reply = packet.get(..len).and_then(|query| dns::answer(query, &[&texts[0], &texts[1]]));
        if let Some(reply) = reply {
            let _client_went_away = udp.send_to(&reply, client);
        }
    }
}

/// An IPv4 client as such, not mapped into IPv6.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
