//! What the data path decides about a packet.

/// Outcome of the first look-up.
#[derive(Clone, Copy, Debug)]
pub enum Fast<F> {
    /// An established flow: this entry says what to write.
    Hit(F),
    /// Nothing of ours.
    Pass,
    /// Not in the flow table: needs the slow path.
    Miss,
    /// Needs the slow path, whatever the flow table holds.
    Slow,
}

/// Outcome of the slow path. Reasons are counted already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave the packet as it is.
    Pass,
    /// Rewrite and forward as the scratch memory's `forward` says.
    Forward,
    /// Answer with RST (TCP) or port unreachable (UDP).
    Reject,
    /// Drop.
    Drop,
}
