//! Whether the node forwards packets at all: Pods are reached through its stack.

use std::fs;
use std::path::{Path, PathBuf};

use lb_common::abi::device_flag;
use serde::{Deserialize, Serialize};

use super::inventory::{Device, Inventory};
use super::plan::Plan;

/// Devices that are looked at in one go; with more of them each waits for its turn.
const AT_ONCE: usize = 128;
/// Devices that a warning names.
const NAMED: usize = 8;

/// What the node's settings say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forwarding {
    /// `net.ipv4.ip_forward`.
    pub v4: bool,
    /// `net.ipv6.conf.all.forwarding`.
    pub v6: bool,
    /// Devices from which IPv4 packets are not forwarded, though the node forwards.
    pub devices_off: Vec<String>,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self { v4: true, v6: true, devices_off: Vec::new() }
    }
}

impl Forwarding {
    /// The same, for people.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.v4 {
            warnings.push("net.ipv4.ip_forward is 0: IPv4 packets to Pods are not forwarded; set it to 1".into());
        }
        if !self.v6 {
            warnings
                .push("net.ipv6.conf.all.forwarding is 0: IPv6 packets to Pods are not forwarded; set it to 1".into());
        }
        if !self.devices_off.is_empty() {
            let more = self.devices_off.len().saturating_sub(NAMED);
            let names: Vec<&str> = self.devices_off.iter().take(NAMED).map(String::as_str).collect();
            let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
            warnings.push(format!(
                "net.ipv4.conf.DEVICE.forwarding is 0 for {}{and_more}: IPv4 packets that come in there are not \
                 forwarded; set it to 1",
                names.join(", ")
            ));
        }
        warnings
    }
}

/// Follows the settings. The kernel announces them, but not to those who use a library for it.
#[derive(Debug)]
pub(super) struct ForwardingWatch {
    root: PathBuf,
    /// The next device's turn.
    next: u32,
    now: Forwarding,
}

impl ForwardingWatch {
    pub(super) fn new() -> Self {
        Self::below(Path::new("/proc/sys"))
    }

    fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), next: 0, now: Forwarding::default() }
    }

    /// As of the last look.
    pub(super) const fn now(&self) -> &Forwarding {
        &self.now
    }

    /// Looks; whether something has changed.
    pub(super) fn look(&mut self, inventory: &Inventory, plan: &Plan) -> bool {
        let v4 = self.is_on("net/ipv4/ip_forward");
        let v6 = self.is_on("net/ipv6/conf/all/forwarding");
        let mut devices_off = self.now.devices_off.clone();
        // What is off for the node is off for its devices.
        let entering: Vec<&Device> = if v4 {
            inventory.devices.values().filter(|device| is_entered(device, plan)).collect()
        } else {
            Vec::new()
        };
        devices_off.retain(|name| entering.iter().any(|device| device.name == *name));
        let from = entering.iter().position(|device| device.index >= self.next).unwrap_or(0);
        let turn: Vec<&&Device> = entering.iter().cycle().skip(from).take(entering.len().min(AT_ONCE)).collect();
        for device in &turn {
            devices_off.retain(|name| *name != device.name);
            if !self.is_on(&format!("net/ipv4/conf/{}/forwarding", device.name)) {
                devices_off.push(device.name.clone());
            }
        }
        self.next = turn.last().map_or(0, |device| device.index + 1);
        devices_off.sort_unstable();
        let now = Forwarding { v4, v6, devices_off };
        let changed = now != self.now;
        self.now = now;
        changed
    }

    /// A setting that cannot be read, as without IPv6, is not off.
    fn is_on(&self, setting: &str) -> bool {
        fs::read(self.root.join(setting)).map_or(true, |value| value.first() != Some(&b'0'))
    }
}

/// Whether the stack has packets enter by this device: one that is served and is no bridge's port, or the bridge.
fn is_entered(device: &Device, plan: &Plan) -> bool {
    plan.get(&device.index).is_some_and(|planned| {
        let flags = planned.entry.flags;
        planned.has_entry() && flags & device_flag::PORT == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::plan::plan;
    use crate::devices::role_decider::RoleRules;
    use crate::devices::xdp_mode::XdpMode;

    fn set(root: &Path, setting: &str, value: &str) {
        let path = root.join(setting);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }

    fn node(pods: u32) -> (Inventory, Plan) {
        let mut inventory = Inventory::default();
        for index in 1..=pods {
            let (name, kind) = (format!("cali{index:04}"), Some("veth".to_owned()));
            let device =
                Device { index, name, kind, ethernet: true, up: true, peer_elsewhere: true, ..Device::default() };
            inventory.devices.insert(index, device);
        }
        let planned = plan(&inventory, &RoleRules::default(), XdpMode::Off);
        (inventory, planned)
    }

    #[test]
    fn settings_are_followed_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let (inventory, plan) = node(2);
        let mut watch = ForwardingWatch::below(root);
        assert!(!watch.look(&inventory, &plan), "what cannot be read is not off");
        set(root, "net/ipv4/ip_forward", "0");
        set(root, "net/ipv4/conf/cali0002/forwarding", "0");
        assert!(watch.look(&inventory, &plan));
        assert_eq!(watch.now().warnings().len(), 1, "{:?}", watch.now());
        assert!(watch.now().warnings()[0].contains("net.ipv4.ip_forward is 0"));
        set(root, "net/ipv4/ip_forward", "1");
        set(root, "net/ipv6/conf/all/forwarding", "0");
        assert!(watch.look(&inventory, &plan));
        let warnings = watch.now().warnings();
        assert!(warnings[0].contains("conf.all.forwarding is 0") && warnings[1].contains("cali0002:"), "{warnings:?}");
        set(root, "net/ipv6/conf/all/forwarding", "1");
        set(root, "net/ipv4/conf/cali0002/forwarding", "1");
        assert!(watch.look(&inventory, &plan));
        assert_eq!(*watch.now(), Forwarding::default());
        assert!(!watch.look(&inventory, &plan));
    }

    #[test]
    fn of_many_devices_each_has_its_turn_and_a_few_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (inventory, plan) = node(300);
        let mut watch = ForwardingWatch::below(dir.path());
        for index in [1, 150, 151, 152, 153, 154, 155, 156, 157, 300] {
            set(dir.path(), &format!("net/ipv4/conf/cali{index:04}/forwarding"), "0");
        }
        for _ in 0..3 {
            watch.look(&inventory, &plan);
        }
        assert_eq!(watch.now().devices_off.len(), 10);
        let warning = watch.now().warnings().remove(0);
        assert!(warning.contains("cali0001, cali0150") && warning.contains(" and 2 more:"), "{warning}");
    }
}
