//! A sender with a raw socket: packets with any source, flags and numbers; and what passes by its device.

use std::io::{self, Read as _};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use etherparse::{
    IpHeaders, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header, NetSlice, PacketBuilder,
    SlicedPacket, TcpHeader, TransportSlice, ip_number,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::netns::Netns;

/// All protocols, of a packet socket.
const ETH_P_ALL: u16 = 3;

/// What stands in a packet's transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP: flags and numbers.
    Tcp {
        /// The flags that are set.
        flags: TcpFlags,
        /// Sequence number.
        seq: u32,
        /// Acknowledgment number.
        ack: u32,
    },
    /// UDP.
    Udp,
}

/// Flags of a TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the header has a bit for each")]
pub struct TcpFlags {
    /// Begins a connection.
    pub syn: bool,
    /// The acknowledgment number counts.
    pub ack: bool,
    /// The sender has said all.
    pub fin: bool,
    /// Ends the connection.
    pub rst: bool,
}

impl TcpFlags {
    /// SYN.
    pub const SYN: Self = Self { syn: true, ack: false, fin: false, rst: false };
    /// SYN and ACK.
    pub const SYN_ACK: Self = Self { ack: true, ..Self::SYN };
    /// ACK.
    pub const ACK: Self = Self { syn: false, ..Self::SYN_ACK };
    /// FIN and ACK.
    pub const FIN: Self = Self { fin: true, ..Self::ACK };
    /// RST.
    pub const RST: Self = Self { syn: false, ack: false, fin: false, rst: true };
    /// RST and ACK.
    pub const RST_ACK: Self = Self { ack: true, ..Self::RST };
}

/// A packet, as it is sent or was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
    /// Transport header.
    pub transport: Transport,
    /// What follows it.
    pub payload: Vec<u8>,
}

impl Packet {
    /// A segment with numbers by chance, as who sees nothing of a connection must guess them.
    pub fn tcp(src: SocketAddr, dst: SocketAddr, flags: TcpFlags) -> Self {
        let ack = if flags.ack { fastrand::u32(..) } else { 0 };
        Self { src, dst, transport: Transport::Tcp { flags, seq: fastrand::u32(..), ack }, payload: Vec::new() }
    }

    /// A datagram.
    pub fn udp(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Self {
        Self { src, dst, transport: Transport::Udp, payload: payload.to_vec() }
    }

    /// The flags of a segment.
    pub fn flags(&self) -> Option<TcpFlags> {
        match self.transport {
            Transport::Tcp { flags, .. } => Some(flags),
            Transport::Udp => None,
        }
    }

    /// With these numbers.
    #[must_use]
    pub fn numbers(mut self, new_seq: u32, new_ack: u32) -> Self {
        if let Transport::Tcp { seq, ack, .. } = &mut self.transport {
            (*seq, *ack) = (new_seq, new_ack);
        }
        self
    }

    /// From the IP header on, with checksums.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let header = match (self.src, self.dst) {
            (SocketAddr::V4(src), SocketAddr::V4(dst)) => {
                let (src, dst) = (src.ip().octets(), dst.ip().octets());
                IpHeaders::Ipv4(Ipv4Header::new(0, 64, ip_number::TCP, src, dst)?, Ipv4Extensions::default())
            }
            (SocketAddr::V6(src), SocketAddr::V6(dst)) => {
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: ip_number::TCP,
                    hop_limit: 64,
                    source: src.ip().octets(),
                    destination: dst.ip().octets(),
                };
                IpHeaders::Ipv6(header, Ipv6Extensions::default())
            }
            (src, dst) => anyhow::bail!("{src} and {dst} are of two families"),
        };
        let (mut bytes, packet) = (Vec::with_capacity(64 + self.payload.len()), PacketBuilder::ip(header));
        match self.transport {
            Transport::Tcp { flags, seq, ack } => {
                let mut header = TcpHeader::new(self.src.port(), self.dst.port(), seq, 64_240);
                (header.syn, header.ack, header.fin, header.rst) = (flags.syn, flags.ack, flags.fin, flags.rst);
                header.psh = !self.payload.is_empty();
                header.acknowledgment_number = ack;
                packet.tcp_header(header).write(&mut bytes, &self.payload)
            }
            Transport::Udp => packet.udp(self.src.port(), self.dst.port()).write(&mut bytes, &self.payload),
        }
        .context("cannot write a packet")?;
        Ok(bytes)
    }

    /// What lies behind an IP header; `None` for other protocols and later fragments.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ip(bytes).ok()?;
        let (src, dst) = match sliced.net? {
            NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Ipv6(ip) => {
                (Ipv6Addr::from(ip.header().source()).into(), Ipv6Addr::from(ip.header().destination()).into())
            }
            NetSlice::Arp(_) => return None,
        };
        let at = |sport, dport| (SocketAddr::new(src, sport), SocketAddr::new(dst, dport));
        let (ports, transport, payload) = match sliced.transport? {
            TransportSlice::Tcp(tcp) => {
                let flags = TcpFlags { syn: tcp.syn(), ack: tcp.ack(), fin: tcp.fin(), rst: tcp.rst() };
                let (seq, ack) = (tcp.sequence_number(), tcp.acknowledgment_number());
                let ports = at(tcp.source_port(), tcp.destination_port());
                (ports, Transport::Tcp { flags, seq, ack }, tcp.payload())
            }
            TransportSlice::Udp(udp) => (at(udp.source_port(), udp.destination_port()), Transport::Udp, udp.payload()),
            _ => return None,
        };
        Some(Self { src: ports.0, dst: ports.1, transport, payload: payload.to_vec() })
    }
}

/// Sends packets as they are, by the routes of a namespace.
#[derive(Debug)]
pub struct RawSender {
    v4: Socket,
    v6: Socket,
}

impl RawSender {
    /// Needs what containers have as a rule: the capability `NET_RAW`.
    pub fn open(ns: &Netns) -> Result<Self> {
        let raw = Protocol::from(libc::IPPROTO_RAW);
        ns.run(|| {
            let v4 = Socket::new(Domain::IPV4, Type::RAW, Some(raw)).context("no raw socket of IPv4")?;
            let v6 = Socket::new(Domain::IPV6, Type::RAW, Some(raw)).context("no raw socket of IPv6")?;
            for socket in [&v4, &v6] {
                socket.set_send_buffer_size(4 << 20)?;
            }
            Ok(Self { v4, v6 })
        })
    }

    /// Sends one.
    pub fn send(&self, packet: &Packet) -> Result<()> {
        let bytes = packet.bytes()?;
        self.send_bytes(&bytes, packet.dst).with_context(|| format!("cannot send {packet:?}"))
    }

    /// Sends a packet that is made already.
    pub fn send_bytes(&self, bytes: &[u8], dst: SocketAddr) -> io::Result<()> {
        let socket = if dst.is_ipv4() { &self.v4 } else { &self.v6 };
        // The port of a raw socket's destination would be a protocol.
        let mut to = dst;
        to.set_port(0);
        match socket.send_to(bytes, &SockAddr::from(to)) {
            // A full queue drops, as any does. What the sender's own node refuses is not the sender's to know.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EPERM)) => Ok(()),
            done => done.map(drop),
        }
    }
}

/// Sees each packet that comes to a namespace's device, or leaves by it.
#[derive(Debug)]
pub struct Eavesdropper {
    socket: Socket,
}

impl Eavesdropper {
    /// From now on.
    pub fn open(ns: &Netns) -> Result<Self> {
        let every = i32::from(ETH_P_ALL.to_be());
        ns.run(|| {
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(every)))?;
            socket.set_recv_buffer_size(8 << 20)?;
            Ok(Self { socket })
        })
        .context("no packet socket")
    }

    /// What passes until the time is over.
    pub fn during(&self, time: Duration, wanted: impl Fn(&Packet) -> bool) -> Result<Vec<Packet>> {
        let (end, mut seen) = (Instant::now() + time, Vec::new());
        while let Some(packet) = self.next(end, &wanted)? {
            seen.push(packet);
        }
        Ok(seen)
    }

    /// The next one that is wanted, or `None` when the time is over.
    pub fn next(&self, end: Instant, wanted: impl Fn(&Packet) -> bool) -> Result<Option<Packet>> {
        let mut buffer = [0; 2048];
        loop {
            // What is waiting already is taken even when the time is over.
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left))?;
            let length = match (&self.socket).read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot receive"),
            };
            if let Some(packet) = buffer.get(..length).and_then(Packet::parse).filter(&wanted) {
                return Ok(Some(packet));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_as_it_was_written() {
        for [src, dst] in [["10.0.0.1:1234", "10.0.0.2:80"], ["[fd00::1]:1234", "[fd00::2]:80"]] {
            let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
            let sent = [
                Packet::tcp(src, dst, TcpFlags::SYN),
                Packet::tcp(src, dst, TcpFlags::FIN).numbers(7, 8),
                Packet::udp(src, dst, b"what"),
            ];
            for packet in sent {
                assert_eq!(Packet::parse(&packet.bytes().unwrap()), Some(packet));
            }
        }
    }
}
