//! Working memory of the slow path. A kernel program's stack is 512 bytes for a whole call chain, so what is larger
//! than a few words lives here: per-CPU map memory in the kernel, an ordinary value on the host.

use super::headers::Headers;
use super::schedule::choice::Choice;
use crate::abi::{Be16, FlowKey, FlowValue, HeldValue, Tally, Waiting};

/// All that a run of the slow path works with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Workspace<A> {
    /// The packet's headers.
    pub headers: Headers<A>,
    /// What is made of them.
    pub scratch: Scratch<A>,
    /// What becomes of the packet, see [`Watch::through_memory`](super::Watch::through_memory).
    pub outcome: u64,
}

/// Working memory of one slow-path run. Nothing in it outlives the run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Scratch<A> {
    /// The decided rewrite.
    pub forward: FlowValue<A>,
    /// The reverse entry of a new flow.
    pub(super) reverse: FlowValue<A>,
    /// The reverse entry's key.
    pub(super) reverse_key: FlowKey<A>,
    /// The frontend and the chosen backend.
    pub(super) choice: Choice<A>,
    /// The source port that may change hands.
    pub(super) idlest: Idlest,
    /// A fragment on its way to where it waits.
    pub(super) holding: Holding,
}

/// The port among those that were tried whose flow has been idle for longest. In memory of the slow path rather than in
/// registers: what the verifier does not follow through memory, it need not look at again for each value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Idlest {
    /// Ticks without a packet.
    pub(super) ticks: u32,
    /// The port.
    pub(super) port: Be16,
    /// Whether the port that is looked at has a flow to be removed.
    pub(super) over: u16,
}

/// A fragment on its way to where it waits for its first. In memory of the slow path, where the verifier does not follow
/// each value that it may have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holding {
    /// What waits of its datagram.
    pub(super) datagram: Waiting,
    /// What waits of its sender's.
    pub(super) sender: Waiting,
    /// The piece that was copied last.
    pub(super) piece: HeldValue,
}

impl Holding {
    /// Whether all pieces were copied.
    #[inline(always)]
    pub(super) const fn is_whole(&self) -> bool {
        self.piece.at + self.piece.length == self.piece.total
    }
}

impl<A: Copy + Default> Scratch<A> {
    /// Forgets the frontend of the packet before.
    #[inline(always)]
    pub(super) fn forget(&mut self) {
        self.choice.frontend.service = 0;
    }

    /// The packet goes no further: what is known of it is its Service.
    #[inline(always)]
    pub(super) fn end(&mut self) {
        self.forward = FlowValue { service: self.choice.frontend.service, ..FlowValue::default() };
    }

    /// The decided rewrite is an entry's. What the entry has gathered stays there.
    #[inline(always)]
    pub(super) fn rewrite_as(&mut self, entry: &FlowValue<A>) {
        self.forward = *entry;
        self.forward.tally = Tally::default();
    }
}
