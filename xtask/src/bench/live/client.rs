//! The workloads: what a client does for a while, in a closed loop, and how long each transaction took.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::bench::cpu::Cpu;
use crate::bench::spread::percentile;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(super) enum Workload {
    /// Connect, one request, one answer, close; one after the other.
    Crr,
    /// Requests and answers on one connection.
    Rr,
    /// One question and one answer over UDP, each from its own port.
    UdpNew,
    /// Questions and answers over UDP from one port.
    UdpOne,
    /// One connection that sends all it can.
    Bulk,
    /// Small UDP frames into the uplink, as fast as they go.
    Frames,
}

impl Workload {
    /// All, in the order of reports.
    pub(super) const ALL: [Self; 6] = [Self::Crr, Self::Rr, Self::UdpNew, Self::UdpOne, Self::Bulk, Self::Frames];

    /// As on the command line and in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Crr => "crr",
            Self::Rr => "rr",
            Self::UdpNew => "udp-new",
            Self::UdpOne => "udp-one",
            Self::Bulk => "bulk",
            Self::Frames => "frames",
        }
    }

    /// What is counted.
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Bulk => "MB",
            Self::Frames => "frames",
            _ => "transactions",
        }
    }
}

/// Where a client goes: an address, and its ports for echo over TCP, echo over UDP, and bulk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Addresses, taken in turn by the workloads that make many flows.
    pub(super) addresses: &'static [Ipv4Addr],
    /// Echo over TCP.
    pub(super) tcp: u16,
    /// Echo over UDP.
    pub(super) udp: u16,
    /// Takes all.
    pub(super) sink: u16,
}

impl Target {
    fn address(self, turn: u32) -> Ipv4Addr {
        let turn = usize::try_from(turn).unwrap_or(0);
        self.addresses.get(turn % self.addresses.len().max(1)).copied().unwrap_or(Ipv4Addr::UNSPECIFIED)
    }
}

/// What one client did in one slice of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Transactions, or megabytes, a second.
    pub(super) rate: f64,
    /// Microseconds of CPU time a transaction, or a megabyte: client, servers and what the kernel did for them.
    pub(super) cpu_us: f64,
    /// Microseconds that half of the transactions did not exceed.
    pub(super) p50_us: Option<f64>,
    /// The same of 99 in 100.
    pub(super) p99_us: Option<f64>,
    /// Transactions that failed.
    pub(super) failed: u32,
}

/// Bytes of a request and of its answer.
const MESSAGE: usize = 64;
/// Bytes that the bulk workload hands over at once.
const CHUNK: usize = 128 * 1024;
/// Share of a slice that comes before and does not count.
const WARM: f64 = 0.15;
/// A slice is made longer until it has so many transactions.
const FEWEST: usize = 50;
/// A datagram that takes longer is lost.
const LOST: Duration = Duration::from_millis(300);
/// Transactions that may fail in a slice before it is given up.
const GIVE_UP: u32 = 20;

/// Runs a workload on the calling thread, which is in the client's namespace.
pub(super) fn run(workload: Workload, to: Target, cpu: Cpu, servers: &[i32], slice: Duration) -> Result<Sample> {
    cpu.bind()?;
    let mut clock = Clock::new(slice, cpu, servers);
    match workload {
        Workload::Crr => crr(to, &mut clock)?,
        Workload::Rr => rr(to, &mut clock)?,
        Workload::UdpNew => udp_new(to, &mut clock)?,
        Workload::UdpOne => udp_one(to, &mut clock)?,
        Workload::Bulk => bulk(to, &mut clock)?,
        Workload::Frames => bail!("frames are not sent by a socket"),
    }
    clock.sample(workload)
}

/// Takes the time of each transaction and knows when to stop.
struct Clock<'a> {
    cpu: Cpu,
    servers: &'a [i32],
    begin: Instant,
    warm: Duration,
    slice: Duration,
    /// What was charged when the warm-up ended.
    charged: Option<(Instant, Duration)>,
    amount: f64,
    nanos: Vec<u32>,
    failed: u32,
    turn: u32,
}

impl<'a> Clock<'a> {
    fn new(slice: Duration, cpu: Cpu, servers: &'a [i32]) -> Self {
        let nanos = Vec::with_capacity(1 << 17);
        let (warm, begin) = (slice.mul_f64(WARM), Instant::now());
        Self { cpu, servers, begin, warm, slice, charged: None, amount: 0.0, nanos, failed: 0, turn: 0 }
    }

    /// Whether there is time left. The CPU time that counts begins after the warm-up.
    fn goes_on(&mut self) -> Result<bool> {
        self.turn = self.turn.wrapping_add(1);
        let elapsed = self.begin.elapsed();
        if self.charged.is_none() && elapsed >= self.warm {
            self.charged = Some((Instant::now(), self.cpu.charged(self.servers)?));
        }
        ensure!(self.failed < GIVE_UP, "{GIVE_UP} transactions failed");
        let whole = self.warm + self.slice;
        // On a busy machine another's turn may take up the whole slice.
        Ok(elapsed < whole || (self.nanos.len() < FEWEST && elapsed < whole * 20))
    }

    fn done(&mut self, since: Instant, amount: f64) {
        if self.charged.is_some() {
            self.amount += amount;
            self.nanos.push(u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
    }

    fn sample(mut self, workload: Workload) -> Result<Sample> {
        let (since, before) = self.charged.context("nothing was done in time")?;
        let elapsed = since.elapsed().as_secs_f64();
        let cpu = self.cpu.charged(self.servers)?.saturating_sub(before).as_secs_f64();
        ensure!(self.amount > 0.0, "no transaction was done");
        let latency = workload != Workload::Bulk;
        let mut at = |share| percentile(&mut self.nanos, share).filter(|_| latency).map(|ns| f64::from(ns) / 1e3);
        let (p50_us, p99_us) = (at(0.5), at(0.99));
        let (rate, cpu_us) = (self.amount / elapsed, cpu * 1e6 / self.amount);
        Ok(Sample { rate, cpu_us, p50_us, p99_us, failed: self.failed })
    }
}

fn crr(to: Target, clock: &mut Clock<'_>) -> Result<()> {
    let mut message = [0; MESSAGE];
    while clock.goes_on()? {
        let begin = Instant::now();
        let to = SocketAddr::from((to.address(clock.turn), to.tcp));
        let once = TcpStream::connect(to).and_then(|mut stream| {
            stream.write_all(&message)?;
            stream.read_exact(&mut message)
        });
        match once {
            Ok(()) => clock.done(begin, 1.0),
            Err(error) => give_up_or_count(clock, error.into(), to)?,
        }
    }
    Ok(())
}

fn rr(to: Target, clock: &mut Clock<'_>) -> Result<()> {
    let mut message = [0; MESSAGE];
    let to = SocketAddr::from((to.address(0), to.tcp));
    let mut stream = TcpStream::connect(to).with_context(|| format!("no connection to {to}"))?;
    stream.set_nodelay(true)?;
    while clock.goes_on()? {
        let begin = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message).with_context(|| format!("the connection to {to} ended"))?;
        clock.done(begin, 1.0);
    }
    Ok(())
}

fn udp_new(to: Target, clock: &mut Clock<'_>) -> Result<()> {
    let mut message = [0; MESSAGE];
    while clock.goes_on()? {
        let begin = Instant::now();
        let to = SocketAddr::from((to.address(clock.turn), to.udp));
        let once = udp_socket(to).and_then(|socket| exchange(&socket, &mut message));
        match once {
            Ok(()) => clock.done(begin, 1.0),
            Err(error) => give_up_or_count(clock, error.into(), to)?,
        }
    }
    Ok(())
}

fn udp_one(to: Target, clock: &mut Clock<'_>) -> Result<()> {
    let mut message = [0; MESSAGE];
    let to = SocketAddr::from((to.address(0), to.udp));
    let socket = udp_socket(to)?;
    while clock.goes_on()? {
        let begin = Instant::now();
        match exchange(&socket, &mut message) {
            Ok(()) => clock.done(begin, 1.0),
            Err(error) => give_up_or_count(clock, error.into(), to)?,
        }
    }
    Ok(())
}

fn udp_socket(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(LOST))?;
    socket.connect(to)?;
    Ok(socket)
}

fn exchange(socket: &UdpSocket, message: &mut [u8]) -> std::io::Result<()> {
    socket.send(message)?;
    socket.recv(message).map(drop)
}

fn bulk(to: Target, clock: &mut Clock<'_>) -> Result<()> {
    let chunk = vec![0; CHUNK];
    let to = SocketAddr::from((to.address(0), to.sink));
    let mut stream = TcpStream::connect(to).with_context(|| format!("no connection to {to}"))?;
    while clock.goes_on()? {
        let begin = Instant::now();
        let written = stream.write(&chunk).with_context(|| format!("the connection to {to} ended"))?;
        clock.done(begin, f64::from(u32::try_from(written)?) / 1e6);
    }
    Ok(())
}

/// One failure is counted; the last of many ends the slice with its cause.
fn give_up_or_count(clock: &mut Clock<'_>, error: anyhow::Error, to: SocketAddr) -> Result<()> {
    clock.failed += 1;
    if clock.failed < GIVE_UP {
        return Ok(());
    }
    Err(error).with_context(|| format!("{GIVE_UP} transactions with {to} failed, the last one so"))
}
