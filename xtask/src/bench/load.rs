//! `cargo xtask bench load`: from the agent's start to its first full state, and from one changed file to the maps.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::services::{self, ENDPOINTS, SERVICE_CIDR};
use super::session;
use super::spread::Spread;
use crate::build;
use crate::command::is_root;
use crate::lab::{self, Agent, AgentOptions, Netns, RunDir};

/// How long the largest load may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long one change may take.
const CHANGE: Duration = Duration::from_secs(20);

/// What to load.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "load")]
pub(super) struct Args {
    /// Numbers of Services of ten endpoints each, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [0, 10_000, 100_000])]
    services: Vec<u32>,
    /// Starts from nothing, of which the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    starts: usize,
    /// Single changes after the last start.
    #[arg(long, value_name = "N", default_value_t = 50)]
    changes: usize,
    /// Measure this agent instead of the one that is built here.
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The figures for one number of Services.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Load {
    /// Services of ten endpoints each.
    pub(super) services: u32,
    /// Seconds from the start of the process to the first full state.
    pub(super) full_state_s: Option<Spread>,
    /// Seconds of CPU time until then, agent and what the kernel did for it.
    pub(super) cpu_s: Option<Spread>,
    /// MiB resident, once what only the start needed has been given back.
    pub(super) resident_mib: Option<Spread>,
    /// MiB resident at most.
    pub(super) peak_mib: Option<Spread>,
    /// MiB of all maps.
    pub(super) maps_mib: Option<Spread>,
    /// Milliseconds from one file's replacement to the agent's last write.
    pub(super) change_ms: Option<Spread>,
}

/// All figures of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Results {
    /// Kernel release.
    pub(super) kernel: String,
    /// A line each.
    pub(super) loads: Vec<Load>,
}

/// Loads, prints and writes what came of it.
pub(super) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        bail!("the bench makes network namespaces and loads programs: run it as root");
    }
    let sluice = if let Some(path) = &args.sluice {
        std::path::absolute(path)?
    } else {
        build::bpf_object()?;
        build::agent(true)?
    };
    ensure!(sluice.is_file(), "no agent at {}", sluice.display());
    session::raise();
    lab::clean_up_on_signals()?;
    let mut loads = Vec::new();
    for services in &args.services {
        eprintln!("{services} Services, {} starts, {} changes", args.starts, args.changes);
        loads.push(load(&sluice, *services, args).with_context(|| format!("{services} Services"))?);
    }
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let results = Results { kernel: kernel.unwrap_or_default(), loads };
    println!("{}", table(&results));
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&results)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// One start's figures.
struct Start {
    full_state: f64,
    cpu: f64,
    resident: f64,
    peak: f64,
    maps: f64,
}

fn load(sluice: &Path, count: u32, args: &Args) -> Result<Load> {
    let mut starts = Vec::new();
    let mut changes = Vec::new();
    for turn in 0..args.starts.max(1) {
        // Everything anew, so that no pin of the start before is found.
        let dir = RunDir::create()?;
        services::write(&dir.manifests(), count)?;
        one_service(&dir, 0)?;
        let node = node(&dir)?;
        let mut agent = Agent::on(&node, &dir, "sluice", "agent.log", options(sluice, &dir, count)?);
        starts.push(start(&mut agent)?);
        if turn + 1 == args.starts.max(1) {
            for change in 1..=args.changes {
                changes.push(change_one(&agent, &dir, change)?);
            }
        }
    }
    let spread = |field: fn(&Start) -> f64| Spread::of(starts.iter().map(field));
    Ok(Load {
        services: count,
        full_state_s: spread(|start| start.full_state),
        cpu_s: spread(|start| start.cpu),
        resident_mib: spread(|start| start.resident),
        peak_mib: spread(|start| start.peak),
        maps_mib: spread(|start| start.maps),
        change_ms: Spread::of(changes),
    })
}

fn start(agent: &mut Agent) -> Result<Start> {
    let begin = now()?;
    agent.spawn()?;
    agent.wait_synced(PATIENCE)?;
    let pid = agent.pid().context("the agent is not running")?;
    let cpu = cpu_seconds(pid)?;
    let full_state = status_time(agent, "synced_ns")?.saturating_sub(begin).as_secs_f64();
    // What only the start needed is given back with the next housekeeping.
    thread::sleep(Duration::from_secs(1));
    let (resident, peak) = (memory_mib(pid, "VmRSS:")?, memory_mib(pid, "VmHWM:")?);
    Ok(Start { full_state, cpu, resident, peak, maps: maps_mib(pid)? })
}

/// Room for the larger loads; the smaller ones have the defaults, whose memory is of interest.
fn options(sluice: &Path, dir: &RunDir, count: u32) -> Result<AgentOptions> {
    let source = vec!["--manifests".into(), dir.manifests().display().to_string()];
    let mut args: Vec<String> =
        ["--service-cidr", SERVICE_CIDR, "--uplink", "eth0", "--socket-lb", "off"].map(Into::into).to_vec();
    if count > 20_000 {
        let backends = (count * ENDPOINTS).checked_mul(5).context("too many Services")? / 4;
        let services = count.saturating_mul(5) / 4;
        let sizes = [
            ("--max-services", services),
            ("--max-frontends", services * 4),
            ("--max-backends", backends),
            ("--max-slots", backends * 2),
        ];
        args.extend(sizes.into_iter().flat_map(|(flag, number)| [flag.to_owned(), number.to_string()]));
    }
    Ok(AgentOptions::from_parts(sluice, source, args))
}

/// A node with an uplink and a Pod's device.
fn node(dir: &RunDir) -> Result<Netns> {
    let make = |name| Netns::create(&dir.namespaces(), name);
    let (node, outside, pod) = (make("node")?, make("outside")?, make("pod")?);
    node.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}
        link add cali1 type veth peer name eth0 netns {}
        addr add 10.90.0.11/24 dev eth0
        link set eth0 up
        link set cali1 up
        route add default via 10.90.0.1
        route add 10.244.1.11/32 dev cali1",
        outside.path().display(),
        pod.path().display()
    ))?;
    for ns in [outside, pod] {
        ns.ip("link set eth0 up")?;
    }
    Ok(node)
}

/// The Service that is changed, in a separate file that is replaced in one step.
fn one_service(dir: &RunDir, turn: usize) -> Result<()> {
    let endpoint = format!("10.244.1.{}", 11 + turn % 100);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "one", "namespace": "bench"},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"name": "http", "port": 80}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "one-1", "namespace": "bench", "labels": {"kubernetes.io/service-name": "one"}},
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [endpoint], "nodeName": "node1"}],
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [service, slice]});
    let (draft, file) = (dir.path().join("draft.json"), dir.manifests().join("one.json"));
    fs::write(&draft, list.to_string())
        .and_then(|()| fs::rename(&draft, &file))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Milliseconds from the changed file to the last write because of it.
fn change_one(agent: &Agent, dir: &RunDir, turn: usize) -> Result<f64> {
    let before = status_time(agent, "updated_ns")?;
    let begin = now()?;
    one_service(dir, turn)?;
    let deadline = Instant::now() + CHANGE;
    loop {
        let written = status_time(agent, "updated_ns")?;
        if written != before {
            return Ok(written.saturating_sub(begin).as_secs_f64() * 1e3);
        }
        ensure!(Instant::now() < deadline, "the agent wrote nothing within {CHANGE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn now() -> Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")
}

fn status_time(agent: &Agent, field: &str) -> Result<Duration> {
    let status = agent.json(&["status"])?;
    let nanos = status["agent"][field].as_u64();
    nanos.map(Duration::from_nanos).with_context(|| format!("`sluice status` has no agent.{field}"))
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the agent has ended")?;
    // The name in parentheses may have spaces; user and system time are the 12th and 13th fields after it.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = (ticks(11).context("no user time")?, ticks(12).context("no system time")?);
    // The unit of these fields is a hundredth of a second on every architecture that Sluice runs on.
    Ok((user + system) / 100.0)
}

fn memory_mib(pid: u32, field: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent has ended")?;
    kib(&text, field).map(|kib| kib / 1024.0).with_context(|| format!("no {field} in the agent's status"))
}

fn kib(status: &str, field: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
}

/// Memory of all maps that a process holds, each once, as its descriptors tell.
fn maps_mib(pid: u32) -> Result<f64> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let texts = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let maps: BTreeMap<u64, f64> = texts.filter_map(|text| map_memory(&text)).collect();
    Ok(maps.values().sum::<f64>() / 1024.0 / 1024.0)
}

/// A map's id and its bytes.
fn map_memory(fdinfo: &str) -> Option<(u64, f64)> {
    let field = |name: &str| fdinfo.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    #[allow(clippy::cast_precision_loss, reason = "maps are far smaller than a float counts")]
    let bytes = field("memlock:")? as f64;
    Some((field("map_id:")?, bytes))
}

fn table(results: &Results) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "Services",
        "full state s",
        "CPU s",
        "RSS MiB",
        "peak MiB",
        "maps MiB",
        "one change ms",
        "(max)",
    ]);
    for load in &results.loads {
        let median = |spread: Option<Spread>, digits: usize| {
            spread.map_or(String::new(), |spread| format!("{:.digits$}", spread.median))
        };
        table.add_row([
            load.services.to_string(),
            median(load.full_state_s, 2),
            median(load.cpu_s, 2),
            median(load.resident_mib, 0),
            median(load.peak_mib, 0),
            median(load.maps_mib, 0),
            median(load.change_ms, 1),
            load.change_ms.map_or(String::new(), |spread| format!("{:.1}", spread.max)),
        ]);
    }
    for column in 0..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_counted_by_its_id_and_a_program_is_none() {
        let map = "pos:\t0\nmap_type:\t1\nmemlock:\t4096\nmap_id:\t12\nfrozen:\t0\n";
        assert_eq!(map_memory(map), Some((12, 4096.0)));
        assert_eq!(map_memory("pos:\t0\nprog_type:\t3\nmemlock:\t8192\nprog_id:\t4\n"), None);
    }

    #[test]
    fn memory_of_a_process_is_read_by_its_field() {
        let status = "Name:\tsluice\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n";
        assert_eq!(kib(status, "VmRSS:"), Some(102_400.0));
        assert_eq!(kib(status, "VmSwap:"), None);
    }
}
