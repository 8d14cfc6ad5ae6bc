//! Sizes and offsets, asserted at build time: a compiler or an edit that moves a field breaks the build, not a node.

use super::{
    AffinityKey, AffinityValue, BackendValue, Cidr, DeviceValue, FamilyConfig, FlowKey, FlowValue, FragmentKey,
    FragmentValue, FrontendKey, FrontendValue, NameValue, ReportValue, SetRef, SocketKey, SocketValue, SourceRangeKey,
    StatsValue, StatusValue, Tally, V4, V6,
};
use core::mem::{offset_of, size_of};

macro_rules! layout {
    ($ty:ty, $size:expr $(, $field:ident = $offset:expr)* $(,)?) => {
        const _: () = assert!(size_of::<$ty>() == $size, concat!("size of ", stringify!($ty)));
        $(const _: () = assert!(offset_of!($ty, $field) == $offset, concat!(stringify!($ty), ".", stringify!($field)));)*
    };
}

layout!(FlowKey<V4>, 16, src = 0, dst = 4, sport = 8, dport = 10, proto = 12, pad = 13);
layout!(FlowKey<V6>, 40, src = 0, dst = 16, sport = 32, dport = 34, proto = 36, pad = 37);
layout!(
    FlowValue<V4>,
    48,
    src = 0,
    dst = 4,
    sport = 8,
    dport = 10,
    kind = 12,
    action = 13,
    state = 14,
    backend = 16,
    generation = 20,
    service = 24,
    seen = 28,
    ifindex = 32,
    addr_delta = 36,
    port_delta = 38,
    tally = 40,
);
layout!(
    FlowValue<V6>,
    72,
    src = 0,
    dst = 16,
    sport = 32,
    dport = 34,
    kind = 36,
    action = 37,
    state = 38,
    backend = 40,
    generation = 44,
    service = 48,
    seen = 52,
    ifindex = 56,
    addr_delta = 60,
    port_delta = 62,
    tally = 64,
);
layout!(Tally, 8, burst = 0, packets = 2, bytes = 4);
layout!(FrontendKey<V4>, 8, addr = 0, port = 4, proto = 6, scope = 7);
layout!(FrontendKey<V6>, 20, addr = 0, port = 16, proto = 18, scope = 19);
layout!(SetRef, 8, base = 0, count = 4);
layout!(
    FrontendValue,
    28,
    internal = 0,
    external = 8,
    service = 16,
    affinity_secs = 20,
    flags = 24,
    kind = 26,
    algorithm = 27,
);
layout!(BackendValue<V4>, 16, addr = 0, port = 4, flags = 6, generation = 8, service = 12);
layout!(BackendValue<V6>, 28, addr = 0, port = 16, flags = 18, generation = 20, service = 24);
layout!(AffinityKey<V4>, 16, client = 0, service = 4, netns = 8);
layout!(AffinityKey<V6>, 28, client = 0, service = 16, netns = 20);
layout!(AffinityValue, 16, last_ns = 0, backend = 8, generation = 12);
layout!(FragmentKey<V4>, 16, src = 0, dst = 4, id = 8, proto = 12);
layout!(FragmentKey<V6>, 40, src = 0, dst = 16, id = 32, proto = 36);
layout!(FragmentValue, 4, sport = 0, dport = 2);
layout!(SocketKey<V4>, 16, cookie = 0, addr = 8, port = 12, proto = 14, kind = 15);
layout!(SocketKey<V6>, 28, cookie = 0, addr = 8, port = 24, proto = 26, kind = 27);
layout!(
    SocketValue<V4>,
    32,
    addr = 0,
    port = 4,
    pad = 6,
    backend = 8,
    generation = 12,
    service = 16,
    seen = 20,
    netns = 24
);
layout!(
    SocketValue<V6>,
    44,
    addr = 0,
    port = 16,
    pad = 18,
    backend = 20,
    generation = 24,
    service = 28,
    seen = 32,
    netns = 36
);
layout!(SourceRangeKey<V4>, 8, service = 0, addr = 4);
layout!(SourceRangeKey<V6>, 20, service = 0, addr = 4);
layout!(Cidr<V4>, 8, net = 0, mask = 4);
layout!(Cidr<V6>, 32, net = 0, mask = 16);
layout!(
    FamilyConfig<V4>,
    80,
    abi = 0,
    flags = 4,
    node = 8,
    vip_lo = 12,
    vip_hi = 16,
    cluster = 20,
    services = 52,
    snat_lo = 68,
    snat_hi = 70,
    host_netns = 72,
);
layout!(
    FamilyConfig<V6>,
    260,
    abi = 0,
    flags = 4,
    node = 8,
    vip_lo = 24,
    vip_hi = 40,
    cluster = 56,
    services = 184,
    snat_lo = 248,
    snat_hi = 250,
    host_netns = 252,
);
layout!(DeviceValue, 24, flags = 0, v4 = 4, v6 = 8);
layout!(
    StatusValue,
    40,
    abi = 0,
    pid = 4,
    started_ns = 8,
    synced_ns = 16,
    updated_ns = 24,
    next_generation = 32,
    pad = 36,
);
layout!(
    StatsValue,
    48,
    packets = 0,
    bytes = 8,
    reply_packets = 16,
    reply_bytes = 24,
    connections = 32,
    generation = 40,
    pad = 44,
);
layout!(NameValue, 216, len = 0, family = 4, name = 8);
layout!(ReportValue, 65_536, len = 0, pad = 4, json = 8);
