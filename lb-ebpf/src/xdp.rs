//! XDP on uplinks. What XDP cannot do (a device it cannot redirect into, an unknown neighbour) it leaves untouched to
//! the TC program behind it.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail};
use lb_common::abi::{Counter, V4, V6, device_flag, flow_action, flow_kind, proto};
use lb_common::datapath::{
    self, Fast, Fragment, Headers, IpVersion, Packet, Parsed, Scratch, Store, Trouble, Verdict, complain,
    complaint_length, complaint_room, icmp_ingress, ingress, ingress_slow, parse, refused, rewrite, rst, rst_length,
};

use crate::context::Context as _;
use crate::env::{FlowPtr, Kernel};
use crate::maps::{self, FamilyMaps};
use crate::route::{NextHop, RouteLookup, lookup_route};
use crate::tc::ETHERNET;
use crate::xdp_packet::XdpPacket;

/// Where the network header begins.
const L3: usize = ETHERNET;

/// Metadata in front of a packet that XDP has translated and passed up: TC leaves it alone.
pub(crate) const TRANSLATED: u32 = 0x534c_5543;

/// Runs the data path on a frame.
#[inline(always)]
pub(crate) fn run(ctx: *mut xdp_md) -> u32 {
    let pkt = XdpPacket(ctx);
    let Some(ethertype) = pkt.half(12) else { return XDP_PASS };
    match ethertype {
        V4::ETHERTYPE => family::<V4>(ctx),
        V6::ETHERTYPE => family::<V6>(ctx),
        _ => XDP_PASS,
    }
}

#[inline(always)]
fn kernel(ctx: *mut xdp_md) -> Kernel {
    Kernel { ctx: ctx.cast(), ifindex: ctx.ifindex(), defers: false }
}

#[inline(always)]
fn family<A: FamilyMaps + RouteLookup + IpVersion>(ctx: *mut xdp_md) -> u32 {
    let mut headers = Headers::<A>::empty();
    match parse(&XdpPacket(ctx), L3, &mut headers) {
        Parsed::Flow => {
            if headers.fragment != Fragment::None && !fragment(ctx, &mut headers) {
                return XDP_PASS;
            }
        }
        Parsed::Icmp => return icmp(ctx, &headers),
        Parsed::Other => return XDP_PASS,
    }
    let missed = match ingress(&kernel(ctx), &headers) {
        Fast::Hit(flow) => return forward(ctx, &headers, flow),
        Fast::Pass => return XDP_PASS,
        Fast::Miss => true,
        Fast::Slow => false,
    };
    let Some(scratch) = maps::scratch::<A>() else { return XDP_PASS };
    scratch.missed = u32::from(missed);
    match slow(ctx, &headers, scratch) {
        Verdict::Pass => XDP_PASS,
        Verdict::Forward => forward(ctx, &headers, FlowPtr::decided(&mut scratch.forward)),
        Verdict::Reject => reject(ctx, &headers),
        Verdict::Drop => XDP_DROP,
    }
}

/// Notes or completes a fragment's ports. False: they are not known.
#[inline(never)]
fn fragment<A: FamilyMaps + RouteLookup>(ctx: *mut xdp_md, headers: &mut Headers<A>) -> bool {
    datapath::fragment(&kernel(ctx), headers)
}

#[inline(never)]
fn slow<A: FamilyMaps + RouteLookup>(ctx: *mut xdp_md, headers: &Headers<A>, scratch: &mut Scratch<A>) -> Verdict {
    let mut env = kernel(ctx);
    env.defers = !can_send(env.ifindex);
    scratch.ifindex = env.ifindex;
    scratch.uplink = 1;
    scratch.local = maps::is_local(env.ifindex);
    ingress_slow(&env, headers, scratch)
}

#[inline(always)]
fn forward<A: FamilyMaps + RouteLookup + IpVersion>(ctx: *mut xdp_md, headers: &Headers<A>, value: FlowPtr<A>) -> u32 {
    if value.action == flow_action::STACK { to_stack(ctx, headers, value) } else { by_route(ctx, headers, value) }
}

/// Marks the packet as translated. False: the driver has no room for metadata, TC has to do the work.
#[inline(always)]
fn mark(ctx: *mut xdp_md) -> bool {
    // SAFETY: the context is the program's own; packet pointers are read afresh after this.
    if unsafe { bpf_xdp_adjust_meta(ctx, -4) } != 0 {
        return false;
    }
    let (meta, data) = (ctx.data_meta(), ctx.data());
    if meta + 4 > data {
        return false;
    }
    // SAFETY: the four bytes are inside the metadata area, which the kernel aligns to four.
    unsafe { *(meta as *mut u32) = TRANSLATED };
    true
}

#[inline(always)]
fn to_stack<A: FamilyMaps + RouteLookup + IpVersion>(ctx: *mut xdp_md, headers: &Headers<A>, value: FlowPtr<A>) -> u32 {
    if !mark(ctx) {
        return XDP_PASS;
    }
    match rewrite(&mut XdpPacket(ctx), L3, headers, &value, 0) {
        Some(()) => {
            account(ctx, value);
            XDP_PASS
        }
        None => dropped(Counter::DropRewrite),
    }
}

#[inline(always)]
fn account<A: FamilyMaps + RouteLookup>(ctx: *mut xdp_md, value: FlowPtr<A>) {
    datapath::account(&kernel(ctx), value, 1, (length(ctx) - L3) as u32);
}

/// Length of the frame. Opaque: the verifier knows the difference of two packet pointers as a number, but not other
/// orders of it.
#[inline(always)]
fn length(ctx: *mut xdp_md) -> usize {
    core::hint::black_box(ctx.data_end() - ctx.data())
}

#[inline(always)]
fn dropped(counter: Counter) -> u32 {
    maps::count(counter);
    XDP_DROP
}

/// The next hop for a packet of this length, if XDP can send there.
#[inline(always)]
fn next_hop<A: RouteLookup>(ctx: *mut xdp_md, dst: A, only: u32, length: u16) -> Option<NextHop> {
    let env = kernel(ctx);
    let hop = lookup_route(env.ctx, env.ifindex, dst, length)?;
    if !hop.resolved || (only != 0 && hop.ifindex != only) {
        return None;
    }
    if can_send(hop.ifindex) { Some(hop) } else { None }
}

/// Whether XDP may send by a device, also back out of the one the packet came in by.
#[inline(always)]
fn can_send(ifindex: u32) -> bool {
    maps::device(ifindex).is_some_and(|device| device.flags & device_flag::XDP_TARGET != 0)
}

#[inline(always)]
fn send(ctx: *mut xdp_md, hop: &NextHop) -> u32 {
    if XdpPacket(ctx).store(0, hop.ethernet).is_none() {
        return dropped(Counter::DropRewrite);
    }
    if hop.ifindex == kernel(ctx).ifindex {
        return XDP_TX;
    }
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(hop.ifindex, 0) as u32 }
}

/// Packets whose source became the node's own, and replies to them.
#[inline(never)]
fn by_route<A: FamilyMaps + RouteLookup + IpVersion>(ctx: *mut xdp_md, headers: &Headers<A>, value: FlowPtr<A>) -> u32 {
    let only = if value.kind == flow_kind::REVERSE_SNAT { value.ifindex } else { 0 };
    if headers.ttl <= 1 {
        return expired(ctx, headers);
    }
    // What is too large is left to TC, which has an answer.
    let length = if only == 0 { (length(ctx) - L3).min(usize::from(u16::MAX)) as u16 } else { 0 };
    let Some(hop) = next_hop(ctx, value.dst, only, length) else { return XDP_PASS };
    if rewrite(&mut XdpPacket(ctx), L3, headers, &value, 1).is_none() {
        return dropped(Counter::DropRewrite);
    }
    account(ctx, value);
    send(ctx, &hop)
}

#[inline(never)]
fn icmp<A: FamilyMaps + RouteLookup + IpVersion>(ctx: *mut xdp_md, headers: &Headers<A>) -> u32 {
    let env = kernel(ctx);
    let mut pkt = XdpPacket(ctx);
    let Some(change) = icmp_ingress(&env, &pkt, headers) else { return XDP_PASS };
    if change.action == flow_action::STACK {
        if !mark(ctx) {
            return XDP_PASS;
        }
        if change.write(&mut pkt, L3, 0).is_none() {
            return dropped(Counter::DropRewrite);
        }
        maps::count(Counter::IcmpTranslated);
        return XDP_PASS;
    }
    let Some(hop) = next_hop(ctx, change.dst, 0, 0) else { return XDP_PASS };
    if headers.ttl <= 1 {
        return dropped(Counter::DropTtl);
    }
    if change.write(&mut pkt, L3, 1).is_none() {
        return dropped(Counter::DropRewrite);
    }
    // Not before: what is left to TC is counted there.
    maps::count(Counter::IcmpTranslated);
    send(ctx, &hop)
}

/// The hop limit has run out.
#[inline(never)]
fn expired<A: IpVersion>(ctx: *mut xdp_md, headers: &Headers<A>) -> u32 {
    if !can_send(kernel(ctx).ifindex) {
        return XDP_PASS;
    }
    maps::count(Counter::DropTtl);
    match complaint(ctx, headers, Trouble::EXPIRED) {
        Some(()) => XDP_TX,
        None => XDP_DROP,
    }
}

#[inline(never)]
fn reject<A: IpVersion>(ctx: *mut xdp_md, headers: &Headers<A>) -> u32 {
    if !can_send(kernel(ctx).ifindex) {
        return XDP_PASS;
    }
    if headers.fragment == Fragment::Later {
        return XDP_DROP;
    }
    match answer(ctx, headers) {
        Some(()) => XDP_TX,
        None => XDP_DROP,
    }
}

#[inline(always)]
fn cut(ctx: *mut xdp_md, to: usize) -> Option<()> {
    // SAFETY: the context is the program's own; packet pointers are read afresh after this.
    if unsafe { bpf_xdp_adjust_tail(ctx, to as i32 - length(ctx) as i32) } == 0 { Some(()) } else { None }
}

#[inline(always)]
fn answer<A: IpVersion>(ctx: *mut xdp_md, headers: &Headers<A>) -> Option<()> {
    let mut pkt = XdpPacket(ctx);
    if headers.key.proto == proto::TCP {
        let about = refused(&pkt, L3, headers)?;
        cut(ctx, rst_length(headers))?;
        return rst(&mut pkt, L3, headers, about);
    }
    complaint(ctx, headers, Trouble::NO_PORT)
}

#[inline(always)]
fn complaint<A: IpVersion>(ctx: *mut xdp_md, headers: &Headers<A>, why: Trouble) -> Option<()> {
    let mut pkt = XdpPacket(ctx);
    let room = complaint_room(L3, headers)?;
    cut(ctx, complaint_length(headers))?;
    let addresses = pkt.words::<3>(0)?;
    let ethertype = pkt.half(12)?;
    // SAFETY: the context is the program's own; packet pointers are read afresh after this.
    if unsafe { bpf_xdp_adjust_head(ctx, -(room as i32)) } != 0 {
        return None;
    }
    pkt.store(0, addresses)?;
    pkt.store_half(12, ethertype)?;
    complain(&mut pkt, L3, headers, why)
}
