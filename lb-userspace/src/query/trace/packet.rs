//! A packet in plain memory, as a client would send it.

use lb_common::abi::{FlowKey, HeldValue, proto};
use lb_common::datapath::{Arrival, Frame, Headers, NextHop, Parsed};
use lb_common::wire::ethernet::HEADER as ETHERNET;
use lb_common::wire::{IpVersion, Read, Write, checksum};

use crate::maps::MapAddress;

/// The packet, link header included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet(pub(super) Vec<u8>);

impl Packet {
    /// A packet with this tuple: TCP with these flags, or a datagram. `size`: bytes from the network header on, at least.
    pub(super) fn new<A: IpVersion + MapAddress>(key: &FlowKey<A>, flags: u8, size: u16) -> Self {
        let transport = if key.proto == proto::TCP { 20 } else { 8 };
        let length = (A::HEADER + transport).max(usize::from(size));
        let mut bytes = vec![0; 12];
        bytes.extend(A::ETHERTYPE.to_ne_bytes());
        let total = u16::try_from(length).unwrap_or(u16::MAX);
        if A::IS_V6 {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend((total - A::HEADER_LENGTH).to_be_bytes());
            bytes.extend([key.proto, 64]);
        } else {
            bytes.extend([0x45, 0]);
            bytes.extend(total.to_be_bytes());
            // Not to be fragmented, as TCP sends it.
            bytes.extend([0, 0, 0x40, 0, 64, key.proto, 0, 0]);
        }
        for ip in [key.src.ip(), key.dst.ip()] {
            match ip {
                std::net::IpAddr::V4(ip) => bytes.extend(ip.octets()),
                std::net::IpAddr::V6(ip) => bytes.extend(ip.octets()),
            }
        }
        bytes.extend(key.sport.get().to_be_bytes());
        bytes.extend(key.dport.get().to_be_bytes());
        if key.proto == proto::TCP {
            // One behind the last number that the other side is waiting for, where it acknowledges at all.
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        } else {
            bytes.extend((total - A::HEADER_LENGTH).to_be_bytes());
            bytes.extend([0, 0]);
        }
        bytes.resize(ETHERNET + length, 0);
        Self(bytes)
    }

    /// Addresses, ports and protocol, as they are now.
    pub(super) fn key<A: IpVersion>(&self) -> Option<FlowKey<A>> {
        let mut headers = Headers::<A>::empty();
        (headers.parse_plain(self, Self::L3) == Parsed::Flow).then_some(headers.key)
    }

    /// From the network header on.
    pub(super) fn network(&self) -> &[u8] {
        self.0.get(ETHERNET..).unwrap_or_default()
    }

    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) -> Option<()> {
        self.0.get_mut(offset..offset.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }
}

impl Read for Packet {
    fn u32s_at<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        self.0.get(offset..offset.checked_add(4 * W)?)?;
        Some(std::array::from_fn(|word| self.bytes(offset + 4 * word).map_or(0, u32::from_ne_bytes)))
    }

    fn u16_at(&self, offset: usize) -> Option<u16> {
        self.bytes(offset).map(u16::from_ne_bytes)
    }
}

impl Write for Packet {
    fn put_u32s<const W: usize>(&mut self, offset: usize, words: [u32; W]) -> Option<()> {
        self.put(offset, &words.map(u32::to_ne_bytes).concat())
    }

    fn put_u16(&mut self, offset: usize, half: u16) -> Option<()> {
        self.put(offset, &half.to_ne_bytes())
    }
}

impl Frame for Packet {
    const L3: usize = ETHERNET;
    const KERNEL_RESOLVES: bool = true;
    const REPLAYS: bool = true;
    const KERNEL_CLASSIFIES: bool = true;

    fn is_seen_elsewhere(&self, _arrival: Arrival) -> bool {
        false
    }

    fn is_for_this_host(&self) -> bool {
        true
    }

    fn is_addressed_to(&self, _mac: (u32, u16)) -> bool {
        true
    }

    fn pull(&mut self) -> bool {
        false
    }

    fn mark_translated(&mut self) -> bool {
        true
    }

    fn patch_checksum(&mut self, field: usize, address: u16, port: u16, optional: bool, _v6: bool) -> Option<()> {
        checksum::patch(self, field, checksum::add(address, port), optional)
    }

    fn complete_checksum(&mut self, field: usize, pseudo: u16, rest: u16) -> Option<()> {
        self.put_u16(field, !checksum::add(pseudo, rest))
    }

    fn resize(&mut self, length: usize) -> Option<()> {
        self.0.resize(length, 0);
        Some(())
    }

    fn make_room(&mut self, bytes: usize) -> Option<()> {
        self.0.splice(Self::L3..Self::L3, std::iter::repeat_n(0, bytes));
        Some(())
    }

    fn length(&self) -> Option<u16> {
        u16::try_from(self.0.len()).ok()
    }

    // The packets of a trace are whole: none waits, and none is put in anew.
    fn copy_out(&self, _at: u16, _piece: &mut HeldValue) -> Option<()> {
        None
    }

    fn copy_in(&mut self, _piece: &HeldValue) -> Option<()> {
        None
    }

    fn replay(&mut self, _arrival: Arrival) -> Option<()> {
        None
    }

    fn send(&mut self, _ifindex: u32) -> Option<()> {
        None
    }

    fn amount(&self, datagram: u16) -> (u32, u32) {
        (1, u32::from(datagram))
    }

    fn unsegmented_len(&self, datagram: u16) -> u16 {
        datagram
    }

    fn address(&mut self, _hop: &NextHop) -> Option<()> {
        Some(())
    }
}
