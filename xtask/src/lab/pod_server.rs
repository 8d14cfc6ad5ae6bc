//! The servers of one Pod: HTTP over TCP and DNS over UDP, both families, until dropped.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
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
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl PodServer {
    pub(super) fn start(ns: &Netns, pod: &str) -> Result<Self> {
        let (tcp, udp) = ns
            .run(|| {
                // Sockets on the IPv6 wildcard address serve IPv4 too.
                let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, HTTP_PORT))?;
                let udp = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, DNS_PORT))?;
                tcp.set_nonblocking(true)?;
                udp.set_nonblocking(true)?;
                Ok((tcp, udp))
            })
            .with_context(|| format!("cannot serve in Pod {pod}"))?;
        // No process that is started meanwhile may hold the other end: this thread would never see it close.
        let (stopped, stop) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        let name = pod.to_owned();
        let thread = thread::Builder::new()
            .name(format!("pod {pod}"))
            .spawn(move || serve(&name, &tcp, &udp, &stopped))
            .context("cannot start a server's thread")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
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

fn serve(pod: &str, tcp: &TcpListener, udp: &UdpSocket, stopped: &OwnedFd) {
    loop {
        let mut fds = [stopped.as_fd(), tcp.as_fd(), udp.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        let [stop, connection, datagram] = fds.map(|fd| fd.any().unwrap_or(false));
        if stop {
            return;
        }
        if connection {
            while let Ok((stream, client)) = tcp.accept() {
                let identity = Identity { pod: pod.to_owned(), client: canonical(client) };
                // A thread that cannot start costs the client its connection, which is what the client then reports.
                let _connection_is_dropped = thread::Builder::new().stack_size(256 * 1024).spawn(move || {
                    let _client_went_away = serve_connection(stream, &identity);
                });
            }
        }
        if datagram {
            answer_queries(pod, udp);
        }
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
