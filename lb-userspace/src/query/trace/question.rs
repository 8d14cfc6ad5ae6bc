//! What is asked: a client's packet, and where it meets Sluice.

use std::collections::HashMap;
use std::net::SocketAddr;

use lb_common::abi::device_flag::{BRIDGE, POD, UPLINK};
use lb_common::datapath::{Arrival, Hook};

/// Names of Services by id.
pub type Names = HashMap<u32, String>;

/// Where a client's packet meets Sluice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// At a device's program.
    Device(Arrival),
    /// At a device without a program.
    Bare(u32),
    /// At its socket; the device is that of its Pod.
    Socket(Option<Arrival>),
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The client.
    pub client: SocketAddr,
    /// Where it meets Sluice.
    pub entry: Entry,
    /// Where it sends to.
    pub target: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Bytes of the packet from the network header on; 0: the smallest one.
    pub size: u16,
}

/// Where a packet of a device with these flags meets Sluice, coming in.
pub fn ingress_hook(flags: u32) -> Option<Hook> {
    if flags & UPLINK != 0 {
        Some(Hook::UplinkIngress)
    } else if flags & (POD | BRIDGE) != 0 {
        Some(Hook::PodIngress)
    } else {
        None
    }
}
