//! What keeps Services from working and can be seen on the node, as warnings for people.

use super::inventory::Inventory;
use super::plan::Plan;
use super::role::Role;
use super::role_decider::{RoleRules, is_local};

/// All warnings.
pub(super) fn all(inventory: &Inventory, plan: &Plan, rules: &RoleRules) -> Vec<String> {
    let mut warnings = missing_uplinks(inventory, plan, rules);
    if rules.local.is_some() && !inventory.devices.values().any(|device| is_local(inventory, device, rules)) {
        warnings.push("--detect-local: no such device yet, every client counts as outside of the cluster".into());
    }
    warnings
}

fn missing_uplinks(inventory: &Inventory, plan: &Plan, rules: &RoleRules) -> Vec<String> {
    let is_there = |pattern: &glob::Pattern| inventory.devices.values().any(|device| pattern.matches(&device.name));
    let missing = rules.uplinks.iter().filter(|pattern| !is_there(pattern));
    let mut warnings: Vec<String> = missing.map(|pattern| format!("--uplink {pattern}: no such device yet")).collect();
    if rules.uplinks.is_empty() && !plan.values().any(|device| device.decision.role == Role::Uplink) {
        warnings.push("no uplink found: clients outside of the node are not served; name one with --uplink".into());
    }
    warnings
}
