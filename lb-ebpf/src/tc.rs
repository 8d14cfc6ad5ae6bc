//! TC on Pods' interfaces and on uplinks.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{
    bpf_redirect, bpf_redirect_neigh, bpf_skb_adjust_room, bpf_skb_change_head, bpf_skb_change_tail,
};
use lb_common::abi::{Counter, V4, V6, flow_action, flow_kind, proto};
use lb_common::datapath::{
    self, Fast, Fragment, Headers, IpVersion, Parsed, Scratch, Trouble, Verdict, complain, complaint_length,
    complaint_room, egress, egress_slow, icmp_egress, icmp_ingress, ingress, ingress_slow, parse, refused, rst,
    rst_length, swap_macs,
};

use crate::context::Context as _;
use crate::env::{FlowPtr, Kernel};
use crate::maps::{self, FamilyMaps};
use crate::route::{RouteLookup, lookup_route};
use crate::tc_packet::SkbPacket;
use crate::xdp::TRANSLATED;

/// Length of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// Where the network header begins on devices without a link header (tun, WireGuard, IPIP).
pub(crate) const NO_HEADER: usize = 0;
/// `BPF_ADJ_ROOM_MAC`: room is made behind the Ethernet header.
const ADJ_ROOM_MAC: u32 = 1;
/// The part of a tag that names the VLAN (IEEE 802.1Q). 0: the tag has a priority only.
const VLAN_ID: u32 = 0xfff;
/// How much of a packet that is spread over pages is made readable when its headers are not.
const PULL: u32 = 192;

/// Where a program is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
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
    #[inline(always)]
    const fn is_ingress(self) -> bool {
        matches!(self, Self::PodIngress | Self::UplinkIngress)
    }

    #[inline(always)]
    const fn is_uplink(self) -> bool {
        matches!(self, Self::UplinkIngress | Self::UplinkEgress)
    }
}

/// Runs the data path on an skb. `TC_ACT_UNSPEC` lets the programs behind ours see the packet.
#[inline(always)]
pub(crate) fn run<const L3: usize>(ctx: *mut __sk_buff, hook: Hook) -> i32 {
    if hook == Hook::UplinkIngress && translated(ctx) {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: the context is valid for the whole program.
    let protocol = unsafe { (*ctx).protocol } as u16;
    if hook.is_uplink() && in_vlan(ctx) {
        return TC_ACT_UNSPEC;
    }
    if protocol == V4::ETHERTYPE {
        family::<L3, V4>(ctx, hook)
    } else if protocol == V6::ETHERTYPE {
        family::<L3, V6>(ctx, hook)
    } else {
        TC_ACT_UNSPEC
    }
}

/// Whether a packet belongs to a VLAN, whose device has a program of its own. The tag is not in the packet any more.
#[inline(always)]
fn in_vlan(ctx: *mut __sk_buff) -> bool {
    // SAFETY: the context is valid for the whole program.
    let tagged = unsafe { (*ctx).vlan_present } != 0;
    // SAFETY: as above.
    tagged && unsafe { (*ctx).vlan_tci } & VLAN_ID != 0
}

/// Whether XDP has seen to this packet.
#[inline(always)]
fn translated(ctx: *mut __sk_buff) -> bool {
    let (meta, data) = (ctx.data_meta(), ctx.data());
    // SAFETY: the comparison before it shows four bytes of metadata.
    meta + 4 <= data && unsafe { *(meta as *const u32) } == TRANSLATED
}

#[inline(always)]
fn kernel(ctx: *mut __sk_buff) -> Kernel {
    Kernel { ctx: ctx.cast(), ifindex: ctx.ifindex(), defers: false }
}

#[inline(always)]
fn family<const L3: usize, A: FamilyMaps + RouteLookup + IpVersion>(ctx: *mut __sk_buff, hook: Hook) -> i32 {
    let pkt = SkbPacket(ctx);
    let mut headers = Headers::<A>::empty();
    let mut parsed = parse(&pkt, L3, &mut headers);
    if parsed == Parsed::Other && pkt.pull(PULL) {
        parsed = parse(&pkt, L3, &mut headers);
    }
    match parsed {
        Parsed::Flow => {
            if headers.fragment != Fragment::None && !fragment(ctx, &mut headers) {
                return TC_ACT_UNSPEC;
            }
        }
        Parsed::Icmp => return icmp::<L3, A>(ctx, hook, &headers),
        Parsed::Other => return TC_ACT_UNSPEC,
    }
    let env = kernel(ctx);
    let first = if hook.is_ingress() { ingress(&env, &headers) } else { egress(&env, &headers) };
    let missed = match first {
        Fast::Hit(flow) => return forward::<L3, A>(ctx, hook, &headers, flow),
        Fast::Pass => return TC_ACT_UNSPEC,
        Fast::Miss => true,
        Fast::Slow => false,
    };
    let Some(scratch) = maps::scratch::<A>() else { return TC_ACT_UNSPEC };
    scratch.missed = u32::from(missed);
    match slow(ctx, hook, &headers, scratch) {
        Verdict::Pass => TC_ACT_UNSPEC,
        Verdict::Forward => forward::<L3, A>(ctx, hook, &headers, FlowPtr::decided(&mut scratch.forward)),
        Verdict::Reject if headers.fragment != Fragment::Later => reject::<L3, A>(ctx, &headers),
        Verdict::Reject | Verdict::Drop => TC_ACT_SHOT,
    }
}

/// Notes or completes a fragment's ports. False: they are not known.
#[inline(never)]
fn fragment<A: FamilyMaps + RouteLookup>(ctx: *mut __sk_buff, headers: &mut Headers<A>) -> bool {
    datapath::fragment(&kernel(ctx), headers)
}

#[inline(never)]
fn slow<A: FamilyMaps + RouteLookup>(
    ctx: *mut __sk_buff,
    hook: Hook,
    headers: &Headers<A>,
    scratch: &mut Scratch<A>,
) -> Verdict {
    let env = kernel(ctx);
    scratch.ifindex = env.ifindex;
    scratch.uplink = u32::from(hook.is_uplink());
    scratch.local = maps::is_local(env.ifindex);
    // SAFETY: the context is valid for the whole program.
    scratch.own = u32::from(!hook.is_ingress() && unsafe { (*ctx).ingress_ifindex } == 0);
    if hook.is_ingress() { ingress_slow(&env, headers, scratch) } else { egress_slow(&env, headers, scratch) }
}

#[inline(always)]
fn dropped(counter: Counter) -> i32 {
    maps::count(counter);
    TC_ACT_SHOT
}

#[inline(never)]
fn forward<const L3: usize, A: FamilyMaps + RouteLookup + IpVersion>(
    ctx: *mut __sk_buff,
    hook: Hook,
    headers: &Headers<A>,
    value: FlowPtr<A>,
) -> i32 {
    if hook.is_ingress() && value.action != flow_action::STACK {
        return leave::<L3, A>(ctx, headers, value);
    }
    if SkbPacket(ctx).rewrite(L3, headers, &value, 0).is_none() {
        return dropped(Counter::DropRewrite);
    }
    account::<L3, A>(ctx, value);
    if hook == Hook::UplinkEgress && value.ifindex != kernel(ctx).ifindex {
        return back(value.ifindex);
    }
    TC_ACT_UNSPEC
}

#[inline(always)]
fn account<const L3: usize, A: FamilyMaps + RouteLookup>(ctx: *mut __sk_buff, value: FlowPtr<A>) {
    let (packets, bytes) = SkbPacket(ctx).amount(L3);
    datapath::account(&kernel(ctx), value, packets, bytes);
}

/// A reply leaves by the uplink on which its request came.
#[inline(always)]
fn back(ifindex: u32) -> i32 {
    // SAFETY: no parameters are passed: null and zero.
    unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 }
}

/// Packets that the stack would refuse: out by redirect.
#[inline(never)]
fn leave<const L3: usize, A: FamilyMaps + RouteLookup + IpVersion>(
    ctx: *mut __sk_buff,
    headers: &Headers<A>,
    value: FlowPtr<A>,
) -> i32 {
    if headers.ttl <= 1 {
        return troubled::<L3, A>(ctx, headers, Counter::DropTtl, Trouble::EXPIRED);
    }
    let Some((target, limit)) = target(ctx, value.action, value.kind, value.ifindex, value.dst, whole::<L3>(ctx))
    else {
        return dropped(Counter::DropNoRoute);
    };
    if limit != 0 {
        return troubled::<L3, A>(ctx, headers, Counter::DropTooBig, Trouble::too_big(limit));
    }
    if SkbPacket(ctx).rewrite(L3, headers, &value, 1).is_none() {
        return dropped(Counter::DropRewrite);
    }
    account::<L3, A>(ctx, value);
    depart::<L3>(ctx, value.action, target)
}

/// Length of a packet that leaves as it is; 0: it will be cut up.
#[inline(always)]
fn whole<const L3: usize>(ctx: *mut __sk_buff) -> u16 {
    // SAFETY: the context is valid for the whole program.
    let length = unsafe { (*ctx).len };
    // SAFETY: as above.
    let segment = unsafe { (*ctx).gso_size };
    if segment == 0 { length.saturating_sub(L3 as u32).min(u32::from(u16::MAX)) as u16 } else { 0 }
}

/// The device by which a packet leaves, and the largest packet that can go that way if this one is larger.
#[inline(always)]
fn target<A: FamilyMaps + RouteLookup>(
    ctx: *mut __sk_buff,
    action: u8,
    kind: u8,
    ifindex: u32,
    dst: A,
    length: u16,
) -> Option<(u32, u16)> {
    let env = kernel(ctx);
    if action == flow_action::HAIRPIN {
        return Some((env.ifindex, 0));
    }
    if kind == flow_kind::REVERSE_SNAT && ifindex != 0 {
        return Some((ifindex, 0));
    }
    lookup_route(env.ctx, env.ifindex, dst, length).map(|hop| (hop.ifindex, hop.limit))
}

#[inline(always)]
fn depart<const L3: usize>(ctx: *mut __sk_buff, action: u8, ifindex: u32) -> i32 {
    if action != flow_action::HAIRPIN {
        // A redirect towards Ethernet takes the packet's own link header off: there has to be one.
        // SAFETY: the context is the program's own; packet pointers are not used after this.
        if L3 == NO_HEADER && unsafe { bpf_skb_change_head(ctx, ETHERNET as u32, 0) } != 0 {
            return dropped(Counter::DropRewrite);
        }
        return back(ifindex);
    }
    if swap_macs(&mut SkbPacket(ctx)).is_none() {
        return dropped(Counter::DropRewrite);
    }
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(ifindex, 0) as i32 }
}

#[inline(never)]
fn icmp<const L3: usize, A: FamilyMaps + RouteLookup + IpVersion>(
    ctx: *mut __sk_buff,
    hook: Hook,
    headers: &Headers<A>,
) -> i32 {
    let env = kernel(ctx);
    let mut pkt = SkbPacket(ctx);
    pkt.pull(PULL);
    let change = if hook.is_ingress() { icmp_ingress(&env, &pkt, headers) } else { icmp_egress(&env, &pkt, headers) };
    let Some(change) = change else { return TC_ACT_UNSPEC };
    let out = if hook.is_ingress() && change.action != flow_action::STACK {
        match target(ctx, change.action, flow_kind::FORWARD, change.ifindex, change.dst, 0) {
            Some((out, _)) => out,
            None => return dropped(Counter::DropNoRoute),
        }
    } else {
        0
    };
    if out != 0 && headers.ttl <= 1 {
        return dropped(Counter::DropTtl);
    }
    if change.write(&mut pkt, L3, u8::from(out != 0)).is_none() {
        return dropped(Counter::DropRewrite);
    }
    maps::count(Counter::IcmpTranslated);
    if out == 0 { TC_ACT_UNSPEC } else { depart::<L3>(ctx, change.action, out) }
}

#[inline(never)]
fn reject<const L3: usize, A: IpVersion>(ctx: *mut __sk_buff, headers: &Headers<A>) -> i32 {
    if headers.key.proto == proto::TCP {
        send_back(ctx, reset::<L3, A>(ctx, headers))
    } else {
        send_back(ctx, complaint::<L3, A>(ctx, headers, Trouble::NO_PORT))
    }
}

/// Counts the reason and answers, where that can be done.
#[inline(never)]
fn troubled<const L3: usize, A: IpVersion>(
    ctx: *mut __sk_buff,
    headers: &Headers<A>,
    counter: Counter,
    why: Trouble,
) -> i32 {
    maps::count(counter);
    send_back(ctx, complaint::<L3, A>(ctx, headers, why))
}

/// Sends an answer, if there is one, back out of the device that the packet came from.
#[inline(always)]
fn send_back(ctx: *mut __sk_buff, answer: Option<()>) -> i32 {
    match answer {
        // SAFETY: a helper without pointers.
        Some(()) => unsafe { bpf_redirect(kernel(ctx).ifindex, 0) as i32 },
        None => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn cut(ctx: *mut __sk_buff, length: usize) -> Option<()> {
    // SAFETY: the context is the program's own; packet pointers are read afresh after this.
    if unsafe { bpf_skb_change_tail(ctx, length as u32, 0) } == 0 { Some(()) } else { None }
}

#[inline(always)]
fn reset<const L3: usize, A: IpVersion>(ctx: *mut __sk_buff, headers: &Headers<A>) -> Option<()> {
    let mut pkt = SkbPacket(ctx);
    let about = refused(&pkt, L3, headers)?;
    cut(ctx, rst_length(headers))?;
    rst(&mut pkt, L3, headers, about)
}

#[inline(always)]
fn complaint<const L3: usize, A: IpVersion>(ctx: *mut __sk_buff, headers: &Headers<A>, why: Trouble) -> Option<()> {
    let mut pkt = SkbPacket(ctx);
    let room = complaint_room(L3, headers)?;
    cut(ctx, complaint_length(headers))?;
    // SAFETY: the context is the program's own; packet pointers are read afresh after this.
    if unsafe { bpf_skb_adjust_room(ctx, room as i32, ADJ_ROOM_MAC, 0) } != 0 {
        return None;
    }
    pkt.pull(PULL);
    complain(&mut pkt, L3, headers, why)
}
