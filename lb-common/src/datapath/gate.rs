//! Whether a packet may belong to Sluice: answered for most packets without a look-up in a hash table.

use super::arrival::Arrival;
use super::env::Env;
use super::headers::Headers;
use super::scope::{in_service_range, is_snat_port};
use super::transport;
use crate::abi::{Address, forward_mode};
use crate::wire::IpVersion;

/// Why a packet may belong to Sluice; 0: it does not. Bits.
pub(super) mod claim {
    /// Its destination may be a frontend.
    pub(in crate::datapath) const FRONTEND: u32 = 1;
    /// Its destination is in the Services' range, or it may come from a backend and goes to a port of source NAT.
    pub(in crate::datapath) const RANGE: u32 = 2;
    /// It goes straight to what may be a backend: a direct connection that may collide with a flow.
    pub(in crate::datapath) const DIRECT: u32 = 4;
    /// It may be a reply that is to be translated where it comes from (forwarding mode `redirect`).
    pub(in crate::datapath) const REPLY: u32 = 8;
}

/// Claims on a packet that comes in.
#[inline(always)]
pub(super) fn ingress<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> u32 {
    let key = &headers.key;
    if env.may_be_frontend(key.dst, key.dport) {
        return claim::FRONTEND;
    }
    let config = env.config();
    let mut claims = 0;
    let reply = is_snat_port(config, key.dport) && env.may_be_backend(key.src, key.sport);
    if reply || in_service_range(config, key.dst) {
        claims |= claim::RANGE;
    }
    if may_collide(env, headers) {
        claims |= claim::DIRECT;
    }
    if config.forward == forward_mode::REDIRECT && !arrival.hook.is_uplink() && egress(env, headers) {
        claims |= claim::REPLY;
    }
    claims
}

/// Whether a packet that leaves may be a reply.
#[inline(always)]
pub(super) fn egress<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> bool {
    env.may_be_backend(headers.key.src, headers.key.sport) && env.may_be_flow(&headers.key.flipped())
}

/// Whether a packet that goes straight to a backend may have a flow's tuple. Of a connection in mid-stream only one that
/// was given another port is looked at.
#[inline(always)]
pub(super) fn may_collide<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>) -> bool {
    let key = &headers.key;
    (headers.may_open() || env.remaps()) && env.may_be_backend(key.dst, key.dport) && env.may_be_flow(key)
}

/// Whether a later fragment, whose ports nobody knows yet, may belong to Sluice: by its addresses alone. In IPv6 what it
/// says of its protocol does not count (RFC 8200 section 4.5).
#[inline(never)]
pub(super) fn may_wait<A: IpVersion, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> bool {
    let key = &headers.key;
    if !A::IS_V6 && !transport::is_served(key.proto) {
        return false;
    }
    if !E::is_ingress(arrival) {
        return env.may_be_backend_address(key.src);
    }
    let config = env.config();
    let replies = arrival.hook.is_uplink() || config.forward == forward_mode::REDIRECT;
    env.may_be_frontend_address(key.dst)
        || (replies && env.may_be_backend_address(key.src))
        || (env.remaps() && env.may_be_backend_address(key.dst))
}

/// Whether a packet that leaves is the node's own first one for an address that may be a `ClusterIP`: a socket hook
/// should have translated it.
#[inline(always)]
pub(super) fn is_untranslated<A: Address, E: Env<A>>(env: &E, headers: &Headers<A>, arrival: Arrival) -> bool {
    let key = &headers.key;
    arrival.is_locally_generated()
        && arrival.hook.is_uplink()
        && headers.may_open()
        && (env.may_be_frontend(key.dst, key.dport) || in_service_range(env.config(), key.dst))
}
