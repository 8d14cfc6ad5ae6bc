//! What the data path decides about a packet.

use super::icmp::IcmpRewrite;
use crate::abi::{Counter, FlowValue};

/// Outcome of the first look-up.
#[derive(Clone, Copy, Debug)]
pub enum Fast<F> {
    /// An established flow: this entry says what to write.
    Hit(F),
    /// Nothing of ours.
    Pass,
    /// Needs the slow path.
    Slow,
}

/// Outcome of the slow path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<A> {
    /// Leave the packet as it is.
    Pass,
    /// Rewrite and forward as this value says.
    Forward(FlowValue<A>),
    /// Rewrite an ICMP error, outside and inside.
    Icmp(IcmpRewrite<A>),
    /// Answer with RST (TCP) or port unreachable (UDP); counted already.
    Reject,
    /// Drop; counted already.
    Drop(Counter),
}
