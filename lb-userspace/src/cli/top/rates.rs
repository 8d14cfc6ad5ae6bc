//! What happened between two looks at the maps, by second.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use clap::ValueEnum;
use lb_common::abi::StatsValue;

use crate::cli::list::Owner;
use crate::maps::causes::Cause;
use crate::maps::traffic::Traffic;
use crate::model::family::Family;
use crate::plan::Existing;

/// A service port, or a backend of one.
type Key = (u32, Family, Option<SocketAddr>);

/// What a look at the maps has found.
#[derive(Debug)]
pub(super) struct Sample {
    at: Instant,
    names: HashMap<u32, (Owner, Family)>,
    counts: HashMap<Key, StatsValue>,
    failures: HashMap<u32, u64>,
}

impl Sample {
    pub(super) fn new(at: Instant, existing: &Existing, traffic: &Traffic, causes: &[Cause]) -> Self {
        let named = existing.names.iter().map(|(id, family, name)| (*id, (Owner::read(name, *family), *family)));
        let services = existing.names.iter().map(|(id, family, _)| ((*id, *family, None), traffic.service(*id)));
        let backends = existing.backends.iter().filter_map(|(family, id, entry)| {
            Some(((entry.service, *family, Some(entry.addr)), traffic.backend(*family, *id)?))
        });
        let mut failures: HashMap<u32, u64> = HashMap::new();
        for cause in causes {
            *failures.entry(cause.service).or_default() += cause.count;
        }
        Self { at, names: named.collect(), counts: services.chain(backends).collect(), failures }
    }

    /// The service ports that there were.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Owner> + Clone {
        self.names.values().map(|(owner, _)| owner)
    }
}

/// By what rows are sorted, the most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// Unanswered, refused and failed ones, then connections.
    #[default]
    Errors,
    /// New connections.
    Connections,
    /// Packets, both ways.
    Packets,
    /// Bytes, both ways.
    Bytes,
}

impl By {
    /// The next one.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Errors => Self::Connections,
            Self::Connections => Self::Packets,
            Self::Packets => Self::Bytes,
            Self::Bytes => Self::Errors,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Connections => "connections",
            Self::Packets => "packets",
            Self::Bytes => "bytes",
        }
    }
}

/// Amounts between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) owner: Owner,
    pub(super) backend: Option<SocketAddr>,
    /// New connections.
    pub(super) connections: u64,
    /// Towards the backends, and back.
    pub(super) packets: [u64; 2],
    /// The same in bytes.
    pub(super) bytes: [u64; 2],
    /// Connections that were not answered, or not yet.
    pub(super) unanswered: u64,
    /// Connections and datagrams that a backend has refused.
    pub(super) refused: u64,
    /// Packets and calls that came to nothing: no endpoints, no route, source ranges and so on.
    pub(super) failed: u64,
}

impl Row {
    /// Whether something went wrong.
    pub(super) const fn has_errors(&self) -> bool {
        self.unanswered | self.refused | self.failed != 0
    }

    const fn is_idle(&self) -> bool {
        let [there, back] = self.packets;
        !self.has_errors() && self.connections | there | back == 0
    }

    fn weight(&self, by: By) -> [u64; 2] {
        let both = |[there, back]: [u64; 2]| there.saturating_add(back);
        match by {
            By::Errors => [self.unanswered + self.refused + self.failed, self.connections],
            By::Connections => [self.connections, both(self.packets)],
            By::Packets => [both(self.packets), self.connections],
            By::Bytes => [both(self.bytes), self.connections],
        }
    }

    /// The sum of both; it belongs to nobody.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let both = |[a, b]: [u64; 2], [c, d]: [u64; 2]| [a + c, b + d];
        Self {
            owner: Owner::default(),
            backend: None,
            connections: self.connections + other.connections,
            packets: both(self.packets, other.packets),
            bytes: both(self.bytes, other.bytes),
            unanswered: self.unanswered + other.unanswered,
            refused: self.refused + other.refused,
            failed: self.failed + other.failed,
        }
    }
}

/// What happened in between, by service port, or with `backends` by backend; rows without anything are left out. And how
/// many milliseconds it took.
pub(super) fn between(before: &Sample, after: &Sample, backends: bool, by: By) -> (Vec<Row>, u64) {
    let millis = u64::try_from(after.at.duration_since(before.at).as_millis()).unwrap_or(u64::MAX).max(1);
    let mut rows: Vec<Row> = after
        .counts
        .iter()
        .filter(|((_, _, backend), _)| backend.is_some() == backends)
        .filter_map(|(key @ (service, _, backend), now)| {
            let (owner, _) = after.names.get(service)?;
            let was = before.counts.get(key).copied().unwrap_or_default();
            // One that is new has counted nothing before; one whose id is another's by now begins anew.
            let more = |of: fn(&StatsValue) -> u64| of(now).saturating_sub(of(&was));
            let of_service = |failures: &HashMap<u32, u64>| failures.get(service).copied().unwrap_or(0);
            let failed = of_service(&after.failures).saturating_sub(of_service(&before.failures));
            Some(Row {
                owner: owner.clone(),
                backend: *backend,
                connections: more(|counts| counts.connections),
                packets: [more(|counts| counts.packets), more(|counts| counts.reply_packets)],
                bytes: [more(|counts| counts.bytes), more(|counts| counts.reply_bytes)],
                unanswered: more(StatsValue::waiting),
                refused: more(|counts| counts.refused),
                failed: if backends { 0 } else { failed },
            })
        })
        .filter(|row| !row.is_idle())
        .collect();
    rows.sort_by(|a, b| {
        let key = |row: &Row| (Reverse(row.weight(by)), row.backend);
        key(a).cmp(&key(b)).then_with(|| a.owner.cmp(&b.owner))
    });
    (rows, millis)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use lb_common::abi::Counter;

    use super::*;
    use crate::plan::BackendEntry;

    /// Two Services, one of which has neither endpoints nor answers.
    pub(in crate::cli) fn sample(at: Instant, connections: u64, failures: u64) -> Sample {
        let entry = |addr: &str, service| BackendEntry {
            addr: addr.parse().unwrap(),
            flags: 0,
            generation: 1,
            service,
            weight: 1,
        };
        let existing = Existing {
            names: vec![
                (1, Family::V4, "shop/storefront:http/TCP".into()),
                (2, Family::V4, "shop/orders:/TCP".into()),
                (3, Family::V4, "shop/idle:/TCP".into()),
            ],
            backends: vec![(Family::V4, 1, entry("10.1.0.1:80", 1)), (Family::V4, 2, entry("10.1.0.2:80", 1))],
            ..Existing::default()
        };
        let mut traffic = Traffic::default();
        let counts = |connections, unanswered| StatsValue {
            connections,
            packets: 10 * connections,
            bytes: 1000 * connections,
            reply_packets: 8 * connections,
            reply_bytes: 64_000 * connections,
            unanswered,
            ..StatsValue::default()
        };
        traffic.add(Family::V4, 1, 1, &counts(connections, 0));
        traffic.add(Family::V4, 2, 1, &counts(2 * connections, connections / 4));
        let cause = Cause { service: 2, counter: Counter::RejectNoEndpoints, count: failures, last_ns: 0 };
        Sample::new(at, &existing, &traffic, &[cause])
    }

    #[test]
    fn what_happened_is_the_difference_and_the_worst_comes_first() {
        let begin = Instant::now();
        let (before, after) = (sample(begin, 100, 10), sample(begin + Duration::from_secs(2), 300, 1010));
        let (rows, millis) = between(&before, &after, false, By::Errors);
        let names: Vec<&str> = rows.iter().map(|row| row.owner.name.as_str()).collect();
        assert_eq!((names, millis), (vec!["orders", "storefront"], 2000));
        assert_eq!((rows[0].failed, rows[1].connections, rows[1].unanswered), (1000, 600, 50));
        let (rows, _) = between(&before, &after, false, By::Bytes);
        assert_eq!(rows[0].owner.name, "storefront");
        let (rows, _) = between(&before, &after, true, By::Connections);
        assert_eq!(rows.iter().map(|row| row.connections).collect::<Vec<_>>(), [400, 200]);
        assert!(between(&after, &before, true, By::Errors).0.is_empty(), "counters do not run backwards");
    }
}
