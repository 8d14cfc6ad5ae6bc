//! `sluice services`: every frontend, the Service port behind it and its backends.
//!
//! JSON: a list of `{service, port, protocol, family, id, since_ns, affinity_secs, algorithm, frontends: [{address, port, kind, policy,
//! internal, external, flags}], source_ranges, traffic, problems, backends: [{address, id, generation, flags, weight, traffic}],
//! refusals: [{kind, object, reason, message}]}`; `refusals` says in what the Service is not as its object says, and why;
//! `internal` and `external` are lists of backend ids for clients inside and outside of the cluster; `since_ns` is when
//! the service port was first in the maps, nanoseconds since the epoch, 0: not known; `traffic` is `{connections,
//! packets, bytes, reply_packets, reply_bytes, unanswered, refused}`, and `null` for a backend that is not counted;
//! `problems` is a list of `{problem, count, last_secs, message}`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::Args;
use lb_common::abi::{SetRef, frontend_flag, frontend_kind};
use serde::Serialize;

use super::backend_row::{BackendRow, TrafficRow};
use super::labelled;
use super::list::{Found, Grid, ListArgs, Listed, Owner, Shown, amount, service_port};
use super::problems::{self, Problem};
use crate::linux::clock;
use crate::maps::causes::Cause;
use crate::maps::kernel::KernelTables;
use crate::maps::traffic::Traffic;
use crate::maps::{Tables, dump};
use crate::model::desired::Family;
use crate::plan::Existing;
use crate::reconcile::agent_report::{AgentReport, RefusalRow};

/// One service port and family.
#[derive(Debug, Default, Serialize)]
struct ServiceRow {
    /// `namespace/name`.
    service: String,
    /// Name of the port; empty: unnamed.
    port: String,
    /// `TCP`, `UDP` or `SCTP`.
    protocol: String,
    /// `IPv4` or `IPv6`.
    family: &'static str,
    /// Service id.
    id: u32,
    /// When it was first in the maps, nanoseconds since the epoch; 0: not known.
    since_ns: u64,
    /// Session affinity; 0: none.
    affinity_secs: u32,
    /// How new connections are spread.
    algorithm: &'static str,
    frontends: Vec<FrontendRow>,
    source_ranges: Vec<String>,
    /// Of the backends that are gone, too.
    traffic: TrafficRow,
    /// What is wrong with it.
    problems: Vec<Problem>,
    backends: Vec<BackendRow>,
    /// In what the Service is not as its object says, and why.
    refusals: Vec<RefusalRow>,
}

#[derive(Debug, Serialize)]
struct FrontendRow {
    address: String,
    port: u16,
    kind: &'static str,
    /// The traffic policy: `Cluster` or `Local`.
    policy: &'static str,
    /// Backend ids for clients inside the cluster.
    internal: Vec<u32>,
    /// Backend ids for clients outside of it.
    external: Vec<u32>,
    flags: Vec<&'static str>,
}

impl ServiceRow {
    /// `namespace/name:port`.
    fn service_port(&self) -> String {
        service_port(&self.service, &self.port)
    }

    fn owner(&self) -> Owner {
        Owner::read(&format!("{}:{}/{}", self.service, self.port, self.protocol), Family::V4)
    }
}

impl FrontendRow {
    /// How many backends its clients have: those outside, but for a `ClusterIP`.
    fn ready(&self) -> usize {
        if self.kind == dump::kind(frontend_kind::CLUSTER_IP) { self.internal.len() } else { self.external.len() }
    }

    fn place(&self, protocol: &str) -> String {
        let address = self.address.parse().map(|ip| SocketAddr::new(ip, self.port).to_string());
        format!("{}/{protocol}", address.unwrap_or_default())
    }
}

/// The policy of those for whom a frontend is there.
fn policy(kind: u8, flags: u16) -> &'static str {
    let bit =
        if kind == frontend_kind::CLUSTER_IP { frontend_flag::INTERNAL_LOCAL } else { frontend_flag::EXTERNAL_LOCAL };
    if flags & bit == 0 { "Cluster" } else { "Local" }
}

impl Listed for ServiceRow {
    const SORT: &'static [(&'static str, &'static str)] = &[
        ("SERVICE", "service"),
        ("KIND", "frontends.0.kind"),
        ("FRONTEND", "frontends.0.address"),
        ("POLICY", "frontends.0.policy"),
        ("AFFINITY", "affinity_secs"),
        ("ALGORITHM", "algorithm"),
        ("AGE", "since_ns"),
        ("CONNECTIONS", "traffic.connections"),
        ("UNANSWERED", "traffic.unanswered"),
        ("REFUSED", "traffic.refused"),
        ("BYTES", "traffic.bytes"),
        ("BYTES-BACK", "traffic.reply_bytes"),
    ];

    fn id(&self) -> String {
        format!("service/{}/{}/{}", self.service_port(), self.protocol, self.family)
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct ServicesArgs {
    /// Those alone with which something is wrong, a line for each problem.
    #[arg(long, help_heading = "Which")]
    problems: bool,
    #[command(flatten)]
    list: ListArgs,
}

pub(super) fn print(args: &ServicesArgs) -> anyhow::Result<()> {
    let ServicesArgs { problems, list: args } = args;
    let select = labelled::resolve(&args.select, &args.pins.pin_path)?;
    let look = || {
        let tables = KernelTables::open(&args.pins.pin_path)?;
        let existing = tables.read()?;
        let mut rows = rows(&existing, &tables.traffic(&existing)?, &tables.since()?);
        find_problems(&mut rows, &tables.causes()?, clock::monotonic_ns());
        let owners: Vec<Owner> = rows.iter().map(ServiceRow::owner).collect();
        let missing = select.missing(&owners.iter());
        let mut owner = owners.iter();
        // Without an agent there is no report, and of another version it may not be readable: the maps are.
        let report: AgentReport = serde_json::from_str(&tables.report()?).unwrap_or_default();
        for row in &mut rows {
            row.refusals = report.refusals.iter().filter(|refusal| refusal.object == row.service).cloned().collect();
        }
        rows.retain(|row| {
            let wanted = owner.next().is_none_or(|owner| select.wants(owner));
            wanted && (!problems || !row.problems.is_empty())
        });
        Ok(Found { rows, missing })
    };
    args.form.print(look, if *problems { problem_grid } else { grid })
}

/// What is wrong with each.
fn find_problems(rows: &mut [ServiceRow], causes: &[Cause], now_ns: u64) {
    for row in rows {
        // In their order, which is that of the ids.
        let first = causes.partition_point(|cause| cause.service < row.id);
        let own = causes[first..].iter().take_while(|cause| cause.service == row.id);
        row.problems = own.map(|cause| problems::of_cause(cause, now_ns)).collect();
        let named = row.problems.iter().any(|problem| problem.kind == problems::no_endpoints().kind);
        let none = row.frontends.iter().any(|frontend| frontend.internal.is_empty() && frontend.external.is_empty());
        if none && row.backends.is_empty() && !named {
            row.problems.push(problems::no_endpoints());
        }
        for backend in &row.backends {
            let Some(TrafficRow { connections, unanswered, refused, .. }) = backend.traffic else { continue };
            let found = problems::of_backend(&backend.address, &row.protocol, connections, unanswered, refused);
            row.problems.extend(found);
        }
    }
}

fn problem_grid(rows: &[ServiceRow]) -> Grid {
    let mut grid = Grid::default()
        .text("SERVICE", Shown::Any)
        .word("PROBLEM", Shown::Any)
        .number("COUNT", Shown::Any)
        .number("LAST", Shown::Any)
        .text("MEANING", Shown::Any)
        .word("FAMILY", Shown::Medium);
    for row in rows {
        for problem in &row.problems {
            grid.line([
                format!("{}/{}", row.service_port(), row.protocol),
                problem.kind.to_owned(),
                problem.count.to_string(),
                problem.last(),
                problem.message.clone(),
                row.family.to_owned(),
            ]);
        }
    }
    grid
}

fn rows(existing: &Existing, traffic: &Traffic, since: &BTreeMap<u32, u64>) -> Vec<ServiceRow> {
    let mut rows: BTreeMap<u32, ServiceRow> = BTreeMap::new();
    for (id, family, name) in &existing.names {
        let owner = Owner::read(name, *family);
        let row = ServiceRow {
            service: owner.service(),
            port: owner.port,
            protocol: owner.protocol.to_owned(),
            family: family.name(),
            id: *id,
            since_ns: since.get(id).copied().unwrap_or(0),
            traffic: traffic.service(*id).into(),
            ..ServiceRow::default()
        };
        rows.insert(*id, row);
    }
    let sets: BTreeMap<(Family, u32, u32), &[u32]> =
        existing.sets.iter().map(|(family, set, ids)| ((*family, set.base, set.count), &**ids)).collect();
    let ids = |family: Family, set: SetRef| {
        sets.get(&(family, set.base, set.count)).map_or(Vec::new(), |slots| dump::members(slots))
    };
    let served = existing.frontends.iter().filter(|(_, value)| !frontend_kind::is_of_address(value.kind));
    for (vip, value) in served {
        let Some(row) = rows.get_mut(&value.service) else { continue };
        row.affinity_secs = value.affinity_secs;
        row.algorithm = dump::algorithm_name(value.algorithm);
        row.frontends.push(FrontendRow {
            address: vip.addr.to_string(),
            port: vip.port,
            kind: dump::kind(value.kind),
            policy: policy(value.kind, value.flags),
            internal: ids(vip.family(), value.internal),
            external: ids(vip.family(), value.external),
            flags: dump::frontend_flags(value.flags),
        });
    }
    for (family, id, entry) in &existing.backends {
        let Some(row) = rows.get_mut(&entry.service) else { continue };
        row.backends.push(BackendRow::new(*family, *id, entry, traffic));
    }
    for (service, net) in &existing.ranges {
        if let Some(row) = rows.get_mut(service) {
            row.source_ranges.push(net.to_string());
        }
    }
    let mut rows: Vec<ServiceRow> = rows.into_values().collect();
    for row in &mut rows {
        row.frontends.sort_by(|a, b| (a.kind, &a.address, a.port).cmp(&(b.kind, &b.address, b.port)));
        row.backends.sort_by(|a, b| a.address.cmp(&b.address));
        row.source_ranges.sort();
    }
    rows.sort_by(|a, b| {
        (&a.service, &a.port, &a.protocol, a.family).cmp(&(&b.service, &b.port, &b.protocol, b.family))
    });
    rows
}

/// The algorithm, and whether backends have weights.
fn spread(row: &ServiceRow) -> String {
    let weighted = row.backends.iter().any(|backend| backend.weight != 1);
    if weighted { format!("{},weighted", row.algorithm) } else { row.algorithm.to_owned() }
}

/// Why the Service is not as its object says.
fn refused(row: &ServiceRow) -> String {
    let each = row.refusals.iter().map(|row| format!("{}: {}", row.reason, row.message));
    if row.refusals.is_empty() { "-".to_owned() } else { each.collect::<Vec<_>>().join("; ") }
}

fn grid(rows: &[ServiceRow]) -> Grid {
    let mut grid = Grid::default()
        .text("SERVICE", Shown::Any)
        .word("KIND", Shown::Any)
        .text("FRONTEND", Shown::Any)
        .word("POLICY", Shown::Any)
        .number("READY", Shown::Any)
        .number("AGE", Shown::Any)
        .number("AFFINITY", Shown::Medium)
        .number("CONNECTIONS", Shown::Medium)
        .number("UNANSWERED", Shown::Large)
        .number("REFUSED", Shown::Large)
        .number("BYTES", Shown::Large)
        .number("BYTES-BACK", Shown::Large)
        .text("SOURCES", Shown::Large)
        .text("ALGORITHM", Shown::Large)
        .number("ID", Shown::Wide);
    // What is wrong has a column where something is.
    let any_refused = rows.iter().any(|row| !row.refusals.is_empty());
    if any_refused {
        grid = grid.text("REFUSED", Shown::Any);
    }
    for row in rows {
        for (n, frontend) in row.frontends.iter().enumerate() {
            // The numbers are the service port's, not the frontend's: they appear once.
            let once = |text: String| if n == 0 { text } else { String::new() };
            let cells = [
                row.service_port(),
                frontend.kind.to_owned(),
                frontend.place(&row.protocol),
                frontend.policy.to_owned(),
                format!("{}/{}", frontend.ready(), row.backends.len()),
                amount::ago(row.since_ns),
                if row.affinity_secs == 0 { "-".to_owned() } else { format!("{}s", row.affinity_secs) },
                once(row.traffic.connections.to_string()),
                once(row.traffic.unanswered.to_string()),
                once(row.traffic.refused.to_string()),
                once(amount::bytes(row.traffic.bytes)),
                once(amount::bytes(row.traffic.reply_bytes)),
                if row.source_ranges.is_empty() { "-".to_owned() } else { row.source_ranges.join(",") },
                spread(row),
                row.id.to_string(),
            ];
            grid.line(cells.into_iter().chain(any_refused.then(|| refused(row))));
        }
    }
    grid
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
