//! `sluice takeover`: how far a node is on its way from kube-proxy to Sluice, and the next step; with `--clean`, what
//! kube-proxy has left is removed, once somebody has agreed.
//!
//! JSON: `{done, next, agent: {running, synced, takeover}, kube_proxy: [pid], left: [text], connections, asked}`;
//! `connections` are those that kube-proxy's rules still translate, `null` where they cannot be counted. The exit code is 0
//! when nothing is left to do, 3 when there is, 1 where it cannot be told.

mod leftovers;

use std::collections::HashSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use lb_common::abi::frontend_kind;
use serde::Serialize;

use self::leftovers::{IPTABLES, Removal, of_iptables, of_ipvs, of_nft};
use super::output::{self, FormatArgs};
use super::pin_args::PinArgs;
use super::status::older_version_runs;
use crate::check::facts::KubeProxy;
use crate::check::gather::{kube_proxy, nft_rules, tool};
use crate::linux::conntrack;
use crate::load::writer_lock::has_writer;
use crate::maps::kernel::KernelTables;
use crate::maps::{Tables as _, observe};

/// Exit code while there is something left to do.
const NOT_DONE: u8 = 3;

#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Clone, Debug, Args)]
pub(super) struct TakeoverArgs {
    /// Say how far it is; the default.
    #[arg(long, conflicts_with = "clean")]
    status: bool,
    /// Remove what kube-proxy has left: its chains, tables, sets and virtual servers. Shows the commands and asks first.
    #[arg(long)]
    clean: bool,
    /// With `--clean`: do not ask.
    #[arg(long, requires = "clean")]
    yes: bool,
    /// With `--clean`: also while connections depend on these rules, which then end.
    #[arg(long, requires = "clean")]
    end_connections: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    pins: PinArgs,
}

/// How far a node is.
#[derive(Debug, Serialize)]
struct Takeover {
    done: bool,
    /// The next step.
    next: String,
    agent: Agent,
    /// Its processes.
    kube_proxy: Vec<u32>,
    /// What it has left.
    left: Vec<String>,
    connections: Option<usize>,
    /// Tools that were asked for rules.
    asked: Vec<String>,
    #[serde(skip)]
    removals: Vec<Removal>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Agent {
    running: bool,
    synced: bool,
    /// It leaves connections that began before it to the stack.
    takeover: bool,
}

pub(super) fn print(args: &TakeoverArgs) -> anyhow::Result<ExitCode> {
    let found = look(&args.pins.pin_path)?;
    if args.clean && !args.status {
        clean(args, &found)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&found, args.format.output, text)?;
    Ok(if found.done { ExitCode::SUCCESS } else { ExitCode::from(NOT_DONE) })
}

fn look(pin_path: &Path) -> anyhow::Result<Takeover> {
    // First: who may not see that Sluice runs is not told to start it.
    let agent = agent(pin_path)?;
    let processes = kube_proxy();
    let (removals, asked) = removals(&processes);
    let connections = connections(pin_path).ok();
    let left: Vec<String> = removals.iter().map(|removal| removal.what.clone()).collect();
    let next = next(agent, &processes.processes, &left, connections, &asked);
    let done = next.is_none();
    let next = next.unwrap_or_else(|| "nothing: this node is Sluice's".to_owned());
    Ok(Takeover { done, next, agent, kube_proxy: processes.processes, left, connections, asked, removals })
}

/// The agent of these pins; one that has never run leaves none.
fn agent(pin_path: &Path) -> anyhow::Result<Agent> {
    let maps = pin_path.join("maps");
    if !maps.try_exists().with_context(|| format!("cannot look for {}", maps.display()))? {
        return Ok(Agent::default());
    }
    let status = KernelTables::open(pin_path)?.status()?;
    Ok(Agent {
        running: has_writer(pin_path) || older_version_runs(&status),
        synced: status.synced_ns != 0,
        takeover: observe::takes_over(pin_path)?,
    })
}

/// The commands that remove what is there, and the tools that were asked.
fn removals(kube_proxy: &KubeProxy) -> (Vec<Removal>, Vec<String>) {
    let firewall = nft_rules();
    let (mut all, mut asked) = (of_nft(&firewall), firewall.asked);
    for (save, restore) in IPTABLES {
        if let Some(saved) = printed(save, &[]) {
            asked.push(save.to_owned());
            all.extend(of_iptables(restore, &saved));
        }
    }
    let sets = printed("ipset", &["list", "-name"]).unwrap_or_default();
    let sets: Vec<String> = sets.lines().filter(|set| set.starts_with("KUBE-")).map(str::to_owned).collect();
    all.extend(of_ipvs(kube_proxy, &sets));
    (all, asked)
}

/// What a tool prints; none: it is not there, or fails.
fn printed(program: &str, args: &[&str]) -> Option<String> {
    let output = tool(program).args(args).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Connections to addresses that Sluice serves, which the kernel's connection tracking translates.
fn connections(pin_path: &Path) -> anyhow::Result<usize> {
    let existing = KernelTables::open(pin_path)?.read()?;
    let served: HashSet<(SocketAddr, u8)> = existing
        .frontends
        .iter()
        .filter(|(_, value)| !frontend_kind::is_of_address(value.kind))
        .map(|(vip, _)| (SocketAddr::new(vip.addr, vip.port), vip.proto))
        .collect();
    let mut count = 0;
    conntrack::each_translated(|found| count += usize::from(served.contains(&(found.destination, found.protocol))))
        .context("connection tracking cannot be asked")?;
    Ok(count)
}

/// The next step; none: all is done.
fn next(
    agent: Agent,
    processes: &[u32],
    left: &[String],
    connections: Option<usize>,
    asked: &[String],
) -> Option<String> {
    let is_begun = agent.running && agent.synced;
    let step = if !is_begun {
        "start Sluice with --takeover: docs/migration.md"
    } else if !agent.takeover && (!processes.is_empty() || connections.is_some_and(|count| count > 0)) {
        "restart Sluice with --takeover: without it connections that kube-proxy began are reset"
    } else if !processes.is_empty() {
        "remove kube-proxy: kubectl -n kube-system delete daemonset kube-proxy; others: docs/migration.md"
    } else if connections.is_some_and(|count| count > 0) {
        "wait until no connection depends on kube-proxy's rules; then sluice takeover --clean"
    } else if !left.is_empty() {
        "sluice takeover --clean"
    } else if agent.takeover {
        "restart Sluice without --takeover"
    } else if asked.is_empty() {
        "run this on the host, as root: there is neither nft nor iptables-save here to see rules with"
    } else {
        return None;
    };
    Some(step.to_owned())
}

fn text(found: &Takeover) -> String {
    let Takeover { agent, kube_proxy, left, connections, next, .. } = found;
    let agent = match (agent.running, agent.synced) {
        (false, _) => "does not run".to_owned(),
        (true, false) => "runs, but has not brought its first full state into the kernel".to_owned(),
        (true, true) if agent.takeover => "serves, and leaves older connections alone (--takeover)".to_owned(),
        (true, true) => "serves".to_owned(),
    };
    let kube_proxy = kube_proxy.first().map_or_else(|| "does not run".to_owned(), |pid| format!("runs (pid {pid})"));
    let left = if left.is_empty() { "nothing".to_owned() } else { left.join("\n              ") };
    let connections = connections.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    format!(
        "Sluice:       {agent}\nkube-proxy:   {kube_proxy}\nLeft by it:   {left}\n\
         Connections:  {connections} that its rules translate\nNext:         {next}"
    )
}

/// Removes what is left, if that harms nobody and somebody agrees.
fn clean(args: &TakeoverArgs, found: &Takeover) -> anyhow::Result<()> {
    if found.removals.is_empty() {
        return output::write("nothing of kube-proxy's is left").map(drop);
    }
    if let Some(pid) = found.kube_proxy.first() {
        bail!("kube-proxy runs (pid {pid}) and would make its rules anew: remove it first");
    }
    if !(found.agent.running && found.agent.synced) {
        bail!("Sluice does not serve this node: without these rules nobody would");
    }
    match found.connections {
        Some(0) => {}
        _ if args.end_connections => {}
        Some(count) => bail!("{count} connections depend on these rules: wait, or use --end-connections"),
        None => bail!("it cannot be told whether connections depend on these rules: use --end-connections"),
    }
    let commands: Vec<String> = found.removals.iter().map(|removal| format!("  {}", removal.command())).collect();
    output::write(&format!("This removes what kube-proxy has left:\n{}", commands.join("\n")))?;
    if !args.yes && !agreed()? {
        bail!("nothing was removed");
    }
    let mut failed = 0;
    for removal in &found.removals {
        let done = remove(removal);
        let said = done.as_ref().map_or_else(|error| format!("failed: {error:#}"), |()| "removed".to_owned());
        failed += usize::from(done.is_err());
        output::write(&format!("{}: {said}", removal.what))?;
    }
    if failed > 0 {
        bail!("{failed} of {} could not be removed", found.removals.len());
    }
    Ok(())
}

/// Whether somebody at the terminal says so.
fn agreed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("there is nobody to ask: use --yes");
    }
    output::write("Type yes to go on:")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(answer.trim() == "yes")
}

fn remove(removal: &Removal) -> anyhow::Result<()> {
    let mut command: Command = tool(removal.program);
    command.args(&removal.args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", removal.program))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(removal.input.as_bytes()).context("cannot write its input")?;
    }
    let done = child.wait_with_output().context("cannot wait for it")?;
    if !done.status.success() {
        bail!("{}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::list::golden;

    #[test]
    fn each_state_has_its_next_step() {
        let serves = |takeover| Agent { running: true, synced: true, takeover };
        let (rules, tools) = (["nft table ip kube-proxy".to_owned()], ["nft".to_owned()]);
        for (agent, processes, left, connections, asked, wanted) in [
            (Agent::default(), &[1][..], &rules[..], None, &tools[..], Some("start Sluice with --takeover")),
            (serves(false), &[1], &rules, Some(0), &tools, Some("restart Sluice with --takeover")),
            (serves(false), &[], &rules, Some(4), &tools, Some("restart Sluice with --takeover")),
            (serves(true), &[1], &rules, Some(4), &tools, Some("remove kube-proxy")),
            (serves(true), &[], &rules, Some(4), &tools, Some("wait until")),
            (serves(true), &[], &rules, Some(0), &tools, Some("sluice takeover --clean")),
            (serves(false), &[], &rules, Some(0), &tools, Some("sluice takeover --clean")),
            (serves(true), &[], &[], Some(0), &tools, Some("restart Sluice without")),
            (serves(false), &[], &[], Some(0), &[], Some("run this on the host")),
            (serves(false), &[], &[], Some(0), &tools, None),
        ] {
            let next = next(agent, processes, left, connections, asked);
            let fits = next.as_deref().map(|next| wanted.is_some_and(|wanted| next.starts_with(wanted)));
            assert!(fits.unwrap_or(wanted.is_none()), "{agent:?} {processes:?} {left:?} {connections:?}: {next:?}");
        }
    }

    #[test]
    fn the_document_has_what_is_printed() {
        let agent = Agent { running: true, synced: true, takeover: true };
        let (left, asked) = (vec!["nft table ip kube-proxy".to_owned()], vec!["nft".to_owned()]);
        let next = next(agent, &[], &left, Some(37), &asked).unwrap();
        let found = Takeover {
            done: false,
            next,
            agent,
            kube_proxy: vec![],
            left,
            connections: Some(37),
            asked,
            removals: vec![],
        };
        golden::assert_documented("docs/migration.md", &text(&found));
    }

    #[test]
    fn nothing_is_removed_while_somebody_needs_it() {
        let args = |yes| TakeoverArgs {
            status: false,
            clean: true,
            yes,
            end_connections: false,
            format: FormatArgs { output: output::Format::Table },
            pins: PinArgs { pin_path: "/nowhere".into() },
        };
        let found = |kube_proxy, running, connections| Takeover {
            done: false,
            next: String::new(),
            agent: Agent { running, synced: true, takeover: false },
            kube_proxy,
            left: vec![],
            connections,
            asked: vec![],
            removals: of_iptables("iptables-restore", "*nat\n:KUBE-SERVICES - [0:0]\n").into_iter().collect(),
        };
        for (found, why) in [
            (found(vec![7], true, Some(0)), "kube-proxy runs (pid 7)"),
            (found(vec![], false, Some(0)), "does not serve"),
            (found(vec![], true, Some(3)), "3 connections depend"),
            (found(vec![], true, None), "cannot be told"),
        ] {
            let error = clean(&args(true), &found).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
