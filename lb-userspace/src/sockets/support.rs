//! Whether this kernel destroys UDP sockets for this process: tried on one of the agent's own sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use lb_common::abi::proto;
use socket2::SockRef;

use super::error::{DestroyError, WhyNot};
use super::outcome::Outcome;
use super::search;
use crate::linux::netns::own_netns_cookie;
use crate::maps::sockets::SocketRow as Victim;
use crate::model::desired::Family;

/// Whether UDP sockets can be destroyed in the calling thread's network namespace, found out by doing it.
/// Other namespaces have to be entered as well: the [`Survey`](super::namespaces::Survey) tells which can be.
pub fn supported() -> Result<(), WhyNot> {
    let netns_cookie = own_netns_cookie().map_err(DestroyError::Cookie)?;
    let (socket, _other_end) =
        pair(Ipv4Addr::LOCALHOST.into()).or_else(|_| pair(Ipv6Addr::LOCALHOST.into())).map_err(WhyNot::Loopback)?;
    let peer = socket.peer_addr().map_err(WhyNot::Loopback)?;
    let socket_cookie = SockRef::from(&socket).cookie().map_err(WhyNot::Loopback)?;
    let family = Family::of(&peer.ip());
    let mut outcome = Outcome::default();
    let (generation, frontend) = (0, None);
    let victim = Victim { netns_cookie, socket_cookie, protocol: proto::UDP, family, peer, generation, frontend };
    search::destroy(&[victim], &mut outcome);
    if let Some(failure) = outcome.failed.pop() {
        return Err(failure.why.into());
    }
    if outcome.destroyed == 0 {
        return Err(WhyNot::NotSeen);
    }
    match socket.take_error() {
        Ok(Some(e)) if e.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
        _ => Err(WhyNot::NoEffect),
    }
}

/// A UDP socket that is connected to another one.
fn pair(ip: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    let other_end = UdpSocket::bind((ip, 0))?;
    let socket = UdpSocket::bind((ip, 0))?;
    socket.connect(other_end.local_addr()?)?;
    Ok((socket, other_end))
}
