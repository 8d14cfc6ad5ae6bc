//! `sluice run` on a node of the lab: started, killed, restarted, asked.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

#[cfg(target_arch = "x86_64")]
use super::confinement::Confinement;
use super::netns::Netns;
use super::plan::{CLUSTER_CIDRS, NODE1, SERVICE_CIDRS};
use super::rundir::RunDir;
use super::topology::Lab;

/// How long an agent may take to its first full state, or to its end. `SLUICE_LAB_SLOWER=8`: eight times as long, on a
/// machine that is so much slower than others (software emulation).
fn patience() -> Duration {
    let slower = env::var("SLUICE_LAB_SLOWER").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    Duration::from_secs(20) * slower
}

/// How the agent is started.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The `sluice` program.
    pub binary: PathBuf,
    /// Arguments that say where Services come from.
    pub source: Vec<String>,
    /// Further arguments of `sluice run`.
    pub args: Vec<String>,
    /// A program, with arguments, that starts the agent; empty: it is started itself.
    pub launcher: Vec<String>,
    /// Variables of its environment, beside those of the test.
    pub environment: Vec<(&'static str, String)>,
    /// What the agent may do; `None`: everything.
    #[cfg(target_arch = "x86_64")]
    pub confinement: Option<Confinement>,
}

impl AgentOptions {
    /// The lab's usual settings: external IPs served, the ranges of Services and Pods known.
    pub fn new(binary: &Path, manifests: &Path) -> Self {
        Self::with_source(binary, vec!["--manifests".into(), manifests.display().to_string()], SERVICE_CIDRS)
    }

    /// The same for Services from an API server.
    pub fn kube(binary: &Path, kubeconfig: &Path) -> Self {
        let source = ["--kube", "--kubeconfig", &kubeconfig.to_string_lossy()].map(str::to_owned).to_vec();
        Self::with_source(binary, source, crate::apiserver::SERVICE_CIDRS)
    }

    fn with_source(binary: &Path, source: Vec<String>, service_cidrs: [&str; 2]) -> Self {
        let ranges = service_cidrs.map(|cidr| ["--service-cidr", cidr]).into_iter();
        let pods = CLUSTER_CIDRS.map(|cidr| ["--cluster-cidr", cidr]);
        let args = ranges.chain(pods).flatten().chain(["--external-ips"]).map(str::to_owned).collect();
        Self::from_parts(binary, source, args)
    }

    /// These arguments and no others.
    pub fn from_parts(binary: &Path, source: Vec<String>, args: Vec<String>) -> Self {
        Self {
            binary: binary.to_owned(),
            source,
            args,
            launcher: Vec::new(),
            environment: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            confinement: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Adds a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: String) -> Self {
        self.environment.push((name, value));
        self
    }

    /// In a separate pid namespace, where it is process 1, as in a container.
    #[must_use]
    pub fn in_own_pid_namespace(mut self) -> Self {
        self.launcher = ["unshare", "--pid", "--fork", "--kill-child"].map(str::to_owned).to_vec();
        self
    }
}

/// Where `cargo xtask build` leaves the `sluice` program: beside or above the running one, or as `SLUICE_BIN` says.
pub fn sluice_binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SLUICE_BIN") {
        return Ok(path.into());
    }
    let own = env::current_exe().context("cannot find the running program")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("sluice"))
        .find(|path| path.is_file())
        .with_context(|| format!("no `sluice` near {}: run `cargo xtask build` first", own.display()))
}

/// An agent on `node1`. Ends when dropped; what it has put into the kernel stays until the lab goes.
#[derive(Debug)]
pub struct Agent {
    options: AgentOptions,
    node: Netns,
    pin_path: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Agent {
    /// Starts the agent and waits until its first full state is in the kernel.
    pub fn start(lab: &Lab, options: AgentOptions) -> Result<Self> {
        let mut agent = Self::prepare(lab, options);
        agent.spawn()?;
        agent.wait_synced(patience())?;
        Ok(agent)
    }

    /// The same without starting it.
    pub fn prepare(lab: &Lab, options: AgentOptions) -> Self {
        Self::on(&lab.node1, &lab.dir, "sluice", "agent.log", options)
    }

    /// An agent beside others on the same pins, with a separate log; not started yet.
    pub fn beside(lab: &Lab, log: &str, options: AgentOptions) -> Self {
        Self::on(&lab.node1, &lab.dir, "sluice", log, options)
    }

    /// An agent with separate pins of this name, and a separate log; not started yet.
    pub fn with_pins(lab: &Lab, name: &str, options: AgentOptions) -> Self {
        Self::on(&lab.node1, &lab.dir, name, &format!("{name}.log"), options)
    }

    /// An agent on any node, not started yet: the names of its folder of pins and of its log in a lab's folder.
    pub fn on(node: &Netns, dir: &RunDir, pins: &str, log: &str, options: AgentOptions) -> Self {
        let (pin_path, log) = (dir.bpf().join(pins), dir.path().join(log));
        Self { options, node: node.clone(), pin_path, log, child: None }
    }

    /// Starts the process; the log is appended to.
    pub fn spawn(&mut self) -> Result<()> {
        let log =
            OpenOptions::new().create(true).append(true).open(&self.log).context("cannot open the agent's log")?;
        let child = self.node.run(|| self.start_process(log))?;
        self.child = Some(child);
        Ok(())
    }

    fn start_process(&self, log: File) -> Result<Child> {
        let Self { options, pin_path, .. } = self;
        let mut words = options.launcher.iter().map(AsRef::as_ref).chain([options.binary.as_os_str()]);
        let program = words.next().context("nothing to start")?;
        let mut command = Command::new(program);
        #[cfg(target_arch = "x86_64")]
        if let Some(confinement) = &options.confinement {
            confinement.confine(&mut command);
        }
        command
            .args(words)
            .arg("run")
            .args(&options.source)
            .args(["--node-name", NODE1])
            .arg("--pin-path")
            .arg(pin_path)
            .args(&options.args)
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the agent's log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", options.binary.display()))
    }

    /// Waits until `sluice status` says that this process has its first full state in the kernel.
    pub fn wait_synced(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let child = self.child.as_mut().context("the agent is not running")?;
            let pid = u64::from(child.id());
            if let Some(status) = child.try_wait().context("cannot watch the agent")? {
                bail!("the agent ended with {status}:\n{}", self.log_tail());
            }
            let status = self.json(&["status"]);
            // The agent before may have left its own status.
            let own = |status: &Value| status["agent"]["pid"].as_u64() == Some(pid);
            if status.as_ref().is_ok_and(|status| status["synced"] == Value::Bool(true) && own(status)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("no full state after {patience:?}; status: {status:?}; log:\n{}", self.log_tail());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the agent at once, as a crash would.
    pub fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the agent is not running")?;
        child.kill().context("cannot kill the agent")?;
        child.wait().map(drop).context("cannot wait for the agent")
    }

    /// Asks the agent to end, and waits.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the agent is not running")?;
        kill(pid_of(&child)?, Signal::SIGTERM).context("cannot stop the agent")?;
        let deadline = Instant::now() + patience();
        while child.try_wait().context("cannot watch the agent")?.is_none() {
            if Instant::now() > deadline {
                child.kill().context("cannot kill the agent")?;
                child.wait().context("cannot wait for the agent")?;
                bail!("the agent did not end within {:?}", patience());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits until the agent has ended by itself.
    pub fn wait_ended(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        let child = self.child.as_mut().context("the agent is not running")?;
        loop {
            if let Some(status) = child.try_wait().context("cannot watch the agent")? {
                self.child = None;
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the agent runs on after {patience:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to the agent, also where a launcher has started it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the agent is not running")?;
        let started = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        let pid = match started.split_whitespace().next() {
            Some(started) => Pid::from_raw(started.parse().context("no process id")?),
            None => pid_of(child)?,
        };
        kill(pid, signal).context("cannot send a signal to the agent")
    }

    /// Starts the agent again after [`Self::kill9`] or [`Self::stop`] and waits for its full state.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the agent is still running");
        self.spawn()?;
        self.wait_synced(patience())
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its pins.
    pub fn pin_path(&self) -> &Path {
        &self.pin_path
    }

    /// Runs a sub-command of `sluice` against this agent's pins and returns what it printed, also where it says that the
    /// node is not healthy, or that something is left to do.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let program = self.options.binary.to_string_lossy();
        let pin_path = self.pin_path.to_string_lossy();
        let codes: &[i32] = if matches!(args.first(), Some(&"status" | &"takeover")) { &[0, 3] } else { &[0] };
        self.node.command_ending_in(&program, &[args, &["--pin-path", &pin_path]].concat(), codes)
    }

    /// The same with `-o json`.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.cli(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("`sluice {}` printed no JSON: {text}", args.join(" ")))
    }

    /// Its log, of all its processes.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ended_already = child.kill();
            let _ended_already = child.wait();
        }
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "a failed test shows what the agent said")]
            {
                eprintln!("--- the agent's log\n{}\n---", self.log_tail());
            }
        }
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).map(Pid::from_raw).context("a process id out of range")
}
