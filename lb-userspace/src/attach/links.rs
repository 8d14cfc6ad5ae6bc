//! Attaches programs to devices and keeps them there: pinned tcx and XDP links, clsact filters on older kernels.

use std::collections::BTreeMap;
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};
use aya::programs::xdp::{XdpLink, XdpMode as AyaXdpMode};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp};
use serde::Serialize;

use super::inventory::Device;
use super::link_info;
use super::pin_names::{device_of_pin, pin_name, remove_pin};
use crate::causes::with_causes;

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
    /// Name, as in pins and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Xdp => "xdp",
        }
    }

    const fn tc(self) -> TcAttachType {
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

/// Why a program is not attached.
#[derive(Debug, thiserror::Error)]
pub enum HookFailure {
    /// The object has no such program.
    #[error("the BPF object has no program {0}")]
    NoProgram(&'static str),
    /// The kernel refused.
    #[error("{program} at {hook}: {}", with_causes(&**source))]
    Attach {
        /// The program.
        program: &'static str,
        /// The hook.
        hook: &'static str,
        /// Cause.
        source: Box<ProgramError>,
    },
    /// The link is attached but cannot be kept.
    #[error("link {} cannot be pinned: {}", path.display(), with_causes(&**source))]
    Pin {
        /// The pin.
        path: PathBuf,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

#[derive(Debug)]
struct Attached {
    /// `None`: found pinned, and still running a former agent's program.
    program: Option<&'static str>,
    /// `None`: a clsact filter.
    pin: Option<PathBuf>,
    device: String,
}

/// The priority and handle of Sluice's clsact filters: first, and found again without any pin.
const CLSACT_PRIORITY: u16 = 1;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 0x51);

/// All attached programs of one agent.
#[derive(Debug)]
pub struct Links {
    directory: PathBuf,
    method: TcMethod,
    attached: BTreeMap<(u32, Hook), Attached>,
}

impl Links {
    /// Takes stock of the links that a former agent left pinned; those of vanished devices are removed.
    pub fn adopt(directory: &Path, method: TcMethod) -> io::Result<Self> {
        let mut attached = BTreeMap::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            match link_info::target(&path) {
                Ok(Some(target)) if target.ifindex != 0 => {
                    let device = device_of_pin(&path);
                    let found = Attached { program: None, pin: Some(path), device };
                    if let Some(double) = attached.insert((target.ifindex, target.hook), found) {
                        remove_pin(double.pin.as_deref());
                    }
                }
                Ok(Some(_)) => {
                    tracing::info!(pin = %path.display(), "removed the link of a device that is gone");
                    remove_pin(Some(&path));
                }
                Ok(None) => tracing::warn!(pin = %path.display(), "left alone: not a tcx or XDP link"),
                Err(error) => tracing::warn!(pin = %path.display(), %error, "left alone: cannot be read as a link"),
            }
        }
        Ok(Self { directory: directory.to_owned(), method, attached })
    }

    /// Notes that a former agent served this device: without links, its filters are only known by this.
    pub fn adopt_filters(&mut self, device: &Device) {
        if self.method == TcMethod::Clsact {
            for hook in [Hook::Ingress, Hook::Egress] {
                let found = Attached { program: None, pin: None, device: device.name.clone() };
                self.attached.entry((device.index, hook)).or_insert(found);
            }
        }
    }

    /// How TC programs are attached.
    pub fn method(&self) -> TcMethod {
        self.method
    }

    /// Makes sure that a program runs at a hook. A program that runs there already is replaced without a gap.
    pub fn ensure(
        &mut self,
        object: &mut Ebpf,
        device: &Device,
        hook: Hook,
        program: &'static str,
    ) -> Result<(), HookFailure> {
        let key = (device.index, hook);
        if self.running(device.index, hook) == Some(program) {
            self.follow_name(key, device);
            return Ok(());
        }
        if let Some(pin) = self.known_pin(device, hook) {
            match update(object, hook, program, &pin) {
                Ok(()) => {
                    let device = device.name.clone();
                    self.attached.insert(key, Attached { program: Some(program), pin: Some(pin), device });
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(device = device.name, hook = hook.name(), %error, "link is replaced by a new one");
                    self.attached.remove(&key);
                    remove_pin(Some(&pin));
                }
            }
        }
        let pin = if self.method == TcMethod::Clsact && hook != Hook::Xdp {
            attach_clsact(object, device, hook, program)?;
            None
        } else {
            let pin = self.free_pin(device, hook);
            attach_link(object, device, hook, program, &pin)?;
            Some(pin)
        };
        self.attached.insert(key, Attached { program: Some(program), pin, device: device.name.clone() });
        Ok(())
    }

    /// Whether this agent's program runs at a hook.
    pub fn running(&self, index: u32, hook: Hook) -> Option<&'static str> {
        self.attached.get(&(index, hook)).and_then(|a| a.program)
    }

    /// Detaches what is at a hook.
    pub fn remove(&mut self, index: u32, hook: Hook) {
        let Some(attached) = self.attached.remove(&(index, hook)) else { return };
        if attached.pin.is_some() {
            remove_pin(attached.pin.as_deref());
        } else if let Ok(link) =
            SchedClassifierLink::attached(&attached.device, hook.tc(), CLSACT_PRIORITY, CLSACT_HANDLE, None)
        {
            // Dropping it detaches the filter.
            drop(link);
        }
    }

    /// Forgets everything on devices other than these.
    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let gone: Vec<(u32, Hook)> = self.attached.keys().copied().filter(|(index, _)| !keep(*index)).collect();
        for key in gone {
            // A clsact filter went away with its device; its name may already be another device's.
            if let Some(attached) = self.attached.remove(&key) {
                remove_pin(attached.pin.as_deref());
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
        if !new.exists() && std::fs::rename(old, &new).is_ok() {
            attached.pin = Some(new);
        }
    }

    /// The pin of the link at this hook: our own, or that of another agent that overlaps with this one for a moment.
    fn known_pin(&self, device: &Device, hook: Hook) -> Option<PathBuf> {
        if let Some(attached) = self.attached.get(&(device.index, hook)) {
            return attached.pin.clone();
        }
        let path = self.directory.join(pin_name(&device.name, hook));
        let target = link_info::target(&path).ok().flatten()?;
        (target == link_info::LinkTarget { ifindex: device.index, hook }).then_some(path)
    }

    fn free_pin(&self, device: &Device, hook: Hook) -> PathBuf {
        let plain = self.directory.join(pin_name(&device.name, hook));
        if !plain.exists() {
            return plain;
        }
        if self.attached.values().all(|a| a.pin.as_deref() != Some(plain.as_path())) {
            remove_pin(Some(&plain));
            return plain;
        }
        // A device that was renamed still holds the name.
        self.directory.join(format!("{}:{}", pin_name(&device.name, hook), device.index))
    }
}

/// Takes Sluice's filters off a device, where there are any: unlike links they have no pins to remove.
pub fn detach_filters(device: &str) {
    for hook in [Hook::Ingress, Hook::Egress] {
        if let Ok(link) = SchedClassifierLink::attached(device, hook.tc(), CLSACT_PRIORITY, CLSACT_HANDLE, None) {
            // Dropping it detaches the filter.
            drop(link);
        }
    }
}

fn classifier<'o>(object: &'o mut Ebpf, name: &'static str) -> Result<&'o mut SchedClassifier, HookFailure> {
    object.program_mut(name).and_then(|p| p.try_into().ok()).ok_or(HookFailure::NoProgram(name))
}

fn xdp<'o>(object: &'o mut Ebpf, name: &'static str) -> Result<&'o mut Xdp, HookFailure> {
    object.program_mut(name).and_then(|p| p.try_into().ok()).ok_or(HookFailure::NoProgram(name))
}

/// Puts another program under a pinned link, atomically.
fn update(object: &mut Ebpf, hook: Hook, program: &'static str, pin: &Path) -> Result<(), HookFailure> {
    let unusable = |error: LinkError| HookFailure::Pin { path: pin.to_owned(), source: Box::new(error) };
    let refused = |source| HookFailure::Attach { program, hook: hook.name(), source: Box::new(source) };
    let link = FdLink::from(PinnedLink::from_pin(pin).map_err(unusable)?);
    // The pin keeps the link; the handles taken out here are dropped at once.
    if hook == Hook::Xdp {
        let program = xdp(object, program)?;
        let link = XdpLink::try_from(link).map_err(unusable)?;
        let id = program.attach_to_link(link).map_err(refused)?;
        program.take_link(id).map_err(refused)?;
    } else {
        let program = classifier(object, program)?;
        let link = SchedClassifierLink::try_from(link).map_err(unusable)?;
        let id = program.attach_to_link(link).map_err(refused)?;
        program.take_link(id).map_err(refused)?;
    }
    Ok(())
}

fn attach_link(
    object: &mut Ebpf,
    device: &Device,
    hook: Hook,
    name: &'static str,
    pin: &Path,
) -> Result<(), HookFailure> {
    let refused = |source| HookFailure::Attach { program: name, hook: hook.name(), source: Box::new(source) };
    let not_a_link = |error: LinkError| HookFailure::Pin { path: pin.to_owned(), source: Box::new(error) };
    let link: FdLink = if hook == Hook::Xdp {
        let program = xdp(object, name)?;
        let id = program.attach_to_if_index(device.index, AyaXdpMode::Driver).map_err(refused)?;
        program.take_link(id).map_err(refused)?.try_into().map_err(not_a_link)?
    } else {
        let program = classifier(object, name)?;
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(&device.name, hook.tc(), first).map_err(refused)?;
        program.take_link(id).map_err(refused)?.try_into().map_err(not_a_link)?
    };
    link.pin(pin).map(drop).map_err(|error| HookFailure::Pin { path: pin.to_owned(), source: Box::new(error) })
}

fn attach_clsact(object: &mut Ebpf, device: &Device, hook: Hook, name: &'static str) -> Result<(), HookFailure> {
    let refused = |source| HookFailure::Attach { program: name, hook: hook.name(), source: Box::new(source) };
    let io_refused = |error| refused(ProgramError::IOError(error));
    let program = classifier(object, name)?;
    let former = SchedClassifierLink::attached(&device.name, hook.tc(), CLSACT_PRIORITY, CLSACT_HANDLE, None)
        .map_err(io_refused)?;
    let id = if let Ok(id) = program.attach_to_link(former) {
        id
    } else {
        // Nothing to replace: the qdisc or the filter is not there yet.
        if let Err(error) = qdisc_add_clsact(&device.name) {
            tracing::debug!(device = device.name, %error, "clsact is there already");
        }
        let options = NlOptions { priority: CLSACT_PRIORITY, handle: CLSACT_HANDLE, classid: None };
        program.attach_with_options(&device.name, hook.tc(), TcAttachOptions::Netlink(options)).map_err(refused)?
    };
    // Dropping this kind of link detaches the filter, which has to outlive the agent.
    let _stays = ManuallyDrop::new(program.take_link(id).map_err(refused)?);
    Ok(())
}
