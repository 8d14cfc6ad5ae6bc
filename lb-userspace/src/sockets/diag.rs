//! Lists and destroys sockets of the current network namespace over `NETLINK_SOCK_DIAG`.

use std::io;
use std::num::NonZeroI32;

use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_packet_sock_diag::{SOCK_DIAG_BY_FAMILY, SockDiagDestroy, SockDiagMessage};
use nix::errno::Errno;
use rtnetlink::packet_core::{
    DecodeError, DoneBuffer, ErrorBuffer, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, Parseable,
};
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use rtnetlink::sys::{Socket, SocketAddr};

use super::error::DestroyError;
use crate::faults;
use crate::model::desired::Family;

/// The kernel never sends more than 32 KiB of a listing at once.
const BUFFER: usize = 64 << 10;

/// States in which a socket has a peer. A connected UDP socket counts as established.
const CONNECTED: StateFlags = StateFlags::ESTABLISHED
    .union(StateFlags::SYN_SENT)
    .union(StateFlags::FIN_WAIT1)
    .union(StateFlags::FIN_WAIT2)
    .union(StateFlags::CLOSE_WAIT)
    .union(StateFlags::LAST_ACK)
    .union(StateFlags::CLOSING);

/// Which sockets to list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    /// IP protocol number.
    pub(super) protocol: u8,
    /// The sockets' own family: an IPv6 socket may be connected to an IPv4 peer.
    pub(super) family: Family,
    /// Only sockets with this port at the other end.
    pub(super) peer_port: Option<u16>,
}

/// What became of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Destroyed by this call.
    Destroyed,
    /// There is no such socket any more, or the kernel came to another one with the same addresses and ports first
    /// (and left that alone).
    NotFound,
}

/// A socket's cookie as `SO_COOKIE` and BPF programs give it.
pub(super) fn cookie(id: &SocketId) -> u64 {
    // Two 32-bit words in the machine's order, the low one first.
    let words = u64::from_ne_bytes(id.cookie);
    if cfg!(target_endian = "big") { words.rotate_left(32) } else { words }
}

/// A netlink socket. It belongs to the namespace in which it was opened and keeps it alive.
pub(super) struct Diag {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    /// Listings asked for.
    pub(super) listings: usize,
}

impl Diag {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open() -> Result<Self, DestroyError> {
        let socket = Socket::new(NETLINK_SOCK_DIAG).map_err(DestroyError::Open)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(DestroyError::Open)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER), listings: 0 })
    }

    /// Calls `found` for each connected socket that the query asks for, with its file's inode; returns how many pieces the answer came in.
    /// Sockets that end between two pieces can hide others from the listing.
    pub(super) fn list(&mut self, query: Query, mut found: impl FnMut(SocketId, u64)) -> Result<usize, DestroyError> {
        let mut id = match query.family {
            Family::V4 => SocketId::new_v4(),
            Family::V6 => SocketId::new_v6(),
        };
        id.destination_port = query.peer_port.unwrap_or(0);
        let request = SockDiagMessage::InetRequest(request(query.protocol, query.family, CONNECTED, id));
        self.send(NLM_F_DUMP, request).map_err(DestroyError::Exchange)?;
        self.listings += 1;
        for pieces in 1.. {
            match self.receive(&mut found)? {
                Answer::Goes(_) => {}
                Answer::Ends(0) => return Ok(pieces),
                Answer::Ends(code) => return Err(refusal(code, query.protocol)),
            }
        }
        Ok(usize::MAX)
    }

    /// Destroys the socket with this identity, all of which has to be as it was listed.
    pub(super) fn destroy(&mut self, protocol: u8, family: Family, id: SocketId) -> Result<End, DestroyError> {
        faults::point("socket, destroy").map_err(DestroyError::Exchange)?;
        let message = SockDiagMessage::InetRequest(request(protocol, family, StateFlags::empty(), id));
        self.send(NLM_F_ACK, SockDiagDestroy::new(message)).map_err(DestroyError::Exchange)?;
        loop {
            match self.receive(&mut |_, _| ())? {
                Answer::Goes(_) => {}
                Answer::Ends(code) => return end(code, protocol),
            }
        }
    }

    fn send<M>(&mut self, flags: u16, message: M) -> io::Result<()>
    where
        M: NetlinkSerializable + Into<NetlinkPayload<M>>,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, message.into());
        message.finalize();
        self.buffer.resize(message.buffer_len(), 0);
        message.serialize(&mut self.buffer);
        self.socket.send(&self.buffer, 0).map(drop)
    }

    fn receive(&mut self, found: &mut impl FnMut(SocketId, u64)) -> Result<Answer, DestroyError> {
        self.buffer.clear();
        self.buffer.reserve(BUFFER);
        loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(DestroyError::Exchange(e)),
            }
        }
        read(&self.buffer, self.sequence, found).map_err(DestroyError::Malformed)
    }
}

fn request(protocol: u8, family: Family, states: StateFlags, socket_id: SocketId) -> InetRequest {
    let family = match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    };
    InetRequest { family, protocol, extensions: ExtensionFlags::empty(), states, socket_id }
}

/// How far the answer to a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// More is to come; so many sockets were in this piece.
    Goes(usize),
    /// The end, with 0 or a negative error number.
    Ends(i32),
}

/// Reads one piece of an answer. What follows a socket's fixed part is not looked at: kernels differ in it.
fn read(mut piece: &[u8], sequence: u32, found: &mut impl FnMut(SocketId, u64)) -> Result<Answer, DecodeError> {
    let mut sockets = 0;
    while !piece.is_empty() {
        let message = NetlinkBuffer::new_checked(piece)?;
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX).next_multiple_of(4);
        // What a request before this one left unread does not count.
        if message.sequence_number() == sequence {
            match message.message_type() {
                NLMSG_ERROR => {
                    let code = ErrorBuffer::new_checked(message.payload())?.code();
                    return Ok(Answer::Ends(code.map_or(0, NonZeroI32::get)));
                }
                NLMSG_DONE => return Ok(Answer::Ends(DoneBuffer::new_checked(message.payload())?.code())),
                SOCK_DIAG_BY_FAMILY => {
                    let header = InetResponseHeader::parse(message.payload())?;
                    found(header.socket_id, header.inode.into());
                    sockets += 1;
                }
                _ => {}
            }
        }
        piece = piece.get(length..).unwrap_or_default();
    }
    Ok(Answer::Goes(sockets))
}

fn end(code: i32, protocol: u8) -> Result<End, DestroyError> {
    match Errno::from_raw(-code) {
        _ if code == 0 => Ok(End::Destroyed),
        // A cookie that does not match is ESTALE to begin with; the kernel's UDP and TCP code make it ENOENT.
        Errno::ENOENT | Errno::ESTALE => Ok(End::NotFound),
        Errno::EOPNOTSUPP => Err(DestroyError::NotOffered(protocol)),
        Errno::EPERM => Err(DestroyError::NotAllowed),
        errno => Err(DestroyError::Exchange(errno.into())),
    }
}

fn refusal(code: i32, protocol: u8) -> DestroyError {
    match Errno::from_raw(-code) {
        Errno::ENOENT => DestroyError::NotListed(protocol),
        errno => DestroyError::Exchange(errno.into()),
    }
}

#[cfg(test)]
#[path = "diag_tests.rs"]
mod tests;
