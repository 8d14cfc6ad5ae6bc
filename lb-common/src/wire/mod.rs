//! Header formats as they lie on the wire: named offsets and checked reads. Nothing here decides anything.

pub mod bytes;
pub mod checksum;
pub mod crc32c;
pub mod ethernet;
pub mod icmp;
pub mod ip;
mod ipv4;
mod ipv6;
pub mod sctp;
pub mod tcp;
pub mod udp;

pub use bytes::{Read, Write};
pub use ip::{Fragment, IpHeader, IpVersion};
