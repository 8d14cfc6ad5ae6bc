//! Filters on a clsact qdisc, for kernels without tcx. They have no pins: they are known by priority and handle.

use std::mem::ManuallyDrop;

use aya::programs::ProgramError;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};

use super::attach::{HookFailure, classifier};
use super::hook::Hook;
use crate::faults;
use crate::load::Programs;

/// The priority and handle of Sluice's filters: first, and found again without any pin.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0x51);

/// Takes Sluice's filters off a device, where there are any: unlike links they have no pins to remove.
pub fn detach_filters(device: &str) {
    for hook in Hook::TC {
        detach(device, hook);
    }
}

/// Takes Sluice's filter off a hook, if there is one.
pub(super) fn detach(device: &str, hook: Hook) {
    if faults::point("filter of clsact, remove").is_ok()
        && let Ok(link) = SchedClassifierLink::attached(device, hook.tc(), PRIORITY, HANDLE, None)
    {
        // Dropping it detaches the filter.
        drop(link);
    }
}

/// Puts a program in place of the filter that is there, or attaches a new one.
pub(super) fn attach(programs: &mut Programs, device: &str, hook: Hook, name: &'static str) -> Result<(), HookFailure> {
    let refused = |source| HookFailure::Attach { program: name, hook: hook.name(), source: Box::new(source) };
    let io_refused = |error| refused(ProgramError::IOError(error));
    let program = classifier(programs, name)?;
    faults::point("filter of clsact").map_err(io_refused)?;
    let former = SchedClassifierLink::attached(device, hook.tc(), PRIORITY, HANDLE, None).map_err(io_refused)?;
    let id = if let Ok(id) = program.attach_to_link(former) {
        id
    } else {
        // Nothing to replace: the qdisc or the filter is not there yet.
        if let Err(error) = qdisc_add_clsact(device) {
            tracing::debug!(device, %error, "clsact is there already");
        }
        let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
        program.attach_with_options(device, hook.tc(), TcAttachOptions::Netlink(options)).map_err(refused)?
    };
    // Dropping this kind of link detaches the filter, which has to outlive the agent.
    let _stays = ManuallyDrop::new(program.take_link(id).map_err(refused)?);
    Ok(())
}
