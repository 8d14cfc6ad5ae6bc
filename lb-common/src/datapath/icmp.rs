//! ICMP and ICMPv6 errors about flows of ours (RFC 792, RFC 4443): the addresses outside and the packet quoted inside
//! are translated as the flow's packets are, so that path MTU discovery and refusals reach the right end.

use super::checksum;
use super::egress::flip;
use super::env::Env;
use super::packet::{Packet, Store, word};
use super::parse::{Headers, IpVersion};
use crate::abi::{Address, Be16, Counter, FlowKey, FlowValue, flow_action, flow_kind, proto};

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
    pub l4: u16,
    /// Offset of the quoted network header.
    pub inner_l3: u16,
    /// Offset of the quoted transport header.
    pub inner_l4: u16,
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
    l3: u16,
    l4: u16,
}

#[inline(always)]
fn quoted<A: IpVersion, P: Packet>(pkt: &P, headers: &Headers<A>) -> Option<Quoted<A>> {
    let icmp = usize::from(headers.l4);
    let &[kind, ..] = pkt.bytes::<8>(icmp)?;
    let error = if A::IS_V6 { (1..=4).contains(&kind) } else { kind == 3 || kind == 11 || kind == 12 };
    if !error {
        return None;
    }
    let l3 = icmp + 8;
    let (src, dst, protocol, length) = A::quoted(pkt, l3)?;
    let l4 = l3 + length;
    if protocol != proto::TCP && protocol != proto::UDP {
        return None;
    }
    let ports = pkt.bytes::<8>(l4)?;
    Some(Quoted {
        key: FlowKey {
            src,
            dst,
            sport: Be16(word(ports[0], ports[1])),
            dport: Be16(word(ports[2], ports[3])),
            proto: protocol,
            pad: [0; 3],
        },
        l3: u16::try_from(l3).ok()?,
        l4: u16::try_from(l4).ok()?,
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
    env.count(Counter::IcmpTranslated);
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
    env.count(Counter::IcmpTranslated);
    Some(plan(headers, &quoted, &flow))
}

impl<A: IpVersion> IcmpRewrite<A> {
    /// Writes the translation. `None`: a part of the packet was not there.
    #[inline(always)]
    pub fn write<P: Store>(&self, pkt: &mut P, l3: usize) -> Option<()> {
        let l4 = usize::from(self.l4);
        let inner_l3 = usize::from(self.inner_l3);
        let inner_l4 = usize::from(self.inner_l4);
        // Sum of all changes inside the ICMP message.
        let mut message = checksum::add(self.inner_delta, self.port_delta);
        let both = message;
        let transport_sum = match self.inner_proto {
            proto::UDP => Some(inner_l4 + 6),
            // Present only where more than the obligatory eight bytes are quoted.
            _ => Some(inner_l4 + 16),
        };
        if let Some(at) = transport_sum
            && let Some(&[a, b]) = pkt.bytes::<2>(at)
            && word(a, b) != 0
        {
            let old = word(a, b);
            let new = checksum::update(old, both);
            message = checksum::add(message, checksum::delta(u64::from(old), u64::from(new)));
            pkt.store(at, new.to_ne_bytes())?;
        }
        let [s0, s1] = self.inner_sport.0.to_ne_bytes();
        let [d0, d1] = self.inner_dport.0.to_ne_bytes();
        pkt.store(inner_l4, [s0, s1, d0, d1])?;
        message = checksum::add(
            message,
            A::store_addresses(pkt, inner_l3, self.inner_src, self.inner_dst, self.inner_delta)?,
        );
        if A::IS_V6 {
            message = checksum::add(message, self.outer_delta);
        }
        let &[a, b] = pkt.bytes::<2>(l4 + 2)?;
        pkt.store(l4 + 2, checksum::update(word(a, b), message).to_ne_bytes())?;
        A::store_addresses(pkt, l3, self.src, self.dst, self.outer_delta)?;
        Some(())
    }
}
