//! A new agent on the maps of a former one: what it has not read stays as it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::fixtures::ROOMY;
use crate::check::board::Board;
use crate::devices::NodeNetwork;
use crate::events::EventSink;
use crate::health::{HealthCheckRegistry, ProxyHealth};
use crate::http::TakenPorts;
use crate::kube::Connection;
use crate::maps::memory::MemoryTables;
use crate::metrics::{AgentInfo, Metrics};
use crate::model::desired::Refusal;
use crate::model::event::{Kind, Object, SourceEvent};
use crate::model::reason::Reason;
use crate::model::record::NodeRecord;
use crate::reconcile::{Claim, Observers, Origin, ReconcileSettings, Reconciler};
use crate::sockets::Reaper;
use crate::source::manifests;

fn agent(tables: MemoryTables) -> Reconciler<MemoryTables> {
    let observers = Observers::new(
        Metrics::new("/nonexistent".into(), AgentInfo::default(), 10).unwrap(),
        Arc::new(ProxyHealth::new(Duration::from_secs(30))),
        HealthCheckRegistry::default(),
        EventSink::log_only(),
        TakenPorts::default(),
        Board::default(),
    );
    let settings = ReconcileSettings { node_name: "n".into(), node_cidrs: true, ..ReconcileSettings::default() };
    let origin = Origin::Kube(watch::channel(Connection::default()).1);
    let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    let claim = Claim::new(Arc::new(|| false));
    let mut agent = Reconciler::new(tables, settings, origin, observers, Reaper::default(), long_ago, claim).unwrap();
    agent.know_network();
    agent
}

fn network() -> NodeNetwork {
    NodeNetwork {
        addresses: ["192.0.2.1", "198.51.100.1"].map(|ip| ip.parse().unwrap()).to_vec(),
        primary_v4: Some("198.51.100.1".parse().unwrap()),
        ..NodeNetwork::default()
    }
}

fn node() -> Object {
    Object::Node(Box::new(NodeRecord {
        name: "n".into(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        ..NodeRecord::default()
    }))
}

/// Two Services with an endpoint each, and the slices apart.
fn objects(names: &[&str], slices: bool) -> Vec<SourceEvent> {
    let texts = names.iter().enumerate().map(|(n, name)| {
        let service = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{type: NodePort, clusterIP: 10.96.0.{n}, ports: [{{port: 80, nodePort: 3000{n}}}]}}\n",
            n = n + 1
        );
        let slice = format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, namespace: shop, \
             labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nports: [{{port: 8080}}]\n\
             endpoints: [{{addresses: [10.244.1.{n}]}}]\n",
            n = n + 1
        );
        service + if slices { &slice } else { "" }
    });
    let objects = texts.flat_map(|text| manifests::objects(&text));
    objects.map(|object| SourceEvent::Apply(object.unwrap())).collect()
}

/// What an agent leaves that has read everything.
fn left() -> MemoryTables {
    let mut first = agent(MemoryTables::new(ROOMY));
    let mut events = objects(&["a", "b"], true);
    events.extend([SourceEvent::Replace(Kind::Node, vec![node()]), SourceEvent::Synced]);
    first.apply(&mut events, &network());
    let tables = first.tables().clone();
    assert_eq!((tables.backends.len(), tables.names.len()), (2, 2));
    assert_eq!(tables.settings.v4.node, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(tables.settings.v4.cluster, ["10.244.1.0/24".parse().unwrap()]);
    tables
}

fn check_same(before: &MemoryTables, next: &mut Reconciler<MemoryTables>) {
    let now = next.tables();
    assert_eq!((&now.settings, &now.frontends), (&before.settings, &before.frontends));
    assert_eq!((&now.names, &now.backends), (&before.names, &before.backends));
}

fn unreadable() -> SourceEvent {
    SourceEvent::Refused(vec![Refusal {
        kind: "File",
        object: "b.yaml".into(),
        reason: Reason::FileUnreadable,
        message: "cannot be read".into(),
    }])
}

#[test]
fn settings_stay_while_the_api_does_not_answer() {
    let before = left();
    let mut next = agent(before.clone());
    next.apply(&mut Vec::new(), &network());
    check_same(&before, &mut next);
}

#[test]
fn a_node_object_that_is_gone_moves_neither_node_ports_nor_ranges() {
    let before = left();
    let mut events = objects(&["a", "b"], true);
    events.extend([SourceEvent::Replace(Kind::Node, Vec::new()), SourceEvent::Synced]);
    let mut next = agent(before.clone());
    next.apply(&mut events, &network());
    check_same(&before, &mut next);
    // Nor one that goes while the agent runs.
    next.apply(&mut vec![SourceEvent::Apply(node())], &network());
    let gone = SourceEvent::Delete { kind: Kind::Node, namespace: String::new(), name: "n".into() };
    next.apply(&mut vec![gone], &network());
    check_same(&before, &mut next);
    // An address that the node has no more is no reason to stay.
    let moved = NodeNetwork { addresses: vec!["198.51.100.1".parse().unwrap()], ..network() };
    next.apply(&mut Vec::new(), &moved);
    assert_eq!(next.tables().settings.v4.node, moved.primary_v4.map(Into::into));
}

#[test]
fn what_a_broken_manifest_may_hold_stays_until_it_can_be_read() {
    let before = left();
    let mut next = agent(before.clone());
    let mut events = objects(&["a"], true);
    events.extend([unreadable(), SourceEvent::Replace(Kind::Node, vec![node()]), SourceEvent::Synced]);
    next.apply(&mut events, &network());
    check_same(&before, &mut next);
    // Others are brought up to date meanwhile.
    next.apply(&mut objects(&["a", "b", "c"], true).split_off(4), &network());
    assert_eq!(next.tables().backends.len(), 3);
    // It can be read, and b is not in it.
    next.apply(&mut vec![SourceEvent::Refused(Vec::new())], &network());
    assert_eq!(next.tables().names.len(), 2);
    assert!(next.tables().names.values().all(|(_, name)| !name.starts_with("shop/b")));
}

#[test]
fn a_service_whose_endpoints_may_be_in_a_broken_manifest_keeps_them() {
    let before = left();
    let mut next = agent(before.clone());
    let mut events = objects(&["a", "b"], false);
    events.extend([unreadable(), SourceEvent::Replace(Kind::Node, vec![node()]), SourceEvent::Synced]);
    next.apply(&mut events, &network());
    check_same(&before, &mut next);
    next.apply(&mut vec![SourceEvent::Refused(Vec::new())], &network());
    assert_eq!((next.tables().names.len(), next.tables().backends.len()), (2, 0));
}
