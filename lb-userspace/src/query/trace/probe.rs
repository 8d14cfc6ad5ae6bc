//! A packet at the firewall, and what becomes of it there.

/// A hook of netfilter on a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetHook {
    /// Before the route is looked up.
    Prerouting,
    /// To the node itself.
    Input,
    /// Through the node.
    Forward,
    /// From the node itself.
    Output,
    /// About to leave.
    Postrouting,
}

impl NetHook {
    /// As iptables calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }

    /// `NF_INET_...`
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// Bits of a packet's state of connection tracking.
pub(super) mod tracked {
    /// Belongs to no connection, and begins none.
    pub(crate) const INVALID: u32 = 1;
    /// Of a connection that was answered.
    pub(crate) const ESTABLISHED: u32 = 2;
    /// Begins a connection.
    pub(crate) const NEW: u32 = 8;
}

/// A packet at the firewall.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<'a> {
    /// From the network header on.
    pub(super) packet: &'a [u8],
    /// IPv6.
    pub(super) v6: bool,
    /// Where the transport header begins.
    pub(super) l4: usize,
    /// Its protocol.
    pub(super) protocol: u8,
    /// Device by which it came in.
    pub(super) iif: Option<(u32, &'a str)>,
    /// Device by which it leaves.
    pub(super) oif: Option<(u32, &'a str)>,
    /// One of [`tracked`].
    pub(super) state: u32,
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It goes on.
    Accepts,
    /// It is dropped or rejected, by this chain's policy or rule.
    Drops(String),
    /// It may be dropped there: that cannot be seen from outside.
    MayDrop(String),
}

/// Whether a rule's expressions so far match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    Maybe,
}

impl Match {
    pub(super) const fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}
