//! Which programs run where: pinned tcx and XDP links, and clsact filters on older kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::attach::{self, HookFailure};
use super::clsact;
use super::hook::{Hook, TcMethod};
use super::inventory::Device;
use super::link_target::{self, LinkTarget};
use super::pin_names::{device_of_pin, pin_name, remove_pin};
use crate::faults;
use crate::linux::bpf_link;
use crate::load::Programs;

/// Whether the kernel has a program at a hook, asked by the device's number in this network namespace.
fn is_in_place(programs: &mut Programs, (index, hook): (u32, Hook), attached: &Attached) -> bool {
    let (Some(pin), Some(id)) = (&attached.pin, attached.program.and_then(|name| programs.id(name))) else {
        return true;
    };
    if hook == Hook::Xdp {
        return bpf_link::info(pin).is_ok_and(|info| info.ifindex == index && info.program == id);
    }
    match bpf_link::links_at(index, hook.tcx()) {
        Ok(links) => links.iter().any(|(_, program)| *program == id),
        Err(error) => error.raw_os_error() == Some(libc::EINVAL),
    }
}

/// Whether a pinned link is at a hook of this network namespace's device.
fn is_at(pin: &Path, (index, hook): (u32, Hook)) -> bool {
    let Ok(info) = bpf_link::info(pin) else { return false };
    if info.ifindex != index || hook == Hook::Xdp {
        return info.ifindex == index;
    }
    bpf_link::links_at(index, hook.tcx()).is_ok_and(|links| links.iter().any(|(link, _)| *link == info.id))
}

#[derive(Debug)]
struct Attached {
    /// `None`: found pinned, and still running a former agent's program.
    program: Option<&'static str>,
    /// `None`: a clsact filter.
    pin: Option<PathBuf>,
    device: String,
}

/// All attached programs of one agent.
#[derive(Debug)]
pub(super) struct Links {
    directory: PathBuf,
    method: TcMethod,
    attached: BTreeMap<(u32, Hook), Attached>,
    /// Pins that could not be removed yet.
    left: Vec<PathBuf>,
}

impl Links {
    /// Takes stock of the links that a former agent left pinned; those of vanished devices are removed.
    pub(super) fn adopt(directory: &Path, method: TcMethod) -> io::Result<Self> {
        let (mut attached, mut left) = (BTreeMap::new(), Vec::new());
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            match link_target::of_pin(&path) {
                Ok(Some(target)) if target.ifindex != 0 => {
                    let device = device_of_pin(&path);
                    let found = Attached { program: None, pin: Some(path), device };
                    if let Some(double) = attached.insert((target.ifindex, target.hook), found) {
                        left.extend(double.pin.filter(|pin| !remove_pin(pin)));
                    }
                }
                Ok(Some(_)) => {
                    tracing::info!(pin = %path.display(), "removed the link of a device that is gone");
                    if !remove_pin(&path) {
                        left.push(path);
                    }
                }
                Ok(None) => tracing::warn!(pin = %path.display(), "left alone: not a tcx or XDP link"),
                Err(error) => tracing::warn!(pin = %path.display(), %error, "left alone: cannot be read as a link"),
            }
        }
        Ok(Self { directory: directory.to_owned(), method, attached, left })
    }

    /// Notes that a former agent served this device: without links, its filters are only known by this.
    pub(super) fn adopt_filters(&mut self, device: &Device) {
        if self.method == TcMethod::Clsact {
            for hook in [Hook::Ingress, Hook::Egress] {
                let found = Attached { program: None, pin: None, device: device.name.clone() };
                self.attached.entry((device.index, hook)).or_insert(found);
            }
        }
    }

    /// How TC programs are attached.
    pub(super) fn method(&self) -> TcMethod {
        self.method
    }

    /// Makes sure that a program runs at a hook. A program that runs there already is replaced without a gap.
    pub(super) fn ensure(
        &mut self,
        programs: &mut Programs,
        device: &Device,
        hook: Hook,
        program: &'static str,
    ) -> Result<(), HookFailure> {
        let key = (device.index, hook);
        if self.running(device.index, hook) == Some(program) {
            self.follow_name(key, device);
            return Ok(());
        }
        // A program that the kernel refuses does not cost the device the one that runs.
        programs.ready(program)?;
        if let Some(pin) = self.known_pin(device, hook) {
            match attach::update(programs, hook, program, &pin) {
                Ok(()) => {
                    let device = device.name.clone();
                    self.attached.insert(key, Attached { program: Some(program), pin: Some(pin), device });
                    return Ok(());
                }
                // The program that is there goes on: a new link would be a gap.
                Err(error) if error.lacks_memory() => return Err(error),
                Err(error) => {
                    tracing::warn!(device = device.name, hook = hook.name(), %error, "link is replaced by a new one");
                    self.attached.remove(&key);
                    self.remove_pin(pin);
                }
            }
        }
        let pin = if self.method == TcMethod::Clsact && hook != Hook::Xdp {
            clsact::attach(programs, &device.name, hook, program)?;
            None
        } else {
            let pin = self.free_pin(device, hook);
            attach::attach_link(programs, device, hook, program, &pin)?;
            Some(pin)
        };
        self.attached.insert(key, Attached { program: Some(program), pin, device: device.name.clone() });
        Ok(())
    }

    /// Whether this agent's program runs at a hook.
    pub(super) fn running(&self, index: u32, hook: Hook) -> Option<&'static str> {
        self.attached.get(&(index, hook)).and_then(|a| a.program)
    }

    /// Detaches what is at a hook.
    pub(super) fn remove(&mut self, index: u32, hook: Hook) {
        let Some(attached) = self.attached.remove(&(index, hook)) else { return };
        match attached.pin {
            Some(pin) => self.remove_pin(pin),
            None => clsact::detach(&attached.device, hook),
        }
    }

    fn remove_pin(&mut self, pin: PathBuf) {
        if !remove_pin(&pin) {
            self.left.push(pin);
        }
    }

    /// Tries again to remove what could not be removed; whether something is left. A pin that is in use again stays.
    pub(super) fn remove_left(&mut self) -> bool {
        let used = |pin: &PathBuf| self.attached.values().any(|attached| attached.pin.as_ref() == Some(pin));
        let left: Vec<PathBuf> = self.left.iter().filter(|pin| !used(pin) && !remove_pin(pin)).cloned().collect();
        self.left = left;
        !self.left.is_empty()
    }

    /// Forgets everything on devices other than these.
    pub(super) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let gone: Vec<(u32, Hook)> = self.attached.keys().copied().filter(|(index, _)| !keep(*index)).collect();
        for key in gone {
            // A clsact filter went away with its device; its name may already be another device's.
            if let Some(pin) = self.attached.remove(&key).and_then(|attached| attached.pin) {
                self.remove_pin(pin);
            }
        }
    }

    /// Pins carry the device's name for people; after a renaming they follow when the new name is free.
    fn follow_name(&mut self, key: (u32, Hook), device: &Device) {
        let Some(attached) = self.attached.get_mut(&key) else { return };
        if attached.device == device.name {
            return;
        }
        attached.device.clone_from(&device.name);
        let Some(old) = &attached.pin else { return };
        let new = self.directory.join(pin_name(&device.name, key.1));
        let renamed = || faults::point("link, rename").and_then(|()| std::fs::rename(old, &new));
        if !new.exists() && renamed().is_ok() {
            attached.pin = Some(new);
        }
    }

    /// Looks whether the kernel runs what is remembered, on these devices or on all. What it does not run is forgotten, so
    /// that it is attached again. Gives the devices and hooks.
    pub(super) fn look(&mut self, programs: &mut Programs, only: Option<&BTreeSet<u32>>) -> Vec<(u32, Hook)> {
        let is_meant = |index: u32| only.is_none_or(|only| only.contains(&index));
        let ours = self.attached.iter().filter(|((index, _), attached)| is_meant(*index) && attached.program.is_some());
        let lost: Vec<(u32, Hook)> =
            ours.filter(|(key, attached)| !is_in_place(programs, **key, attached)).map(|(key, _)| *key).collect();
        for key in &lost {
            if let Some(attached) = self.attached.get_mut(key) {
                attached.program = None;
            }
        }
        lost
    }

    /// Forgets a device that is gone: one with its number is another one.
    pub(super) fn forget(&mut self, index: u32) {
        self.retain(|known| known != index);
    }

    /// The pin of the link at this hook: this agent's, or that of another one that overlaps with this one for a moment.
    fn known_pin(&mut self, device: &Device, hook: Hook) -> Option<PathBuf> {
        let key = (device.index, hook);
        if let Some(attached) = self.attached.get(&key) {
            let pin = attached.pin.clone()?;
            if is_at(&pin, key) {
                return Some(pin);
            }
            // The device that it was on is gone, or in another namespace under the same number.
            self.attached.remove(&key);
            self.remove_pin(pin);
            return None;
        }
        let path = self.directory.join(pin_name(&device.name, hook));
        let target = link_target::of_pin(&path).ok().flatten()?;
        (target == LinkTarget { ifindex: device.index, hook } && is_at(&path, key)).then_some(path)
    }

    fn free_pin(&self, device: &Device, hook: Hook) -> PathBuf {
        let plain = self.directory.join(pin_name(&device.name, hook));
        if !plain.exists() {
            return plain;
        }
        if self.attached.values().all(|a| a.pin.as_deref() != Some(plain.as_path())) && remove_pin(&plain) {
            return plain;
        }
        // A device that was renamed still holds the name.
        self.directory.join(format!("{}:{}", pin_name(&device.name, hook), device.index))
    }
}
