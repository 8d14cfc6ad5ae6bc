//! A packet in a hook: what the kinds of frames (XDP, TC, a byte vector) can do with theirs.

use super::arrival::Arrival;
use super::env::NextHop;
use crate::abi::HeldValue;
use crate::wire::Write;

/// A packet that the pipeline may read, rewrite, resize and send.
pub trait Frame: Write {
    /// Where the network header begins: behind the Ethernet header, or 0 on devices that have none.
    const L3: usize;
    /// The kernel finds the neighbour of a packet that is redirected. Where it does not, the frame has to be addressed,
    /// and may only be sent by devices with `device_flag::XDP_TARGET`; what cannot be sent is handed over to TC.
    const KERNEL_RESOLVES: bool;
    /// Packets can be put in anew, and so fragments can wait for their first. Where not, they are handed over to TC.
    const REPLAYS: bool;
    /// The kernel has looked whom the packet is addressed to. Where it has not, the device's address is asked for, once a
    /// packet may belong to Sluice.
    const KERNEL_CLASSIFIES: bool;

    /// Whether another program of Sluice's has seen to this packet, or will.
    fn is_seen_elsewhere(&self, arrival: Arrival) -> bool;
    /// Whether the packet is addressed to this host, as far as the frame alone says it: what a switch floods is not.
    fn is_for_this_host(&self) -> bool;
    /// Whether the packet is addressed to this hardware address.
    fn is_addressed_to(&self, mac: (u32, u16)) -> bool;
    /// Makes more of the packet readable. False: all of it was already, or it could not be done.
    fn pull(&mut self) -> bool;
    /// Says to the program behind that the packet is translated. False: it cannot be told.
    fn mark_translated(&mut self) -> bool;
    /// Applies both deltas to the transport checksum at `field`. `optional`: 0 stands for "none". `pseudo_v6`: the
    /// addresses are IPv6's.
    fn patch_checksum(
        &mut self,
        field: usize,
        address_delta: u16,
        port_delta: u16,
        optional: bool,
        pseudo_v6: bool,
    ) -> Option<()>;
    /// Completes a transport checksum whose field holds 0xffff (negative zero), from the folded sums of the
    /// pseudo-header and of the rest.
    fn complete_checksum(&mut self, field: usize, pseudo: u16, rest: u16) -> Option<()>;
    /// Cuts the packet to this length, link header included.
    fn resize(&mut self, length: usize) -> Option<()>;
    /// Makes room behind the link header.
    fn make_room(&mut self, bytes: usize) -> Option<()>;
    /// Length of the packet, link header included. `None`: too long for a fragment.
    fn length(&self) -> Option<u16>;
    /// Copies as much of the packet from `at` on as a cell takes.
    fn copy_out(&self, at: u16, piece: &mut HeldValue) -> Option<()>;
    /// Overwrites the packet with a piece, where that was.
    fn copy_in(&mut self, piece: &HeldValue) -> Option<()>;
    /// Puts a copy of the packet into the hook anew, as if it had just arrived there.
    fn replay(&mut self, arrival: Arrival) -> Option<()>;
    /// Sends a copy of the packet, which is addressed already, out of a device.
    fn send(&mut self, ifindex: u32) -> Option<()>;
    /// How many packets it stands for (segmentation and receive offloads), and its bytes from the network header on.
    /// `datagram`: these as the header says, which is all that a frame without offloads needs.
    fn amount(&self, datagram: u16) -> (u32, u32);
    /// Length from the network header on of a packet that leaves as it is; 0: it will be cut up. `datagram`: as above.
    fn unsegmented_len(&self, datagram: u16) -> u16;
    /// Prepares the packet for leaving by a redirect: addresses it to the next hop, or gives it a link header.
    fn address(&mut self, hop: &NextHop) -> Option<()>;
}
