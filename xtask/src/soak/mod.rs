//! `cargo xtask soak`: an agent for minutes or hours, with Services and devices that come and go, restarts, scrapes and
//! traffic; and what it uses over time.

mod plot;
mod report;
mod sample;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use self::report::Done;
use self::sample::Sample;
use crate::build;
use crate::command::workspace_root;
use crate::lab::probe::Transport;
use crate::lab::{Agent, AgentOptions, Family, Lab, LabOptions, Manifests, SERVICE_DNS, SERVICE_HTTP, ServiceSpec};
use crate::lab::{clean_up_on_signals, plan};

/// Settings.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Args {
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// The agent as users run it.
    #[arg(long)]
    release: bool,
}

/// The Service that is asked all the time.
const STEADY: &str = "steady";
/// Services that come and go, and how many of them change in a round.
const OTHERS: usize = 200;
const CHANGES: usize = 10;
const ROUND: Duration = Duration::from_secs(1);
/// In rounds.
const SCRAPE_EVERY: u32 = 5;
const DEVICE_EVERY: u32 = 3;
const RESTART_EVERY: u32 = 45;
const SYNCED_WITHIN: Duration = Duration::from_secs(60);

struct Soak {
    agent: Agent,
    manifests: Manifests,
    lab: Lab,
    begin: Instant,
    done: Done,
}

/// Runs it, and writes the report to `target/soak`.
pub fn run(args: &Args) -> Result<()> {
    clean_up_on_signals()?;
    build::bpf_object()?;
    let binary = build::agent(args.release)?;
    let lab = Lab::start(LabOptions::default())?;
    let manifests = Manifests::of(&lab);
    manifests.service(&ServiceSpec::new(STEADY, plan::cluster_ip(10)))?;
    manifests.ready(STEADY, lab.pods())?;
    let mut agent = Agent::prepare(&lab, AgentOptions::new(&binary, manifests.dir()));
    agent.spawn()?;
    agent.wait_synced(SYNCED_WITHIN)?;
    let mut soak = Soak { agent, manifests, lab, begin: Instant::now(), done: Done::default() };
    let end = Duration::from_secs(60 * u64::from(args.minutes));
    let mut samples = Vec::new();
    for round in 1.. {
        let began = Instant::now();
        soak.round(round)?;
        let sample = Sample::take(&soak.agent, soak.seconds())?;
        if round % 30 == 0 {
            println!("{:.0} s: {:.0} KiB, {} failures", sample.at, sample.values[0], soak.done.failed.len());
        }
        samples.push(sample);
        if soak.begin.elapsed() >= end {
            break;
        }
        thread::sleep(ROUND.saturating_sub(began.elapsed()));
    }
    let folder = workspace_root().join("target/soak");
    let growing = report::write(&folder, &samples, &soak.done)?;
    println!("{}", folder.join("report.md").display());
    if !growing.is_empty() || !soak.done.failed.is_empty() {
        bail!("{} questions had no answer; what grows: {growing:?}", soak.done.failed.len());
    }
    Ok(())
}

impl Soak {
    fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    fn round(&mut self, round: u32) -> Result<()> {
        for _ in 0..CHANGES {
            self.change()?;
        }
        if round.is_multiple_of(DEVICE_EVERY) {
            self.device(round)?;
        }
        if round.is_multiple_of(SCRAPE_EVERY) {
            self.scrape()?;
        }
        self.ask()?;
        if round.is_multiple_of(RESTART_EVERY) {
            if (round / RESTART_EVERY).is_multiple_of(2) { self.agent.stop() } else { self.agent.kill9() }?;
            // Traffic goes on without it.
            self.ask()?;
            self.done.restarts.push(self.seconds());
            self.agent.spawn()?;
            self.agent.wait_synced(SYNCED_WITHIN)?;
        }
        Ok(())
    }

    /// One Service of the others comes, goes, or gets other endpoints.
    fn change(&mut self) -> Result<()> {
        self.done.changes += 1;
        let number = fastrand::usize(..OTHERS);
        let file: PathBuf = self.manifests.dir().join(format!("other-{number}.json"));
        if file.exists() && fastrand::u8(..4) == 0 {
            return std::fs::remove_file(&file).with_context(|| format!("cannot delete {}", file.display()));
        }
        let name = format!("other-{number}");
        let endpoints = (0..fastrand::usize(0..12))
            .map(|_| json!({"addresses": [format!("10.200.{}.{}", fastrand::u8(..), fastrand::u8(1..))]}));
        let items = [
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "soak"},
                "spec": {"clusterIP": format!("10.96.{}.{}", 100 + number / 250, 1 + number % 250), "ports": [{"port": 80}]}}),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": name, "namespace": "soak", "labels": {"kubernetes.io/service-name": name}},
                "ports": [{"port": 8080}], "endpoints": endpoints.collect::<Vec<_>>()}),
        ];
        self.manifests
            .put(&format!("other-{number}.json"), &json!({"kind": "List", "apiVersion": "v1", "items": items}))
    }

    /// A Pod's device comes, and the one before it goes.
    fn device(&mut self, round: u32) -> Result<()> {
        self.done.devices += 1;
        let _first_of_all = self.lab.node1.ip(&format!("link del soak{}", round - DEVICE_EVERY));
        self.lab.node1.ip(&format!("link add soak{round} type veth peer name soakp{round}"))?;
        self.lab.node1.ip(&format!("link set soak{round} up"))
    }

    fn scrape(&mut self) -> Result<()> {
        self.done.scrapes += 1;
        self.lab.node1.run(|| {
            let mut asked = TcpStream::connect(("127.0.0.1", 10249)).context("cannot reach /metrics")?;
            asked.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").context("cannot ask for /metrics")?;
            let mut text = Vec::new();
            asked.read_to_end(&mut text).map(drop).context("cannot read /metrics")
        })
    }

    /// A Pod and the client outside ask the steady Service.
    fn ask(&mut self) -> Result<()> {
        for ns in [&self.lab.client, &self.lab.pod("rt1")?.ns] {
            for (transport, port) in [(Transport::Tcp, SERVICE_HTTP), (Transport::Udp, SERVICE_DNS)] {
                for family in Family::ALL {
                    let dst = SocketAddr::new(plan::cluster_ip(10).of(family), port);
                    self.done.asked += 1;
                    if let Err(failure) = ns.ask(transport, dst) {
                        let (client, at) = (ns.name(), self.begin.elapsed().as_secs());
                        self.done.failed.push(format!("{at} s: {client} -> {dst}/{}: {failure}", transport.name()));
                    }
                }
            }
        }
        Ok(())
    }
}
