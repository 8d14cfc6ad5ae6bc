//! Questions to the kernel over netlink, as bytes: for what the libraries have no messages for, and without a runtime.

use std::io;
use std::num::NonZeroI32;

use rtnetlink::packet_core::{ErrorBuffer, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};
use rtnetlink::packet_core::{NlaBuffer, NlasIterator};
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{Socket, SocketAddr};

/// The kernel never sends more than 32 KiB of a listing at once.
const BUFFER: usize = 64 << 10;
/// Bytes of a message's header (`struct nlmsghdr`).
const HEADER: usize = 16;
/// Bytes of an attribute's header (`struct nlattr`).
const ATTRIBUTE: usize = 4;

/// A netlink socket that asks and waits for the answer.
pub struct Asker {
    socket: Socket,
    sequence: u32,
}

impl Asker {
    /// Asks for devices, routes and neighbours of the current network namespace.
    pub fn route() -> io::Result<Self> {
        Self::open(NETLINK_ROUTE)
    }

    /// Asks for the firewall of the current network namespace.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(NETLINK_NETFILTER)
    }

    fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for one thing: the bodies of the messages of the answer.
    pub fn ask(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut answers = Vec::new();
        self.exchange(kind, 0, body, &mut |body| answers.push(body.to_vec()))?;
        Ok(answers)
    }

    /// Asks for a listing.
    pub fn list(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut answers = Vec::new();
        self.each(kind, body, |body| answers.push(body.to_vec()))?;
        Ok(answers)
    }

    /// Asks for a listing that may be long, and calls `each` with the body of each message.
    pub fn each(&mut self, kind: u16, body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.exchange(kind, NLM_F_DUMP, body, &mut each)
    }

    fn exchange(&mut self, kind: u16, flags: u16, body: &[u8], each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        self.socket.send(&message, 0)?;
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if self.take(&buffer, flags == 0, each)? {
                return Ok(());
            }
        }
    }

    /// Takes one piece of an answer. True: it was the last.
    fn take(&self, mut piece: &[u8], single: bool, each: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut is_answered = false;
        while !piece.is_empty() {
            let message = NetlinkBuffer::new_checked(piece).map_err(io::Error::other)?;
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX).next_multiple_of(4);
            if message.sequence_number() == self.sequence {
                match message.message_type() {
                    NLMSG_ERROR => {
                        let code = ErrorBuffer::new_checked(message.payload()).map_err(io::Error::other)?.code();
                        let code = code.map_or(0, NonZeroI32::get);
                        return if code == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    NLMSG_DONE => return Ok(true),
                    _ => {
                        is_answered = true;
                        each(message.payload());
                    }
                }
            }
            piece = piece.get(length..).unwrap_or_default();
        }
        Ok(single && is_answered)
    }
}

/// Attributes, by number and value. What cannot be read ends them.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    // The iterator of the library gives buffers that borrow from it; the value is cut out of the bytes anew.
    let mut at = 0;
    NlasIterator::new(bytes).map_while(Result::ok).map_while(move |nla: NlaBuffer<&[u8]>| {
        let length = usize::from(nla.length());
        let value = bytes.get(at + ATTRIBUTE..at + length)?;
        at += length.next_multiple_of(4);
        Some((nla.kind(), value))
    })
}

/// The value of an attribute.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Appends an attribute.
pub fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// A number in the machine's byte order.
pub fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// A number in network byte order, as the firewall has them.
pub fn be_number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

/// A text that ends with a zero byte.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_put() {
        let mut bytes = Vec::new();
        put(&mut bytes, 3, b"lo\0");
        put(&mut bytes, 4, &1500u32.to_ne_bytes());
        let read: Vec<(u16, &[u8])> = attributes(&bytes).collect();
        assert_eq!(read, [(3, &b"lo\0"[..]), (4, &1500u32.to_ne_bytes()[..])]);
        assert_eq!(attribute(&bytes, 3).map(text).as_deref(), Some("lo"));
        assert_eq!(attribute(&bytes, 4).and_then(number), Some(1500));
        assert_eq!(attribute(&bytes[..6], 3), None, "what is cut off is not read");
    }
}
