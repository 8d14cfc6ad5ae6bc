//! `kubectl sluice`: this program under the name `kubectl-sluice` asks the agents of all nodes, by `kubectl exec`.

mod cluster;
mod report;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use k8s_openapi::jiff::Timestamp;

use self::cluster::{Answer, ClusterArgs, Pod};
use super::output;
use super::sysdump::{File, packed, redacted, time, unpacked, write};

/// The name under which this program is the plugin.
const NAME: &str = "kubectl-sluice";

/// What may be asked of every node: commands that end by themselves and change nothing.
const READING: [&str; 8] = ["services", "backends", "flows", "explain", "trace", "check", "version", "top"];

/// Asks the Sluice of every node of a cluster.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "kubectl sluice", version, about)]
struct Plugin {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Which nodes are healthy, and what is wrong with the others; the exit code says it, too: 0 all, 3 not all, 1 cannot be told.
    Status,
    /// What Services and backends of each node do now; takes the flags of `sluice top`.
    Top {
        /// Flags of `sluice top`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// One archive of every node's `sluice sysdump`, with the logs of the agents and the Services of the cluster.
    Sysdump {
        /// Where the archive goes, `-` for standard output; without it: `sluice-sysdump-cluster-TIME.tar.gz` in this folder.
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// At most this many flows of each node.
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        flows: usize,
    },
    /// Another command of `sluice` that only reads, on each node: services, backends, flows, explain, trace, check.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Whether this program was called as the plugin.
pub(super) fn is_called_by(args: &[OsString]) -> bool {
    args.first().and_then(|name| Path::new(name).file_name()).is_some_and(|name| name == NAME)
}

/// Runs the plugin.
pub(super) fn main(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let Plugin { cluster, command } = Plugin::parse_from(args);
    if let Command::Other(args) = &command {
        let name = args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !READING.contains(&name.as_str()) {
            bail!("there is no command {name} for all nodes: use status, top, sysdump, or {}", READING.join(", "));
        }
    }
    let pods = cluster.pods()?;
    match command {
        Command::Status => {
            let answers = cluster.ask(&pods, &["status", "-o", "json"].map(OsString::from));
            let (text, code) = report::health(&pods, &answers);
            output::write(&text).map(|_| ExitCode::from(code))
        }
        Command::Top { args } => {
            let once = ["top", "--batch", "--iterations", "1"].map(OsString::from);
            each(&cluster, &pods, &once.into_iter().chain(args).collect::<Vec<_>>())
        }
        Command::Sysdump { file, flows } => sysdump(&cluster, &pods, file.as_deref(), flows),
        Command::Other(args) => each(&cluster, &pods, &args),
    }
}

/// What each node prints, one after the other.
fn each(cluster: &ClusterArgs, pods: &[Pod], args: &[OsString]) -> anyhow::Result<ExitCode> {
    let answers = cluster.ask(pods, args);
    output::write(&report::one_by_one(pods, &answers))?;
    Ok(if answers.iter().all(Answer::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What else an archive has, beside the nodes.
const OBJECTS: [(&str, &[&str]); 5] = [
    ("cluster/pods.txt", &["get", "pods", "--all-namespaces", "-o", "wide"]),
    ("cluster/nodes.yaml", &["get", "nodes", "-o", "yaml"]),
    ("cluster/services.yaml", &["get", "services", "--all-namespaces", "-o", "yaml"]),
    ("cluster/endpointslices.yaml", &["get", "endpointslices", "--all-namespaces", "-o", "yaml"]),
    ("cluster/events.txt", &["get", "events", "--all-namespaces"]),
];

fn sysdump(cluster: &ClusterArgs, pods: &[Pod], file: Option<&Path>, flows: usize) -> anyhow::Result<ExitCode> {
    let (name, begun) = (format!("sluice-sysdump-cluster-{}", time()), Timestamp::now().as_second());
    let limit = flows.to_string();
    let archives = cluster.ask(pods, &["sysdump", "--file", "-", "--flows", &limit].map(OsString::from));
    let mut files: Vec<File> = Vec::new();
    let mut failed = 0;
    for (pod, answer) in pods.iter().zip(&archives) {
        match unpacked(&answer.out) {
            Ok(of_node) => files.extend(of_node.into_iter().map(|(path, text)| (format!("{}/{path}", pod.node), text))),
            Err(error) => {
                failed += 1;
                let why = format!("{error}: {}", answer.why());
                files.push((format!("{}/failed.txt", pod.node), redacted(&why).into_bytes()));
            }
        }
        // A dead agent has left its last words.
        for (kind, flag) in [("log", None), ("log-before", Some("--previous"))] {
            let log = cluster.logs(pod, flag);
            if log.is_good() {
                files.push((format!("{}/{kind}.txt", pod.node), redacted(&log.text()).into_bytes()));
            }
        }
    }
    for (path, args) in OBJECTS {
        let answer = cluster.run(args);
        let text = if answer.is_good() { answer.text() } else { answer.why() };
        files.push((path.to_owned(), redacted(&text).into_bytes()));
    }
    let archive = packed(&name, &files, begun).context("cannot pack the archive")?;
    let target = file.map_or_else(|| PathBuf::from(format!("{name}.tar.gz")), Path::to_path_buf);
    write(&target, &archive)?;
    if target.as_os_str() != "-" {
        let nodes = pods.len() - failed;
        output::write(&format!("{}: {nodes} of {} nodes, {} files", target.display(), pods.len(), files.len()))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Answers as kubectl would in a cluster of two nodes, the second of which has a dead agent.
    const KUBECTL: &str = r#"
        case "$*" in
        *"get pods -l app=x -o json"*) echo '{"items": [
            {"metadata": {"name": "sluice-b"}, "spec": {"nodeName": "node2"}, "status": {"containerStatuses": [
              {"name": "sluice", "restartCount": 7, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}},
            {"metadata": {"name": "sluice-a"}, "spec": {"nodeName": "node1"}, "status": {"containerStatuses": [
              {"name": "sluice", "restartCount": 0, "state": {"running": {}}}]}}]}';;
        *"exec sluice-a -c sluice -- sluice status -o json"*)
            echo '{"healthy": true, "problems": [], "synced": true, "services": 12}';;
        *"exec sluice-a -c sluice -- sluice sysdump"*) cat "$(dirname "$0")/a.tar.gz";;
        *"exec sluice-a -c sluice -- sluice top --batch --iterations 1 --backends"*) echo "RATE SERVICE";;
        *"exec sluice-b"*) echo "error: unable to upgrade connection: container not found" >&2; exit 1;;
        *"logs sluice-b -c sluice --tail 5000 --previous"*) echo "password: abcdefgh: cannot start";;
        *"logs sluice-a -c sluice --tail 5000") echo "starting";;
        *"get "*) echo "objects";;
        *) echo "what? $*" >&2; exit 9;;
        esac"#;

    fn cluster(folder: &Path) -> ClusterArgs {
        fs::write(folder.join("kubectl"), KUBECTL).unwrap();
        let dump = [("index.txt".to_owned(), b"files".to_vec())];
        fs::write(folder.join("a.tar.gz"), packed("x", &dump, 1).unwrap()).unwrap();
        let kubectl = format!("sh {}", folder.join("kubectl").display());
        let args = ["x", "--kubectl", &kubectl, "-l", "app=x", "--namespace", "net", "status"];
        Plugin::try_parse_from(args).unwrap().cluster
    }

    #[test]
    fn every_node_is_asked_and_one_that_does_not_answer_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = cluster(folder.path());
        let pods = cluster.pods().unwrap();
        let nodes: Vec<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
        assert_eq!(nodes, ["node1", "node2"]);
        let answers = cluster.ask(&pods, &["status", "-o", "json"].map(OsString::from));
        let (text, code) = report::health(&pods, &answers);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(code, 1, "{text}");
        assert!(lines[1].starts_with("node1 ") && lines[1].contains(" healthy "), "{text}");
        assert!(lines[2].starts_with("node2 ") && lines[2].contains("CrashLoopBackOff, 7 restarts"), "{text}");
        assert!(lines[2].contains("container not found"), "{text}");

        let args = ["top", "--batch", "--iterations", "1", "--backends"].map(OsString::from);
        let text = report::one_by_one(&pods, &cluster.ask(&pods, &args));
        assert!(text.starts_with("== node1\nRATE SERVICE\n\n== node2\nerror: "), "{text}");
    }

    #[test]
    fn an_archive_has_every_nodes_files_and_a_dead_agents_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = cluster(folder.path());
        let target = folder.path().join("all.tar.gz");
        let code = sysdump(&cluster, &cluster.pods().unwrap(), Some(&target), 5).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE), "a node is missing");
        let files = unpacked(&fs::read(&target).unwrap()).unwrap();
        let text = |name: &str| {
            let found = files.iter().find(|(path, _)| path == name);
            String::from_utf8(found.unwrap_or_else(|| panic!("{name}: {files:?}")).1.clone()).unwrap()
        };
        assert_eq!(text("node1/index.txt"), "files");
        assert_eq!(text("node1/log.txt"), "starting\n");
        assert!(text("node2/failed.txt").contains("container not found"));
        assert_eq!(text("node2/log-before.txt"), "password: [left out] cannot start\n");
        assert_eq!(text("cluster/services.yaml"), "objects\n");
        assert!(sysdump(&cluster, &[], Some(&target), 5).is_err(), "a file that is there is kept");
    }

    #[test]
    fn the_plugin_is_known_by_its_name_and_runs_nothing_that_changes_a_node() {
        let args = |name: &str| vec![OsString::from(name)];
        assert!(is_called_by(&args("/usr/local/bin/kubectl-sluice")) && !is_called_by(&args("/usr/bin/sluice")));
        for name in READING.into_iter().filter(|name| *name != "top") {
            let parsed = Plugin::try_parse_from(["kubectl-sluice", name, "--flag"]).unwrap();
            assert!(matches!(parsed.command, Command::Other(args) if args.len() == 2), "{name}");
        }
        assert!(!READING.contains(&"cleanup") && !READING.contains(&"run"));
    }
}
