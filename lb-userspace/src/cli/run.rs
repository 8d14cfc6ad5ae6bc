//! `sluice run`: the agent. Wires source, data path and the writer of the maps together.
//!
//! One agent writes the maps of a pin path: it holds the lock beside the pins. A second one takes over: it loads its
//! programs, asks, waits until the process of the first is gone, and only then reads the maps and goes on. So an upgrade
//! may start the new agent before the old one has ended.
//!
//! On SIGTERM and SIGINT the agent ends; programs and maps stay and go on working.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use glob::Pattern;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing_subscriber::EnvFilter;

use super::auditing::{self, Audit};
use super::host_port_args::HostPortArgs;
use super::listen::{Agent, ListenArgs};
use super::node_args::NodeArgs;
use super::packet_args::PacketArgs;
use super::pin_args::PinArgs;
use super::size_args::SizeArgs;
use super::socket_args::SocketArgs;
use super::spread_args::SpreadArgs;
use super::{panics, recounting, service_manager, succession, sweeping};
use crate::check::board::Board;
use crate::config::effective::Effective;
use crate::config::findings::Finding;
use crate::config::forward::ForwardMode;
use crate::config::values::{NodePortAddress, external_ips};
use crate::devices::plan::programs_at_start;
use crate::devices::{AttachReport, DeviceSettings, DeviceTask, NodeNetwork, TcMethod, XdpMode};
use crate::events::EventSink;
use crate::kube::ClientSettings;
use crate::linux::limits;
use crate::load::writer_lock::Candidate;
use crate::load::{LoadError, LoadSettings, Loaded, MapSizes};
use crate::metrics::RestClientMetrics;
use crate::model::desired::ExternalIps;
use crate::model::event::SourceEvent;
use crate::reconcile::{Claim, Ended, Inputs, Origin, ReconcileSettings, Reconciler};
use crate::sockets::{SocketReport, hooks, opt_out};
use crate::source;
use crate::source::kube::{KubeSettings, KubeSource};

/// The kernel programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SLUICE_BPF_OBJECT"));

/// What is logged by default. The watcher's own warnings repeat what the source says once.
const LOG: &str = "info,kube_runtime=error";

/// Events that wait for the writer.
const EVENTS: usize = 4096;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// How TC programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Tc {
    /// By tcx links where the kernel has them (6.6), else by clsact filters.
    #[default]
    Auto,
    /// By tcx links.
    Tcx,
    /// By clsact filters.
    Clsact,
}

#[derive(Clone, Debug, Args)]
#[group(id = "source", required = true, multiple = false, args = ["manifests", "kube"])]
pub(super) struct RunArgs {
    /// Settings, as `KubeProxyConfiguration` or `SluiceConfiguration`; the command line and the environment win.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve the Services and EndpointSlices of the manifests in this folder.
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// Serve the Services of a cluster.
    #[arg(long)]
    kube: bool,
    /// How to reach the cluster; without it: KUBECONFIG, or the Pod's service account.
    #[arg(long, value_name = "FILE", requires = "kube")]
    kubeconfig: Option<PathBuf>,
    /// Reach the API server here rather than where the configuration says; may be given several times.
    #[arg(long, value_name = "URL", requires = "kube", env = "SLUICE_API_SERVER", value_delimiter = ',')]
    api_server: Vec<String>,
    /// Name of this node's Node object.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: String,
    #[command(flatten)]
    pins: PinArgs,
    /// Device (or pattern) that leads outside, several times for several; without it: found by routes and addresses.
    #[arg(long, value_name = "IFACE")]
    uplink: Vec<Pattern>,
    /// Pattern of devices with Pods behind them, several times for several; without it: found by their kind.
    #[arg(long, value_name = "GLOB")]
    pod_device: Vec<Pattern>,
    /// Pattern of devices to leave alone; may be given several times.
    #[arg(long, value_name = "GLOB")]
    ignore_device: Vec<Pattern>,
    /// Pattern of Pods' devices whose packets may have any source, for gateway and VPN Pods; may be given several times.
    #[arg(long, value_name = "GLOB")]
    allow_foreign_sources: Vec<Pattern>,
    /// Where uplinks use native XDP: auto, native, off.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    xdp: XdpMode,
    /// How packets of Services reach the Pods of this node: `stack`, or `redirect` past the host's stack.
    #[arg(long, value_name = "MODE", value_enum, default_value_t = ForwardMode::Stack)]
    forward: ForwardMode,
    /// How TC programs are attached.
    #[arg(long, value_name = "METHOD", value_enum, default_value_t = Tc::Auto)]
    tc: Tc,
    /// Prefix of `ClusterIP`s: an address in it that no Service has is dropped; may be given several times. Without it, in
    /// a cluster: those of its `ServiceCIDR`s.
    #[arg(long, value_name = "CIDR")]
    service_cidr: Vec<IpNet>,
    /// Prefix of the cluster's Pods: other clients of a `ClusterIP` are source-NATed; up to four a family.
    #[arg(long, value_name = "CIDR")]
    cluster_cidr: Vec<IpNet>,
    /// The node's primary address of a family, where it is not the one of its Node object.
    #[arg(long, value_name = "IP")]
    node_ip: Vec<IpAddr>,
    /// Serve `NodePort`s on the node's primary addresses, on those inside this prefix, or on all; on those of loopback
    /// they are served to processes of the node in any case.
    #[arg(long, value_name = "primary|localhost|all|CIDR", default_value = "primary")]
    node_port_addresses: Vec<NodePortAddress>,
    /// Whether `spec.externalIPs` are served: on (as the flag alone), off, or as by kube-proxy of the cluster's version,
    /// where they are off from Kubernetes 1.40 on.
    #[arg(long, value_name = "auto|on|off", num_args = 0..=1, require_equals = true, default_value = "auto",
        default_missing_value = "on", value_parser = external_ips)]
    external_ips: ExternalIps,
    #[command(flatten)]
    host_ports: HostPortArgs,
    #[command(flatten)]
    packets: PacketArgs,
    #[command(flatten)]
    spread: SpreadArgs,
    #[command(flatten)]
    sockets: SocketArgs,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    node: NodeArgs,
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What to log, such as `info` or `sluice=debug`.
    #[arg(long, value_name = "FILTER", default_value = LOG, env = "SLUICE_LOG")]
    log: String,
}

impl RunArgs {
    fn load_settings(&self) -> LoadSettings {
        LoadSettings { pin_path: self.pins.pin_path.clone(), sizes: self.sizes.over(MapSizes::default()) }
    }

    fn device_settings(&self) -> DeviceSettings {
        DeviceSettings {
            uplinks: self.uplink.clone(),
            pod_devices: self.pod_device.clone(),
            ignored: self.ignore_device.clone(),
            local: self.node.local_devices(),
            any_source: self.allow_foreign_sources.clone(),
            node_ips: self.node_ip.clone(),
            xdp: self.xdp,
            tc: match self.tc {
                Tc::Auto => None,
                Tc::Tcx => Some(TcMethod::Tcx),
                Tc::Clsact => Some(TcMethod::Clsact),
            },
        }
    }

    /// The programs in the kernel, attached nowhere yet. Where nobody writes the maps, those of devices are loaded while
    /// the maps are written.
    fn load(&self) -> Result<(Loaded, Candidate), LoadError> {
        let sockets = hooks::programs_at_start(&self.sockets.settings(!self.packets.no_silence_detection));
        Loaded::load_as_candidate(&self.load_settings(), OBJECT, |candidate| {
            if candidate.has_predecessor() { [programs_at_start(), sockets].concat() } else { sockets }
        })
    }

    /// Sockets are served then, devices not yet.
    fn attach(&self, mut loaded: Loaded) -> Result<(DeviceTask, SocketReport), LoadError> {
        let sockets = SocketReport::attach(&mut loaded, &self.sockets.settings(!self.packets.no_silence_detection));
        let upkeep = sockets.upkeep(&loaded.directories.root);
        Ok((DeviceTask::new(loaded, self.device_settings())?.with_upkeep(upkeep), sockets))
    }

    fn reconcile_settings(&self, sockets: SocketReport) -> ReconcileSettings {
        ReconcileSettings {
            node_name: self.node_name.clone(),
            resolve: self.spread.resolve_settings(self.external_ips),
            node_ips: self.node_ip.clone(),
            node_port_addresses: self.node_port_addresses.clone(),
            cluster_cidrs: self.cluster_cidr.clone(),
            node_cidrs: self.node.node_cidrs(),
            local_devices: self.node.local_devices().is_some(),
            service_cidrs: self.service_cidr.clone(),
            snat_ports: self.packets.snat_ports,
            masquerade_all: self.packets.masquerade_all,
            takeover: self.packets.takeover,
            no_syn_retry: self.packets.no_syn_retry,
            no_echo: self.packets.no_echo,
            no_silence_detection: self.packets.no_silence_detection,
            forward: self.forward,
            sockets: self.sockets.facts(&sockets),
            socket_report: sockets,
        }
    }

    fn configz(&self) -> String {
        let [healthz, metrics] = self.listen.addresses();
        let kubeconfig = self.kubeconfig.as_ref().map(|path| path.display().to_string());
        Effective {
            node_name: &self.node_name,
            log_format: match self.log_format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            },
            kubeconfig: kubeconfig.unwrap_or_default(),
            healthz,
            metrics,
            hard_fail: self.listen.bind_address_hard_fail,
            sync_period: self.listen.sync_period,
            masquerade_all: self.packets.masquerade_all,
            detect_local_mode: self.node.detect_local_mode(),
            local_devices: self.node.local_devices(),
            cluster_cidrs: self.cluster_cidr.iter().map(ToString::to_string).collect(),
            node_port_addresses: self.node_port_addresses.iter().map(ToString::to_string).collect(),
            oom_score_adj: self.node.oom_score_adj,
            conntrack: &self.node.conntrack(),
        }
        .configz()
    }
}

pub(super) fn run(args: &RunArgs, findings: &[Finding]) -> anyhow::Result<()> {
    start_log(args)?;
    panics::end_the_process();
    crate::allocator::settle_allocator();
    limits::raise_open_files();
    for Finding { field, value, verdict, note } in findings {
        tracing::info!(field, value, verdict = verdict.name(), "configuration: {note}");
    }
    let v6 = args.cluster_cidr.iter().filter(|prefix| prefix.addr().is_ipv6()).count();
    anyhow::ensure!(
        v6.max(args.cluster_cidr.len() - v6) <= 4,
        "--cluster-cidr: at most 4 prefixes a family, join some of them"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = term.recv() => tracing::info!("SIGTERM: ending; programs and maps stay in place"),
            _ = int.recv() => tracing::info!("SIGINT: ending; programs and maps stay in place"),
            done = serve(args) => return done,
        }
        service_manager::stopping();
        Ok(())
    });
    // The sweep may be in the middle of its walk.
    runtime.shutdown_background();
    done
}

fn start_log(args: &RunArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log {}", args.log))?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match args.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

async fn serve(args: &RunArgs) -> anyhow::Result<()> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = args.node_name, "starting");
    args.node.apply();
    let started = Instant::now();
    // The source reads while the kernel looks at the programs.
    let (events, from_source) = mpsc::channel(EVENTS);
    let source = start_source(args, events).await?;
    let agent = args.clone();
    let (mut loaded, candidate) = tokio::task::spawn_blocking(move || agent.load()).await??;
    let (mut tables, lock) = succession::take_over(&args.pins.pin_path, candidate, &mut loaded).await?;
    let ticks = loaded.ticks_per_second;
    tables.update_status(|status| status.ticks_per_second = ticks.unwrap_or(0))?;
    let (devices, sockets) = tokio::task::block_in_place(|| args.attach(loaded))?;
    let settings = args.reconcile_settings(sockets);
    if settings.sockets.opt_out {
        opt_out::follow(&args.pins.pin_path, args.sockets.socket_opt_out.clone());
    }
    let (network, network_changes) = watch::channel(NodeNetwork::default());
    let (report, report_changes) = watch::channel(AttachReport::default());
    let mut following = tokio::spawn(devices.run(network, report));

    let board = Board::new(&args.node_name, args.kube);
    let servers = args.listen.start(Agent {
        pin_path: args.pins.pin_path.clone(),
        node_name: args.node_name.clone(),
        source: source.origin.kind(),
        events: source.events(&args.node_name),
        configz: args.configz(),
        requests: source.requests.clone(),
        board: board.clone(),
    })?;
    let reaper = args.sockets.start_reaper(&settings.sockets, &args.pins.pin_path, &servers.metrics);
    auditing::start(Audit {
        pin_path: args.pins.pin_path.clone(),
        snat_ports: args.packets.snat_ports,
        attach: report_changes.clone(),
        board,
        metrics: servers.metrics.clone(),
    });
    let claim = Claim::new(Arc::new(move || lock.has_successor()));
    let origin = source.origin.clone();
    let reconciler = Reconciler::new(tables, settings, origin, servers.observers, reaper, started, claim)?;
    let (live, live_changes) = watch::channel(None);
    let inputs = Inputs { events: from_source, network: network_changes, attach: report_changes, live: live_changes };
    let mut writing = tokio::spawn(reconciler.run(inputs));
    recounting::start(args.pins.pin_path.clone(), servers.metrics.clone());
    sweeping::start(args.pins.pin_path.clone(), ticks, servers.metrics, live);

    tokio::select! {
        ended = &mut writing => match ended.context("the task that writes the maps failed")? {
            Ended::TakenOver => tracing::info!("another agent has taken over, ending"),
            Ended::Ousted => bail!("another process has written itself into the maps as their agent, without the lock"),
            Ended::SourceEnded => bail!("the source of Services ended"),
        },
        ended = &mut following => match ended.context("the task that follows devices failed")? {
            Ok(()) => bail!("the task that follows devices ended"),
            Err(error) => return Err(error.into()),
        },
    }
    Ok(())
}

/// The running source: it ends when this is dropped, or when nobody listens any more.
struct Running {
    origin: Origin,
    kube: Option<KubeSource>,
    requests: Option<RestClientMetrics>,
}

impl Running {
    fn events(&self, node_name: &str) -> EventSink {
        match &self.kube {
            Some(kube) => EventSink::to_api(kube.client.clone(), node_name.to_owned()),
            None => EventSink::log_only(),
        }
    }
}

async fn start_source(args: &RunArgs, events: mpsc::Sender<SourceEvent>) -> anyhow::Result<Running> {
    args.host_ports.follow(&events).await;
    if let Some(folder) = &args.manifests {
        source::manifests::spawn(folder, events)?;
        return Ok(Running { origin: Origin::Manifests(folder.clone()), kube: None, requests: None });
    }
    let requests = RestClientMetrics::new()?;
    let settings = KubeSettings {
        api: ClientSettings {
            kubeconfig: args.kubeconfig.clone(),
            api_servers: args.api_server.clone(),
            requests: Some(Arc::new(requests.clone())),
        },
        node_name: args.node_name.clone(),
        service_cidrs: args.service_cidr.is_empty(),
        host_ports: args.host_ports.asks(),
        version: args.external_ips == ExternalIps::AsCluster,
    };
    let kube = source::kube::spawn(settings, events).await?;
    Ok(Running { origin: Origin::Kube(kube.connection.clone()), kube: Some(kube), requests: Some(requests) })
}
