//! Which program goes on which device and hook, and what `DEVICES` says of the device: decided from the facts
//! alone, before anything is touched.

use std::collections::BTreeMap;

use lb_common::abi::{DeviceValue, device_flag};

use super::hook::Hook;
use super::inventory::{Device, Inventory};
use super::role::{Decision, Role};
use super::role_decider::{RoleRules, decide, is_local, is_pair};
use super::xdp_mode::{XdpMode, xdp_wanted};

/// Programs of one kind of device, in the order in which they are attached.
#[derive(Debug, PartialEq, Eq)]
pub struct TcPrograms {
    /// Hook and program. Egress comes before ingress: a request is not translated while its reply would not be.
    pub hooks: [(Hook, &'static str); 2],
    /// Loaded when the agent starts, and it does not start without them. Others are loaded when there is such a device.
    pub at_start: bool,
}

/// Devices with Pods behind them.
pub const POD: TcPrograms =
    TcPrograms { hooks: [(Hook::Egress, "pod_egress"), (Hook::Ingress, "pod_ingress")], at_start: true };
/// Uplinks.
pub const UPLINK: TcPrograms =
    TcPrograms { hooks: [(Hook::Egress, "uplink_egress"), (Hook::Ingress, "uplink_ingress")], at_start: true };
/// Uplinks whose packets begin with the IP header (tun, `WireGuard`, IPIP).
pub const TUNNEL: TcPrograms =
    TcPrograms { hooks: [(Hook::Egress, "tunnel_egress"), (Hook::Ingress, "tunnel_ingress")], at_start: false };
/// All of them.
pub const TC_PROGRAMS: [&TcPrograms; 3] = [&POD, &UPLINK, &TUNNEL];
/// The XDP program for uplinks, loaded when an uplink can take it.
pub const XDP_PROGRAM: &str = "uplink_xdp";
/// The same without `BPF_F_XDP_HAS_FRAGS`, which kernels before 5.18 do not know.
pub const XDP_LINEAR_PROGRAM: &str = "uplink_xdp_linear";

/// Programs without which the agent does not start.
pub fn programs_at_start() -> Vec<&'static str> {
    let sets = TC_PROGRAMS.into_iter().filter(|set| set.at_start);
    sets.flat_map(|set| set.hooks).map(|(_, program)| program).collect()
}

/// What is to be done about native XDP on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdpPlan {
    /// It has no place there.
    No,
    /// It is not used, for this reason.
    LeaveToTc(String),
    /// It is attached if the driver can. `forced`: it is an error if it cannot.
    Attach {
        /// By `--xdp native`.
        forced: bool,
    },
}

/// What is to be done about one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// Its role, and why.
    pub decision: Decision,
    /// Programs for its TC hooks; `None`: nothing is attached.
    pub tc: Option<&'static TcPrograms>,
    /// Native XDP.
    pub xdp: XdpPlan,
    /// Its entry in `DEVICES`, without what depends on whether XDP is attached.
    pub entry: DeviceValue,
    /// XDP may redirect into it, once XDP is attached there.
    pub xdp_target: bool,
    /// For people.
    pub notes: Vec<String>,
}

impl DevicePlan {
    /// Whether programs look it up: those at its hooks, or those that see what enters by it as a bridge.
    pub fn has_entry(&self) -> bool {
        self.tc.is_some() || self.entry.flags & device_flag::BRIDGE != 0
    }
}

/// What is to be done about all devices, by index.
pub type Plan = BTreeMap<u32, DevicePlan>;

/// Decides for all devices.
pub fn plan(inventory: &Inventory, rules: &RoleRules, xdp: XdpMode) -> Plan {
    let decisions = decide(inventory, rules).into_iter();
    let planned = decisions.filter_map(|(index, decision)| {
        let device = inventory.devices.get(&index)?;
        Some((index, plan_device(inventory, device, decision, rules, xdp)))
    });
    planned.collect()
}

/// Programs of a plan's TC hooks.
pub fn tc_programs(plan: &Plan) -> Vec<&'static str> {
    plan.values().filter_map(|device| device.tc).flat_map(|set| set.hooks).map(|(_, program)| program).collect()
}

fn plan_device(
    inventory: &Inventory,
    device: &Device,
    decision: Decision,
    rules: &RoleRules,
    xdp: XdpMode,
) -> DevicePlan {
    let tc = match decision.role {
        Role::Ignored => None,
        Role::Pod => Some(&POD),
        Role::Uplink if device.ethernet => Some(&UPLINK),
        Role::Uplink => Some(&TUNNEL),
    };
    let xdp = match (decision.role, xdp_wanted(xdp, device)) {
        (Role::Pod | Role::Ignored, _) => XdpPlan::No,
        (Role::Uplink, Err(why)) => XdpPlan::LeaveToTc(why),
        (Role::Uplink, Ok(())) => XdpPlan::Attach { forced: xdp == XdpMode::Native },
    };
    let local = is_local(inventory, device, rules);
    let mut notes = Vec::new();
    if tc.is_some() {
        if let XdpPlan::LeaveToTc(why) = &xdp {
            notes.push(why.clone());
        }
        if local {
            notes.push("its clients count as local (--detect-local)".into());
        }
        if !device.ethernet {
            notes.push("packets have no Ethernet header".into());
        }
    }
    let mut entry = inventory.device_value(device.index, &rules.node_ips);
    entry.flags = role_flags(decision.role, device)
        | if local { device_flag::LOCAL } else { 0 }
        | if inventory.switch_of(device).is_some() { device_flag::PORT } else { 0 };
    if rules.any_source.iter().any(|pattern| pattern.matches(&device.name)) {
        entry.flags |= device_flag::ANY_SOURCE;
        if decision.role == Role::Pod {
            notes.push("its packets may have any source (--allow-foreign-sources)".into());
        }
    }
    if decision.role == Role::Ignored && device.is(&["bridge"]) {
        // What Pods send through the stack enters by their bridge. Nothing else of it counts.
        entry = DeviceValue { flags: device_flag::BRIDGE, ..DeviceValue::default() };
    }
    // A veth takes XDP frames only if its peer, which cannot be seen from here, runs XDP or GRO: there TC sends.
    let xdp_target = !device.is(&["veth"]);
    DevicePlan { decision, tc, xdp, entry, xdp_target, notes }
}

fn role_flags(role: Role, device: &Device) -> u32 {
    match role {
        Role::Ignored => 0,
        Role::Uplink => device_flag::UPLINK,
        Role::Pod if is_pair(device) && device.peer_elsewhere => device_flag::POD | device_flag::PEER,
        Role::Pod => device_flag::POD,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
