//! Listens to what the kernel programs tell of packets: new flows, refusals, drops.
#![expect(unsafe_code, reason = "records are read as the plain types that the kernel programs wrote")]

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use aya::Pod;
use aya::maps::{Array, MapData, RingBuf};
use lb_common::abi::{Be16, EventValue, V4, V6, map_name, watch};
use lb_common::datapath::Reason;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::address::MapAddress;
use super::failure::TableFailure;
use super::pins::{open, read_failure, write_failure};
use crate::linux::clock::monotonic_ns;

/// The kernel programs tell for so long after the last [`Listener::stay`], in units of 2^30 ns: whoever listens and is
/// killed costs nothing for longer.
const STAY: u64 = 3;

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds since the epoch.
    pub at_ns: u64,
    /// Who sent it.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// What was written into it: source and destination.
    pub translated: Option<(SocketAddr, SocketAddr)>,
    /// IP protocol number.
    pub protocol: u8,
    /// Service id; 0: none.
    pub service: u32,
    /// Backend id; 0: none.
    pub backend: u32,
    /// Device.
    pub device: u32,
    /// Why.
    pub reason: Reason,
    /// It begins a flow; else it was refused or dropped.
    pub is_new: bool,
    /// Bytes from the network header on.
    pub length: u16,
    /// TCP's flags.
    pub flags: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// TCP: sequence number.
    pub seq: u32,
    /// TCP: acknowledgement number.
    pub ack: u32,
}

/// Nobody can listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// One at a time: each event is read once.
    #[error("another monitor listens on these pins: end it first")]
    Taken,
    /// The lock is not available.
    #[error("cannot lock {0}")]
    Lock(String, #[source] io::Error),
    /// A map cannot be used.
    #[error(transparent)]
    Table(#[from] TableFailure),
    /// Waiting failed.
    #[error("cannot wait for events")]
    Wait(#[source] io::Error),
}

/// The only one who listens.
pub struct Listener {
    ring: RingBuf<MapData>,
    watch: Array<MapData, u64>,
    _alone: File,
    /// From `CLOCK_MONOTONIC` to time since the epoch.
    offset_ns: u64,
    lost_before: u64,
}

impl Listener {
    /// Begins to listen: from now on, as long as it stays. `epoch`: the time since the epoch, for the events' times.
    pub fn open(pin_path: &Path, epoch: Duration) -> Result<Self, ListenError> {
        let dir = pin_path.join("maps");
        let ring = open(&dir, map_name::EVENTS)?;
        let watch = open(&dir, map_name::WATCH)?;
        let failed = |error| ListenError::Lock(dir.display().to_string(), error);
        let alone = File::open(&dir).map_err(failed)?;
        match alone.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ListenError::Taken),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let offset_ns = u64::try_from(epoch.as_nanos()).unwrap_or(0).saturating_sub(monotonic_ns());
        let mut listener = Self { ring, watch, _alone: alone, offset_ns, lost_before: 0 };
        listener.lost_before = listener.lost_ever()?;
        // What a former one has left.
        while listener.ring.next().is_some() {}
        listener.stay()?;
        Ok(listener)
    }

    /// Goes on listening for a few seconds. To be called every second.
    pub fn stay(&mut self) -> Result<(), TableFailure> {
        self.set((monotonic_ns() >> 30) + STAY)
    }

    fn set(&mut self, until: u64) -> Result<(), TableFailure> {
        self.watch.set(watch::UNTIL, until, 0).map_err(|source| write_failure(map_name::WATCH, source))
    }

    /// Waits until there is something, or for so long.
    pub fn wait(&self, at_most: Duration) -> Result<(), ListenError> {
        // SAFETY: the ring keeps it open, and lives longer than this call.
        let fd = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::NONE);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(ListenError::Wait(errno.into())),
        }
    }

    /// Reads at most so many events; returns how many there were.
    pub fn read(&mut self, at_most: usize, mut each: impl FnMut(Event)) -> usize {
        for count in 0..at_most {
            let Some(record) = self.ring.next() else { return count };
            if let Some(event) = read(&record, self.offset_ns) {
                each(event);
            }
        }
        at_most
    }

    /// Events that found no room since it listens.
    pub fn lost(&self) -> Result<u64, TableFailure> {
        Ok(self.lost_ever()?.saturating_sub(self.lost_before))
    }

    fn lost_ever(&self) -> Result<u64, TableFailure> {
        self.watch.get(&watch::LOST, 0).map_err(read_failure(map_name::WATCH))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Else it ends by itself.
        let _armed_for_a_while = self.set(0);
    }
}

/// A record of the ring: its length says the family.
fn read(record: &[u8], offset_ns: u64) -> Option<Event> {
    if record.len() == size_of::<EventValue<V4>>() {
        plain::<EventValue<V4>>(record).map(|value| event(&value, offset_ns))
    } else {
        plain::<EventValue<V6>>(record).map(|value| event(&value, offset_ns))
    }
}

fn plain<T: Pod>(record: &[u8]) -> Option<T> {
    // SAFETY: the bytes are there, any bytes are a value of plain old data, and they need not be aligned.
    (record.len() == size_of::<T>()).then(|| unsafe { record.as_ptr().cast::<T>().read_unaligned() })
}

fn event<A: MapAddress>(value: &EventValue<A>, offset_ns: u64) -> Event {
    let end = |addr: A, port: Be16| SocketAddr::new(addr.ip(), port.get());
    let reason = Reason::of_number(value.reason);
    let translated = (!value.dst.is_zero()).then(|| (end(value.src, value.sport), end(value.dst, value.dport)));
    Event {
        at_ns: value.now_ns.saturating_add(offset_ns),
        source: end(value.key.src, value.key.sport),
        destination: end(value.key.dst, value.key.dport),
        translated,
        protocol: value.key.proto,
        service: value.service,
        backend: value.backend,
        device: value.ifindex,
        reason,
        is_new: reason == Reason::NEW_FLOW,
        length: value.length,
        flags: value.flags,
        hop_limit: value.hop_limit,
        seq: value.seq,
        ack: value.ack,
    }
}

#[cfg(test)]
mod tests {
    use lb_common::abi::Counter;

    use super::*;

    #[test]
    fn a_record_is_read_by_its_length() {
        let value = EventValue::<V4> {
            now_ns: 5,
            dst: V4::new([10, 244, 0, 5]),
            dport: Be16::new(8080),
            reason: Counter::DropSourceRange.index(),
            service: 7,
            ..EventValue::default()
        };
        // SAFETY: plain old data, every byte is a field's.
        let bytes: [u8; size_of::<EventValue<V4>>()] = unsafe { std::mem::transmute(value) };
        let event = read(&bytes, 100).unwrap();
        assert_eq!((event.at_ns, event.service, event.reason.name()), (105, 7, "drop_source_range"));
        assert_eq!(event.translated.unwrap().1, "10.244.0.5:8080".parse().unwrap());
        assert!(read(&bytes[1..], 0).is_none() && read(&[], 0).is_none());
    }
}
