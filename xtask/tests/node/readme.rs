//! README's example is played as it is written, and what it shows of the commands' output is what they print.
//! `SLUICE_BLESS=1` writes the output into README.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use xtask::lab::sluice_binary;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
const BEGIN: &str = "## Run it on one machine\n";
const END: &str = "\n## Run it in a cluster\n";
/// Tools that the example takes, besides those of every test.
const TOOLS: [&str; 2] = ["curl", "python3"];
/// Between two outputs.
const MARK: &str = "=== ";

/// Until the Pod's server answers.
const AWAIT_SERVER: &str = "for n in $(seq 100); do nsenter --net=/run/netns/node curl -s -o /dev/null http://10.244.0.2:8080/ \
                            && break; sleep 0.1; done\n";

/// Blocks of the section, without their indent.
fn blocks(section: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in section.lines() {
        let last = blocks.last_mut().unwrap();
        match line.strip_prefix("    ") {
            Some(code) => writeln!(last, "{code}").unwrap(),
            None if line.is_empty() && !last.is_empty() => last.push('\n'),
            None if last.is_empty() => {}
            None => blocks.push(String::new()),
        }
    }
    blocks.into_iter().map(|block| block.trim_end().to_owned()).filter(|block| !block.is_empty()).collect()
}

/// The whole example as one script, with its own network namespaces, BPF file system and folder.
fn script(section: &str) -> String {
    let mut script = "set -e\nmkdir -p /run/netns\nmount -t tmpfs tmpfs /run/netns\nmount -t bpf bpf /sys/fs/bpf\n\
                      pids=\ntrap 'kill $pids' EXIT\n"
        .to_owned();
    for block in blocks(section) {
        if block.contains("sluice run") {
            // In the background, with a log that says when it serves.
            let (before, run) = block.rsplit_once("nsenter ").unwrap();
            writeln!(script, "{before}nsenter {run} > agent.log 2>&1 &\npids=\"$pids $!\"").unwrap();
            script += "for n in $(seq 300); do grep -q 'first full state is in the kernel' agent.log && break; sleep 0.1; done\n";
        } else if let Some(shown) = block.strip_prefix("$ ") {
            for command in shown.lines().take(1).chain(shown.lines().filter_map(|line| line.strip_prefix("$ "))) {
                // `sluice status` says by its code that the node is not quite well.
                writeln!(script, "echo '{MARK}{command}'; nsenter --net=/run/netns/node {command} || true").unwrap();
            }
        } else if block.contains("curl ") {
            // What is refused or not answered is part of it.
            script +=
                &block.lines().map(|line| format!("{} > /dev/null 2>&1 || true\n", code(line))).collect::<String>();
        } else if !block.starts_with("sluice ") {
            let quiet = block.replace("http.server 8080 &", "http.server 8080 > /dev/null 2>&1 &");
            writeln!(script, "{quiet}").unwrap();
        }
        if block.contains("http.server") {
            script += "pids=\"$pids $!\"\n";
            script += AWAIT_SERVER;
        }
    }
    script
}

/// A line of a shell without its comment.
fn code(line: &str) -> &str {
    line.split(" #").next().unwrap_or(line).trim_end()
}

/// Which words of an output mean the same in every run: not times, numbers of processes, ports of clients and bytes.
fn lasting(output: &str) -> Vec<Vec<String>> {
    let is_time = |word: &str| word.ends_with('s') && word.chars().all(|c| c.is_ascii_digit() || "hms".contains(c));
    let is_bytes = |word: &str| word.ends_with("Ki") || word.parse::<u64>().is_ok_and(|number| number > 99);
    let lasts = |word: &str| match word.trim_end_matches(',') {
        time if is_time(time) => "TIME".to_owned(),
        bytes if is_bytes(bytes) => "NUMBER".to_owned(),
        client if client.starts_with("192.0.2.9:") => "CLIENT".to_owned(),
        other => other.to_owned(),
    };
    // What the machine is warned of is another matter.
    let of_example = |line: &&str| !line.starts_with("Warning:") && !line.starts_with("Health:") && !line.is_empty();
    let mut lines: Vec<Vec<String>> =
        output.lines().filter(of_example).map(|line| line.split_whitespace().map(lasts).collect()).collect();
    // Flows come in the order of the kernel's hash table.
    if output.starts_with("PROTO ") {
        lines.sort();
    }
    lines
}

#[test]
fn the_example_of_the_readme_prints_what_the_readme_shows() {
    let missing = TOOLS.into_iter().find(|tool| Command::new(tool).arg("--version").output().is_err());
    if let Some(tool) = missing {
        eprintln!("left out: there is no {tool}");
        return;
    }
    let readme = fs::read_to_string(README).unwrap();
    let (_, rest) = readme.split_once(BEGIN).unwrap();
    let (section, _) = rest.split_once(END).unwrap();
    let script = script(section);
    let dir = tempfile::tempdir().unwrap();
    let program = sluice_binary().unwrap();
    let folder = program.parent().unwrap().display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .current_dir(dir.path())
        .env("PATH", path);
    let output = unshare.env("COLUMNS", "80").env_remove("NODE_NAME").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let log = fs::read_to_string(dir.path().join("agent.log")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{script}\n{log}", String::from_utf8_lossy(&output.stderr));
    let mut fresh = readme.clone();
    let mut compared = 0;
    for shown in blocks(section).iter().filter_map(|block| block.strip_prefix("$ ")) {
        for one in shown.split("\n$ ") {
            let (command, text) = one.split_once('\n').unwrap();
            let printed = said.split(MARK).find_map(|part| part.strip_prefix(&format!("{command}\n"))).unwrap();
            compared += 1;
            if lasting(text.trim_end()) == lasting(printed.trim_end()) {
                continue;
            }
            assert!(
                std::env::var_os("SLUICE_BLESS").is_some(),
                "{command}: README shows\n{text}\nit prints\n{printed}\n{log}"
            );
            let indented =
                |text: &str| text.trim_end().lines().flat_map(|line| ["    ", line, "\n"]).collect::<String>();
            fresh = fresh.replace(&indented(text), &indented(printed));
        }
    }
    assert!(compared >= 4, "{compared} outputs");
    if fresh != readme {
        fs::write(README, fresh).unwrap();
    }
}
