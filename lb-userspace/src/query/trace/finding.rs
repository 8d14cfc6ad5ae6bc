//! What is wrong, or may be, on a packet's way.

use serde::Serialize;

/// How bad it is. The worse comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The packet does not arrive.
    Fails,
    /// It may not: that cannot be seen from here.
    Doubtful,
    /// It arrives, but this is worth knowing.
    Note,
}

impl Severity {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fails => "FAILS",
            Self::Doubtful => "DOUBTFUL",
            Self::Note => "note",
        }
    }
}

/// What it is. The order is that of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// No program of Sluice's is at the device.
    NoProgram,
    /// No frontend has the address, port and protocol.
    NotServed,
    /// Sluice refuses the packet.
    Refused,
    /// Sluice drops the packet.
    Dropped,
    /// No route.
    NoRoute,
    /// The device is down, or has no carrier.
    DeviceDown,
    /// The node does not forward.
    ForwardingOff,
    /// Strict reverse path filtering.
    ReversePath,
    /// The firewall drops the packet.
    FirewallDrop,
    /// The next hop does not answer for its hardware address.
    NoNeighbour,
    /// The packet is too large for its way.
    Mtu,
    /// The reply is not translated back.
    ReplyUntranslated,
    /// The firewall cannot be seen.
    FirewallUnseen,
}

impl Cause {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoProgram => "no program",
            Self::NotServed => "not a frontend",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::NoRoute => "no route",
            Self::DeviceDown => "device down",
            Self::ForwardingOff => "forwarding off",
            Self::ReversePath => "reverse path filter",
            Self::FirewallDrop => "firewall drop",
            Self::NoNeighbour => "no neighbour",
            Self::Mtu => "MTU",
            Self::ReplyUntranslated => "reply not translated",
            Self::FirewallUnseen => "firewall not seen",
        }
    }
}

/// Which of the two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From the client to the backend.
    Request,
    /// Back.
    Reply,
}

impl Way {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Reply => "reply",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// On which way.
    pub way: Way,
    /// What it is.
    pub cause: Cause,
    /// What was found.
    pub text: String,
    /// What to do.
    pub advice: String,
}

/// What one way was found to be: facts as lines, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) lines: Vec<(Way, String)>,
    pub(super) found: Vec<Finding>,
}

impl Findings {
    pub(super) fn line(&mut self, way: Way, text: impl Into<String>) {
        self.lines.push((way, text.into()));
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        way: Way,
        cause: Cause,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.found.push(Finding { severity, way, cause, text: text.into(), advice: advice.into() });
    }
}
