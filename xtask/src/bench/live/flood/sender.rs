//! Floods: packets made beforehand, sent by a raw socket as fast as one processor can.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use lb_common::wire::checksum;

use crate::bench::cpu::Cpu;
use crate::lab::Netns;
use crate::lab::raw::{Packet, RawSender, TcpFlags};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(super) enum Flood {
    /// Nothing: what the machine does by itself.
    None,
    /// SYNs.
    Syn,
    /// SYNs and, a little later, ACKs with guessed numbers.
    SynAck,
    /// Datagrams that are answered, each twice.
    Udp,
}

impl Flood {
    /// As on the command line and in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Syn => "syn",
            Self::SynAck => "syn-ack",
            Self::Udp => "udp",
        }
    }
}

/// Who sends, under which addresses.
#[derive(Clone, Debug)]
pub(super) struct Attacker {
    /// The sender's namespace.
    pub(super) ns: Netns,
    /// Its address; none: everybody's.
    pub(super) own: Option<Ipv4Addr>,
    /// Where to: in TCP, and in UDP.
    pub(super) tcp: Vec<SocketAddr>,
    /// The same in UDP.
    pub(super) udp: Vec<SocketAddr>,
}

/// Flows that are made beforehand. Each round of them has other addresses or ports than the one before.
const FLOWS: usize = 1 << 15;
/// Flows whose second packet comes after the first of all of them.
const LATER: usize = 256;
/// Of an IPv4 header without options: the lower half of the source, and the source port behind it.
const SOURCE: usize = 14;
const PORT: usize = 20;
/// Of TCP and UDP behind it.
const TCP_CHECKSUM: usize = 20 + 16;
const UDP_CHECKSUM: usize = 20 + 6;

/// Packets ready to be sent, and what is changed in each from round to round.
pub(super) struct Prepared {
    packets: Vec<(Vec<u8>, SocketAddr)>,
    varied: usize,
    checksum: usize,
}

impl Prepared {
    /// Makes the packets of a flood.
    pub(super) fn new(flood: Flood, attacker: &Attacker) -> Result<Self> {
        let to = if flood == Flood::Udp { &attacker.udp } else { &attacker.tcp };
        let flows: Vec<(SocketAddr, SocketAddr)> = (0..FLOWS)
            .zip(to.iter().cycle())
            .map(|(_, dst)| {
                let ip = attacker.own.unwrap_or_else(nobody);
                (SocketAddr::new(ip.into(), fastrand::u16(1024..)), *dst)
            })
            .collect();
        let mut packets = Vec::with_capacity(2 * FLOWS);
        for flows in flows.chunks(LATER) {
            let numbered: Vec<_> = flows.iter().map(|flow| (*flow, fastrand::u32(..))).collect();
            let mut all = |packet: &dyn Fn(SocketAddr, SocketAddr, u32) -> Packet| -> Result<()> {
                for ((src, dst), seq) in &numbered {
                    packets.push((packet(*src, *dst, *seq).bytes()?, *dst));
                }
                Ok(())
            };
            match flood {
                Flood::None => {}
                Flood::Syn => all(&|src, dst, seq| Packet::tcp(src, dst, TcpFlags::SYN).numbers(seq, 0))?,
                Flood::SynAck => {
                    all(&|src, dst, seq| Packet::tcp(src, dst, TcpFlags::SYN).numbers(seq, 0))?;
                    all(&|src, dst, seq| {
                        Packet::tcp(src, dst, TcpFlags::ACK).numbers(seq.wrapping_add(1), fastrand::u32(..))
                    })?;
                }
                Flood::Udp => {
                    all(&|src, dst, _| Packet::udp(src, dst, b"flood"))?;
                    all(&|src, dst, _| Packet::udp(src, dst, b"flood"))?;
                }
            }
        }
        let varied = if attacker.own.is_some() { PORT } else { SOURCE };
        let checksum = if flood == Flood::Udp { UDP_CHECKSUM } else { TCP_CHECKSUM };
        Ok(Self { packets, varied, checksum })
    }

    /// Sends until told to stop. Returns how many packets, and in which time.
    pub(super) fn send(mut self, ns: &Netns, cpu: Cpu, stop: &AtomicBool) -> Result<(u64, Duration)> {
        let sender = RawSender::open(ns)?;
        let (mut sent, begun) = (0, Instant::now());
        ns.run(|| {
            cpu.bind()?;
            while !stop.load(Ordering::Relaxed) && !self.packets.is_empty() {
                let salt = fastrand::u16(1..);
                for (at, (bytes, dst)) in self.packets.iter_mut().enumerate() {
                    vary(bytes, self.varied, self.checksum, salt).context("a packet without headers")?;
                    sender.send_bytes(bytes, *dst).context("cannot send")?;
                    sent += 1;
                    if at % LATER == 0 && stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
            Ok((sent, begun.elapsed()))
        })
    }
}

/// Far away, and nobody's.
fn nobody() -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) | fastrand::u32(..1 << 17))
}

/// Another source or port, with its checksum; the kernel makes that of the IPv4 header.
fn vary(bytes: &mut [u8], varied: usize, sum: usize, salt: u16) -> Option<()> {
    let word = |bytes: &[u8], at: usize| Some(u16::from_ne_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (old, field) = (word(bytes, varied)?, word(bytes, sum)?);
    // Ports stay above those that need a right.
    let new =
        if varied == PORT { (u16::from_be(old).wrapping_add(salt) | 0x0400).to_be() } else { old.wrapping_add(salt) };
    let field = checksum::update(field, checksum::delta(u64::from(old), u64::from(new)));
    bytes.get_mut(varied..varied + 2)?.copy_from_slice(&new.to_ne_bytes());
    bytes.get_mut(sum..sum + 2)?.copy_from_slice(&field.to_ne_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varied_packet_is_as_if_it_had_been_made_so() {
        let at = |port| SocketAddr::new(Ipv4Addr::new(198, 18, 1, 2).into(), port);
        let dst = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 80);
        for (packet, sum) in [
            (Packet::tcp(at(2000), dst, TcpFlags::SYN).numbers(1, 0), TCP_CHECKSUM),
            (Packet::udp(at(2000), dst, b"flood"), UDP_CHECKSUM),
        ] {
            let mut bytes = packet.bytes().unwrap();
            // 7000, and the bit that keeps it above 1023.
            vary(&mut bytes, PORT, sum, 5000).unwrap();
            let made = Packet { src: at(8024), ..packet }.bytes().unwrap();
            assert_eq!(bytes, made);
        }
    }
}
