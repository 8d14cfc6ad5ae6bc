//! What is behind a device, and why Sluice takes it for that.

use serde::{Deserialize, Serialize};

/// What is behind a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Pods.
    Pod,
    /// The outside, or other nodes.
    Uplink,
    /// Nothing that Sluice serves; no program is attached.
    #[default]
    Ignored,
}

impl Role {
    /// As in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Uplink => "uplink",
            Self::Ignored => "ignored",
        }
    }
}

/// A role and its reason, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The role.
    pub role: Role,
    /// Why.
    pub why: String,
}
