//! Carries a plan out: brings hooks and the entries of `DEVICES` in line with it, and remembers what came of it.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{HashMap, MapData, MapError};
use lb_common::abi::{DeviceValue, device_flag};

use super::hook::{Hook, TcMethod};
use super::inventory::{Device, Inventory};
use super::links::Links;
use super::plan::{DevicePlan, Plan, TcPrograms, XDP_LINEAR_PROGRAM, XDP_PROGRAM, XdpPlan};
use crate::faults;
use crate::load::{Feature, ProgramFailure, Programs};

/// What came of a device's plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) errors: Vec<String>,
    pub(super) notes: Vec<String>,
    /// Trying again may help.
    pub(super) retry: bool,
}

/// Holds what is attached.
#[derive(Debug)]
pub(super) struct Applier {
    programs: Programs,
    links: Links,
    devices: HashMap<MapData, u32, DeviceValue>,
    written: BTreeMap<u32, DeviceValue>,
    outcomes: BTreeMap<u32, Outcome>,
    /// The program for XDP, once an uplink has asked for it.
    xdp: Option<Result<&'static str, String>>,
    /// Devices on which native XDP was tried in vain, with the reason.
    without_xdp: BTreeMap<u32, String>,
}

impl Applier {
    /// `devices`: the map `DEVICES`.
    pub(super) fn new(programs: Programs, links: Links, devices: HashMap<MapData, u32, DeviceValue>) -> Self {
        Self {
            programs,
            links,
            devices,
            written: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            xdp: None,
            without_xdp: BTreeMap::new(),
        }
    }

    /// The entries of a former agent: those of vanished devices are removed, the others say where filters may be.
    pub(super) fn take_over_entries(&mut self, inventory: &Inventory) {
        let found: Vec<(u32, DeviceValue)> = self.devices.iter().filter_map(Result::ok).collect();
        for (index, value) in found {
            if let Some(device) = inventory.devices.get(&index) {
                self.links.adopt_filters(device);
            }
            // One that is not served is taken out by the first plan.
            self.written.insert(index, value);
        }
    }

    /// How TC programs are attached.
    pub(super) fn method(&self) -> TcMethod {
        self.links.method()
    }

    /// The program that runs at a hook.
    pub(super) fn running(&self, index: u32, hook: Hook) -> Option<&'static str> {
        self.links.running(index, hook)
    }

    /// Looks whether what is remembered is so, on these devices or on all: programs at their hooks, and entries of `DEVICES`.
    /// What is not is forgotten, so that the next [`Applier::apply`] repairs it. Says what was missing, for people.
    pub(super) fn look(&mut self, inventory: &Inventory, only: Option<&BTreeSet<u32>>) -> Vec<String> {
        let name = |index: u32| inventory.devices.get(&index).map_or("", |device| &device.name);
        let lost = self.links.look(&mut self.programs, only);
        let mut missing: Vec<String> =
            lost.iter().map(|(index, hook)| format!("program at {} {}", name(*index), hook.name())).collect();
        let is_meant = |index: u32| only.is_none_or(|only| only.contains(&index));
        let differs = |(index, value): &(&u32, &DeviceValue)| {
            is_meant(**index) && self.devices.get(*index, 0).ok().as_ref() != Some(*value)
        };
        let changed: Vec<u32> = self.written.iter().filter(differs).map(|(index, _)| *index).collect();
        for index in changed {
            self.written.remove(&index);
            missing.push(format!("entry of {} in DEVICES", name(index)));
        }
        missing
    }

    /// Forgets devices that are gone: those with their numbers are others.
    pub(super) fn forget(&mut self, gone: &BTreeSet<u32>) {
        for index in gone {
            self.links.forget(*index);
            self.without_xdp.remove(index);
            self.outcomes.remove(index);
        }
    }

    /// The programs.
    pub(super) const fn programs(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// What came of the plan of this device.
    pub(super) fn outcome(&self, index: u32) -> Option<&Outcome> {
        self.outcomes.get(&index)
    }

    /// That the kernel refuses XDP, once an uplink has asked for it.
    pub(super) fn xdp_refusal(&self) -> Option<Feature> {
        let why = self.xdp.as_ref()?.as_ref().err()?;
        Some(Feature { name: "uplink_xdp".into(), found: false, used: format!("TC on uplinks: {why}") })
    }

    /// Carries the plan out, whose TC programs are loaded. Says whether something failed that may go well another time.
    pub(super) async fn apply(&mut self, plan: &Plan, inventory: &Inventory) -> bool {
        self.forget_gone(inventory);
        let mut retry = false;
        for device in inventory.devices.values() {
            let Some(planned) = plan.get(&device.index) else { continue };
            let outcome = match planned.tc {
                Some(programs) => self.serve(device, planned, programs),
                None => self.leave(device, planned),
            };
            retry |= outcome.retry;
            self.outcomes.insert(device.index, outcome);
            // The kernel waits for a grace period in each new attachment, some 10 ms: let other tasks run.
            tokio::task::yield_now().await;
        }
        let served = |index: &u32| plan.get(index).is_some_and(DevicePlan::has_entry);
        let unserved: Vec<u32> = self.written.keys().copied().filter(|index| !served(index)).collect();
        for index in unserved {
            retry |= !self.remove_entry(index);
        }
        retry | self.links.remove_left()
    }

    fn forget_gone(&mut self, inventory: &Inventory) {
        let is_there = |index: &u32| inventory.devices.contains_key(index);
        self.links.retain(|index| is_there(&index));
        self.without_xdp.retain(|index, _| is_there(index));
        self.outcomes.retain(|index, _| is_there(index));
    }

    fn leave(&mut self, device: &Device, planned: &DevicePlan) -> Outcome {
        for hook in [Hook::Xdp, Hook::Ingress, Hook::Egress] {
            self.links.remove(device.index, hook);
        }
        let mut outcome = Outcome::default();
        if planned.has_entry() {
            self.write_entry(device, planned, &mut outcome);
        }
        outcome
    }

    fn serve(&mut self, device: &Device, planned: &DevicePlan, programs: &TcPrograms) -> Outcome {
        let mut outcome = Outcome { notes: planned.notes.clone(), ..Outcome::default() };
        // The programs look the device up: its entry comes first.
        self.write_entry(device, planned, &mut outcome);
        for (hook, program) in programs.hooks {
            if let Err(error) = self.ensure(device, hook, program) {
                if !self.outcomes.get(&device.index).is_some_and(|last| last.errors.contains(&error)) {
                    tracing::warn!(device = device.name, error, "not attached");
                }
                outcome.retry = true;
                outcome.errors.push(error);
            }
        }
        if let XdpPlan::Attach { forced } = planned.xdp {
            if let Err(why) = self.attach_xdp(device) {
                if forced { &mut outcome.errors } else { &mut outcome.notes }.push(why);
            }
        } else {
            self.links.remove(device.index, Hook::Xdp);
        }
        // Now it is known whether XDP may redirect into the device.
        self.write_entry(device, planned, &mut outcome);
        outcome
    }

    fn ensure(&mut self, device: &Device, hook: Hook, program: &'static str) -> Result<(), String> {
        let before = self.links.running(device.index, hook);
        self.links.ensure(&mut self.programs, device, hook, program).map_err(|error| error.to_string())?;
        if before != Some(program) {
            tracing::info!(device = device.name, hook = hook.name(), program, "attached");
        }
        Ok(())
    }

    /// `Err`: why XDP is not used. It is not tried again: what the driver cannot do now, it cannot do later.
    fn attach_xdp(&mut self, device: &Device) -> Result<(), String> {
        if let Some(why) = self.without_xdp.get(&device.index) {
            return Err(why.clone());
        }
        let attached = self.xdp_program().and_then(|program| self.ensure(device, Hook::Xdp, program));
        attached.map_err(|error| {
            let why = format!("native XDP is not used, TC does its work: {error}");
            tracing::info!(device = device.name, "{why}");
            self.without_xdp.insert(device.index, why.clone());
            why
        })
    }

    fn xdp_program(&mut self) -> Result<&'static str, String> {
        if self.xdp.is_none() {
            let found = match self.programs.ready(XDP_PROGRAM) {
                // The kernel does not know the program's flag.
                Err(ProgramFailure::Refused { unread: true, .. }) => {
                    self.programs.ready(XDP_LINEAR_PROGRAM).map(|()| XDP_LINEAR_PROGRAM)
                }
                other => other.map(|()| XDP_PROGRAM),
            };
            let found = found.map_err(|failure| failure.to_string());
            self.xdp = Some(found.inspect_err(|error| tracing::warn!(error, "XDP is not used")));
        }
        self.xdp.clone().unwrap_or(Err(String::new()))
    }

    fn write_entry(&mut self, device: &Device, planned: &DevicePlan, outcome: &mut Outcome) {
        let mut value = planned.entry;
        if planned.xdp_target && self.links.running(device.index, Hook::Xdp).is_some() {
            value.flags |= device_flag::XDP_TARGET;
        }
        if self.written.get(&device.index) == Some(&value) {
            return;
        }
        let written = faults::point("DEVICES").map_err(MapError::IoError);
        match written.and_then(|()| self.devices.insert(device.index, value, 0)) {
            Ok(()) => {
                self.written.insert(device.index, value);
            }
            Err(error) => {
                let message = format!("no entry in DEVICES: {error}");
                tracing::warn!(device = device.name, "{message}");
                outcome.retry = true;
                outcome.errors.push(message);
            }
        }
    }

    /// False: the entry is still there, and known.
    fn remove_entry(&mut self, index: u32) -> bool {
        let allowed = faults::point("DEVICES").map_err(MapError::IoError);
        let removed = match allowed.and_then(|()| self.devices.remove(&index)) {
            Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(failed)) if failed.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        };
        match removed {
            Ok(()) => {
                self.written.remove(&index);
                true
            }
            Err(error) => {
                tracing::warn!(index, %error, "the entry of a device cannot be removed from DEVICES, trying again");
                false
            }
        }
    }
}
