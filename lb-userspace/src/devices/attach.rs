//! Attaches a program to a device by a pinned link, or puts it under the link that is there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::SchedClassifierLink;
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, SchedClassifier, Xdp};

use super::hook::Hook;
use super::inventory::Device;
use crate::causes::with_causes;
use crate::faults;
use crate::linux::bpf_link;
use crate::load::{ProgramFailure, Programs};

/// Why a program is not attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookFailure {
    /// There is no such program in the kernel.
    #[error(transparent)]
    Program(#[from] ProgramFailure),
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

impl HookFailure {
    /// The kernel had no memory: another time it may have.
    pub(super) fn lacks_memory(&self) -> bool {
        let Self::Attach { source, .. } = self else { return false };
        let error = match &**source {
            ProgramError::IOError(error) => error,
            ProgramError::SyscallError(failed) => &failed.io_error,
            _ => return false,
        };
        error.kind() == ErrorKind::OutOfMemory
    }
}

pub(super) fn classifier<'o>(
    programs: &'o mut Programs,
    name: &'static str,
) -> Result<&'o mut SchedClassifier, HookFailure> {
    programs.ready(name)?;
    programs.get_mut(name).and_then(|p| p.try_into().ok()).ok_or(HookFailure::Program(ProgramFailure::Missing { name }))
}

fn xdp<'o>(programs: &'o mut Programs, name: &'static str) -> Result<&'o mut Xdp, HookFailure> {
    programs.ready(name)?;
    programs.get_mut(name).and_then(|p| p.try_into().ok()).ok_or(HookFailure::Program(ProgramFailure::Missing { name }))
}

/// Puts another program under a pinned link, atomically.
pub(super) fn update(
    programs: &mut Programs,
    hook: Hook,
    program: &'static str,
    pin: &Path,
) -> Result<(), HookFailure> {
    let unusable = |error: LinkError| HookFailure::Pin { path: pin.to_owned(), source: Box::new(error) };
    let refused = |source| HookFailure::Attach { program, hook: hook.name(), source: Box::new(source) };
    let link = FdLink::from(PinnedLink::from_pin(pin).map_err(unusable)?);
    faults::point("link of a device, update").map_err(|error| refused(ProgramError::IOError(error)))?;
    // The pin keeps the link; the handles taken out here are dropped at once.
    if hook == Hook::Xdp {
        let program = xdp(programs, program)?;
        let link = XdpLink::try_from(link).map_err(unusable)?;
        let id = program.attach_to_link(link).map_err(refused)?;
        program.take_link(id).map_err(refused)?;
    } else {
        let program = classifier(programs, program)?;
        let link = SchedClassifierLink::try_from(link).map_err(unusable)?;
        let id = program.attach_to_link(link).map_err(refused)?;
        program.take_link(id).map_err(refused)?;
    }
    Ok(())
}

/// Attaches a program by a new link, and pins it.
pub(super) fn attach_link(
    programs: &mut Programs,
    device: &Device,
    hook: Hook,
    name: &'static str,
    pin: &Path,
) -> Result<(), HookFailure> {
    let refused = |source| HookFailure::Attach { program: name, hook: hook.name(), source: Box::new(source) };
    let not_a_link = |error: LinkError| HookFailure::Pin { path: pin.to_owned(), source: Box::new(error) };
    let no_pin = |source| HookFailure::Pin { path: pin.to_owned(), source };
    if hook == Hook::Xdp {
        let program = xdp(programs, name)?;
        faults::point("link of XDP, create").map_err(|error| refused(ProgramError::IOError(error)))?;
        let id = program.attach_to_if_index(device.index, XdpMode::Driver).map_err(refused)?;
        let link: FdLink = program.take_link(id).map_err(refused)?.try_into().map_err(not_a_link)?;
        faults::point("link of XDP, pin").map_err(|error| no_pin(Box::new(error)))?;
        return link.pin(pin).map(drop).map_err(|error| no_pin(Box::new(error)));
    }
    let program = classifier(programs, name)?.fd().map_err(refused)?;
    let created = bpf_link::create_tcx(program, device.index, hook.tcx());
    let link = created.map_err(|error| refused(ProgramError::IOError(error)))?;
    bpf_link::pin(&link, pin).map_err(|error| no_pin(Box::new(error)))
}
