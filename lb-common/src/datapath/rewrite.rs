//! Writes a decided rewrite into a packet: addresses, ports, checksums, hop limit.

use super::frame::Frame;
use super::headers::Headers;
use super::transport;
use crate::abi::FlowValue;
use crate::wire::bytes::join;
use crate::wire::{Fragment, IpVersion};

/// Rewrites a packet as a flow says, and takes `hops` off the hop limit. `None`: the packet is too short.
#[inline(always)]
pub(super) fn rewrite<A: IpVersion, F: Frame>(
    frame: &mut F,
    headers: &Headers<A>,
    value: &FlowValue<A>,
    hops: u8,
) -> Option<()> {
    let l4 = usize::from(headers.l4);
    let addresses = (value.src, value.dst);
    if headers.fragment == Fragment::Later {
        return A::rewrite(frame, F::L3, addresses, value.addr_delta, hops, None);
    }
    let (field, optional) = transport::checksum_field(headers.key.proto);
    frame.patch_checksum(l4 + field, value.addr_delta, value.port_delta, optional, A::IS_V6)?;
    let ports = join(value.sport.0, value.dport.0);
    // Without options addresses and ports lie side by side: one store, which costs an skb one call.
    if l4 == F::L3 + A::HEADER {
        return A::rewrite(frame, F::L3, addresses, value.addr_delta, hops, Some(ports));
    }
    frame.put_u32s(l4, [ports])?;
    A::rewrite(frame, F::L3, addresses, value.addr_delta, hops, None)
}
