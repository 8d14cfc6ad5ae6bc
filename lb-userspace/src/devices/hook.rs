//! The places on a device where a program sees packets.

use aya::programs::TcAttachType;
use serde::Serialize;

use crate::linux::bpf_link;

/// A place on a device where a program sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// TC, packets that come from the device.
    Ingress,
    /// TC, packets that leave by the device.
    Egress,
    /// Native XDP.
    Xdp,
}

impl Hook {
    /// Both hooks of TC.
    pub const TC: [Self; 2] = [Self::Ingress, Self::Egress];

    /// Name, as in pins and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Xdp => "xdp",
        }
    }

    /// The attach type of its tcx links.
    pub(super) const fn tcx(self) -> u32 {
        match self {
            Self::Egress => bpf_link::TCX_EGRESS,
            Self::Ingress | Self::Xdp => bpf_link::TCX_INGRESS,
        }
    }

    pub(super) const fn tc(self) -> TcAttachType {
        match self {
            Self::Egress => TcAttachType::Egress,
            Self::Ingress | Self::Xdp => TcAttachType::Ingress,
        }
    }
}

/// How TC programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcMethod {
    /// tcx links, pinned: they are updated in place when an agent takes over.
    Tcx,
    /// Filters on a clsact qdisc at a fixed priority and handle.
    Clsact,
}

impl TcMethod {
    /// Name, as in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}
