//! What answers in a Pod: TCP and UDP echo, and a port that swallows what it gets, on threads on the bench's processor.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bench::cpu::{self, Cpu};
use crate::lab::Netns;

/// TCP port that sends back what it gets.
pub(super) const TCP_ECHO: u16 = 8080;
/// UDP port that sends back what it gets.
pub(super) const UDP_ECHO: u16 = 8081;
/// TCP port that takes all and answers nothing.
pub(super) const SINK: u16 = 8082;

/// How often a server that has nothing to do looks whether it is to end.
const LOOK: Duration = Duration::from_millis(500);

/// Serves until dropped.
#[derive(Debug)]
pub(super) struct Server {
    /// Its threads, for what they are charged.
    pub(super) threads: Vec<i32>,
    stop: Arc<AtomicBool>,
    running: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts serving in a namespace.
    pub(super) fn start(ns: &Netns, addresses: &[Ipv4Addr], cpu: Cpu) -> Result<Self> {
        let mut server = Self { threads: Vec::new(), stop: Arc::default(), running: Vec::new() };
        server.spawn(ns, cpu, "tcp echo", || TcpListener::bind((Ipv4Addr::UNSPECIFIED, TCP_ECHO)), tcp_echo)?;
        // A socket of all addresses would answer from the first one, whichever was asked.
        for address in addresses {
            server.spawn(ns, cpu, "udp echo", || UdpSocket::bind((*address, UDP_ECHO)), udp_echo)?;
        }
        server.spawn(ns, cpu, "sink", || TcpListener::bind((Ipv4Addr::UNSPECIFIED, SINK)), sink)?;
        Ok(server)
    }

    fn spawn<S: Send + 'static>(
        &mut self,
        ns: &Netns,
        cpu: Cpu,
        name: &str,
        bind: impl FnOnce() -> std::io::Result<S> + Send,
        serve: fn(&S, &AtomicBool),
    ) -> Result<()> {
        let socket = ns.run(|| bind().with_context(|| format!("cannot bind the {name} port")))?;
        let (tell, started) = mpsc::channel();
        let stop = Arc::clone(&self.stop);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let ready = cpu.bind().map(|()| cpu::this_thread());
            let go_on = ready.is_ok();
            if tell.send(ready).is_ok() && go_on {
                serve(&socket, &stop);
            }
        });
        self.running.push(thread.context("cannot start a server's thread")?);
        self.threads.push(started.recv().context("a server's thread ended")??);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.running.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// Accepts connections one after the other until told to stop.
fn each_connection(listener: &TcpListener, stop: &AtomicBool, mut serve: impl FnMut(TcpStream)) {
    // `accept` keeps to the time-out of receiving.
    let timed = socket2::SockRef::from(listener).set_read_timeout(Some(LOOK));
    while timed.is_ok() && !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => serve(stream),
            Err(error) if is_idle(error.kind()) => {}
            Err(_) => return,
        }
    }
}

fn is_idle(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted | ErrorKind::ConnectionAborted)
}

fn tcp_echo(listener: &TcpListener, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    each_connection(listener, stop, |mut stream| {
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
    });
}

fn sink(listener: &TcpListener, stop: &AtomicBool) {
    let mut buffer = vec![0; 256 * 1024];
    each_connection(listener, stop, |mut stream| {
        while let Ok(1..) = stream.read(&mut buffer) {}
        let _client_went_away = stream.shutdown(Shutdown::Both);
    });
}

fn udp_echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    let timed = socket.set_read_timeout(Some(LOOK));
    while timed.is_ok() && !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, client)) => {
                let _client_went_away = socket.send_to(&buffer[..length], client);
            }
            Err(error) if is_idle(error.kind()) || error.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}
