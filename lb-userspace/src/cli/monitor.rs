//! `sluice monitor`: new flows, refusals, drops and ended flows, as they happen. The kernel programs tell of them only while
//! somebody listens.
//!
//! JSON: a line each: `{time, event, reason, protocol, source, destination, translated_source, translated_destination,
//! service, backend_id, device, bytes}`; `event` is `new`, `refused`, `dropped` or `ended`. `{lost}` says how many events
//! found no room so far.

use std::collections::HashMap;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use lb_common::abi::Counter;
use serde::Serialize;

use super::pcapng;
use super::pin_args::PinArgs;
use crate::maps::dump;
use crate::maps::events::{Event, Listener};
use crate::maps::flow_ends::{Ending, FlowEnds};
use crate::maps::flows::{self, Flow};
use crate::maps::kernel::KernelTables;

/// Events that are read in one go.
const AT_ONCE: usize = 4_096;
/// How often the flow tables are looked at, and the programs asked to go on.
const EVERY: Duration = Duration::from_secs(1);
/// Flows whose end is followed.
const FOLLOWED: usize = 100_000;

#[derive(Clone, Debug, Args)]
pub(super) struct MonitorArgs {
    #[command(flatten)]
    pins: PinArgs,
    /// Form of the output. `pcapng` is a capture of the packets' headers, for Wireshark.
    #[arg(short, long, value_enum, default_value_t = MonitorFormat::Table)]
    output: MonitorFormat,
    /// Only this Service: `NAMESPACE/NAME[:PORT[/PROTOCOL]]`.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only this client: an address or a prefix.
    #[arg(long, value_name = "IP[/PREFIX]", value_parser = net)]
    client: Option<IpNet>,
    /// Only for this reason: the name of a counter, such as `drop_source_range`.
    #[arg(long, value_name = "NAME", value_parser = reason)]
    reason: Option<String>,
    /// Only these events; repeatable.
    #[arg(long, value_name = "EVENT", value_enum)]
    event: Vec<Kind>,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

fn net(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| single()).map_err(|_error| "use an IP address or a prefix".to_owned())
}

/// A reason that an event may have.
fn reason(text: &str) -> Result<String, String> {
    let mut names = Counter::ALL.iter().map(|counter| counter.name());
    let of_ends = [Ending::Closed, Ending::Gone].map(Ending::name);
    let is_known = names.any(|name| name == text) || of_ends.contains(&text);
    is_known
        .then(|| text.to_owned())
        .ok_or_else(|| "use the name of a counter (docs/operations.md), closed or gone".into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MonitorFormat {
    Table,
    Json,
    Pcapng,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// A flow began.
    New,
    /// A packet was refused.
    Refused,
    /// A packet was dropped.
    Dropped,
    /// A flow ended.
    Ended,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::Ended => "ended",
        }
    }
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    time: String,
    event: Kind,
    reason: &'static str,
    protocol: String,
    source: SocketAddr,
    destination: SocketAddr,
    translated_source: Option<SocketAddr>,
    translated_destination: Option<SocketAddr>,
    /// `namespace/name:port/PROTOCOL`; empty: no Service.
    service: String,
    backend_id: u32,
    device: String,
    bytes: u16,
}

impl Row {
    /// As the table has it.
    fn line(&self) -> String {
        let to = self.translated_destination.map(|to| to.to_string()).unwrap_or_default();
        let (source, destination) = (self.source.to_string(), self.destination.to_string());
        let clock = self.time.split_once('T').map_or(self.time.as_str(), |(_, clock)| clock);
        line([clock, self.event.name(), self.reason, &self.protocol, &source, &destination, &to, &self.service])
    }
}

/// How many events found no room.
#[derive(Serialize)]
struct Lost {
    lost: u64,
}

pub(super) fn print(args: &MonitorArgs) -> anyhow::Result<()> {
    let existing = KernelTables::open(&args.pins.pin_path)?.read_owners()?;
    if let Some(wanted) = &args.service {
        ensure!(
            existing.names.iter().any(|(_, _, name)| is_of_service(name, wanted)),
            "no such Service in the maps: {wanted}"
        );
    }
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut listener = Listener::open(&args.pins.pin_path, epoch)
        .context("the agent has to be of this version: it makes the map that events come through")?;
    let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut monitor = Monitor { args, out, names: Names::new(&args.pins.pin_path), devices: HashMap::new(), shown: 0 };
    match monitor.follow(&mut listener) {
        // A reader that has seen enough, such as `head`.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) => Ok(()),
        done => done,
    }
}

/// Names of Services, read anew when one is not known.
struct Names<'a> {
    pin_path: &'a Path,
    known: HashMap<u32, String>,
    read: Option<Instant>,
}

impl<'a> Names<'a> {
    fn new(pin_path: &'a Path) -> Self {
        Self { pin_path, known: HashMap::new(), read: None }
    }

    fn of(&mut self, service: u32) -> String {
        if service == 0 {
            return String::new();
        }
        if !self.known.contains_key(&service) && self.read.is_none_or(|read| read.elapsed() > EVERY) {
            self.read = Some(Instant::now());
            if let Ok(existing) = KernelTables::open(self.pin_path).and_then(|tables| tables.read_owners()) {
                self.known = existing.names.into_iter().map(|(id, _, name)| (id, name)).collect();
            }
        }
        self.known.get(&service).cloned().unwrap_or_default()
    }
}

struct Monitor<'a, W: Write> {
    args: &'a MonitorArgs,
    out: W,
    names: Names<'a>,
    devices: HashMap<u32, String>,
    shown: u64,
}

impl<W: Write> Monitor<'_, W> {
    fn follow(&mut self, listener: &mut Listener) -> anyhow::Result<()> {
        let begin = Instant::now();
        let (mut looked, mut lost, mut ends) = (Instant::now(), 0, FlowEnds::default());
        self.begin()?;
        self.look(&mut ends)?;
        while !self.is_over(begin) {
            listener.wait(EVERY.saturating_sub(looked.elapsed()))?;
            let mut events = Vec::new();
            let read = listener.read(AT_ONCE, |event| events.push(event));
            for event in events {
                self.show(&event)?;
            }
            if read < AT_ONCE {
                self.out.flush()?;
            }
            if looked.elapsed() >= EVERY {
                looked = Instant::now();
                listener.stay()?;
                self.look(&mut ends)?;
                lost = self.say_lost(lost, listener.lost()?)?;
                self.out.flush()?;
            }
        }
        self.say_lost(lost, listener.lost()?)?;
        Ok(self.out.flush()?)
    }

    fn is_over(&self, begin: Instant) -> bool {
        self.args.count.is_some_and(|count| self.shown >= count)
            || self.args.seconds.is_some_and(|seconds| begin.elapsed() >= Duration::from_secs(seconds))
    }

    fn begin(&mut self) -> io::Result<()> {
        match self.args.output {
            MonitorFormat::Table => {
                writeln!(self.out, "{}", line(HEADINGS))?;
            }
            MonitorFormat::Json => {}
            MonitorFormat::Pcapng => self.out.write_all(&pcapng::header())?,
        }
        self.out.flush()
    }

    /// Says how many were lost so far, if it has not said so before.
    fn say_lost(&mut self, said: u64, lost: u64) -> anyhow::Result<u64> {
        if lost == said {
            return Ok(said);
        }
        match self.args.output {
            MonitorFormat::Table => {
                writeln!(self.out, "-- {lost} events were lost: they came faster than they were read")?;
            }
            MonitorFormat::Json => writeln!(self.out, "{}", serde_json::to_string(&Lost { lost })?)?,
            MonitorFormat::Pcapng => {}
        }
        Ok(lost)
    }

    fn show(&mut self, event: &Event) -> anyhow::Result<()> {
        let name = event.reason.name();
        let event_kind = match (event.is_new, name.starts_with("reject")) {
            (true, _) => Kind::New,
            (false, true) => Kind::Refused,
            (false, false) => Kind::Dropped,
        };
        let row = Row {
            time: time(event.at_ns),
            event: event_kind,
            reason: name,
            protocol: dump::protocol(event.protocol),
            source: event.source,
            destination: event.destination,
            translated_source: event.translated.map(|(source, _)| source),
            translated_destination: event.translated.map(|(_, destination)| destination),
            service: self.names.of(event.service),
            backend_id: event.backend,
            device: self.device(event.device),
            bytes: event.length,
        };
        self.write(&row, Some(event))
    }

    /// Looks which flows have ended.
    fn look(&mut self, ends: &mut FlowEnds) -> anyhow::Result<()> {
        let wanted = self.args.event.is_empty() || self.args.event.contains(&Kind::Ended);
        if !wanted || self.args.output == MonitorFormat::Pcapng {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = time(u64::try_from(now.as_nanos()).unwrap_or(0));
        let flows = flows::list(&self.args.pins.pin_path, FOLLOWED, |flow| !flow.direct)?;
        if flows.len() >= FOLLOWED {
            // What is beyond the limit would seem to end.
            ends.forget();
            return Ok(());
        }
        for (flow, ending) in ends.look(flows) {
            let row = self.ended(&at, &flow, ending);
            self.write(&row, None)?;
        }
        Ok(())
    }

    fn ended(&mut self, at: &str, flow: &Flow, ending: Ending) -> Row {
        Row {
            time: at.to_owned(),
            event: Kind::Ended,
            reason: ending.name(),
            protocol: dump::protocol(flow.protocol),
            source: flow.client,
            destination: flow.frontend,
            translated_source: Some(flow.source),
            translated_destination: Some(flow.backend),
            service: self.names.of(flow.service),
            backend_id: flow.backend_id,
            device: String::new(),
            bytes: 0,
        }
    }

    fn device(&mut self, index: u32) -> String {
        let name = || {
            nix::net::if_::if_indextoname(index)
                .map_or_else(|_gone| index.to_string(), |name| name.to_string_lossy().into_owned())
        };
        self.devices.entry(index).or_insert_with(name).clone()
    }

    fn is_wanted(&self, row: &Row) -> bool {
        let MonitorArgs { service, client, reason, event, .. } = self.args;
        service.as_deref().is_none_or(|wanted| is_of_service(&row.service, wanted))
            && client.is_none_or(|net| net.contains(&row.source.ip()))
            && reason.as_deref().is_none_or(|wanted| row.reason == wanted)
            && (event.is_empty() || event.contains(&row.event))
    }

    fn write(&mut self, row: &Row, event: Option<&Event>) -> anyhow::Result<()> {
        if !self.is_wanted(row) || self.args.count.is_some_and(|count| self.shown >= count) {
            return Ok(());
        }
        self.shown += 1;
        match self.args.output {
            MonitorFormat::Table => {
                writeln!(self.out, "{}", row.line())?;
            }
            MonitorFormat::Json => writeln!(self.out, "{}", serde_json::to_string(row)?)?,
            MonitorFormat::Pcapng => {
                if let Some(event) = event {
                    let comment = format!("{}: {} {}", row.event.name(), row.reason, row.service);
                    self.out.write_all(&pcapng::packet(event, comment.trim_end()))?;
                }
            }
        }
        Ok(())
    }
}

/// Whether `namespace/name:port/PROTOCOL` is of the Service, or its port, that is asked for.
fn is_of_service(name: &str, wanted: &str) -> bool {
    let rest = name.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':') || (rest.starts_with('/') && wanted.contains(':')))
}

const HEADINGS: [&str; 8] = ["TIME", "EVENT", "REASON", "PROTO", "SOURCE", "DESTINATION", "TO", "SERVICE"];

/// Columns that stay where they are while lines come.
fn line([time, event, reason, proto, source, destination, to, service]: [&str; 8]) -> String {
    let line =
        format!("{time:<13} {event:<8} {reason:<23} {proto:<5} {source:<21} {destination:<21} {to:<21} {service}");
    line.trim_end().to_owned()
}

/// RFC 3339, in milliseconds.
fn time(at_ns: u64) -> String {
    let at = i64::try_from(at_ns / 1_000_000).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    at.map_or_else(String::new, |at| format!("{at:.3}"))
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
