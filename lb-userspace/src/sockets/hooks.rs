//! Hooks on the socket calls of a cgroup's processes: their programs and pinned links.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, Program, ProgramError};

use super::hook_plan::{SocketMode, SocketReport, SocketSettings};
use super::reach::nobody_served;
use crate::causes::with_causes;
use crate::devices::{Told, Upkeep};
use crate::faults;
use crate::linux::{bpf_link, kernel_version};
use crate::load::socket_pins::{self, HOOKS};
use crate::load::{Loaded, Programs};

/// What tells of backends that leave sockets unanswered.
const OPS_HOOK: &str = "socket_ops";
/// An attachment that failed is tried once more after this.
const AGAIN: Duration = Duration::from_millis(50);
/// Programs that keep processes off `NodePort`s.
const BIND_HOOKS: [&str; 2] = ["bind4", "bind6"];

/// Programs that sockets with these settings need, to be loaded with those of devices.
pub fn programs_at_start(settings: &SocketSettings) -> Vec<&'static str> {
    match settings.mode {
        SocketMode::Off => Vec::new(),
        _ => needed(settings).chain(told(settings)).collect(),
    }
}

/// Hooks without which sockets are not served as asked.
fn needed(settings: &SocketSettings) -> impl Iterator<Item = &'static str> {
    let bind: &[&str] = if settings.protect_node_ports { &BIND_HOOKS } else { &[] };
    HOOKS.iter().chain(bind).copied()
}

/// The hook that tells of silent backends, where that is asked.
fn told(settings: &SocketSettings) -> Option<&'static str> {
    settings.tell_silence.then_some(OPS_HOOK)
}

/// Keeps the hooks in place while the agent runs, and sees whom they reach.
#[derive(Debug)]
pub struct SocketHooks {
    cgroup: PathBuf,
    hooks: Vec<(&'static str, PathBuf)>,
}

impl Upkeep for SocketHooks {
    fn look(&mut self, programs: &mut Programs) -> (Told, Vec<String>) {
        let mut told = Told { not_served: nobody_served(&self.cgroup).into_iter().collect(), warnings: Vec::new() };
        let mut missing = Vec::new();
        let opened = File::open(&self.cgroup).and_then(|dir| Ok((dir.metadata()?.ino(), dir)));
        let (id, dir) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                told.warnings.push(format!("socket hooks: cgroup {}: {error}", self.cgroup.display()));
                return (told, missing);
            }
        };
        for (hook, pin) in &self.hooks {
            let program = programs.id(hook);
            let in_place = bpf_link::info(pin).is_ok_and(|info| {
                info.kind == bpf_link::LINK_TYPE_CGROUP && info.cgroup == id && Some(info.program) == program
            });
            if !in_place {
                match ensure(programs, &dir, hook, pin) {
                    Ok(()) => missing.push(format!("socket hook {hook}")),
                    Err(why) => told.warnings.push(format!("socket hook {hook} is gone: {why}")),
                }
            }
        }
        (told, missing)
    }
}

impl SocketReport {
    /// What keeps the hooks in place. `root`: where everything is pinned.
    pub fn upkeep(&self, root: &Path) -> Option<Box<dyn Upkeep>> {
        let cgroup = self.cgroup.clone().filter(|_| !self.hooks.is_empty())?;
        let id = fs::metadata(&cgroup).ok()?.ino();
        let in_place = HOOKS
            .iter()
            .chain(&BIND_HOOKS)
            .chain([&OPS_HOOK])
            .filter(|hook| self.hooks.iter().any(|known| known == **hook));
        let hooks = in_place.map(|hook| (*hook, socket_pins::path(root, id, hook))).collect();
        Some(Box::new(SocketHooks { cgroup, hooks }))
    }

    /// Decides what to do, puts the hooks in place, and takes away what a former agent left elsewhere.
    pub fn attach(loaded: &mut Loaded, settings: &SocketSettings) -> Self {
        let mut report = Self::plan(settings);
        report.carry_out(&mut loaded.programs, &loaded.directories.root, settings);
        if !kernel_version::can_refuse_sockets() {
            report.notes.push(
                "sockets are not refused, their packets are: those of the node itself are dropped (needs Linux 5.18)"
                    .into(),
            );
        }
        report
    }

    fn carry_out(&mut self, programs: &mut Programs, root: &Path, settings: &SocketSettings) {
        let pins = &root.join(socket_pins::FOLDER);
        if let Err(error) = fs::create_dir_all(pins) {
            self.errors.push(format!("{}: {error}", pins.display()));
            return;
        }
        let mut kept = Vec::new();
        if let (Some(cgroup), true) = (self.cgroup.clone(), self.mode != SocketMode::Off) {
            match File::open(&cgroup).and_then(|dir| Ok((dir.metadata()?.ino(), dir))) {
                Ok((id, dir)) => {
                    programs.load(&programs_at_start(settings));
                    for hook in needed(settings).chain(told(settings)) {
                        let pin = socket_pins::path(root, id, hook);
                        match ensure_again(programs, &dir, hook, &pin) {
                            Ok(()) => self.hooks.push(hook.into()),
                            Err(why) if hook == OPS_HOOK => self.notes.push(format!(
                                "backends that leave sockets unanswered are not found out, those that leave packets so \
                                 are: {hook} at {}: {why}",
                                cgroup.display()
                            )),
                            Err(why) => self.errors.push(format!("{hook} at {}: {why}", cgroup.display())),
                        }
                        kept.push(pin);
                    }
                }
                Err(error) => self.errors.push(format!("{}: {error}", cgroup.display())),
            }
        }
        remove_others(pins, &kept);
        self.log();
    }

    fn log(&self) {
        for error in &self.errors {
            tracing::error!("socket hooks: {error}");
        }
        for note in &self.notes {
            tracing::warn!("socket hooks: {note}");
        }
        if let (Some(cgroup), false) = (&self.cgroup, self.hooks.is_empty()) {
            tracing::info!(cgroup = %cgroup.display(), mode = self.mode.name(), hooks = self.hooks.len(), "socket hooks");
        }
    }
}

fn remove_others(pins: &Path, kept: &[PathBuf]) {
    for entry in fs::read_dir(pins).into_iter().flatten().flatten() {
        let path = entry.path();
        if !kept.contains(&path)
            && let Err(error) = faults::point("link of a cgroup, remove").and_then(|()| fs::remove_file(&path))
        {
            tracing::warn!(pin = %path.display(), %error, "pin of a former socket hook cannot be removed");
        }
    }
}

/// The same as [`ensure`], and once more: hooks are attached at the start only, and the kernel may lack memory for a moment.
fn ensure_again(programs: &mut Programs, cgroup: &File, hook: &'static str, pin: &Path) -> Result<(), String> {
    ensure(programs, cgroup, hook, pin).or_else(|_first| {
        thread::sleep(AGAIN);
        ensure(programs, cgroup, hook, pin)
    })
}

/// Makes sure that a hook runs this agent's program: a pinned link gets it without a gap.
fn ensure(programs: &mut Programs, cgroup: &File, hook: &'static str, pin: &Path) -> Result<(), String> {
    programs.ready(hook).map_err(|failure| failure.to_string())?;
    let program = programs.get_mut(hook).ok_or("the BPF object has no such program")?;
    let fd = program.fd().map_err(|error| with_causes(&error))?.try_clone().map_err(|error| error.to_string())?;
    if let Ok(link) = bpf_link::open(pin) {
        match bpf_link::update(&link, &fd) {
            Ok(()) => return Ok(()),
            // The program that is there goes on: a new link would be a gap.
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => return Err(error.to_string()),
            Err(error) => {
                tracing::warn!(hook, %error, "link of a former agent is replaced by a new one");
                let removed = faults::point("link of a cgroup, remove").and_then(|()| fs::remove_file(pin));
                removed.map_err(|error| error.to_string())?;
            }
        }
    }
    faults::point("link of a cgroup, create").map_err(|error| error.to_string())?;
    let link = attach(program, cgroup).map_err(|error| {
        let in_the_way = match &error {
            ProgramError::SyscallError(failed) if failed.io_error.kind() == io::ErrorKind::PermissionDenied => {
                " (another program may be attached there, or above, that allows no second one)"
            }
            _ => "",
        };
        format!("{}{in_the_way}", with_causes(&error))
    })?;
    faults::point("link of a cgroup, pin").map_err(|error| error.to_string())?;
    link.pin(pin).map(drop).map_err(|error| error.to_string())
}

/// A link needs no flags for others to attach beside it.
fn attach(program: &mut Program, cgroup: &File) -> Result<FdLink, ProgramError> {
    let link = match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, CgroupAttachMode::Single)?;
            FdLink::try_from(program.take_link(id)?)
        }
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, CgroupAttachMode::Single)?;
            FdLink::try_from(program.take_link(id)?)
        }
        Program::SockOps(program) => {
            let id = program.attach(cgroup, CgroupAttachMode::Single)?;
            FdLink::try_from(program.take_link(id)?)
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    link.map_err(|_not_a_link| ProgramError::UnexpectedProgramType)
}
