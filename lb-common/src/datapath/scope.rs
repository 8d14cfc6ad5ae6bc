//! Whose a packet is: inside or outside of the cluster, to a `ClusterIP`, to the Services' range.

use super::arrival::Arrival;
use super::env::{Env, Host, Services};
use crate::abi::{
    Address, Be16, Cidr, FamilyConfig, FrontendKey, SERVICE_RANGES, SourceRangeKey, config_flag, device_flag,
    frontend_kind,
};

/// Whether an address is a `ClusterIP`.
#[inline(always)]
pub(super) fn known_vip<A: Address, E: Services<A> + Host<A>>(env: &E, addr: A) -> bool {
    let config = env.config();
    addr.within(config.vip_lo, config.vip_hi)
        && env.frontend(&FrontendKey::of_address(addr)).is_some_and(|own| own.kind == frontend_kind::KNOWN_VIP)
}

/// Whether `ClusterIP`s may be allocated from where an address is. Settings that nobody has written yet are all zeroes, and
/// a zero prefix would hold every address.
#[inline(always)]
pub(super) fn in_service_range<A: Address>(config: &FamilyConfig<A>, addr: A) -> bool {
    config.abi != 0 && contains(&config.services, addr)
}

/// Whether `ClusterIP`s are allocated from where an address is, however many ranges there are.
#[inline(always)]
pub(super) fn is_unallocated<A: Address, E: Env<A>>(env: &E, addr: A) -> bool {
    let config = env.config();
    in_service_range(config, addr)
        && (config.flags & config_flag::SERVICE_RANGES == 0
            || env.in_source_range(&SourceRangeKey { service: SERVICE_RANGES, addr }))
}

/// Whether a port may be one that Sluice allocates for source NAT.
#[inline(always)]
pub(super) fn is_snat_port<A>(config: &FamilyConfig<A>, port: Be16) -> bool {
    let port = port.get();
    port >= config.snat_lo.get() && port <= config.snat_hi.get()
}

/// Whether a client is inside the cluster: by the device it came in by where that is how it is told, else by its address
/// where the cluster's prefixes are known, else by the device's role.
#[inline(always)]
pub(super) fn inside<A: Address, E: Host<A>>(env: &E, client: A, arrival: Arrival) -> bool {
    let config = env.config();
    if config.flags & config_flag::LOCAL_DEVICES != 0 {
        return env.device_flags(arrival.ifindex) & device_flag::LOCAL != 0;
    }
    if config.flags & config_flag::DETECT_LOCAL != 0 {
        return contains(&config.cluster, client);
    }
    !arrival.hook.is_uplink()
}

/// Whether a client gets a frontend's internal set. At an external address only this node's own Pods do: whoever comes by an
/// uplink is outside there, also a Pod of another node. Where devices tell who is inside, they tell it here, too.
#[inline(always)]
pub fn is_internal<A: Address, E: Host<A>>(env: &E, client: A, arrival: Arrival, kind: u8) -> bool {
    let may_be = kind == frontend_kind::CLUSTER_IP
        || !arrival.hook.is_uplink()
        || env.config().flags & config_flag::LOCAL_DEVICES != 0;
    may_be && inside(env, client, arrival)
}

/// Whether a packet that entered by a Pod's device has a source that is elsewhere: the way there is by an uplink or by
/// another Pod's device. Where several Pods share a device, such as a bridge, they are not told apart.
#[inline(never)]
pub(super) fn is_foreign<A: Address, E: Host<A>>(env: &E, source: A, from: u32) -> bool {
    // What a process of the node sends comes by none.
    let flags = if from == 0 { 0 } else { env.device_flags(from) };
    if flags & (device_flag::POD | device_flag::BRIDGE) == 0 || flags & device_flag::ANY_SOURCE != 0 {
        return false;
    }
    if source == env.config().node {
        return true;
    }
    let elsewhere = device_flag::POD | device_flag::UPLINK;
    env.route(source).is_some_and(|route| route.ifindex != from && route.flags & elsewhere != 0)
}

#[inline(always)]
fn contains<A: Address, const N: usize>(prefixes: &[Cidr<A>; N], address: A) -> bool {
    let mut found = false;
    for prefix in prefixes {
        found |= address.and(prefix.mask) == prefix.net;
    }
    found
}
