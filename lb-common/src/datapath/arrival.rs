//! Where a packet meets Sluice.

/// A hook of a device, by the device's role and the packet's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Hook {
    /// From a Pod.
    PodIngress,
    /// To a Pod.
    PodEgress,
    /// From outside.
    UplinkIngress,
    /// To the outside.
    UplinkEgress,
}

impl Hook {
    /// Whether packets come from the device.
    #[inline(always)]
    pub const fn is_ingress(self) -> bool {
        matches!(self, Self::PodIngress | Self::UplinkIngress)
    }

    /// Whether the device is an uplink.
    #[inline(always)]
    pub const fn is_uplink(self) -> bool {
        matches!(self, Self::UplinkIngress | Self::UplinkEgress)
    }
}

/// A packet's arrival at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The device.
    pub ifindex: u32,
    /// The hook.
    pub hook: Hook,
    /// The device by which the packet entered the node; 0: a process of the node sent it.
    pub from: u32,
}

impl Arrival {
    /// Whether a process of the node sent the packet.
    #[inline(always)]
    pub const fn is_locally_generated(self) -> bool {
        self.from == 0
    }
}
