//! Socket hooks, decided: at which cgroup they go, and whose sockets they serve.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::linux::mounts;
use crate::linux::netns::own_netns_cookie;

/// The initial network namespace's cookie: it is the first that the kernel gives out.
const INITIAL_NETNS: u64 = 1;

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
    /// Whether sockets tell of backends that leave them unanswered: not with `--no-silence-detection`.
    pub tell_silence: bool,
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
