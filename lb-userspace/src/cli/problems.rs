//! What is wrong with a service port, from what its maps hold and what was counted for it.

use lb_common::abi::Counter;
use serde::Serialize;

use super::list::amount;
use crate::maps::causes::Cause;

/// So many of a hundred connections are too many to be on their way.
const SHARE: u64 = 1;

/// One thing that is wrong with a service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// Short stable name.
    #[serde(rename = "problem")]
    pub(super) kind: &'static str,
    /// Packets, calls or connections that it has cost.
    pub(super) count: u64,
    /// Seconds since it last did, where that is known.
    pub(super) last_secs: Option<u64>,
    /// What it means, and where to look.
    pub(super) message: String,
}

/// The name of a reason and what it means.
const fn meaning(counter: Counter) -> (&'static str, &'static str) {
    match counter {
        Counter::RejectNoEndpoints => ("no-endpoints", "refused: no usable endpoint"),
        Counter::DropNoLocalEndpoints => {
            ("no-local-endpoints", "dropped: policy Local, no usable endpoint on this node")
        }
        Counter::DropSourceRange => ("source-range", "dropped: clients outside of loadBalancerSourceRanges"),
        Counter::DropForeignSource => ("foreign-source", "dropped: a Pod sent under another's address"),
        Counter::DropSnatExhausted => ("snat-exhausted", "dropped: no free port of --snat-ports towards a backend"),
        Counter::DropSnatNoAddress => ("snat-no-address", "dropped: the node has no address for source NAT"),
        Counter::DropNoRoute => ("no-route", "dropped: no route towards a backend"),
        Counter::DropTooBig => ("too-big", "dropped: larger than the way to a backend takes"),
        Counter::DropFlowInsert => ("flow-table-full", "dropped: a flow table refused the connection"),
        Counter::DropStaleSlot => ("stale-slot", "dropped: a slot without a backend"),
        other => (other.name(), "dropped"),
    }
}

/// From what was counted for a service port. `now_ns` is of the clock of the causes.
pub(super) fn of_cause(cause: &Cause, now_ns: u64) -> Problem {
    let (kind, message) = meaning(cause.counter);
    let last_secs = Some(now_ns.saturating_sub(cause.last_ns) / 1_000_000_000);
    Problem { kind, count: cause.count, last_secs, message: message.to_owned() }
}

/// A service port without any endpoint, of which no client has been seen yet.
pub(super) fn no_endpoints() -> Problem {
    let (kind, _) = meaning(Counter::RejectNoEndpoints);
    Problem { kind, count: 0, last_secs: None, message: "no usable endpoint".to_owned() }
}

/// From what was counted for a backend of a service port. One-way protocols over UDP are never answered.
pub(super) fn of_backend(
    address: &str,
    protocol: &str,
    connections: u64,
    unanswered: u64,
    refused: u64,
) -> Vec<Problem> {
    let many = |count: u64| count > 0 && count * 100 >= connections * SHARE;
    let problem = |kind, count, what: &str| Problem {
        kind,
        count,
        last_secs: None,
        message: format!("{address} {what} {count} of {connections} connections"),
    };
    let unanswered =
        (protocol == "TCP" && many(unanswered)).then(|| problem("unanswered", unanswered, "has not answered"));
    let refused = many(refused).then(|| problem("refused", refused, "has refused"));
    unanswered.into_iter().chain(refused).collect()
}

impl Problem {
    /// For a column.
    pub(super) fn last(&self) -> String {
        self.last_secs.map_or_else(|| "-".to_owned(), amount::age)
    }
}

#[cfg(test)]
mod tests {
    use lb_common::abi::CAUSES_OF_SERVICES;

    use super::*;

    #[test]
    fn each_cause_has_a_name_of_its_own_and_a_meaning() {
        let mut names: Vec<&str> = CAUSES_OF_SERVICES.iter().map(|counter| meaning(*counter).0).collect();
        assert!(CAUSES_OF_SERVICES.iter().all(|counter| meaning(*counter).1 != "dropped"));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CAUSES_OF_SERVICES.len());
        let cause = Cause { service: 1, counter: Counter::DropNoRoute, count: 3, last_ns: 5_000_000_000 };
        let problem = of_cause(&cause, 17_500_000_000);
        assert_eq!((problem.kind, problem.count, problem.last_secs), ("no-route", 3, Some(12)));
    }

    #[test]
    fn a_few_connections_on_their_way_are_no_problem_and_neither_is_syslog() {
        let names = |protocol, connections, unanswered, refused| -> Vec<&str> {
            let problems = of_backend("10.1.0.1:80", protocol, connections, unanswered, refused);
            problems.iter().map(|problem| problem.kind).collect()
        };
        assert!(names("TCP", 100_000, 12, 0).is_empty());
        assert_eq!(names("TCP", 100, 12, 0), ["unanswered"]);
        assert_eq!(names("TCP", 100, 0, 100), ["refused"]);
        assert!(names("UDP", 100, 100, 0).is_empty());
        assert_eq!(names("UDP", 100, 100, 40), ["refused"]);
        assert!(names("TCP", 0, 0, 0).is_empty());
    }
}
