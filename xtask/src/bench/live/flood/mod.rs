//! `cargo xtask bench flood`: what open connections notice while somebody sends as much as one processor can.

mod clients;
mod sender;
mod target;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use self::clients::{Clients, Noticed};
use self::sender::{Attacker, Flood, Prepared};
use self::target::Way;
use super::arm::{Arm, Built};
use super::island::{CLIENT, LOCAL, REMOTE};
use super::kind::Kind;
use crate::bench::cpu::{self, Cpu};
use crate::bench::{services, session};
use crate::build;
use crate::command::is_root;
use crate::lab::{self, RunDir};

/// The outsider's own address, beside the clients'.
const OUTSIDER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 90, 0, 101);
/// Between two requests of a connection: some are seldom enough to be the oldest in any table.
const PAUSES: [u64; 4] = [1, 5, 15, 30];
/// How long answers are waited for when a flood is over.
const GRACE: Duration = Duration::from_secs(10);

/// What to flood.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "flood")]
pub(in crate::bench) struct Args {
    /// Only these nodes, separated by commas; without it: all.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "NODE")]
    nodes: Vec<Proxy>,
    /// Only these floods, separated by commas; without it: all.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "FLOOD")]
    floods: Vec<Flood>,
    /// Only these senders, separated by commas; without it: all.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "SENDER")]
    from: Vec<Sender>,
    /// Connections that are open.
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Seconds that a flood lasts.
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// A few seconds, a hundred connections that ask each second, one sender: enough to see that all is well.
    #[arg(long)]
    quick: bool,
    /// Measure this agent instead of the one that is built here.
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
    /// Further arguments of `sluice run`, separated by commas: `--agent-args=--max-flows,65536`.
    #[arg(long = "agent-args", value_delimiter = ',', allow_hyphen_values = true, value_name = "ARG")]
    agent: Vec<String>,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is between clients and servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Proxy {
    /// Nothing: clients ask the Pods, floods are aimed at them.
    Plain,
    /// kube-proxy's nftables rules, and connection tracking.
    Nft,
    /// Sluice by TC.
    Sluice,
    /// Sluice by XDP on the uplinks.
    Xdp,
}

impl Proxy {
    const fn kind(self) -> Kind {
        match self {
            Self::Plain => Kind::Plain,
            Self::Nft => Kind::NftFew,
            Self::Sluice => Kind::Sluice,
            Self::Xdp => Kind::Xdp,
        }
    }
}

/// Who floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sender {
    /// A host outside under its own address.
    Outside,
    /// A host outside under everybody's.
    OutsideSpoofed,
    /// A Pod of the node under its own address.
    Pod,
    /// A Pod of the node under everybody's.
    PodSpoofed,
}

impl Sender {
    const fn name(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::OutsideSpoofed => "outside, spoofed",
            Self::Pod => "Pod",
            Self::PodSpoofed => "Pod, spoofed",
        }
    }
}

/// One node under one flood.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    node: String,
    flood: String,
    from: String,
    /// Connections that were open, ended, and had no answer at the end.
    connections: usize,
    broken: usize,
    hanging: usize,
    /// Requests that were answered.
    answered: u64,
    /// Milliseconds of the slowest answer.
    worst_ms: f64,
    /// Packets of the flood a second.
    packets_a_second: f64,
}

/// All figures of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Results {
    kernel: String,
    seconds: f64,
    rows: Vec<Row>,
}

impl Args {
    fn nodes(&self) -> Vec<Proxy> {
        if self.nodes.is_empty() { Proxy::value_variants().to_vec() } else { self.nodes.clone() }
    }

    /// Floods and their senders; what sends nothing comes once.
    fn floods(&self) -> Vec<(Flood, Sender)> {
        let floods = if self.floods.is_empty() { Flood::value_variants() } else { &self.floods };
        let quick = [Sender::OutsideSpoofed];
        let senders = match (self.from.is_empty(), self.quick) {
            (false, _) => &self.from,
            (true, true) => &quick[..],
            (true, false) => Sender::value_variants(),
        };
        let each = floods.iter().flat_map(|flood| {
            let count = if *flood == Flood::None { 1 } else { senders.len() };
            senders.iter().take(count).map(|sender| (*flood, *sender))
        });
        each.collect()
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { 4.0 } else { 40.0 }).clamp(0.1, 3600.0))
    }

    fn connections(&self) -> usize {
        self.connections.unwrap_or(if self.quick { 100 } else { 500 })
    }

    fn pauses(&self) -> Vec<Duration> {
        let count = if self.quick { 1 } else { PAUSES.len() };
        PAUSES.iter().take(count).map(|seconds| Duration::from_secs(*seconds)).collect()
    }
}

/// Floods, prints and writes what came of it.
pub(in crate::bench) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        bail!("the bench makes network namespaces and opens raw sockets: run it as root");
    }
    build::bpf_object()?;
    let sluice = match &args.sluice {
        Some(path) => std::path::absolute(path)?,
        None => build::agent(true)?,
    };
    ensure!(sluice.is_file(), "no agent at {}", sluice.display());
    let built = Built { sluice, against: None, programs: build::bench_object_path(), services: 0 };
    session::raise();
    let cpu = Cpu::choose(None)?;
    // Clients and servers have the other processors, the flood its own.
    cpu.avoid()?;
    cpu::raise_open_files()?;
    lab::clean_up_on_signals()?;
    let mut rows = Vec::new();
    for proxy in args.nodes() {
        for (flood, sender) in args.floods() {
            let what = || format!("{proxy:?}, {}, {}", flood.name(), sender.name());
            eprintln!("{}", what());
            rows.push(measure(args, &built, cpu, proxy, flood, sender).with_context(what)?);
        }
    }
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let results = Results { kernel: kernel.unwrap_or_default(), seconds: args.time().as_secs_f64(), rows };
    println!("{}", table(&results));
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&results)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A node that nothing has happened to yet, and one flood.
fn measure(args: &Args, built: &Built, cpu: Cpu, proxy: Proxy, flood: Flood, sender: Sender) -> Result<Row> {
    let dir = RunDir::create()?;
    services::write(&dir.manifests(), 0)?;
    target::manifests(&dir.manifests())?;
    let more: Vec<&str> = args.agent.iter().map(String::as_str).collect();
    let arm = Arm::build_with(&dir, proxy.kind(), built, &more)?;
    target::rules(&arm, proxy.kind(), dir.path())?;
    clients::serve(&arm.island.server, &LOCAL)?;
    clients::serve(&arm.island.remote, &REMOTE)?;
    arm.island.outside.ip(&format!("addr add {OUTSIDER}/24 dev eth0"))?;
    let attacker = attacker(&arm, proxy, sender);
    let prepared = Prepared::new(flood, &attacker)?;
    let way = if proxy == Proxy::Plain { Way::Direct } else { Way::NodePort };
    let to = target::addresses(way).tcp;
    let mut open = Clients::open(&arm.island.outside, args.connections(), &to, &args.pauses())?;
    let stop = AtomicBool::new(false);
    let (noticed, (sent, took)) = thread::scope(|scope| {
        let flooding = scope.spawn(|| prepared.send(&attacker.ns, cpu, &stop));
        open.run(args.time());
        stop.store(true, Ordering::Relaxed);
        let sent = flooding.join().map_err(|_panic| anyhow::anyhow!("the flood's thread died"))??;
        Ok::<_, anyhow::Error>((open.end(GRACE), sent))
    })?;
    let Noticed { broken, hanging, answered, worst } = noticed;
    #[expect(clippy::cast_precision_loss, reason = "far fewer packets than a float counts")]
    let packets_a_second = sent as f64 / took.as_secs_f64();
    Ok(Row {
        node: proxy.kind().name().to_owned(),
        flood: flood.name().to_owned(),
        from: if flood == Flood::None { String::new() } else { sender.name().to_owned() },
        connections: args.connections(),
        broken,
        hanging,
        answered,
        worst_ms: worst.as_secs_f64() * 1e3,
        packets_a_second,
    })
}

fn attacker(arm: &Arm, proxy: Proxy, sender: Sender) -> Attacker {
    let outside = matches!(sender, Sender::Outside | Sender::OutsideSpoofed);
    let way = match (proxy, outside) {
        (Proxy::Plain, _) => Way::Direct,
        (_, true) => Way::NodePort,
        (_, false) => Way::ClusterIp,
    };
    let own = match sender {
        Sender::Outside => Some(OUTSIDER),
        Sender::Pod => Some(CLIENT),
        Sender::OutsideSpoofed | Sender::PodSpoofed => None,
    };
    let ns = if outside { arm.island.outside.clone() } else { arm.island.client.clone() };
    let to = target::addresses(way);
    Attacker { ns, own, tcp: to.tcp, udp: to.udp }
}

fn table(results: &Results) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["node", "flood", "from", "packets/s", "open", "broken", "hanging", "answered", "worst ms"]);
    for row in &results.rows {
        table.add_row([
            row.node.clone(),
            row.flood.clone(),
            row.from.clone(),
            format!("{:.0}", row.packets_a_second),
            row.connections.to_string(),
            row.broken.to_string(),
            row.hanging.to_string(),
            row.answered.to_string(),
            format!("{:.1}", row.worst_ms),
        ]);
    }
    for column in 3..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("Linux {}; each flood for {} s, on a separate processor\n\n{table}", results.kernel, results.seconds)
}
