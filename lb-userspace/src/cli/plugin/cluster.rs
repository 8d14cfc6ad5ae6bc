//! Calls kubectl: which Pods there are, and what the agents in them say.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use crate::cli::at_once::at_once;

/// Nodes that are asked at the same time.
const AT_ONCE: usize = 8;
/// The container in the `DaemonSet`'s Pods, and the program in it.
const CONTAINER: &str = "sluice";
/// Lines of a log.
const LINES: &str = "5000";

#[derive(Clone, Debug, Args)]
pub(super) struct ClusterArgs {
    /// Where the `DaemonSet` is.
    #[arg(short, long, global = true, value_name = "NAMESPACE", default_value = "kube-system")]
    namespace: String,
    /// Which Pods are the agents.
    #[arg(short = 'l', long, global = true, value_name = "LABELS", default_value = "app.kubernetes.io/name=sluice")]
    selector: String,
    /// Of this node alone; several times for several.
    #[arg(long, global = true, value_name = "NODE")]
    node: Vec<String>,
    /// The cluster, by its context in the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<OsString>,
    /// How kubectl is called, such as `k3s kubectl`.
    #[arg(long, global = true, value_name = "COMMAND", default_value = "kubectl")]
    kubectl: String,
}

/// A Pod of the `DaemonSet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) node: String,
    /// Why its container does not run, if so, and how often it has been started anew.
    pub(super) state: String,
}

/// What a command has said.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) out: Vec<u8>,
    err: String,
    code: Option<i32>,
}

impl Answer {
    pub(super) fn is_good(&self) -> bool {
        self.code == Some(0)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// What it says of its failure.
    pub(super) fn why(&self) -> String {
        // kubectl's own line says no more than the exit code.
        let told = self.err.lines().filter(|line| !line.starts_with("command terminated with exit code"));
        let told: Vec<&str> = told.filter(|line| !line.trim().is_empty()).collect();
        if told.is_empty() { format!("ended with {:?}", self.code) } else { told.join("\n") }
    }
}

impl ClusterArgs {
    /// The agents, by the names of their nodes.
    pub(super) fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        let answer = self.run(&["get", "pods", "-l", &self.selector, "-o", "json"]);
        if !answer.is_good() {
            bail!("cannot list the Pods of Sluice: {}", answer.why());
        }
        let list: Value = serde_json::from_slice(&answer.out).context("kubectl's list of Pods cannot be read")?;
        let mut pods: Vec<Pod> = list["items"].as_array().into_iter().flatten().map(pod).collect();
        pods.retain(|pod| self.node.is_empty() || self.node.contains(&pod.node));
        pods.sort_by(|a, b| a.node.cmp(&b.node));
        if pods.is_empty() {
            bail!("no Pods of Sluice in namespace {} have the labels {}", self.namespace, self.selector);
        }
        Ok(pods)
    }

    /// Runs `sluice` with these arguments in each Pod.
    pub(super) fn ask(&self, pods: &[Pod], args: &[OsString]) -> Vec<Answer> {
        at_once(pods, AT_ONCE, |pod| {
            let mut command = self.kubectl();
            command.args(["exec", &pod.name, "-c", CONTAINER, "--", "sluice"]).args(args);
            answer(command)
        })
    }

    /// The log of an agent.
    pub(super) fn logs(&self, pod: &Pod, flag: Option<&str>) -> Answer {
        let args = ["logs", &pod.name, "-c", CONTAINER, "--tail", LINES];
        self.run(&args.into_iter().chain(flag).collect::<Vec<_>>())
    }

    /// Runs kubectl.
    pub(super) fn run(&self, args: &[&str]) -> Answer {
        let mut command = self.kubectl();
        command.args(args);
        answer(command)
    }

    fn kubectl(&self) -> Command {
        let mut words = self.kubectl.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("kubectl"));
        command.args(words).args(["--namespace", &self.namespace]);
        let flags =
            [("--context", self.context.as_deref().map(OsStr::new)), ("--kubeconfig", self.kubeconfig.as_deref())];
        for (flag, value) in flags {
            if let Some(value) = value {
                command.arg(flag).arg(value);
            }
        }
        command
    }
}

fn answer(mut command: Command) -> Answer {
    match command.stdin(Stdio::null()).output() {
        Ok(done) => Answer {
            out: done.stdout,
            err: String::from_utf8_lossy(&done.stderr).into_owned(),
            code: done.status.code(),
        },
        Err(error) => {
            let program = command.get_program().to_string_lossy().into_owned();
            Answer { err: format!("{program}: {error}"), ..Answer::default() }
        }
    }
}

fn pod(object: &Value) -> Pod {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = &object["status"];
    let containers = status["containerStatuses"].as_array();
    let container = containers.and_then(|all| all.iter().find(|container| container["name"] == CONTAINER));
    let state = match container {
        Some(container) => {
            let why = ["waiting", "terminated"].iter().find_map(|state| container["state"][*state]["reason"].as_str());
            let restarts = container["restartCount"].as_u64().filter(|restarts| *restarts > 0);
            let restarts = restarts.map(|restarts| format!("{restarts} restarts"));
            why.map(str::to_owned).into_iter().chain(restarts).collect::<Vec<_>>().join(", ")
        }
        None => text(&status["phase"]),
    };
    Pod { name: text(&object["metadata"]["name"]), node: text(&object["spec"]["nodeName"]), state }
}
