//! What `sluice services` prints.

use lb_common::abi::{FrontendValue, StatsValue};

use super::*;
use crate::cli::list::golden;
use crate::plan::{BackendEntry, Vip};

#[test]
fn services_are_printed_as_the_golden_files_say() {
    let frontend = |address: &str, port, kind, policy, ready: u32| FrontendRow {
        address: address.into(),
        port,
        kind,
        policy,
        internal: (0..ready).collect(),
        external: (0..ready).collect(),
        flags: vec![],
    };
    let backends = |count: u32| -> Vec<BackendRow> {
        let entry = |n: u32| BackendEntry {
            addr: format!("10.1.0.{n}:8080").parse().unwrap(),
            flags: 4,
            weight: 1,
            generation: n,
            service: 1,
        };
        (1..=count).map(|n| BackendRow::new(Family::V4, n, &entry(n), &Traffic::default())).collect()
    };
    let traffic = TrafficRow {
        connections: 48_211,
        packets: 1,
        bytes: 73_400_320,
        reply_packets: 1,
        reply_bytes: 9 << 30,
        unanswered: 3,
        refused: 0,
    };
    let rows = [
        ServiceRow {
            service: "default/kubernetes".into(),
            port: "https".into(),
            protocol: "TCP".into(),
            family: "IPv4",
            id: 1,
            frontends: vec![frontend("10.96.0.1", 443, "ClusterIP", "Cluster", 1)],
            backends: backends(1),
            ..ServiceRow::default()
        },
        ServiceRow {
            service: "shop-production/storefront-with-a-long-name".into(),
            port: "http".into(),
            protocol: "TCP".into(),
            family: "IPv4",
            id: 2,
            affinity_secs: 10_800,
            frontends: vec![
                frontend("10.96.31.7", 80, "ClusterIP", "Cluster", 3),
                frontend("192.0.2.200", 80, "LoadBalancer", "Local", 0),
                frontend("192.0.2.11", 30_080, "NodePort", "Local", 0),
            ],
            source_ranges: vec!["203.0.113.0/24".into()],
            traffic,
            backends: backends(3),
            ..ServiceRow::default()
        },
        ServiceRow {
            service: "kube-system/kube-dns".into(),
            port: "dns".into(),
            protocol: "UDP".into(),
            family: "IPv6",
            id: 3,
            frontends: vec![frontend("fd00:96:1234:5678:9abc:def0:1234:5678", 53, "ClusterIP", "Cluster", 2)],
            backends: backends(2),
            ..ServiceRow::default()
        },
    ];
    golden::list("services", &rows, grid);
}

#[test]
fn a_frontend_lists_the_ids_of_its_two_sets() {
    let set = SetRef { base: 4, count: 2 };
    let existing = Existing {
        names: vec![(7, Family::V4, "default/web:http/TCP".into())],
        frontends: vec![(
            Vip { addr: "10.96.0.1".parse().unwrap(), port: 80, proto: 6 },
            FrontendValue { internal: set, service: 7, kind: frontend_kind::CLUSTER_IP, ..Default::default() },
        )],
        sets: vec![(Family::V4, set, Box::new([3, 9]))],
        backends: vec![(
            Family::V4,
            3,
            BackendEntry { addr: "10.1.0.1:80".parse().unwrap(), flags: 5, weight: 1, generation: 2, service: 7 },
        )],
        ..Existing::default()
    };
    let mut traffic = Traffic::default();
    traffic.add(Family::V4, 3, 7, &StatsValue { connections: 5, reply_bytes: 1234, ..StatsValue::default() });
    let json = serde_json::to_value(rows(&existing, &traffic, &BTreeMap::new())).unwrap();
    assert_eq!(json[0]["service"], "default/web");
    assert_eq!(json[0]["port"], "http");
    assert_eq!(json[0]["frontends"][0]["internal"], serde_json::json!([3, 9]));
    assert_eq!(json[0]["frontends"][0]["external"], serde_json::json!([]));
    assert_eq!(json[0]["backends"][0]["flags"], serde_json::json!(["local", "in-cluster-set"]));
    assert_eq!(json[0]["traffic"]["connections"], 5);
    assert_eq!(json[0]["backends"][0]["traffic"]["reply_bytes"], 1234);
    assert_eq!(json[0]["frontends"][0]["policy"], "Cluster");
}
