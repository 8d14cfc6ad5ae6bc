//! A node on which one agent after the other runs into a fault, in each scenario, and what has to be true then.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::lab::{Agent, AgentOptions, Cgroup, Lab, LabOptions, Manifests, ServiceSpec, plan, sluice_binary};

use crate::fault_scenarios::{Fault, Scenario};
use crate::fault_traffic::Conversations;
use crate::fixture::{ALL, all};
use crate::truth;

const PATIENCE: Duration = Duration::from_secs(30);
/// As long as an agent may take to notice what was refused, and to try it again.
const RETRIED: Duration = Duration::from_secs(25);
/// An agent that can give way does so within this.
const GIVES_WAY: Duration = Duration::from_secs(6);
const POLL: Duration = Duration::from_millis(50);
/// Reports, and what else is written in the background, come within this.
const QUIET: Duration = Duration::from_millis(700);

/// How the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    manifests: usize,
    device: bool,
    doubled: bool,
}

/// The node. Fields drop in this order.
pub(crate) struct Ground {
    agent: Option<Agent>,
    manifests: Manifests,
    cgroup: Cgroup,
    lab: Lab,
    faulty: PathBuf,
    now: Way,
    truths: BTreeMap<(usize, bool), Value>,
    attempts: usize,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let faulty = xtask::build::faulty_agent().unwrap();
        let lab = Lab::start(LabOptions::default()).unwrap();
        let (manifests, cgroup) = (Manifests::of(&lab), lab.cgroup().unwrap());
        let now = Way { manifests: 0, device: false, doubled: false };
        let mut ground =
            Self { agent: None, manifests, cgroup, lab, faulty, now, truths: BTreeMap::new(), attempts: 0 };
        ground.write_manifests().unwrap();
        for device in [false, true] {
            ground.set_device(device).unwrap();
            for manifests in [0, 1] {
                ground.now.manifests = manifests;
                ground.write_manifests().unwrap();
                // With pins that nobody had before: nothing of a former agent is in this.
                let mut agent = Agent::with_pins(&ground.lab, "truth", ground.options(&sluice_binary().unwrap()));
                agent.spawn().unwrap();
                agent.wait_synced(PATIENCE).unwrap();
                thread::sleep(QUIET);
                ground.truths.insert((manifests, device), truth::of(&agent).unwrap());
                agent.stop().unwrap();
                agent.cli(&["cleanup"]).unwrap();
            }
        }
        ground.set_device(false).unwrap();
        ground.recover();
        ground
    }

    /// Which of its two ways the scenario goes next.
    pub(crate) fn way(&self, scenario: Scenario) -> usize {
        match scenario {
            Scenario::Restart | Scenario::Batch => self.now.manifests,
            Scenario::Device => usize::from(self.now.device),
            Scenario::Upgrade => usize::from(self.now.doubled),
            Scenario::Start | Scenario::Cleanup => 0,
        }
    }

    fn options(&self, binary: &Path) -> AgentOptions {
        let sizes = [("--max-flows", 1 << 14), ("--max-affinity", 1 << 13), ("--max-sockets", 1 << 13)];
        let tables = [("--max-frontends", 1 << 11), ("--max-backends", 1 << 11), ("--max-slots", 1 << 12)];
        let options = AgentOptions::new(binary, self.manifests.dir())
            .arg("--cgroup")
            .arg(&self.cgroup.path().display().to_string());
        sizes.into_iter().chain(tables).fold(options, |options, (flag, entries)| {
            options.arg(flag).arg(&(entries << u32::from(self.now.doubled)).to_string())
        })
    }

    fn plain(&self) -> Agent {
        let options = self.options(&sluice_binary().unwrap());
        Agent::beside(&self.lab, &format!("plain-{}.log", self.attempts), options)
    }

    fn write_manifests(&self) -> Result<()> {
        let pod = |name: &str| self.lab.pod(name);
        let other = self.now.manifests == 1;
        self.manifests.service(&all())?;
        self.manifests.ready(ALL, self.lab.pods())?;
        // Its backend is another one each time: sockets that are connected to it move.
        self.manifests.service(&ServiceSpec::new("moves", plan::cluster_ip(21)))?;
        self.manifests.ready("moves", [pod(if other { "rt2" } else { "br2" })?])?;
        let ranges = if other { ["10.90.0.0/16", "fd90::/16"] } else { ["10.90.0.0/24", "fd90::/64"] };
        let limited = ServiceSpec {
            load_balancer: Some(plan::lb_ip(22)),
            node_ports: Some([30180, 30153]),
            source_ranges: ranges.map(str::to_owned).to_vec(),
            ..ServiceSpec::new("ranged", plan::cluster_ip(22))
        };
        self.manifests.service(&limited)?;
        self.manifests.ready("ranged", [pod("br1")?, pod("rt1")?])?;
        let (comes, goes) = if other { ("one", "two") } else { ("two", "one") };
        if self.manifests.dir().join(format!("{goes}.json")).exists() {
            self.manifests.remove(goes)?;
        }
        let hashed = ServiceSpec {
            annotations: vec![("sluice-lb.github.io/algorithm", "maglev")],
            affinity_secs: Some(60),
            ..ServiceSpec::new(comes, plan::cluster_ip(if other { 23 } else { 24 }))
        };
        self.manifests.service(&hashed)?;
        self.manifests.ready(comes, [pod("br1")?, pod("br2")?, pod("rt1")?])
    }

    fn set_device(&mut self, there: bool) -> Result<()> {
        self.now.device = there;
        let line =
            if there { "link add calinew type veth peer name new0\nlink set calinew up" } else { "link del calinew" };
        if there || self.lab.node1.ip("link show calinew").is_ok() { self.lab.node1.ip(line) } else { Ok(()) }
    }

    /// Begins anew, with whatever is there.
    pub(crate) fn recover(&mut self) {
        self.agent = None;
        let mut agent = self.plain();
        let _cleaned = agent.cli(&["cleanup"]);
        agent.spawn().unwrap();
        agent.wait_synced(PATIENCE).unwrap();
        self.agent = Some(agent);
        self.attempts += 1;
    }

    /// The places that an agent comes to in this scenario.
    pub(crate) fn count(&mut self, scenario: Scenario) -> Vec<String> {
        self.begin(scenario).unwrap();
        let (mut agent, log) = self.faulty(scenario, "count:0").unwrap();
        if scenario == Scenario::Cleanup {
            self.cleanup(&["SLUICE_FAULT_LOG", &log.display().to_string()]).unwrap();
        } else {
            self.wait_true(&mut agent).unwrap();
            thread::sleep(QUIET);
            agent.stop().unwrap();
        }
        self.end(scenario, None).unwrap();
        places(&log)
    }

    /// One agent runs into a fault, and what has to be true then is. Gives the place, if it was reached.
    pub(crate) fn attempt(&mut self, scenario: Scenario, fault: Fault, number: usize) -> Result<Option<String>> {
        self.begin(scenario)?;
        let mut conversations =
            if scenario.is_outage() { None } else { Some(Conversations::begin(&self.lab, &self.cgroup)?) };
        let told = format!("{}:{number}", fault.name());
        let mut hung = None;
        let log = if scenario == Scenario::Cleanup {
            let log = self.file("places");
            let variables = ["SLUICE_FAULT", &told, "SLUICE_FAULT_LOG", &log.display().to_string()];
            let ended = self.cleanup(&variables);
            ensure!(ended.is_err() || places(&log).len() < number, "cleanup says nothing of what it could not do");
            log
        } else {
            let (mut agent, log) = self.faulty(scenario, &told)?;
            match fault {
                Fault::Die => self.wait_dead(&mut agent, &log, number)?,
                Fault::Fail => self.wait_retried(&mut agent, &log, number)?,
                Fault::Hang => {
                    self.wait_hung(&mut agent, &log, number)?;
                    hung = Some(agent);
                }
            }
            log
        };
        if let Some(conversations) = &mut conversations {
            conversations
                .steady(&self.lab)
                .with_context(|| format!("before the next agent, after {:?}", last(&log)))?;
        }
        self.end(scenario, hung).with_context(|| format!("the next agent, after {:?}", last(&log)))?;
        if let Some(conversations) = &mut conversations {
            conversations.steady(&self.lab).context("after the next agent")?;
            conversations.moved(if self.now.manifests == 1 { "rt2" } else { "br2" })?;
        }
        Ok(places(&log).get(number - 1).cloned())
    }

    fn file(&self, what: &str) -> PathBuf {
        self.manifests.dir().with_file_name(format!("{what}-{}", self.attempts))
    }

    /// Brings the node to where the scenario begins: no agent runs.
    fn begin(&mut self, scenario: Scenario) -> Result<()> {
        self.attempts += 1;
        let mut agent = self.agent.take().context("no agent runs")?;
        agent.stop()?;
        if scenario == Scenario::Start {
            agent.cli(&["cleanup"])?;
        }
        Ok(())
    }

    /// Starts the agent that runs into the fault, and lets happen what the scenario is about.
    fn faulty(&mut self, scenario: Scenario, told: &str) -> Result<(Agent, PathBuf)> {
        let (log, from) = (self.file("places"), self.file("from"));
        match scenario {
            Scenario::Restart => self.other_manifests()?,
            Scenario::Upgrade => self.now.doubled = !self.now.doubled,
            _ => {}
        }
        let mut options = self
            .options(&self.faulty)
            .env("SLUICE_FAULT", told.to_owned())
            .env("SLUICE_FAULT_LOG", log.display().to_string());
        if scenario.is_change() {
            options = options.env("SLUICE_FAULT_FROM", from.display().to_string());
        }
        let mut agent = Agent::beside(&self.lab, &format!("faulty-{}.log", self.attempts), options);
        if scenario == Scenario::Cleanup {
            return Ok((agent, log));
        }
        agent.spawn()?;
        if scenario.is_change() {
            agent.wait_synced(PATIENCE)?;
            fs::write(&from, "")?;
            if scenario == Scenario::Batch { self.other_manifests()? } else { self.set_device(!self.now.device)? }
        }
        Ok((agent, log))
    }

    fn other_manifests(&mut self) -> Result<()> {
        self.now.manifests = 1 - self.now.manifests;
        self.write_manifests()
    }

    fn cleanup(&self, variables: &[&str]) -> Result<()> {
        let agent = self.plain();
        let set: Vec<String> = variables.chunks(2).map(|pair| pair.join("=")).collect();
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let (program, pins) = (self.faulty.to_string_lossy(), agent.pin_path().to_string_lossy().into_owned());
        let words = [&set[..], &[&*program, "cleanup", "--drain", "1", "--pin-path", &pins]].concat();
        self.lab.node1.command("env", &words).map(drop)
    }

    fn wait_dead(&self, agent: &mut Agent, log: &Path, number: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(status) = agent.wait_ended(POLL) {
                ensure!(status.signal() == Some(Signal::SIGKILL as i32), "{status}:\n{}", agent.log_tail());
                return Ok(());
            }
            if self.differs(agent).is_none() {
                thread::sleep(QUIET);
                if places(log).len() < number {
                    return agent.stop();
                }
            }
            ensure!(Instant::now() < deadline, "it neither dies nor ends:\n{}", agent.log_tail());
        }
    }

    /// It goes on and ends with the truth, or it ends with an error: whoever supervises it starts it again.
    fn wait_retried(&self, agent: &mut Agent, log: &Path, number: usize) -> Result<()> {
        let deadline = Instant::now() + RETRIED;
        loop {
            if let Ok(status) = agent.wait_ended(POLL) {
                ensure!(!status.success() && agent.log().contains("error:"), "{status}:\n{}", agent.log_tail());
                return Ok(());
            }
            let differs = self.differs(agent);
            if differs.is_none() && places(log).len() < number {
                // As long as the last places take.
                thread::sleep(QUIET);
            }
            match self.differs(agent) {
                None => return agent.stop(),
                Some(why) if Instant::now() > deadline => bail!("not retried: {why}\n{}", agent.log_tail()),
                Some(_) => {}
            }
        }
    }

    fn wait_hung(&self, agent: &mut Agent, log: &Path, number: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while places(log).len() < number {
            if agent.wait_ended(POLL).is_ok() {
                bail!("it ended by itself:\n{}", agent.log_tail());
            }
            if self.differs(agent).is_none() {
                thread::sleep(QUIET);
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it does not come so far:\n{}", agent.log_tail());
        }
        Ok(())
    }

    /// In what the kernel is not as it should be.
    fn differs(&self, agent: &Agent) -> Option<String> {
        let found = match truth::of(agent) {
            Ok(found) => found,
            Err(error) => return Some(format!("{error:#}")),
        };
        let wanted = &self.truths[&(self.now.manifests, self.now.device)];
        (found != *wanted).then(|| truth::difference(&found, wanted))
    }

    fn wait_true(&self, agent: &mut Agent) -> Result<()> {
        agent.wait_synced(PATIENCE)?;
        let deadline = Instant::now() + PATIENCE;
        while let Some(why) = self.differs(agent) {
            ensure!(Instant::now() < deadline, "{why}\n{}", agent.log_tail());
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// An agent without faults ends with the truth, beside one that hangs or after one that is gone.
    fn end(&mut self, scenario: Scenario, hung: Option<Agent>) -> Result<()> {
        let mut agent = self.plain();
        // A cleanup that was stopped is done again, or an agent starts on what it has left.
        if scenario == Scenario::Cleanup && self.attempts.is_multiple_of(2) {
            agent.cli(&["cleanup"])?;
            ensure!(!agent.pin_path().exists(), "left: {:?}", truth::names(agent.pin_path()));
        }
        agent.spawn()?;
        if let Some(mut hung) = hung {
            if agent.wait_synced(GIVES_WAY).is_err() {
                let log = agent.log();
                ensure!(log.contains("waiting for it"), "it neither takes over nor says why:\n{}", agent.log_tail());
                hung.kill9()?;
            } else {
                // Whatever hangs in it, it does not write any more.
                let _ended_or_not = hung.wait_ended(POLL);
            }
        }
        self.wait_true(&mut agent)?;
        self.agent = Some(agent);
        Ok(())
    }
}

fn places(log: &Path) -> Vec<String> {
    fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn last(log: &Path) -> Option<String> {
    places(log).pop()
}
