//! `sluice check`: whether the node is fit for Sluice, and whether what lies around it lets Services work; or, for CI,
//! whether a folder of manifests says what its author meant. Changes nothing.
//!
//! JSON: `{level, findings: [{check, level, found, todo}]}`; levels are `ok`, `skipped`, `warning` and `problem`, the first
//! one is the worst. The exit code is 0 unless there is a problem; with `--strict`, or a warning.

use std::fmt::Write;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::labelled;
use super::output;
use super::packet_args::port_range;
use super::pin_args::ViewArgs;
use super::status::older_version_runs;
use crate::causes::with_causes;
use crate::check;
use crate::check::facts::{AgentFacts, Api, Facts, Names};
use crate::check::finding::{Finding, Level};
use crate::check::gather::{self, Ask};
use crate::load::writer_lock::has_writer;
use crate::maps::kernel::KernelTables;
use crate::model::desired::{NodeFacts, ResolveSettings};
use crate::model::world::World;
use crate::reconcile::agent_report::AgentReport;
use crate::source::manifests;

/// The check that takes somebody who knows the cluster.
const NODE_NAME: &str = "node-name";
/// How long an API server has to take a connection.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, Args)]
pub(super) struct CheckArgs {
    /// Check the manifests in this folder and nothing else: unknown fields, names of ports, EndpointSlices without a
    /// Service.
    #[arg(long, value_name = "DIR", conflicts_with = "api_server")]
    manifests: Option<PathBuf>,
    /// Also fail when there are warnings.
    #[arg(long)]
    strict: bool,
    /// Before an agent runs: whether this server takes a connection.
    #[arg(long, value_name = "URL")]
    api_server: Option<String>,
    /// Before an agent runs: the ports that it is to have for source NAT.
    #[arg(long, value_name = "LOW-HIGH", default_value = "1024-29999", value_parser = port_range)]
    snat_ports: (u16, u16),
    #[command(flatten)]
    view: ViewArgs,
}

#[derive(Debug, Serialize)]
struct Checked {
    /// The worst of them.
    level: Level,
    findings: Vec<Finding>,
}

pub(super) fn print(args: &CheckArgs) -> anyhow::Result<()> {
    let findings = match &args.manifests {
        Some(folder) => of_manifests(folder)?,
        None => of_node(args)?,
    };
    let checked = Checked { level: check::worst(&findings), findings };
    output::print(&checked, args.view.format.output, text)?;
    let number = |level| checked.findings.iter().filter(|finding| finding.level == level).count();
    match (number(Level::Problem), number(Level::Warning)) {
        (0, 0) => Ok(()),
        (0, _) if !args.strict => Ok(()),
        (0, warnings) => bail!("{warnings} warnings"),
        (problems, _) => bail!("{problems} problems"),
    }
}

fn of_manifests(folder: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut world = World::new(NodeFacts::default(), ResolveSettings::default());
    for event in manifests::read(folder)? {
        world.apply(event);
    }
    world.take_changes();
    Ok(check::manifests::all(&world, &manifests::slips(folder)?))
}

fn of_node(args: &CheckArgs) -> anyhow::Result<Vec<Finding>> {
    let pin_path = &args.view.pins.pin_path;
    let read = read_agent(pin_path);
    let agent = read.as_ref().ok().and_then(Option::as_ref);
    let roles = agent.map(|agent| {
        let devices = agent.report.attach.devices.iter();
        devices.map(|device| (device.name.clone(), (device.role, device.why.clone()))).collect()
    });
    let ask = Ask { pin_path: pin_path.clone(), snat_ports: args.snat_ports, roles };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let mut facts = runtime.block_on(gather::facts(&ask))?;
    let mut others = Vec::new();
    match read {
        Ok(None) => {}
        Ok(Some(agent)) => {
            take_report(&mut facts, &agent);
            others.extend(node_name(&agent.report));
            facts.agent = Some(agent.facts);
        }
        Err(error) => {
            let todo = "run it as root, with the version and the --pin-path of the agent";
            others.push(Finding::problem(format!("{error:#}"), todo).of("agent"));
        }
    }
    if let Some(url) = &args.api_server {
        let mut api = api(url);
        api.reached = Some(reach(url));
        facts.api = Some(api);
    }
    let found = check::all(&facts).into_iter().filter(|line| others.iter().all(|other| other.check != line.check));
    Ok(others.iter().cloned().chain(found).collect())
}

/// The agent of these pins.
struct Agent {
    pid: u32,
    facts: AgentFacts,
    report: AgentReport,
}

/// Reads its state and its report; none: no agent has run.
fn read_agent(pin_path: &Path) -> anyhow::Result<Option<Agent>> {
    if matches!(pin_path.join("maps").try_exists(), Ok(false)) {
        return Ok(None);
    }
    let tables = KernelTables::open(pin_path)?;
    let status = tables.status()?;
    let report: AgentReport = serde_json::from_str(&tables.report()?).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let source = &report.source;
    let since = source.failing_since_ns.map_or(0, |ns| now.saturating_sub(Duration::from_nanos(ns)).as_secs());
    let failing = (!source.connected && !source.kind.is_empty()).then(|| {
        let why = source.last_error.clone().unwrap_or_else(|| "no such folder".to_owned());
        (since, why)
    });
    let device_errors = report.attach.devices.iter().flat_map(|device| {
        device.errors.iter().map(|error| format!("{} ({}): {error}", device.name, device.role.name()))
    });
    let facts = AgentFacts {
        alive: has_writer(pin_path) || older_version_runs(&status),
        synced: status.synced_ns != 0,
        node_name: report.node_name.clone(),
        source: source.kind.clone(),
        from: source.from.clone(),
        failing,
        refusals: report
            .refusals
            .iter()
            .map(|row| [row.kind.clone(), row.object.clone(), row.reason.clone(), row.message.clone()])
            .collect(),
        ports_taken: report.ports_taken.clone(),
        not_served: report
            .attach
            .not_served
            .iter()
            .chain(report.attach.warnings.iter().filter(|line| line.starts_with("--")))
            .cloned()
            .collect(),
        errors: device_errors.chain(report.sockets.errors.iter().cloned()).collect(),
    };
    Ok(Some(Agent { pid: status.pid, facts, report }))
}

/// Who reads the API knows where endpoints are: what the agent found last.
fn node_name(report: &AgentReport) -> Vec<Finding> {
    if report.source.kind != "kube" {
        return Vec::new();
    }
    let found = report.checks.iter().filter(|finding| finding.check == NODE_NAME).cloned();
    let all_is_well = || {
        vec![Finding::ok(format!("the agent has found nothing wrong with the name {}", report.node_name)).of(NODE_NAME)]
    };
    Some(found.collect::<Vec<_>>()).filter(|found| !found.is_empty()).unwrap_or_else(all_is_well)
}

/// What the agent knows of the cluster.
fn take_report(facts: &mut Facts, Agent { pid, report, .. }: &Agent) {
    match &*report.source.kind {
        "kube" => facts.api = Some(api(&report.source.from)),
        "manifests" => {
            if let Ok(events) = manifests::read(&labelled::folder(report, *pid)) {
                let mut names = Names::of(&report.node_name);
                names.take(&events, false);
                facts.names = Some(names);
            }
        }
        _ => {}
    }
}

fn api(url: &str) -> Api {
    Api { url: url.to_owned(), addr: host(url).and_then(|host| host.parse().ok()), reached: None }
}

/// Host and port of a URL.
fn host(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    Some(format!("{}:{port}", uri.host()?))
}

fn reach(url: &str) -> Result<(), String> {
    let host = host(url).ok_or_else(|| "that is no URL, such as https://192.0.2.1:6443".to_owned())?;
    let addresses: Vec<SocketAddr> = host.to_socket_addrs().map_err(|error| error.to_string())?.collect();
    let mut failed = "it has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => failed = with_causes(&error),
        }
    }
    Err(failed)
}

fn text(checked: &Checked) -> String {
    let mut text = String::new();
    match write_text(&mut text, checked) {
        Ok(()) => text,
        Err(error) => error.to_string(),
    }
}

fn write_text(text: &mut String, checked: &Checked) -> std::fmt::Result {
    let mut lines: Vec<&Finding> = checked.findings.iter().collect();
    // What is worst comes first.
    lines.sort_by_key(|line| std::cmp::Reverse(line.level));
    for Finding { check, level, found, todo } in lines {
        let level = if *level == Level::Ok { "ok".to_owned() } else { level.name().to_ascii_uppercase() };
        writeln!(text, "{level:<8} {check:<15} {found}")?;
        if let Some(todo) = todo {
            writeln!(text, "{:<24} do: {todo}", "")?;
        }
    }
    let number = |level| checked.findings.iter().filter(|finding| finding.level == level).count();
    let counts: Vec<String> =
        Level::ALL.iter().rev().map(|level| format!("{} {}", number(*level), level.name())).collect();
    writeln!(text, "\n{}", counts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worst_comes_first_with_what_to_do() {
        let findings = vec![
            Finding::ok("fine").of("kernel"),
            Finding::warning("odd", "look").of("clock"),
            Finding::problem("bad", "mend").of("maps"),
        ];
        let text = text(&Checked { level: Level::Problem, findings });
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0], "PROBLEM  maps            bad");
        assert_eq!(lines[1], "do: mend");
        assert_eq!(lines[4], "ok       kernel          fine");
        assert_eq!(lines[6], "1 problem, 1 warning, 0 skipped, 1 ok");
    }

    #[test]
    fn the_host_of_a_url_is_found_and_asked() {
        assert_eq!(api("https://10.96.0.1").addr, "10.96.0.1:443".parse().ok());
        assert_eq!(api("https://[fd00::1]:6443").addr, "[fd00::1]:6443".parse().ok());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        assert_eq!(reach(&url), Ok(()));
        drop(listener);
        assert!(reach(&url).unwrap_err().contains("refused"));
        assert!(reach("nowhere at all").unwrap_err().contains("no URL"));
    }
}
