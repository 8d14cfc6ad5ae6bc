//! Whether the programs in the kernel and the host's adapter have done the same.

use std::ops::RangeInclusive;

use lb_common::abi::Counter;
use lb_common::testkit::{Action, Family, HostNode, Node, Outcome};

use crate::node::KernelNode;

/// Whether a packet fared alike. The next hop's Ethernet addresses are the adapter's business.
pub(crate) fn fared_alike(expected: &Outcome, got: &Outcome) -> bool {
    let skip = if expected.action == Action::Route { 14 } else { 0 };
    expected.action == got.action && expected.bytes.get(skip..) == got.bytes.get(skip..)
}

/// Whether flows, counters and these backends' traffic are the same; what differs, if anything does.
pub(crate) fn ended_alike<A: Family>(
    host: &mut HostNode<A>,
    kernel: &mut KernelNode<'_>,
    backends: RangeInclusive<u32>,
) -> Result<(), String>
where
    for<'a> KernelNode<'a>: Node<A>,
{
    let (expected, got) = (host.flows(), Node::<A>::flows(kernel));
    if expected != got {
        return Err(format!("flows: host {expected:?}, kernel {got:?}"));
    }
    for counter in Counter::ALL {
        let (expected, got) = (host.counter(*counter), Node::<A>::counter(kernel, *counter));
        if expected != got {
            return Err(format!("{}: host {expected}, kernel {got}", counter.name()));
        }
    }
    for backend in backends {
        // When a flow counts what it has gathered is a matter of time.
        let expected = host.stats(backend).plus(&host.gathered(backend));
        let got = Node::<A>::stats(kernel, backend).plus(&Node::<A>::gathered(kernel, backend));
        if expected != got {
            return Err(format!("backend {backend}: host {expected:?}, kernel {got:?}"));
        }
    }
    Ok(())
}
