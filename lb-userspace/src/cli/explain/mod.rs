//! `sluice explain`: why a Service or an address is served as it is. The first three lines name the deciding rule.
//!
//! JSON: `{decisions: [{verdict, rule, object, frontend, kind, client, backends, endpoints, notes}], endpoints: [{port,
//! endpoint, slice, local, cluster, node}], slices: [{slice, port, usage}], refusals: [[reason, message]], notes, behind,
//! differences}`.

mod text;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use lb_common::abi::{FrontendValue, frontend_kind, proto};

use super::pin_args::ViewArgs;
use super::spread_args::SpreadArgs;
use super::{labelled, list, output};
use crate::check::behind::trouble;
use crate::check::facts::Way;
use crate::check::gather::{self, Backend};
use crate::config::values::external_ips;
use crate::devices::Role;
use crate::maps::kernel::KernelTables;
use crate::maps::{BackendMarks as _, Marked, Tables};
use crate::model::desired::{ExternalIps, NodeFacts, PortId};
use crate::model::event::SourceEvent;
use crate::model::family::Family;
use crate::model::topology::Standing;
use crate::model::world::World;
use crate::plan::{BackendEntry, Existing};
use crate::query::explain::{Client, Explanation, Target, differences, explain};
use crate::reconcile::agent_report::{AgentReport, HOST_PORTS_SERVED};
use crate::source::manifests;

/// Backends of which the ways are looked at.
const BACKENDS: usize = 200;

#[derive(Clone, Debug, Args)]
pub(super) struct ExplainArgs {
    /// A Service, `[NAMESPACE/]SERVICE[:PORT]`, or an address, `VIP:PORT`.
    #[arg(value_name = "TARGET")]
    target: Target,
    /// For this client: `pod`, `node`, `outside` or an IP address; without it: for each kind.
    #[arg(long, value_name = "CLIENT")]
    from: Option<Client>,
    /// Explain the manifests in this folder; without it: those of the agent, and what the maps have is compared.
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// The node from which it is seen: which endpoints are local. Without it: the agent's.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: Option<String>,
    /// The node's zone, for topology hints.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// An address of the node on which `NodePort`s are served; repeatable.
    #[arg(long, value_name = "IP")]
    node_ip: Vec<IpAddr>,
    /// Whether `spec.externalIPs` are served: `auto`, `on` or `off`, as for `sluice run`.
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = external_ips)]
    external_ips: ExternalIps,
    /// Ask each backend for a TCP connection, from this node. Without it no packet is sent.
    #[arg(long, conflicts_with = "manifests")]
    probe: bool,
    #[command(flatten)]
    spread: SpreadArgs,
    #[command(flatten)]
    view: ViewArgs,
}

/// What is explained, and what it is compared with.
struct Ground {
    folder: PathBuf,
    node: NodeFacts,
    existing: Option<Existing>,
    /// Backends that new connections pass over.
    marks: Vec<Marked>,
    /// What the agent says; none without an agent.
    report: Option<AgentReport>,
}

pub(super) fn print(args: &ExplainArgs) -> anyhow::Result<()> {
    let node = NodeFacts {
        name: args.node_name.clone().unwrap_or_default(),
        zone: args.zone.clone(),
        addresses: args.node_ip.clone(),
        node_port_addresses: args.node_ip.clone(),
        ..NodeFacts::default()
    };
    let ground = match &args.manifests {
        Some(folder) => Ground { folder: folder.clone(), node, existing: None, marks: Vec::new(), report: None },
        None => ask_agent(&args.view.pins.pin_path, node)?,
    };
    let mut world = World::new(ground.node, args.spread.resolve_settings(args.external_ips));
    let told = ground.report.as_ref().map_or_else(String::new, |report| report.host_ports.clone());
    world.apply(SourceEvent::HostPorts { served: told.is_empty() || told == HOST_PORTS_SERVED, note: told });
    for event in manifests::read(&ground.folder)? {
        world.apply(event);
    }
    world.take_changes();
    let Some(mut answer) = explain(&world, &args.target, args.from) else {
        bail!("there is no such Service in {}", ground.folder.display());
    };
    let unread = world.refusals().filter(|row| matches!(row.kind, "File" | "Folder"));
    answer.notes.extend(unread.map(|row| format!("{}: {}", row.object, row.message)));
    if let Some(existing) = &ground.existing {
        answer.differences = differences(&world, &args.target, existing);
        answer.behind = passed_over(&answer, existing, &ground.marks);
    }
    if let Some(report) = &ground.report {
        answer.behind.extend(behind(&answer, report, args.probe)?);
    }
    let width = list::form_width(&list::Form::Table);
    output::print(&answer, args.view.format.output, |answer| text::text(answer, width))
}

/// What the agent of these pins reads, and what it has written.
fn ask_agent(pin_path: &Path, mut node: NodeFacts) -> anyhow::Result<Ground> {
    let tables = KernelTables::open(pin_path).context("--manifests DIR explains a folder without an agent")?;
    let json = tables.report()?;
    if json.is_empty() {
        bail!("the agent has not said yet what it reads: --manifests DIR explains a folder without an agent");
    }
    let report: AgentReport =
        serde_json::from_str(&json).context("the agent's report cannot be read: use its version")?;
    if report.source.kind != "manifests" {
        bail!(
            "the agent reads {} {}, which explain cannot read yet: export the objects and give --manifests DIR",
            report.source.kind,
            report.source.from
        );
    }
    let existing = tables.read()?;
    if node.name.is_empty() {
        node.name.clone_from(&report.node_name);
    }
    if node.node_port_addresses.is_empty() {
        // Host ports are on other addresses, too.
        let is_pod = |family, name: &str| PortId::parse(name, family).is_ok_and(|port| port.service.pod().is_some());
        let pods = existing.names.iter().filter(|(_, family, name)| is_pod(*family, name));
        let pods: BTreeSet<u32> = pods.map(|(service, ..)| *service).collect();
        let is_node_port =
            |value: &FrontendValue| value.kind == frontend_kind::NODE_PORT && !pods.contains(&value.service);
        let of_node_ports = existing.frontends.iter().filter(|(_, value)| is_node_port(value));
        let mut addresses: Vec<IpAddr> =
            of_node_ports.map(|(vip, _)| vip.addr).filter(|ip| !ip.is_loopback()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        node.addresses.clone_from(&addresses);
        node.node_port_addresses = addresses;
    }
    let folder = labelled::folder(&report, tables.status()?.pid);
    let marks = tables.marked()?;
    Ok(Ground { folder, node, existing: Some(existing), marks, report: Some(report) })
}

/// Backends that new connections pass over.
fn passed_over(answer: &Explanation, existing: &Existing, marks: &[Marked]) -> Vec<String> {
    let marks: HashMap<_, _> = marks.iter().map(|mark| ((mark.family, mark.id, mark.generation), mark)).collect();
    let line = |(family, id, entry): &(Family, u32, BackendEntry)| {
        let words = marks.get(&(*family, *id, entry.generation))?.words();
        let addr = entry.addr.to_string();
        let asked = !words.is_empty() && answer.endpoints.iter().any(|row| row.endpoint == addr);
        asked.then(|| format!("{addr}: new connections pass it over: {}", words.join(", ")))
    };
    let lines: BTreeSet<String> = existing.backends.iter().filter_map(line).collect();
    lines.into_iter().collect()
}

/// What is wrong behind Sluice, on the way to the backends that clients get.
fn behind(answer: &Explanation, report: &AgentReport, probe: bool) -> anyhow::Result<Vec<String>> {
    let is_member = |standing: Option<Standing>| standing.is_some_and(Standing::is_member);
    let members = answer.endpoints.iter().filter(|row| is_member(row.cluster) || is_member(row.node));
    let backends: BTreeSet<Backend> = members
        .filter_map(|row| {
            let protocol = if row.port.contains("/TCP ") { proto::TCP } else { proto::UDP };
            Some(Backend { addr: row.endpoint.parse().ok()?, protocol, local: row.local })
        })
        .take(BACKENDS)
        .collect();
    let backends: Vec<Backend> = backends.into_iter().collect();
    let uplinks = report.attach.devices.iter().filter(|device| device.role == Role::Uplink);
    let uplinks = uplinks.map(|device| device.name.clone()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let ways = runtime.block_on(gather::ways(&backends, &uplinks, probe)).context("cannot look behind Sluice")?;
    let line = |way: &Way| trouble(way).map(|(what, todo)| format!("{}: {what}; do: {todo}", way.backend));
    Ok(ways.iter().filter_map(line).collect())
}
