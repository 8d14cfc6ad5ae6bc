//! `CONFIG4`/`CONFIG6`: array of one element, settings of the data path. `DEVICES`: hash by interface index.
//! `STATUS`: array of one element, written by the agent and read by `sluice status`.

use super::Be16;
use super::plain::plain;

plain! {
    /// A prefix: `addr & mask == net`. Unused entries have a zero `mask` and a non-zero `net`, so they match nothing.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Cidr<A> {
        /// Network address.
        pub net: A,
        /// Network mask.
        pub mask: A,
    }
}

plain! {
    /// Settings of the data path for one address family.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FamilyConfig<A> {
        /// [`super::ABI_VERSION`].
        pub abi: u32,
        /// Bits of [`config_flag`].
        pub flags: u32,
        /// The node's own address: source of hairpin flows, and of source NAT where the egress device has none.
        pub node: A,
        /// Lowest known `ClusterIP`: only inside `[vip_lo, vip_hi]` a frontend miss is followed by the look-up of a
        /// known VIP.
        pub vip_lo: A,
        /// Highest known `ClusterIP`.
        pub vip_hi: A,
        /// Prefixes of in-cluster clients (detect-local).
        pub cluster: [Cidr<A>; 4],
        /// Prefixes from which `ClusterIP`s are allocated: an unallocated address in them is dropped. With
        /// [`config_flag::SERVICE_RANGES`] these hold more than that.
        pub services: [Cidr<A>; 2],
        /// First port of the source NAT range.
        pub snat_lo: Be16,
        /// Last port of the source NAT range.
        pub snat_hi: Be16,
        /// Cookie of the node's own network namespace, low half first; 0: not known, it is the machine's initial one.
        pub host_netns: [u32; 2],
        /// One of [`forward_mode`].
        pub forward: u32,
        /// Always 0.
        pub reserved: [u32; 7],
    }
}

/// The service id of ranges of `ClusterIP`s in the table of source ranges: no Service has it.
pub const SERVICE_RANGES: u32 = u32::MAX;

/// Bits of [`FamilyConfig::flags`].
pub mod config_flag {
    /// `cluster` is set: sources outside of it are off-cluster and are source-NATed towards `ClusterIP`s.
    pub const DETECT_LOCAL: u32 = 1;
    /// Takeover from kube-proxy: TCP for a frontend that is mid-stream and has no flow is left to the stack.
    pub const TAKEOVER: u32 = 2;
    /// Source-NAT every flow (`masqueradeAll`).
    pub const MASQUERADE_ALL: u32 = 4;
    /// Clients are told apart by the device at which they come in, by [`super::device_flag::LOCAL`], and not by their
    /// address.
    pub const LOCAL_DEVICES: u32 = 8;
    /// Socket hooks serve the node's own network namespace alone.
    pub const SOCKETS_HOST_ONLY: u32 = 16;
    /// Some network namespaces have opted out of the socket hooks: ask the table.
    pub const SOCKETS_OPT_OUT: u32 = 32;
    /// There are more ranges of `ClusterIP`s than `services` has room for: those two hold them all, and the table of
    /// source ranges has each of them, as [`super::SERVICE_RANGES`].
    pub const SERVICE_RANGES: u32 = 64;
    /// A SYN that is sent again stays with its backend, answered or not (`--no-syn-retry`).
    pub const NO_RETRY: u32 = 128;
    /// ICMP echo requests for Services are not answered (`--no-echo`).
    pub const NO_ECHO: u32 = 256;
    /// Backends that leave connections unanswered get new ones nevertheless (`--no-silence-detection`).
    pub const NO_SILENCE: u32 = 512;
}

/// Values of [`FamilyConfig::forward`]: how translated packets go on.
pub mod forward_mode {
    /// Through the host's stack.
    pub const STACK: u32 = 0;
    /// Past it, by redirect to the device that they leave by.
    pub const REDIRECT: u32 = 1;
}

plain! {
    /// What the data path knows of a network device.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct DeviceValue {
        /// Bits of [`device_flag`].
        pub flags: u32,
        /// The device's IPv4 address: source of flows that Sluice source-NATs out of it; 0: none.
        pub v4: super::V4,
        /// The device's IPv6 address; zero: none.
        pub v6: super::V6,
        /// The device's hardware address; zero: none, or not known.
        pub mac: [u8; 6],
        /// Always 0.
        pub pad: u16,
        /// Always 0.
        pub reserved: [u32; 2],
    }
}

/// Bits of [`DeviceValue::flags`].
pub mod device_flag {
    /// Role: Pods are behind it.
    pub const POD: u32 = 1;
    /// Role: outside or other nodes are behind it.
    pub const UPLINK: u32 = 2;
    /// XDP may redirect into it.
    pub const XDP_TARGET: u32 = 4;
    /// A bridge's port, or another switch's: packets are addressed to the bridge, whose address may be another.
    pub const PORT: u32 = 8;
    /// The Pods of this node are behind it, as detect-local by device has it.
    pub const LOCAL: u32 = 16;
    /// A packet may be redirected to the other end of this device (veth, netkit).
    pub const PEER: u32 = 32;
    /// Packets from it may have any source: a gateway Pod is behind it.
    pub const ANY_SOURCE: u32 = 64;
    /// A bridge with Pods' devices as its ports: what they send through the stack enters the node by it.
    pub const BRIDGE: u32 = 128;
}

plain! {
    /// The agent's state, for `sluice status` also while the agent is down.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StatusValue {
        /// [`super::ABI_VERSION`].
        pub abi: u32,
        /// Process id of the agent that wrote this, in its own namespace.
        pub pid: u32,
        /// Start of that agent, nanoseconds since the epoch.
        pub started_ns: u64,
        /// When the first full state was in the kernel, nanoseconds since the epoch; 0: not yet.
        pub synced_ns: u64,
        /// Newest completed write, nanoseconds since the epoch.
        pub updated_ns: u64,
        /// Next backend generation to hand out.
        pub next_generation: u32,
        /// Always 0.
        pub pad: u32,
        /// Random number of the agent that wrote this; 0: an agent that knows of none.
        pub owner: u64,
        /// `CONFIG_HZ`, by which times in the flow tables are read; 0: not known.
        pub ticks_per_second: u32,
        /// Always 0.
        pub pad2: u32,
        /// Always 0.
        pub reserved: [u64; 2],
    }
}
