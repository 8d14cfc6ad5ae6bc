//! `sluice trace`: what becomes of a packet that nobody has sent. The first three lines say whether it arrives, why not, and
//! what to do. Nothing is written to any map.
//!
//! JSON: `{verdict, why, advice, delivered, client, entry, target, steps: [{asked, found}], backends: [{backend,
//! probability, decision, rewrite, request, reply, findings: [{severity, way, cause, text, advice}]}], left_out, notes}`.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use lb_common::abi::{V4, V6, backend_flag, device_flag, proto};
use lb_common::datapath::{Arrival, Hook};

use super::output;
use super::pin_args::ViewArgs;
use crate::maps::Tables;
use crate::maps::kernel::KernelTables;
use crate::maps::lookups::Lookups;
use crate::model::family::Family;
use crate::plan::Existing;
use crate::query::trace::{Entry, Finding, Question, Surroundings, ThisNode, Trace, Way, ingress_hook, trace};
use crate::reconcile::agent_report::AgentReport;
use crate::sockets::SocketMode;

/// A port as clients have it, when none is given.
const CLIENT_PORT: u16 = 51_234;
/// An address outside when none is given (RFC 5737, RFC 3849).
const OUTSIDE: [&str; 2] = ["198.51.100.1", "2001:db8::1"];

#[derive(Clone, Debug, Args)]
pub(super) struct TraceArgs {
    /// The client: `IP[:PORT]`, `pod` (one of this node), `node` (a process of it) or `outside`.
    #[arg(long, value_name = "CLIENT")]
    from: Source,
    /// Where it sends to.
    #[arg(long, value_name = "VIP:PORT")]
    to: SocketAddr,
    /// Its protocol.
    #[arg(long, value_enum, default_value_t = Protocol::Tcp)]
    protocol: Protocol,
    /// Bytes of the packet, IP header included: is it too large for its way?
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    size: u16,
    /// Trace the packet even where a socket hook translates before there is one.
    #[arg(long)]
    packet: bool,
    #[command(flatten)]
    view: ViewArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Pod,
    Node,
    Outside,
    At(IpAddr, Option<u16>),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pod" => Ok(Self::Pod),
            "node" => Ok(Self::Node),
            "outside" => Ok(Self::Outside),
            text => {
                let bare = || text.trim_start_matches('[').trim_end_matches(']').parse().map(|ip| Self::At(ip, None));
                let whole = text.parse().map(|addr: SocketAddr| Self::At(addr.ip(), Some(addr.port())));
                whole.or_else(|_| bare()).map_err(|_error| "use pod, node, outside or IP[:PORT]".to_owned())
            }
        }
    }
}

pub(super) fn print(args: &TraceArgs) -> anyhow::Result<()> {
    let tables = KernelTables::open(&args.view.pins.pin_path)?;
    let existing = tables.read()?;
    // While the agent has not reported anything, or another version has, hooks count as they are by default.
    let report: AgentReport = serde_json::from_str(&tables.report()?).unwrap_or_default();
    let node = ThisNode::open().context("cannot ask the kernel for routes")?;
    let answer = match Family::of(&args.to.ip()) {
        Family::V4 => {
            let maps = Lookups::<V4>::open(&args.view.pins.pin_path)?;
            let devices = |index| (maps.devices)(&index).map_or(0, |device| device.flags);
            let asked = Asked { args, existing: &existing, report: &report, node: &node, devices: &devices };
            let (question, notes) = asked.question()?;
            with_notes(trace(&maps, &node, &names(&existing), &question), notes)
        }
        Family::V6 => {
            let maps = Lookups::<V6>::open(&args.view.pins.pin_path)?;
            let devices = |index| (maps.devices)(&index).map_or(0, |device| device.flags);
            let asked = Asked { args, existing: &existing, report: &report, node: &node, devices: &devices };
            let (question, notes) = asked.question()?;
            with_notes(trace(&maps, &node, &names(&existing), &question), notes)
        }
    };
    output::print(&answer, args.view.format.output, text)
}

fn names(existing: &Existing) -> HashMap<u32, String> {
    existing.names.iter().map(|(id, _, name)| (*id, name.clone())).collect()
}

fn with_notes(mut answer: Trace, notes: Vec<String>) -> Trace {
    answer.notes.extend(notes);
    answer
}

/// What was asked, and what is known of the node.
struct Asked<'a> {
    args: &'a TraceArgs,
    existing: &'a Existing,
    report: &'a AgentReport,
    node: &'a ThisNode,
    /// Flags of a device.
    devices: &'a dyn Fn(u32) -> u32,
}

impl Asked<'_> {
    fn question(&self) -> anyhow::Result<(Question, Vec<String>)> {
        let mut notes = Vec::new();
        let target = self.args.to;
        let (ip, port) = match self.args.from {
            Source::At(ip, port) if ip.is_ipv4() == target.is_ipv4() => (ip, port.unwrap_or(CLIENT_PORT)),
            Source::At(ip, _) => bail!("{ip} and {} are of different address families", target.ip()),
            Source::Pod => (self.some_pod()?, CLIENT_PORT),
            Source::Outside => (self.some_outsider()?, CLIENT_PORT),
            Source::Node => {
                let report = self.node.route(target.ip(), None, None).ok();
                let source = report.and_then(|route| route.source);
                let any = if target.is_ipv4() { "127.0.0.1" } else { "::1" };
                (source.map_or_else(|| any.parse(), Ok)?, CLIENT_PORT)
            }
        };
        let entry = if self.args.from == Source::Node { Entry::Socket(None) } else { self.entry(ip, &mut notes)? };
        let entry = self.at_socket(entry, &mut notes);
        let protocol = match self.args.protocol {
            Protocol::Tcp => proto::TCP,
            Protocol::Udp => proto::UDP,
        };
        let client = SocketAddr::new(ip, port);
        Ok((Question { client, entry, target, protocol, size: self.args.size }, notes))
    }

    /// A Pod of this node, as far as Services name one.
    fn some_pod(&self) -> anyhow::Result<IpAddr> {
        let fits = |addr: IpAddr, flags: u16| {
            addr.is_ipv4() == self.args.to.is_ipv4()
                && flags & backend_flag::LOCAL != 0
                && flags & backend_flag::HOST_NETWORK == 0
        };
        let mut pods = self.existing.backends.iter().filter(|(.., entry)| fits(entry.addr.ip(), entry.flags));
        let pod = pods.next().map(|(.., entry)| entry.addr.ip());
        pod.context("no Service has a backend on this node, so no Pod of it is known: give --from IP")
    }

    /// An address outside that has a route by an uplink.
    fn some_outsider(&self) -> anyhow::Result<IpAddr> {
        let v6 = self.args.to.is_ipv6();
        let is_uplink = |index: u32| (self.devices)(index) & device_flag::UPLINK != 0;
        let far: IpAddr = OUTSIDE[usize::from(v6)].parse()?;
        if self.node.route(far, None, None).is_ok_and(|route| is_uplink(route.device)) {
            return Ok(far);
        }
        let uplinks = self.report.attach.devices.iter().map(|device| device.index).filter(|index| is_uplink(*index));
        let near = uplinks.flat_map(|index| self.node.neighbours_of(index, v6).unwrap_or_default()).next();
        near.context("no address outside is known (no default route by an uplink, no neighbour): give --from IP")
    }

    /// Where a client with this address meets Sluice.
    fn entry(&self, client: IpAddr, notes: &mut Vec<String>) -> anyhow::Result<Entry> {
        let route = match self.node.route(client, None, None) {
            Ok(route) => route,
            Err(error) => bail!("there is no route to the client {client} ({error}): no packet of it is expected here"),
        };
        if route.local {
            return Ok(Entry::Socket(None));
        }
        let mut device = route.device;
        if (self.devices)(device) & device_flag::BRIDGE != 0 {
            // The programs are at the ports; which one is the client's makes no difference to the decision.
            let ports = self.node.ports_of(device).unwrap_or_default();
            if let Some(port) = ports.iter().find(|port| (self.devices)(port.index) & device_flag::POD != 0) {
                notes.push(format!("behind a bridge: the client's port is taken to be {}", port.name));
                device = port.index;
            }
        }
        Ok(match ingress_hook((self.devices)(device)) {
            Some(hook) => Entry::Device(Arrival { ifindex: device, hook, from: device }),
            None => Entry::Bare(device),
        })
    }

    /// A process's connection is translated at its socket, where there are hooks for it.
    fn at_socket(&self, entry: Entry, notes: &mut Vec<String>) -> Entry {
        let sockets = &self.report.sockets;
        let hooked = !sockets.hooks.is_empty() && !self.args.packet;
        match entry {
            Entry::Device(arrival) if arrival.hook == Hook::PodIngress && hooked && sockets.mode == SocketMode::All => {
                notes.push("--packet traces what a Pod sends past the socket hooks".to_owned());
                Entry::Socket(Some(arrival))
            }
            Entry::Socket(None) if !hooked => {
                notes.push("no socket hook serves processes of the node: their packets leave untranslated".to_owned());
                let route = self.node.route(self.args.to.ip(), None, None);
                let device = route.map_or(0, |route| route.device);
                Entry::Device(Arrival { ifindex: device, hook: Hook::UplinkEgress, from: 0 })
            }
            entry => entry,
        }
    }
}

fn text(answer: &Trace) -> String {
    let mut text = String::new();
    match write_text(&mut text, answer) {
        Ok(()) => text,
        Err(error) => error.to_string(),
    }
}

fn write_text(text: &mut String, answer: &Trace) -> std::fmt::Result {
    writeln!(text, "Verdict:  {}", answer.verdict)?;
    writeln!(text, "Why:      {}", answer.why)?;
    writeln!(text, "Do:       {}", answer.advice)?;
    writeln!(text, "Packet:   {} -> {}, at {}", answer.client, answer.target, answer.entry)?;
    for note in &answer.notes {
        writeln!(text, "Note:     {note}")?;
    }
    let mut backends = output::table(&["BACKEND", "PROBABILITY", "DECISION", "BEHIND SLUICE"]);
    for row in &answer.backends {
        let worst = row.findings.first().map_or("all right", |finding: &Finding| finding.cause.name());
        let backend = if row.backend.is_empty() { "-" } else { &row.backend };
        backends.add_row([backend, &format!("{:.1}%", row.probability * 100.0), &row.decision, worst]);
    }
    writeln!(text, "\n{backends}")?;
    if answer.left_out > 0 {
        writeln!(text, " - {} more backends were not tried", answer.left_out)?;
    }
    let Some(first) = answer.backends.first() else { return Ok(()) };
    if !first.rewrite.is_empty() {
        writeln!(text, "\nRewrite:  {}", first.rewrite)?;
    }
    for (way, lines) in [(Way::Request, &first.request), (Way::Reply, &first.reply)] {
        let found = first.findings.iter().filter(|finding| finding.way == way);
        let found = found.map(|finding| format!("{}: {}", finding.severity.name(), finding.text));
        let all: Vec<String> = lines.iter().cloned().chain(found).collect();
        if !all.is_empty() {
            writeln!(text, "\nThe {}'s way:", way.name())?;
            for line in all {
                writeln!(text, " - {line}")?;
            }
        }
    }
    writeln!(text, "\nWhat the data path asked:")?;
    for step in &answer.steps {
        writeln!(text, " - {}: {}", step.asked, step.found)?;
    }
    Ok(())
}
