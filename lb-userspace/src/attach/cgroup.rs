//! Hooks on the socket calls of a cgroup's processes: which cgroup, which sockets, and the pinned links.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, Program, ProgramError};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::link_info;
use crate::causes::with_causes;
use crate::linux::mounts;
use crate::linux::netns::own_netns_cookie;

/// The initial network namespace's cookie: it is the first that the kernel gives out.
const INITIAL_NETNS: u64 = 1;

/// Programs that serve sockets. Told addresses first: a socket is not led away while its peer would look wrong.
const HOOKS: [&str; 9] = [
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "sock_release",
    "sendmsg4",
    "sendmsg6",
    "connect4",
    "connect6",
];
/// Programs that keep processes off `NodePort`s.
const BIND_HOOKS: [&str; 2] = ["bind4", "bind6"];

/// Whose sockets are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketMode {
    /// All of the cgroup, whatever their network namespace.
    #[default]
    All,
    /// Those in the node's own network namespace.
    HostOnly,
    /// None: Pods are served at their devices, processes of the node are not.
    Off,
}

impl SocketMode {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::HostOnly => "host-only",
            Self::Off => "off",
        }
    }
}

/// Settings of the socket hooks, from the command line.
#[derive(Clone, Debug, Default)]
pub struct SocketSettings {
    /// `--socket-lb`.
    pub mode: SocketMode,
    /// `--cgroup`; `None`: the root of the mounted cgroup v2.
    pub cgroup: Option<PathBuf>,
    /// `--protect-node-ports`.
    pub protect_node_ports: bool,
}

/// What is done about sockets, for `sluice status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SocketReport {
    /// Whose sockets are served.
    pub mode: SocketMode,
    /// The cgroup.
    pub cgroup: Option<PathBuf>,
    /// Hooks in place.
    pub hooks: Vec<Cow<'static, str>>,
    /// Choices that were made.
    pub notes: Vec<String>,
    /// What failed.
    pub errors: Vec<String>,
    /// Cookie of the node's network namespace; 0: it counts as the machine's initial one.
    #[serde(skip)]
    pub host_netns: u64,
}

impl SocketReport {
    /// Decides what to do: where the hooks go, and whose sockets they serve.
    pub fn plan(settings: &SocketSettings) -> Self {
        let mut plan = Self { mode: settings.mode, ..Self::default() };
        if plan.mode == SocketMode::Off {
            plan.notes.push("switched off (--socket-lb off)".into());
            return plan;
        }
        let cookie = own_netns_cookie();
        plan.host_netns = *cookie.as_ref().unwrap_or(&0);
        match find_cgroup(settings.cgroup.as_deref()) {
            Ok(path) => plan.cgroup = Some(path),
            Err(why) => {
                plan.errors.push(why);
                return plan;
            }
        }
        let foreign = cookie.as_ref().map_or_else(|_| !in_namespace_of_init(), |cookie| *cookie != INITIAL_NETNS);
        let whole_machine = settings.cgroup.is_none() && plan.cgroup.as_deref().is_some_and(is_real_root);
        if foreign && whole_machine && cookie.is_err() {
            plan.cgroup = None;
            plan.errors.push(
                "the cgroup is the whole machine's and the network namespace is not, and before Linux 5.14 it cannot \
                 be told which sockets are in it: name the node's cgroup with --cgroup"
                    .into(),
            );
        } else if plan.mode == SocketMode::All && foreign && whole_machine {
            plan.mode = SocketMode::HostOnly;
            plan.notes.push(
                "host-only: the cgroup is the whole machine's and the network namespace is not; name the node's cgroup \
                 with --cgroup to serve the sockets of Pods"
                    .into(),
            );
        }
        if let (Err(error), true) = (cookie, plan.cgroup.is_some()) {
            plan.notes.push(format!(
                "the node's network namespace counts as the machine's first one: which one it is cannot be asked \
                 ({error}; needs Linux 5.14)"
            ));
        }
        plan
    }

    /// Why processes of the node are not served, if they are not.
    pub fn not_served(&self) -> Option<String> {
        if self.hooks.iter().any(|hook| hook == "connect4") {
            return None;
        }
        let why = self.errors.first().or(self.notes.first()).map_or("no hooks", String::as_str);
        Some(format!("processes of the node itself, as clients: {why}"))
    }

    /// Puts the hooks in place, and takes away what a former agent left elsewhere.
    pub(super) fn attach(&mut self, object: &mut Ebpf, pins: &Path, settings: &SocketSettings) {
        if let Err(error) = fs::create_dir_all(pins) {
            self.errors.push(format!("{}: {error}", pins.display()));
            return;
        }
        let mut kept = Vec::new();
        if let (Some(cgroup), true) = (self.cgroup.clone(), self.mode != SocketMode::Off) {
            let protect = if settings.protect_node_ports { &BIND_HOOKS[..] } else { &[] };
            match File::open(&cgroup).and_then(|dir| Ok((dir.metadata()?.ino(), dir))) {
                Ok((id, dir)) => {
                    for hook in HOOKS.iter().chain(protect).copied() {
                        let pin = pins.join(format!("{id}:{hook}"));
                        match ensure(object, &dir, hook, &pin) {
                            Ok(()) => self.hooks.push(hook.into()),
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
            tracing::info!(cgroup = %cgroup.display(), mode = ?self.mode, hooks = self.hooks.len(), "socket hooks");
        }
    }
}

fn find_cgroup(wanted: Option<&Path>) -> Result<PathBuf, String> {
    let Some(path) = wanted else {
        return mounts::cgroup2_mount(&mounts::table()).ok_or_else(|| {
            "cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup, or name one with --cgroup".into()
        });
    };
    match mounts::is_cgroup2(path) {
        Ok(true) if path.is_dir() => Ok(path.to_owned()),
        Ok(_) => Err(format!("--cgroup {}: is no cgroup v2 directory", path.display())),
        Err(error) => Err(format!("--cgroup {}: {error}", path.display())),
    }
}

/// Whether this process has the network namespace of process 1, as far as it may be seen. In a container process 1 is
/// the container's own.
fn in_namespace_of_init() -> bool {
    let namespace = |path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    match (namespace("/proc/1/ns/net"), namespace("/proc/thread-self/ns/net")) {
        (Ok(first), Ok(own)) => first == own,
        _ => true,
    }
}

/// Only the root of the hierarchy itself has no events (Documentation/admin-guide/cgroup-v2.rst).
fn is_real_root(cgroup: &Path) -> bool {
    !cgroup.join("cgroup.events").exists()
}

fn remove_others(pins: &Path, kept: &[PathBuf]) {
    for entry in fs::read_dir(pins).into_iter().flatten().flatten() {
        let path = entry.path();
        if !kept.contains(&path)
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(pin = %path.display(), %error, "pin of a former socket hook cannot be removed");
        }
    }
}

/// Makes sure that a hook runs this agent's program: a pinned link gets it without a gap.
fn ensure(object: &mut Ebpf, cgroup: &File, hook: &'static str, pin: &Path) -> Result<(), String> {
    let program = object.program_mut(hook).ok_or("the BPF object has no such program")?;
    load(program).map_err(|error| with_causes(&error))?;
    let fd = program.fd().map_err(|error| with_causes(&error))?.try_clone().map_err(|error| error.to_string())?;
    if let Ok(link) = link_info::open(pin) {
        match link_info::update(&link, &fd) {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::warn!(hook, %error, "link of a former agent is replaced by a new one");
                fs::remove_file(pin).map_err(|error| error.to_string())?;
            }
        }
    }
    let link = attach(program, cgroup).map_err(|error| {
        let in_the_way = match &error {
            ProgramError::SyscallError(failed) if failed.io_error.kind() == io::ErrorKind::PermissionDenied => {
                " (another program may be attached there, or above, that allows no second one)"
            }
            _ => "",
        };
        format!("{}{in_the_way}", with_causes(&error))
    })?;
    link.pin(pin).map(drop).map_err(|error| error.to_string())
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => super::loader::patiently(|| program.load()),
        Program::CgroupSock(program) => super::loader::patiently(|| program.load()),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
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
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    link.map_err(|_not_a_link| ProgramError::UnexpectedProgramType)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused_by_name() {
        for path in ["/proc", "/no/such/cgroup"] {
            let settings = SocketSettings { cgroup: Some(path.into()), ..SocketSettings::default() };
            let plan = SocketReport::plan(&settings);
            assert!(plan.errors[0].contains(path), "{plan:?}");
            assert_eq!(plan.cgroup, None);
            assert!(plan.not_served().is_some());
        }
    }

    #[test]
    fn switched_off_is_said_and_no_error() {
        let plan = SocketReport::plan(&SocketSettings { mode: SocketMode::Off, ..SocketSettings::default() });
        assert!(plan.errors.is_empty() && !plan.notes.is_empty());
    }
}
