//! The layers of the tests: what each shows, what it needs and how cargo runs it.

use std::fmt;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::command::{cargo, workspace_root};

/// A layer of the tests, from the one that needs nothing to the one that needs a whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Layer {
    /// Libraries on the host, property tests included.
    Unit,
    /// The programs in the kernel, by test run.
    Kernel,
    /// Whole nodes in network namespaces, with real sockets.
    Node,
    /// Against a real API server.
    Cluster,
    /// The layers that meet the kernel, on other kernels, in virtual machines. Runs by request only.
    Vm,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "unit",
            Self::Kernel => "kernel",
            Self::Node => "node",
            Self::Cluster => "cluster",
            Self::Vm => "vm",
        })
    }
}

/// Test targets that are a layer of their own: package, target, layer.
const OWN_LAYER: &[(&str, &str, Layer)] =
    &[("lb-userspace", "kernel", Layer::Kernel), ("xtask", "node", Layer::Node), ("xtask", "cluster", Layer::Cluster)];

impl Layer {
    /// In the order they run: what fails fast comes first.
    pub const ALL: [Self; 5] = [Self::Unit, Self::Kernel, Self::Node, Self::Cluster, Self::Vm];

    /// What the layer shows, for its heading.
    pub(super) fn shows(self) -> &'static str {
        match self {
            Self::Unit => "decisions and state, on the host",
            Self::Kernel => "the programs in the kernel, by test run",
            Self::Node => "whole nodes in namespaces, with real sockets",
            Self::Cluster => "against a real API server",
            Self::Vm => "on other kernels, in virtual machines",
        }
    }

    /// Where the layer's tests are.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Unit => "lb-common, lb-userspace and xtask",
            Self::Kernel => "lb-userspace/tests/kernel",
            Self::Node => "xtask/tests/node",
            Self::Cluster => "xtask/tests/cluster",
            Self::Vm => "xtask/src/vm",
        }
    }

    pub(super) fn needs_root(self) -> bool {
        // Guests have a root of their own.
        !matches!(self, Self::Unit | Self::Vm)
    }

    /// Whether it runs only where it is asked for.
    pub(super) fn by_request(self) -> bool {
        self == Self::Vm
    }

    /// Whether its tests wait for real sockets and processes, so that a busy machine alone can make one fail.
    pub(super) fn meets_time_limits(self) -> bool {
        matches!(self, Self::Node | Self::Cluster)
    }

    /// After this long a layer hangs rather than works (a first build included, for the API server a cold one).
    pub(super) fn time_limit(self) -> Duration {
        let minutes = match self {
            Self::Unit | Self::Kernel => 15,
            Self::Node => 30,
            Self::Cluster => 25,
            Self::Vm => 90,
        };
        Duration::from_secs(minutes * 60)
    }

    /// How many tests of the layer may share a small machine: those that time packets run alone.
    fn threads(self) -> Option<&'static str> {
        match self {
            // Guests' threads are said in their script.
            Self::Unit | Self::Vm => None,
            Self::Kernel | Self::Cluster => Some("2"),
            Self::Node => Some("1"),
        }
    }

    /// The cargo calls that run the layer; none if its tests do not exist.
    pub(super) fn commands(self) -> Vec<Command> {
        match self {
            Self::Unit => return unit_commands(),
            // A program of its own, which says what its guests' tests say.
            Self::Vm => return vec![vm_command()],
            Self::Kernel | Self::Node | Self::Cluster => {}
        }
        OWN_LAYER
            .iter()
            .filter(|(package, target, layer)| {
                *layer == self && test_targets(package).iter().any(|name| name == target)
            })
            .map(|(package, target, _)| {
                let mut command = cargo_test(package);
                command.args(["--test", target, "--"]).args(self.threads().map(|n| format!("--test-threads={n}")));
                command
            })
            .collect()
    }
}

fn vm_command() -> Command {
    let mut command = cargo("run");
    command.args(["--quiet", "--package", "xtask", "--", "vm"]);
    command
}

fn unit_commands() -> Vec<Command> {
    let mut common = cargo_test("lb-common");
    common.args(["--features", "testkit"]);
    let others = ["lb-userspace", "xtask"].into_iter().map(|package| {
        let mut command = cargo_test(package);
        command.args(["--lib", "--bins"]);
        // Every other test target of the package belongs here: none is left out for want of a layer.
        for target in test_targets(package) {
            if !OWN_LAYER.iter().any(|(owner, name, _)| *owner == package && *name == target) {
                command.args(["--test", &target]);
            }
        }
        command
    });
    std::iter::once(common).chain(others).collect()
}

fn cargo_test(package: &str) -> Command {
    let mut command = cargo("test");
    command.args(["--no-fail-fast", "--package", package]);
    command
}

/// The names of a package's integration tests, as cargo finds them.
fn test_targets(package: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(workspace_root().join(package).join("tests")) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs") || path.join("main.rs").is_file())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_without_its_test_target_has_no_commands() {
        assert!(test_targets("lb-ebpf").is_empty());
    }

    #[test]
    fn api_server_tests_are_in_the_cluster_layer_alone() {
        let in_cluster = Layer::Cluster.commands();
        assert_eq!(in_cluster.len(), 1);
        assert!(in_cluster[0].get_args().any(|arg| arg == "cluster"));
        assert!(Layer::Unit.commands().iter().all(|command| command.get_args().all(|arg| arg != "cluster")));
    }
}
