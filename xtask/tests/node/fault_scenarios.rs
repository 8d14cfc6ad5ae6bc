//! What happens to an agent, and what it does meanwhile.

/// What happens at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed.
    Die,
    /// The kernel has no memory, once.
    Fail,
    /// The thread stays there for good.
    Hang,
}

impl Fault {
    pub(crate) const ALL: [Self; 3] = [Self::Die, Self::Fail, Self::Hang];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Die => "die",
            Self::Fail => "fail",
            Self::Hang => "hang",
        }
    }
}

/// What an agent does meanwhile. Each goes one way and then the other, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// It starts where nothing is pinned.
    Start,
    /// It starts where another one was, and Services have changed since; sockets move.
    Restart,
    /// It runs, and Services change; sockets move.
    Batch,
    /// It runs, and a Pod's device comes, or goes.
    Device,
    /// It starts with other sizes of maps.
    Upgrade,
    /// `sluice cleanup`.
    Cleanup,
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] =
        [Self::Start, Self::Restart, Self::Batch, Self::Device, Self::Upgrade, Self::Cleanup];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Batch => "batch",
            Self::Device => "device",
            Self::Upgrade => "upgrade",
            Self::Cleanup => "cleanup",
        }
    }

    /// A command for people that hangs is ended by them.
    pub(crate) fn has(self, fault: Fault) -> bool {
        self != Self::Cleanup || fault != Fault::Hang
    }

    /// Whether it is the same each time, rather than one way and then the other.
    pub(crate) const fn is_one_way(self) -> bool {
        self.is_outage()
    }

    /// Whether nothing is served meanwhile.
    pub(crate) const fn is_outage(self) -> bool {
        matches!(self, Self::Start | Self::Cleanup)
    }

    /// Whether it begins when an agent has its first full state.
    pub(crate) const fn is_change(self) -> bool {
        matches!(self, Self::Batch | Self::Device)
    }
}
