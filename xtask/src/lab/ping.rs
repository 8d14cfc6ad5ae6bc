//! ICMP echo: asks an address whether it is there, from inside a namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::netns::Netns;

/// How long an answer may take: far longer than in any lab.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What is sent along, and has to come back.
const DATA: [u8; 56] = [0x5a; 56];

/// Whether the address answers an echo request within this time.
pub fn answers_within(from: &Netns, addr: IpAddr, timeout: Duration) -> Result<bool> {
    // Sockets for it, without a raw one's rights.
    from.sysctl(&[("ipv4/ping_group_range", "0 2147483647")])?;
    from.run(|| {
        let (domain, protocol, request, reply) = match addr {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
        };
        // As iputils does, to hear which source address it gets.
        let probe = Socket::new(domain, Type::DGRAM, None)?;
        probe.connect(&SocketAddr::new(addr, 1025).into()).with_context(|| format!("there is no route to {addr}"))?;
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol)).context("cannot make a socket for echo")?;
        socket.set_read_timeout(Some(timeout))?;
        socket.connect(&SocketAddr::new(addr, 0).into()).with_context(|| format!("cannot connect to {addr}"))?;
        // Identification and checksum are the kernel's; then comes the sequence number.
        let message = [&[request, 0, 0, 0, 0, 0, 0, 1], &DATA[..]].concat();
        socket.send(&message).with_context(|| format!("cannot ask {addr}"))?;
        let mut answer = [0; 128];
        match io::Read::read(&mut &socket, &mut answer) {
            Ok(length) => Ok(answer[0] == reply && answer[..length].get(6..) == message.get(6..)),
            Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(false),
            Err(err) => Err(err).with_context(|| format!("{addr} does not answer")),
        }
    })
}

/// Whether the address answers an echo request.
pub fn answers(from: &Netns, addr: IpAddr) -> Result<bool> {
    answers_within(from, addr, TIMEOUT)
}
