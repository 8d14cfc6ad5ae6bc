//! What is done to a node: nothing, empty programs, Sluice in one of its modes, or kube-proxy's rules.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use super::island::{Island, POD_DEVICES, UPLINKS};
use super::kind::Kind;
use super::nft;
use crate::bench::services::SERVICE_CIDR;
use crate::lab::plan::CLUSTER_CIDRS;
use crate::lab::{Agent, AgentOptions, Cgroup, Netns, RunDir};

/// Services of the smaller of kube-proxy's nodes, beside the measured ones.
const FEW: u32 = 10;
/// How long an agent may take to its first full state, with many Services on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where agents, programs and manifests are.
#[derive(Clone, Debug)]
pub(super) struct Built {
    /// The agent under test.
    pub(super) sluice: PathBuf,
    /// Another one to judge it by.
    pub(super) against: Option<PathBuf>,
    /// The bench's own kernel programs.
    pub(super) programs: PathBuf,
    /// Services beside the measured ones.
    pub(super) services: u32,
}

impl Built {
    /// Whether a node of this kind is available.
    pub(super) fn can(&self, kind: Kind) -> bool {
        match kind {
            Kind::Redirect => knows_forward(&self.sluice),
            Kind::Against => self.against.is_some(),
            _ => true,
        }
    }
}

/// Whether `sluice run` has forwarding modes.
fn knows_forward(sluice: &Path) -> bool {
    let help = Command::new(sluice).args(["run", "--help"]).output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--forward "))
}

/// A node and what was done to it.
#[derive(Debug)]
pub(super) struct Arm {
    /// The node.
    pub(super) island: Island,
    /// The agent, where it has one.
    pub(super) agent: Option<Agent>,
    /// The cgroup whose sockets the agent serves.
    cgroup: Option<Cgroup>,
    /// Keeps the bench's programs attached.
    programs: Option<Ebpf>,
}

impl Arm {
    /// Builds the node and waits until it is ready.
    pub(super) fn build(dir: &RunDir, kind: Kind, built: &Built) -> Result<Self> {
        Self::build_with(dir, kind, built, &[])
    }

    /// The same with further arguments of the agent.
    pub(super) fn build_with(dir: &RunDir, kind: Kind, built: &Built, more: &[&str]) -> Result<Self> {
        let island = Island::build(dir, kind.name())?;
        let mut arm = Self { island, agent: None, cgroup: None, programs: None };
        match kind {
            Kind::Plain => {}
            Kind::Empty => arm.programs = Some(attach_empty(&arm.island.node, &built.programs)?),
            Kind::Sluice => arm.start(dir, kind, &built.sluice, &[&["--xdp", "off"], more].concat())?,
            Kind::Redirect => {
                arm.start(dir, kind, &built.sluice, &[&["--xdp", "off", "--forward", "redirect"], more].concat())?;
            }
            Kind::Xdp => {
                // XDP sees a frame before anything has filled in what the sender left to its device.
                arm.island.outside.command("ethtool", &["-K", "eth0", "tx", "off"])?;
                arm.start(dir, kind, &built.sluice, &[&["--xdp", "native"], more].concat())?;
            }
            Kind::NftFew => nft::load(&arm.island.node, dir.path(), FEW)?,
            Kind::NftMany => nft::load(&arm.island.node, dir.path(), built.services)?,
            Kind::Against => {
                let agent = built.against.as_deref().context("no agent to judge by")?;
                arm.start(dir, kind, agent, &["--xdp", "off"])?;
            }
        }
        Ok(arm)
    }

    /// The client Pod's namespace; with `served` for threads whose sockets the agent serves.
    pub(super) fn client(&self, served: bool) -> Netns {
        match &self.cgroup {
            Some(cgroup) if served => self.island.client.in_cgroup(cgroup),
            _ => self.island.client.clone(),
        }
    }

    fn start(&mut self, dir: &RunDir, kind: Kind, sluice: &Path, mode: &[&str]) -> Result<()> {
        let cgroup = dir.cgroup()?;
        let mut args: Vec<String> = vec!["--cgroup".into(), cgroup.path().display().to_string()];
        args.extend(["--service-cidr", SERVICE_CIDR].map(str::to_owned));
        args.extend(CLUSTER_CIDRS.into_iter().take(1).flat_map(|cidr| ["--cluster-cidr".into(), cidr.to_owned()]));
        args.extend(UPLINKS.into_iter().flat_map(|device| ["--uplink".into(), device.to_owned()]));
        args.extend(POD_DEVICES.into_iter().flat_map(|device| ["--pod-device".into(), device.to_owned()]));
        args.extend(mode.iter().map(ToString::to_string));
        let source = vec!["--manifests".into(), dir.manifests().display().to_string()];
        let options = AgentOptions::from_parts(sluice, source, args);
        let log = format!("agent-{}.log", kind.name());
        let mut agent = Agent::on(&self.island.node, dir, &format!("sluice-{}", kind.name()), &log, options);
        agent.spawn()?;
        agent.wait_synced(PATIENCE)?;
        self.agent = Some(agent);
        self.cgroup = Some(cgroup);
        Ok(())
    }
}

/// Attaches a program that does nothing to both TC hooks of each device of a node, by tcx. It stays as long as what is
/// returned.
fn attach_empty(node: &Netns, object: &Path) -> Result<Ebpf> {
    let mut object = EbpfLoader::new().load_file(object).context("loading the bench's kernel programs")?;
    let program: &mut SchedClassifier = object.program_mut("empty_tc").context("no program empty_tc")?.try_into()?;
    program.load().context("loading empty_tc")?;
    node.run(|| {
        for device in Island::devices() {
            for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
                let first = TcAttachOptions::TcxOrder(LinkOrder::default());
                program.attach_with_options(device, hook, first).with_context(|| format!("attaching to {device}"))?;
            }
        }
        Ok(())
    })?;
    Ok(object)
}
