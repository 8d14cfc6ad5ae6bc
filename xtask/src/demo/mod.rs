//! `cargo xtask demo`: a node in namespaces, the agent on `examples/`, real traffic, and what came of it.

mod checks;
mod play;
mod report;
mod round;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::build;
use crate::command::workspace_root;
use crate::lab::expect::{Client, Frontend, FrontendKind};
use crate::lab::{self, Agent, AgentOptions, Lab, LabOptions, SERVICE_DNS, SERVICE_HTTP, plan};

/// Connections per client, frontend, transport and family: enough that no Pod is left out by chance.
const CONNECTIONS: usize = 100;

/// `cargo xtask demo`
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Leave the lab up to play with, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// A `sluice` that is built already.
    #[arg(long)]
    sluice: Option<PathBuf>,
}

/// The frontends of `examples/` that all Pods stand behind.
const FRONTENDS: [Frontend; 4] = [
    Frontend { kind: FrontendKind::ClusterIp, ip: plan::cluster_ip(10), ports: [SERVICE_HTTP, SERVICE_DNS] },
    Frontend { kind: FrontendKind::NodePort, ip: plan::NODE1_ADDR, ports: [30080, 30053] },
    Frontend { kind: FrontendKind::LoadBalancer, ip: plan::lb_ip(10), ports: [SERVICE_HTTP, SERVICE_DNS] },
    Frontend { kind: FrontendKind::ExternalIp, ip: plan::external_ip(10), ports: [SERVICE_HTTP, SERVICE_DNS] },
];

/// Builds what is missing and runs the demo; an error when an expectation did not hold.
pub fn run(args: &Args) -> Result<()> {
    let sluice = if let Some(path) = &args.sluice {
        path.clone()
    } else {
        build::bpf_object()?;
        build::agent(false)?
    };
    lab::clean_up_on_signals()?;
    show(args, &sluice)
}

fn show(args: &Args, sluice: &Path) -> Result<()> {
    let started = Instant::now();
    let manifests = workspace_root().join("examples");

    let lab = Lab::start(LabOptions::default())?;
    println!("The lab is up after {:.1?}:", started.elapsed());
    println!("  node1    the node under test    Pods br1, br2 on a bridge; rt1, rt2 routed; processes of its own");
    println!("  node2    a node without agent   Pod remote1");
    println!("  client   outside of the cluster");
    let mut options = AgentOptions::new(sluice, &manifests);
    let cgroup = lab.cgroup();
    match &cgroup {
        Ok(cgroup) => options = options.arg("--cgroup").arg(&cgroup.path().display().to_string()),
        Err(why) => println!("Without a cgroup of its own the lab cannot show the node's processes: {why:#}"),
    }
    let agent = Agent::start(&lab, options)?;
    println!("The agent has its first full state in the kernel, {:.1?} after the start.\n", started.elapsed());

    let mut failures = Vec::new();
    let sockets = cgroup.as_ref().map(|cgroup| lab.node1.in_cgroup(cgroup));
    let mut clients = Client::each_sort(&lab)?.to_vec();
    clients.extend(sockets.as_ref().ok().map(Client::process));
    let cells = round::ask_everywhere(&lab, &clients, &FRONTENDS, CONNECTIONS);
    report::print_cells(&clients, &cells);
    report::print_bars(&lab, &clients, &cells);
    failures.extend(cells.iter().flat_map(round::Cell::failures));

    println!("Further expectations:");
    for check in checks::all(&lab, &clients)? {
        println!("  {} {}", if check.failures.is_empty() { "ok    " } else { "FAILED" }, check.title);
        failures.extend(check.failures);
    }
    println!();
    for failure in &failures {
        println!("  FAILED {failure}");
    }
    if failures.is_empty() {
        println!("Every expectation held; {:.1?} in all.", started.elapsed());
    } else {
        println!("\nEnd of the agent's log:\n{}", agent.log_tail());
    }
    if args.keep {
        play::explain(&lab, &agent, sluice, &manifests);
        play::wait_for_signal();
    }
    if !failures.is_empty() {
        bail!("{} expectations of the demo did not hold", failures.len());
    }
    Ok(())
}
