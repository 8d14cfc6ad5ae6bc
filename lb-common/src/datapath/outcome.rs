//! What the data path decides about a packet, and why.

use crate::abi::Counter;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict {
    /// Goes on through the kernel's stack, rewritten or not.
    Pass,
    /// Dropped.
    Drop,
    /// Back out of the device that it came by.
    Bounce,
    /// Out by [`Outcome::ifindex`].
    Redirect,
    /// To the other end of [`Outcome::ifindex`], past the host's stack.
    RedirectPeer,
    /// Not decided yet: the program for rare packets has to look.
    Later,
}

/// Why. A value, so that adapters, tests and traces name it; [`Reason::counter_index`] leads to what operators see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Reason(u32);

/// Reasons from here on are not counted.
const UNCOUNTED: u32 = 1 << 16;

impl Reason {
    /// Does not belong to Sluice.
    pub const NOT_SERVED: Self = Self(UNCOUNTED);
    /// Not a protocol that is translated, or headers that cannot be read.
    pub const OTHER_PROTOCOL: Self = Self(UNCOUNTED + 1);
    /// A later fragment whose first was not seen.
    pub const FRAGMENT_ALONE: Self = Self(UNCOUNTED + 2);
    /// Another Sluice program has seen to it, or will.
    pub const SEEN_ELSEWHERE: Self = Self(UNCOUNTED + 3);
    /// This program cannot do it; the one behind it can.
    pub const HANDED_OVER: Self = Self(UNCOUNTED + 4);
    /// Translated.
    pub const TRANSLATED: Self = Self(UNCOUNTED + 5);
    /// TCP that began before Sluice, left to the stack (`--takeover`).
    pub const TAKEOVER: Self = Self(UNCOUNTED + 6);
    /// Addressed to another host, or to several.
    pub const OTHER_HOST: Self = Self(UNCOUNTED + 10);
    /// No working memory: does not happen.
    pub const NO_MEMORY: Self = Self(UNCOUNTED + 7);
    /// TCP without a flow, to an address that the node's stack answers for.
    pub const NODE_ADDRESS: Self = Self(UNCOUNTED + 9);
    /// Translated, and the first packet of its flow.
    pub const NEW_FLOW: Self = Self(UNCOUNTED + 11);

    /// A reason that is counted.
    #[inline(always)]
    pub const fn counted(counter: Counter) -> Self {
        Self(counter.index())
    }

    /// Index of the counter, if it is counted.
    #[inline(always)]
    pub const fn counter_index(self) -> Option<u32> {
        if self.0 < UNCOUNTED { Some(self.0) } else { None }
    }

    /// Whether it is this one.
    #[inline(always)]
    pub(super) const fn is(self, other: Self) -> bool {
        self.0 == other.0
    }

    /// Whether the packet was translated.
    pub const fn is_translated(self) -> bool {
        self.is(Self::TRANSLATED) || self.is(Self::NEW_FLOW)
    }

    /// As events have it.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The reason with this number.
    pub const fn of_number(number: u32) -> Self {
        Self(number)
    }

    /// Name for people: a counter's, or a short phrase.
    pub fn name(self) -> &'static str {
        match self {
            Self::NOT_SERVED => "does not belong to Sluice",
            Self::OTHER_PROTOCOL => "not a protocol that is translated",
            Self::FRAGMENT_ALONE => "later fragment without its first",
            Self::SEEN_ELSEWHERE => "another program of Sluice's sees to it",
            Self::HANDED_OVER => "left to the program behind",
            Self::TRANSLATED => "translated",
            Self::NEW_FLOW => "new_flow",
            Self::OTHER_HOST => "addressed to another host",
            Self::TAKEOVER => "began before Sluice",
            Self::NO_MEMORY => "no working memory",
            Self::NODE_ADDRESS => "without a flow, left to the node's stack",
            Self(index) => crate::abi::counter_name(index).unwrap_or("unknown"),
        }
    }
}

impl From<Counter> for Reason {
    #[inline(always)]
    fn from(counter: Counter) -> Self {
        Self::counted(counter)
    }
}

/// A verdict with its reason, and the device that a redirected packet goes to.
///
/// One machine word: a kernel program's functions have five arguments, and a larger result would take one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Outcome(u64);

/// Where verdict and reason begin in an outcome's word; the device is below.
const VERDICT: u32 = 56;
const REASON: u32 = 32;
/// Bits of a reason.
const REASON_MASK: u64 = 0xff_ffff;

#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "packs and unpacks fields of known widths")]
impl Outcome {
    #[inline(always)]
    const fn new(verdict: Verdict, ifindex: u32, reason: Reason) -> Self {
        Self((verdict as u64) << VERDICT | (reason.0 as u64 & REASON_MASK) << REASON | ifindex as u64)
    }

    /// What becomes of the packet.
    #[inline(always)]
    pub const fn verdict(self) -> Verdict {
        match self.0 >> VERDICT {
            0 => Verdict::Pass,
            1 => Verdict::Drop,
            2 => Verdict::Bounce,
            3 => Verdict::Redirect,
            4 => Verdict::RedirectPeer,
            _ => Verdict::Later,
        }
    }

    /// The device that a redirected packet goes to.
    #[inline(always)]
    pub const fn ifindex(self) -> u32 {
        self.0 as u32
    }

    /// Why.
    #[inline(always)]
    pub const fn reason(self) -> Reason {
        Reason((self.0 >> REASON & REASON_MASK) as u32)
    }

    /// The packet goes on.
    #[inline(always)]
    pub(super) const fn pass(reason: Reason) -> Self {
        Self::new(Verdict::Pass, 0, reason)
    }

    /// The packet is dropped.
    #[inline(always)]
    pub(super) const fn drop(counter: Counter) -> Self {
        Self::new(Verdict::Drop, 0, Reason::counted(counter))
    }

    /// The program for rare packets has to look.
    #[inline(always)]
    pub(super) const fn later() -> Self {
        Self::new(Verdict::Later, 0, Reason::HANDED_OVER)
    }

    /// The packet leaves.
    #[inline(always)]
    pub(super) const fn leave(verdict: Verdict, ifindex: u32, reason: Reason) -> Self {
        Self::new(verdict, ifindex, reason)
    }

    /// As one number.
    #[inline(always)]
    pub(super) const fn word(self) -> u64 {
        self.0
    }

    /// From [`Self::word`].
    #[inline(always)]
    pub(super) const fn of_word(word: u64) -> Self {
        Self(word)
    }

    /// The same for another reason.
    #[inline(always)]
    pub(super) const fn because(self, reason: Reason) -> Self {
        Self(self.0 & !(REASON_MASK << REASON) | (reason.0 as u64 & REASON_MASK) << REASON)
    }
}

/// What the look-ups in the flow tables say of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fast<F> {
    /// A flow's ordinary packet: this entry says what to write.
    Hit(F),
    /// Does not belong to Sluice.
    Pass,
    /// Needs the slow path.
    Slow,
}

/// What the slow path decided, and why, in one machine word; the rewrite of [`Step::Translate`] is in the working memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Decision(u64);

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    /// Leave it as it is.
    Pass,
    /// Rewrite and forward.
    Translate,
    /// Answer with RST (TCP) or port unreachable.
    Refuse,
    /// Drop.
    Drop,
}

#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "packs and unpacks two words")]
impl Decision {
    pub(super) const PASS: Self = Self::new(Step::Pass, Reason::NOT_SERVED);
    pub(super) const TRANSLATE: Self = Self::new(Step::Translate, Reason::TRANSLATED);
    /// The same for the first packet of a flow.
    pub(super) const BEGIN: Self = Self::new(Step::Translate, Reason::NEW_FLOW);
    /// TCP that began before Sluice.
    pub(super) const LEAVE_TO_STACK: Self = Self::new(Step::Pass, Reason::TAKEOVER);
    /// TCP without a flow, to an address of the node.
    pub(super) const NODE_ADDRESS: Self = Self::new(Step::Pass, Reason::NODE_ADDRESS);

    #[inline(always)]
    const fn new(step: Step, reason: Reason) -> Self {
        Self((step as u64) << 32 | reason.0 as u64)
    }

    #[inline(always)]
    pub(super) const fn refuse(counter: Counter) -> Self {
        Self::new(Step::Refuse, Reason::counted(counter))
    }

    #[inline(always)]
    pub(super) const fn drop(counter: Counter) -> Self {
        Self::new(Step::Drop, Reason::counted(counter))
    }

    /// Not decided yet.
    pub(super) const OPEN: Self = Self(u64::MAX);
    /// A flow is drafted, and is to begin.
    pub(super) const DRAFTED: Self = Self(u64::MAX - 1);

    /// The decision, if it is one.
    #[inline(always)]
    pub(super) const fn settled(self) -> Option<Self> {
        if self.0 == Self::OPEN.0 { None } else { Some(self) }
    }

    #[inline(always)]
    pub(super) const fn step(self) -> Step {
        match self.0 >> 32 {
            0 => Step::Pass,
            1 => Step::Translate,
            2 => Step::Refuse,
            _ => Step::Drop,
        }
    }

    #[inline(always)]
    pub(super) const fn reason(self) -> Reason {
        Reason(self.0 as u32)
    }
}
