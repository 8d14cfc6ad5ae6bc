//! The object's programs: handed to the verifier when they are needed, several side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::thread;

use aya::Ebpf;
use aya::programs::{Program, ProgramError};

use super::retry::retry_on_eagain;
use super::stages::{enter, second_stages};
use crate::causes::with_causes;

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
}

impl Programs {
    pub(super) fn new(object: Ebpf) -> Self {
        Self { object, tried: BTreeMap::new(), ids: BTreeMap::new() }
    }

    /// Hands those of these programs that were not tried yet to the verifier, each on its own thread: that is most
    /// of the time that an agent takes to start.
    pub fn load(&mut self, names: &[&'static str]) {
        let first: Vec<&'static str> = names.iter().copied().filter(|name| !self.tried.contains_key(name)).collect();
        let second = first.iter().flat_map(|name| second_stages(name)).map(|stage| stage.program);
        let wanted: BTreeSet<&'static str> =
            first.iter().copied().chain(second).filter(|name| !self.tried.contains_key(name)).collect();
        if wanted.is_empty() {
            return;
        }
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
        for name in wanted {
            self.tried.entry(name).or_insert(Err(ProgramFailure::Missing { name }));
        }
        for name in first {
            if let Err(failure) = self.join_second_stages(name) {
                self.tried.insert(name, Err(failure));
            }
        }
    }

    /// A program is of use only with its second stages in place.
    fn join_second_stages(&mut self, name: &'static str) -> Result<(), ProgramFailure> {
        for stage in second_stages(name) {
            if let Some(Err(failure)) = self.tried.get(stage.program) {
                return Err(failure.clone());
            }
            enter(&mut self.object, *stage).map_err(|error| ProgramFailure::Refused {
                name: stage.program,
                reason: with_causes(&error),
                unread: false,
            })?;
        }
        Ok(())
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
    match program {
        Program::SchedClassifier(program) => retry_on_eagain(|| program.load()),
        Program::Xdp(program) => retry_on_eagain(|| program.load()),
        Program::CgroupSockAddr(program) => retry_on_eagain(|| program.load()),
        Program::CgroupSock(program) => retry_on_eagain(|| program.load()),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
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
