//! Resolver against literal reading, over random cluster states.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proptest::prelude::*;

use super::cluster::{self, Tape};
use super::literal::{self, Ep};
use crate::model::desired::{Backend, DesiredPort, Family, SetKind, WhenEmpty};
use crate::model::record::{Hints, ServiceRecord, SliceRecord};
use crate::model::resolve::resolve;
use crate::model::topology::{Endpoint, Policy, categorize};
use crate::model::weights::PodId;

fn members(port: &DesiredPort, member: impl Fn(&Backend) -> bool) -> BTreeSet<SocketAddr> {
    port.backends.iter().filter(|(_, backend)| member(backend)).map(|(addr, _)| *addr).collect()
}

fn check(tape: &[u8]) -> Result<(), TestCaseError> {
    let mut tape = Tape::new(tape);
    let service = cluster::service(&mut tape, "s");
    let (node, settings) = (cluster::node(&mut tape), cluster::settings(&mut tape));
    let slices = cluster::slices(&mut tape, "s");

    let wanted = literal::resolve(&service, &slices, &node, &settings);
    let service = ServiceRecord::from(service);
    let records: Vec<SliceRecord> = slices.into_iter().map(SliceRecord::from).collect();
    let (got, _) = resolve(&service, &records.iter().collect::<Vec<_>>(), &node, &settings);

    prop_assert_eq!(got.ports.len(), wanted.len());
    for port in &got.ports {
        let key = (port.id.port_name.clone(), port.id.protocol.name().to_owned(), port.id.family == Family::V6);
        let wanted = wanted.get(&key);
        prop_assert!(wanted.is_some(), "{:?}", key);
        let wanted = wanted.unwrap();
        let local = |set| set == SetKind::Local;
        let frontends: BTreeMap<_, _> = port
            .frontends
            .iter()
            .map(|f| (f.addr, (f.kind, local(f.internal), local(f.external), f.source_ranges)))
            .collect();
        prop_assert_eq!(frontends.len(), port.frontends.len(), "a frontend is there twice");
        prop_assert_eq!(&frontends, &wanted.frontends);
        prop_assert_eq!(&members(port, |b| b.in_cluster), &wanted.sets.cluster.clone().unwrap_or_default());
        prop_assert_eq!(&members(port, |b| b.in_local), &wanted.sets.local.clone().unwrap_or_default());
        prop_assert_eq!(&members(port, |_| true), &wanted.kept);
        for (addr, backend) in &port.backends {
            prop_assert_eq!(backend.terminating, wanted.terminating.contains(addr));
            prop_assert_eq!(backend.host_network, cluster::NODE_ADDRESSES.contains(&addr.ip().to_string().as_str()));
        }
        let empty = if wanted.sets.has_any { WhenEmpty::Drop } else { WhenEmpty::Refuse };
        prop_assert_eq!((port.cluster_empty, port.local_empty), (empty, empty));
        prop_assert_eq!(port.affinity_secs, wanted.affinity);
        let ranges: Vec<String> = port.source_ranges.iter().map(ToString::to_string).collect();
        prop_assert_eq!(&ranges, &wanted.ranges);
    }
    Ok(())
}

/// Every combination of conditions, place and hints of a few endpoints, without any object around them.
fn check_sets(tape: &[u8]) -> Result<(), TestCaseError> {
    let mut tape = Tape::new(tape);
    let policy = tape.below(8);
    let zone = tape.one_of(&[None, Some("z1"), Some("z2")]);
    let hinted = tape.below(3);
    let policy = Policy {
        internal_local: policy & 1 != 0,
        external_local: policy & 2 != 0,
        externally_accessible: policy & 4 != 0,
    };
    let mut eps: BTreeMap<SocketAddr, Ep> = BTreeMap::new();
    for index in 0..tape.below(6) {
        let bits = tape.below(16);
        let hint = if hinted == 0 { 0 } else { tape.below(8) };
        let named = |names: [&[&str]; 4], choice: u8| -> Vec<String> {
            names[usize::from(choice % 4)].iter().map(|name| (*name).to_owned()).collect()
        };
        eps.insert(
            SocketAddr::from(([10, 0, 0, index], 80)),
            Ep {
                ready: bits & 1 != 0,
                serving: bits & 2 != 0,
                terminating: bits & 4 != 0,
                local: bits & 8 != 0,
                zone_hints: named([&[], &["z1"], &["z2"], &["z1", "z2"]], hint),
                node_hints: if hinted == 2 {
                    named([&["other"], &["me"], &["me", "x"], &[]], hint / 2)
                } else {
                    Vec::new()
                },
            },
        );
    }
    let boxed = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
    let hints: Vec<Hints> =
        eps.values().map(|ep| Hints { zones: boxed(&ep.zone_hints), nodes: boxed(&ep.node_hints) }).collect();
    let endpoints: Vec<Endpoint<'_>> = eps
        .iter()
        .zip(&hints)
        .map(|((addr, ep), hints)| Endpoint {
            addr: *addr,
            ready: ep.ready,
            serving: ep.serving,
            terminating: ep.terminating,
            local: ep.local,
            pod: PodId::default(),
            hints: Some(hints),
        })
        .collect();
    let wanted = literal::categorize(&eps, policy.uses_cluster(), policy.uses_local(), "me", zone);
    let got = categorize(&endpoints, policy, "me", zone);
    let addrs = |set: Option<Vec<usize>>| set.map(|set| set.into_iter().map(|index| endpoints[index].addr).collect());
    let got = literal::Sets {
        cluster: addrs(got.cluster),
        local: addrs(got.local),
        all: addrs(got.reachable),
        has_any: got.has_any,
    };
    // None and empty are told apart.
    prop_assert_eq!(got, wanted);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 15_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_services_resolve_as_the_literal_reading_does(tape in proptest::collection::vec(any::<u8>(), 0..160)) {
        check(&tape)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 90_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sets_of_endpoints_are_those_of_the_literal_reading(tape in proptest::collection::vec(any::<u8>(), 0..24)) {
        check_sets(&tape)?;
    }
}
