//! The object's programs: handed to the verifier when they are needed, several side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use aya::Ebpf;
use aya::programs::{Program, ProgramError};

use super::retry::retry;
use super::stages::{SecondStage, enter_into, second_stages};
use crate::causes::with_causes;
use crate::faults;

/// Why a program is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramFailure {
    /// The object lacks it.
    #[error("the BPF object has no program {name} of the right type")]
    Missing {
        /// The program.
        name: &'static str,
    },
    /// The kernel refused it.
    #[error("the kernel refused program {name}: {reason}")]
    Refused {
        /// The program.
        name: &'static str,
        /// Errno and the end of the verifier's log.
        reason: String,
        /// The verifier had no look at it: the kernel does not know one of its flags.
        unread: bool,
    },
}

/// Programs of one object. What was loaded, or refused, is not tried again.
#[derive(Debug)]
pub struct Programs {
    object: Ebpf,
    tried: BTreeMap<&'static str, Result<(), ProgramFailure>>,
    /// Numbers of programs, as far as they were asked for.
    ids: BTreeMap<&'static str, u32>,
    /// Second stages for IPv6 are left for later.
    without_v6: bool,
    /// Second stages do not take the places of former ones yet: an upgrade is under way.
    held_back: bool,
}

impl Programs {
    pub(super) fn new(object: Ebpf) -> Self {
        Self { object, tried: BTreeMap::new(), ids: BTreeMap::new(), without_v6: false, held_back: false }
    }

    /// Keeps second stages from the places of a former agent's until the end of an upgrade.
    pub(super) const fn hold_back(&mut self) {
        self.held_back = true;
    }

    /// That is the end: they take their places.
    pub(super) fn take_places(&mut self) {
        self.held_back = false;
        let loaded: Vec<&'static str> =
            self.tried.iter().filter(|(_, tried)| tried.is_ok()).map(|(name, _)| *name).collect();
        for name in loaded {
            if let Err(failure) = self.join_second_stages(name) {
                self.tried.insert(name, Err(failure));
            }
        }
    }

    /// Loads those of these programs that were not tried yet, and their second stages: that is most of the time that an
    /// agent takes to start.
    pub fn load(&mut self, names: &[&'static str]) {
        let first: Vec<&'static str> = names.iter().copied().filter(|name| !self.tried.contains_key(name)).collect();
        let second = first.iter().flat_map(|name| self.second_stages(name)).map(|stage| stage.program);
        let wanted = first.iter().copied().chain(second).filter(|name| !self.tried.contains_key(name)).collect();
        self.verify(&wanted);
        for name in first {
            if let Err(failure) = self.join_second_stages(name) {
                self.tried.insert(name, Err(failure));
            }
        }
    }

    /// Leaves the second stages for IPv6 for later, as long as they are not loaded: half of the verifier's work, and on a
    /// node without an IPv6 address no packet waits for it.
    pub fn postpone_v6(&mut self) {
        self.without_v6 = true;
    }

    /// Loads what was left for later. Returns what the kernel refused.
    pub fn load_postponed(&mut self) -> Vec<ProgramFailure> {
        if !std::mem::take(&mut self.without_v6) {
            return Vec::new();
        }
        let loaded = self.tried.iter().filter(|(_, tried)| tried.is_ok()).map(|(name, _)| *name);
        let first: Vec<&'static str> = loaded.filter(|name| !second_stages(name).is_empty()).collect();
        let second = first.iter().flat_map(|name| second_stages(name)).map(|stage| stage.program);
        let wanted = second.filter(|name| !self.tried.contains_key(name)).collect();
        self.verify(&wanted);
        let failures: Vec<_> = first.iter().filter_map(|name| self.join_second_stages(name).err()).collect();
        // Two hooks may share one.
        let mut told = BTreeSet::new();
        failures.into_iter().filter(|failure| told.insert(failure.to_string())).collect()
    }

    fn second_stages(&self, name: &str) -> impl Iterator<Item = SecondStage> + use<> {
        let without_v6 = self.without_v6;
        second_stages(name).iter().copied().filter(move |stage| !(without_v6 && stage.v6))
    }

    /// Hands programs to the verifier, each on its own thread.
    fn verify(&mut self, wanted: &BTreeSet<&'static str>) {
        let loaded: Vec<_> = thread::scope(|scope| {
            let mut verifying = Vec::with_capacity(wanted.len());
            for (found, program) in self.object.programs_mut() {
                if let Some(name) = wanted.iter().copied().find(|name| *name == found) {
                    verifying.push((name, scope.spawn(move || load(program))));
                }
            }
            verifying.into_iter().filter_map(|(name, load)| Some((name, load.join().ok()?))).collect()
        });
        self.tried
            .extend(loaded.into_iter().map(|(name, result)| (name, result.map_err(|error| failure(name, &error)))));
        for name in wanted.iter().copied() {
            self.tried.entry(name).or_insert(Err(ProgramFailure::Missing { name }));
        }
    }

    /// A program is of use only with its second stages in place.
    fn join_second_stages(&mut self, name: &'static str) -> Result<(), ProgramFailure> {
        for stage in self.second_stages(name) {
            if let Some(Err(failure)) = self.tried.get(stage.program) {
                return Err(failure.clone());
            }
            self.enter(stage, stage.own())?;
            if !self.held_back {
                self.enter(stage, stage.table)?;
            }
        }
        Ok(())
    }

    /// Enters a second stage into a table.
    pub(super) fn enter(&mut self, stage: SecondStage, table: &'static str) -> Result<(), ProgramFailure> {
        enter_into(&mut self.object, stage, table).map_err(|error| ProgramFailure::Refused {
            name: stage.program,
            reason: with_causes(&error),
            unread: false,
        })
    }

    /// The descriptor of a program that is loaded.
    pub(super) fn descriptor(&self, name: &'static str) -> Result<OwnedFd, ProgramFailure> {
        let fd = self.object.program(name).ok_or(ProgramFailure::Missing { name })?.fd();
        let fd = fd.and_then(|fd| fd.as_fd().try_clone_to_owned().map_err(Into::into));
        fd.map_err(|error| ProgramFailure::Refused { name, reason: with_causes(&error), unread: false })
    }

    /// Whether a program is loaded; loads it if nobody has yet.
    pub fn ready(&mut self, name: &'static str) -> Result<(), ProgramFailure> {
        self.load(&[name]);
        self.tried.get(name).cloned().unwrap_or(Err(ProgramFailure::Missing { name }))
    }

    /// The kernel's number of a program that is loaded.
    pub fn id(&mut self, name: &'static str) -> Option<u32> {
        if let Some(id) = self.ids.get(name) {
            return Some(*id);
        }
        let id = self.object.program(name)?.info().ok()?.id();
        self.ids.insert(name, id);
        Some(id)
    }

    /// A program of the object.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Program> {
        self.object.program_mut(name)
    }
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    retry(|| {
        faults::point("program, load").map_err(ProgramError::IOError)?;
        match program {
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            Program::SockOps(program) => program.load(),
            _ => Err(ProgramError::UnexpectedProgramType),
        }
    })
}

/// Lines of the verifier's log that are worth a look: the refusal is at the end.
const LOG_LINES: usize = 24;
/// How the verifier's statistics begin.
const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];

/// The refusal, with the end of the verifier's log in the log.
fn failure(name: &'static str, error: &ProgramError) -> ProgramFailure {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return ProgramFailure::Refused { name, reason: error.to_string(), unread: false };
    };
    let log = verifier_log.to_string();
    let unread = io_error.kind() == ErrorKind::InvalidInput && log.trim().is_empty();
    let lines: Vec<&str> = log.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
        tracing::error!(program = name, "verifier: {line}");
    }
    // The last lines are statistics, the one before them says what is wrong.
    let verdict = lines
        .iter()
        .rev()
        .find(|line| !line.trim().is_empty() && !STATISTICS.iter().any(|statistic| line.starts_with(statistic)));
    ProgramFailure::Refused { name, reason: format!("{io_error}: {}", verdict.unwrap_or(&"no verifier log")), unread }
}
