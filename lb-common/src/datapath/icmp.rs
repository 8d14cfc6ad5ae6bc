//! ICMP and ICMPv6 errors about flows of ours (RFC 792, RFC 4443): the addresses outside and the packet quoted inside
//! are translated as the flow's packets are, so that path MTU discovery and refusals reach the right end.

use super::checksum;
use super::egress::flip;
use super::env::Env;
use super::ip::{IpVersion, QuotedIp};
use super::packet::{Packet, Store, first, join, second};
use super::parse::Headers;
use crate::abi::{Address, Be16, FlowKey, FlowValue, flow_action, flow_kind, proto};

/// A decided translation of an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpRewrite<A> {
    /// Outer source address to write.
    pub src: A,
    /// Outer destination address to write.
    pub dst: A,
    /// Quoted source address to write.
    pub inner_src: A,
    /// Quoted destination address to write.
    pub inner_dst: A,
    /// Quoted source port to write.
    pub inner_sport: Be16,
    /// Quoted destination port to write.
    pub inner_dport: Be16,
    /// What the outer addresses' change adds to a checksum.
    pub outer_delta: u16,
    /// What the quoted addresses' change adds to a checksum.
    pub inner_delta: u16,
    /// What the quoted ports' change adds to a checksum.
    pub port_delta: u16,
    /// Offset of the ICMP header.
    pub l4: u8,
    /// Offset of the quoted network header.
    pub inner_l3: u8,
    /// Offset of the quoted transport header.
    pub inner_l4: u8,
    /// Quoted protocol.
    pub inner_proto: u8,
    /// One of `flow_action`.
    pub action: u8,
    /// Device on which the flow's request came in.
    pub ifindex: u32,
}

/// The packet quoted in an ICMP error.
struct Quoted<A> {
    key: FlowKey<A>,
    l3: u8,
    l4: u8,
}

#[inline(always)]
fn quoted<A: IpVersion, P: Packet>(pkt: &P, headers: &Headers<A>) -> Option<Quoted<A>> {
    let icmp = usize::from(headers.l4);
    let [kind, _] = pkt.half(icmp)?.to_ne_bytes();
    let error = if A::IS_V6 { (1..=4).contains(&kind) } else { kind == 3 || kind == 11 || kind == 12 };
    if !error {
        return None;
    }
    let l3 = icmp + 8;
    let QuotedIp { src, dst, protocol, length } = A::quoted(pkt, l3)?;
    let l4 = l3 + length;
    if protocol != proto::TCP && protocol != proto::UDP {
        return None;
    }
    let [ports, _] = pkt.words::<2>(l4)?;
    Some(Quoted {
        key: FlowKey { src, dst, sport: Be16(first(ports)), dport: Be16(second(ports)), proto: protocol, pad: [0; 3] },
        l3: u8::try_from(l3).ok()?,
        l4: u8::try_from(l4).ok()?,
    })
}

#[inline(always)]
fn plan<A: Address>(headers: &Headers<A>, quoted: &Quoted<A>, value: &FlowValue<A>) -> IcmpRewrite<A> {
    let outer = headers.key;
    // The far end of the flow speaks for itself: hide it as its packets are hidden. A router in between stays who it
    // is, unless the flow leaves under another source anyway.
    let hide = outer.src == quoted.key.dst || (value.kind == flow_kind::FORWARD && value.action != flow_action::STACK);
    let src = if hide { value.src } else { outer.src };
    IcmpRewrite {
        src,
        dst: value.dst,
        inner_src: value.dst,
        inner_dst: value.src,
        inner_sport: value.dport,
        inner_dport: value.sport,
        outer_delta: checksum::delta(outer.src.sum() + outer.dst.sum(), src.sum() + value.dst.sum()),
        inner_delta: checksum::delta(quoted.key.src.sum() + quoted.key.dst.sum(), value.dst.sum() + value.src.sum()),
        port_delta: checksum::delta(
            u64::from(quoted.key.sport.0) + u64::from(quoted.key.dport.0),
            u64::from(value.dport.0) + u64::from(value.sport.0),
        ),
        l4: headers.l4,
        inner_l3: quoted.l3,
        inner_l4: quoted.l4,
        inner_proto: quoted.key.proto,
        action: value.action,
        ifindex: value.ifindex,
    }
}

#[inline(always)]
fn find<A: Address, E: Env<A>>(env: &E, key: &FlowKey<A>) -> Option<E::Flow> {
    match env.flow(key) {
        Some(flow) => Some(flow),
        None => env.embryo(key),
    }
}

/// An ICMP packet that comes in: an error about a reply to a client, or about a request under a lent address.
#[inline(always)]
pub fn icmp_ingress<A: IpVersion, E: Env<A>, P: Packet>(
    env: &E,
    pkt: &P,
    headers: &Headers<A>,
) -> Option<IcmpRewrite<A>> {
    let quoted = quoted(pkt, headers)?;
    let flow = find(env, &flip(&quoted.key))?;
    if flow.kind != flow_kind::FORWARD && flow.kind != flow_kind::REVERSE_SNAT {
        return None;
    }
    Some(plan(headers, &quoted, &flow))
}

/// An ICMP packet that leaves towards a client: an error about a translated request.
#[inline(always)]
pub fn icmp_egress<A: IpVersion, E: Env<A>, P: Packet>(
    env: &E,
    pkt: &P,
    headers: &Headers<A>,
) -> Option<IcmpRewrite<A>> {
    let quoted = quoted(pkt, headers)?;
    let flow = find(env, &quoted.key)?;
    if flow.kind != flow_kind::REVERSE {
        return None;
    }
    Some(plan(headers, &quoted, &flow))
}

impl<A: IpVersion> IcmpRewrite<A> {
    /// Writes the translation, which the caller counts, and takes `hops` off the hop limit. `None`: a part of the packet was not there.
    #[inline(always)]
    pub fn write<P: Store>(&self, pkt: &mut P, l3: usize, hops: u8) -> Option<()> {
        let l4 = usize::from(self.l4);
        let inner_l3 = usize::from(self.inner_l3);
        let inner_l4 = usize::from(self.inner_l4);
        // Sum of all changes inside the ICMP message.
        let mut message = checksum::add(self.inner_delta, self.port_delta);
        let both = message;
        // A TCP checksum is there only where more than the obligatory eight bytes are quoted.
        let transport_sum = if self.inner_proto == proto::UDP { inner_l4 + 6 } else { inner_l4 + 16 };
        if let Some(old) = pkt.half(transport_sum)
            && old != 0
        {
            let new = checksum::update(old, both);
            message = checksum::add(message, checksum::delta(u64::from(old), u64::from(new)));
            pkt.store_half(transport_sum, new)?;
        }
        pkt.store(inner_l4, [join(self.inner_sport.0, self.inner_dport.0)])?;
        let header = A::rewrite_quoted(pkt, inner_l3, self.inner_src, self.inner_dst, self.inner_delta)?;
        message = checksum::add(message, header);
        if A::IS_V6 {
            message = checksum::add(message, self.outer_delta);
        }
        let old = pkt.half(l4 + 2)?;
        pkt.store_half(l4 + 2, checksum::update(old, message))?;
        A::rewrite(pkt, l3, self.src, self.dst, self.outer_delta, hops)
    }
}
