//! What is attached where and why, for the agent's report and its metrics.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::forwarding::Forwarding;
use super::role::Role;
use crate::load::{Feature, MapSizeNote};

/// Repairs that are named.
const LAST_REPAIRS: usize = 4;

/// What is attached where, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachReport {
    /// Devices of the network namespace, by index.
    pub devices: Vec<DeviceReport>,
    /// Devices that did not fit into the report.
    pub devices_left_out: usize,
    /// What the kernel offers and what is done because of it.
    pub features: Vec<Feature>,
    /// Maps whose pinned capacity differs from the wanted one.
    pub map_sizes: Vec<MapSizeNote>,
    /// Clients that are not served, and why.
    pub not_served: Vec<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Whether the node forwards packets.
    pub forwarding: Forwarding,
    /// What was missing and is there again.
    pub repairs: Repairs,
}

/// What was attached, was gone when the kernel was asked, and was attached again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repairs {
    /// How many things since the agent's start.
    pub count: u64,
    /// The last ones.
    pub last: Vec<String>,
    /// When, in nanoseconds since the epoch; 0: never.
    pub last_ns: u64,
}

impl Repairs {
    /// Notes what was missing, now; whether anything was.
    pub(super) fn note(&mut self, missing: Vec<String>) -> bool {
        if missing.is_empty() {
            return false;
        }
        for what in missing.iter().take(LAST_REPAIRS) {
            tracing::warn!("{what} was gone or another's: put back");
        }
        self.count += u64::try_from(missing.len()).unwrap_or(0);
        self.last = missing;
        self.last.truncate(LAST_REPAIRS);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        true
    }
}

impl AttachReport {
    /// Leaves out ignored devices; whether there were any.
    pub fn leave_out_ignored(&mut self) -> bool {
        let before = self.devices.len();
        self.devices.retain(|device| device.role != Role::Ignored);
        self.left_out(before)
    }

    /// Leaves out half of the devices, from the end; whether there were any.
    pub fn leave_out_half(&mut self) -> bool {
        let before = self.devices.len();
        self.devices.truncate(before / 2);
        self.left_out(before)
    }

    const fn left_out(&mut self, before: usize) -> bool {
        let left_out = before - self.devices.len();
        self.devices_left_out += left_out;
        left_out > 0
    }
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind as the kernel calls it (`veth`, `vxlan`, ...); `physical` for a device without one.
    pub kind: String,
    /// Role.
    pub role: Role,
    /// Why it has this role.
    pub why: String,
    /// Programs attached.
    pub hooks: Vec<HookReport>,
    /// Choices made for this device, such as why XDP is not used.
    pub notes: Vec<String>,
    /// What failed, with its cause.
    pub errors: Vec<String>,
}

/// One attached program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookReport {
    /// `ingress`, `egress` or `xdp`.
    pub hook: Cow<'static, str>,
    /// Program name.
    pub program: Cow<'static, str>,
    /// `tcx`, `clsact` or `native`.
    pub how: Cow<'static, str>,
}
