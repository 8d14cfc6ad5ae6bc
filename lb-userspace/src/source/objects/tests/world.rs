//! The world: incremental equals from scratch, and who gets a contested frontend.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::cluster::{self, Tape};
use crate::model::desired::{Change, DesiredService, ExternalIps, Family, NodeFacts, Refusal, ResolveSettings};
use crate::model::event::{Kind, SourceEvent};
use crate::model::world::World;
use crate::source::objects::ApiObject;

#[derive(Default)]
struct Objects {
    services: BTreeMap<String, Service>,
    slices: BTreeMap<String, EndpointSlice>,
}

impl Objects {
    fn list(&self, kind: Kind) -> SourceEvent {
        let objects = match kind {
            Kind::Service => self.services.values().cloned().map(ApiObject::into_object).collect(),
            Kind::EndpointSlice => self.slices.values().cloned().map(ApiObject::into_object).collect(),
            Kind::Node | Kind::Pod | Kind::ServiceCidr => Vec::new(),
        };
        SourceEvent::Replace(kind, objects)
    }
}

type Given = BTreeMap<String, DesiredService>;

/// Applies changes to what was given out, and checks that each is news.
fn take(world: &mut World, given: &mut Given) -> Result<(), TestCaseError> {
    for change in world.take_changes() {
        match change {
            Change::Upsert(service) => {
                prop_assert!(!service.ports.is_empty());
                let before = given.insert(service.name.to_string(), service.clone());
                prop_assert_ne!(before, Some(service), "no news");
            }
            Change::Remove(name) => prop_assert!(given.remove(&name.to_string()).is_some(), "{} was not there", name),
        }
    }
    Ok(())
}

fn refusals(world: &World) -> Vec<Refusal> {
    let mut refusals: Vec<Refusal> = world.refusals().cloned().collect();
    refusals.sort();
    refusals
}

fn check(tape: &[u8]) -> Result<(), TestCaseError> {
    let mut tape = Tape::new(tape);
    let settings = cluster::settings(&mut tape);
    let mut node = cluster::node(&mut tape);
    let mut objects = Objects::default();
    let mut world = World::new(node.clone(), settings.clone());
    let mut given = Given::new();
    prop_assert!(world.take_changes().is_empty());
    world.apply(SourceEvent::Synced);
    for _ in 0..12 {
        let name = tape.one_of(&["a", "b", "c"]);
        let slice_name = format!("{}-{}", tape.one_of(&["a", "b", "c"]), tape.below(2));
        match tape.below(8) {
            0..=2 => {
                let mut service = cluster::service(&mut tape, name);
                let created = tape.one_of(&[None, Some(10), Some(20)]);
                service.metadata.creation_timestamp = created.map(|at| Time(Timestamp::from_second(at).unwrap()));
                objects.services.insert(name.to_owned(), service.clone());
                world.apply(SourceEvent::Apply(service.into_object()));
            }
            3 | 4 => {
                let slice = cluster::slice(&mut tape, name, &slice_name, 0);
                objects.slices.insert(slice_name, slice.clone());
                world.apply(SourceEvent::Apply(slice.into_object()));
            }
            5 => {
                objects.services.remove(name);
                let (namespace, name) = ("n".to_owned(), name.to_owned());
                world.apply(SourceEvent::Delete { kind: Kind::Service, namespace, name });
            }
            6 => {
                objects.slices.remove(&slice_name);
                let namespace = "n".to_owned();
                world.apply(SourceEvent::Delete { kind: Kind::EndpointSlice, namespace, name: slice_name });
            }
            _ => {
                node = cluster::node(&mut tape);
                node.node_port_addresses.truncate(usize::from(tape.below(3)));
                world.set_node(node.clone());
                objects.slices.retain(|_, _| tape.below(2) == 0);
                objects.services.retain(|_, _| tape.below(4) != 1);
                world.apply(objects.list(Kind::EndpointSlice));
                world.apply(objects.list(Kind::Service));
            }
        }
        if tape.below(3) != 0 {
            take(&mut world, &mut given)?;
        }
    }
    take(&mut world, &mut given)?;
    prop_assert!(world.take_changes().is_empty(), "changes without events");

    let mut fresh = World::new(node, settings);
    fresh.apply(objects.list(Kind::EndpointSlice));
    fresh.apply(objects.list(Kind::Service));
    fresh.apply(SourceEvent::Synced);
    let mut wanted = Given::new();
    take(&mut fresh, &mut wanted)?;
    prop_assert_eq!(&given, &wanted);
    prop_assert_eq!(refusals(&world), refusals(&fresh));

    let mut owners = BTreeMap::new();
    for service in given.values() {
        for port in &service.ports {
            for frontend in &port.frontends {
                let twice = owners.insert((frontend.addr, port.id.protocol), &service.name);
                prop_assert!(twice.is_none(), "{} has two owners", frontend.addr);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_ends_where_a_fresh_start_does(tape in proptest::collection::vec(any::<u8>(), 0..600)) {
        check(&tape)?;
    }
}

fn service(name: &str, created: &str, ip: &str) -> SourceEvent {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "n", "creationTimestamp": created},
        "spec": {"clusterIP": ip, "ports": [{"port": 80}]}
    }))
    .unwrap();
    SourceEvent::Apply(service.into_object())
}

fn slice(name: &str, service: &str, addresses: &[&str], annotations: &serde_json::Value) -> SourceEvent {
    let endpoints: Vec<_> = addresses.iter().map(|ip| json!({"addresses": [ip]})).collect();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "n", "annotations": annotations,
            "labels": {"kubernetes.io/service-name": service}
        },
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints
    }))
    .unwrap();
    SourceEvent::Apply(slice.into_object())
}

fn delete(kind: Kind, name: &str) -> SourceEvent {
    SourceEvent::Delete { kind, namespace: "n".into(), name: name.into() }
}

fn world() -> World {
    World::new(NodeFacts { name: "me".into(), ..NodeFacts::default() }, ResolveSettings::default())
}

/// What is given out, in short.
fn changes(world: &mut World) -> Vec<String> {
    let short = |change| match change {
        Change::Upsert(service) => {
            let frontends: Vec<String> =
                service.ports.iter().flat_map(|port| &port.frontends).map(|f| f.addr.to_string()).collect();
            format!("{} {}", service.name.name, frontends.join(" "))
        }
        Change::Remove(name) => format!("-{}", name.name),
    };
    world.take_changes().into_iter().map(short).collect()
}

#[test]
fn nothing_is_given_before_every_kind_was_listed() {
    let mut world = world();
    world.apply(service("a", "2026-01-01T00:00:00Z", "10.0.0.1"));
    assert_eq!(changes(&mut world), Vec::<String>::new());
    world.apply(SourceEvent::Synced);
    assert_eq!(changes(&mut world), ["a 10.0.0.1:80"]);
}

#[test]
fn external_ips_go_where_the_clusters_version_has_turned_them_off() {
    let external = || {
        let service: Result<Service, _> = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {"clusterIP": "10.0.0.1", "externalIPs": ["198.51.100.1"], "ports": [{"port": 80}]}
        }));
        SourceEvent::Apply(service.unwrap().into_object())
    };
    for (given, version, served) in [
        (ExternalIps::AsCluster, (1, 39), true),
        (ExternalIps::AsCluster, (1, 40), false),
        (ExternalIps::AsCluster, (2, 0), false),
        (ExternalIps::On, (1, 40), true),
        (ExternalIps::Off, (1, 39), false),
    ] {
        let mut world =
            World::new(NodeFacts::default(), ResolveSettings { external_ips: given, ..ResolveSettings::default() });
        world.apply(external());
        world.apply(SourceEvent::Version(version));
        world.apply(SourceEvent::Synced);
        let frontends = if served { "a 10.0.0.1:80 198.51.100.1:80" } else { "a 10.0.0.1:80" };
        assert_eq!(changes(&mut world), [frontends], "{given:?} {version:?}");
    }
    // Also when the version is known late, or changes.
    let mut world = world();
    world.apply(external());
    world.apply(SourceEvent::Synced);
    assert_eq!(changes(&mut world), ["a 10.0.0.1:80 198.51.100.1:80"]);
    world.apply(SourceEvent::Version((1, 40)));
    assert_eq!(changes(&mut world), ["a 10.0.0.1:80"]);
    world.apply(SourceEvent::Version((1, 39)));
    assert_eq!(changes(&mut world), ["a 10.0.0.1:80 198.51.100.1:80"]);
}

#[test]
fn the_older_of_two_services_has_a_contested_address_and_the_other_inherits_it() {
    let mut world = world();
    world.apply(SourceEvent::Synced);
    world.apply(service("young", "2026-02-01T00:00:00Z", "10.0.0.1"));
    assert_eq!(changes(&mut world), ["young 10.0.0.1:80"]);
    world.apply(service("old", "2026-01-01T00:00:00Z", "10.0.0.1"));
    assert_eq!(changes(&mut world), ["-young", "old 10.0.0.1:80"]);
    let refused = refusals(&world);
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].object.as_str(), refused[0].reason.name()), ("n/young", "DuplicateFrontend"));
    assert!(refused[0].message.contains("n/old"), "{refused:?}");

    world.apply(delete(Kind::Service, "old"));
    assert_eq!(changes(&mut world), ["-old", "young 10.0.0.1:80"]);
    assert_eq!(refusals(&world), []);
}

#[test]
fn services_of_one_age_are_taken_by_name() {
    let mut world = world();
    world.apply(SourceEvent::Synced);
    world.apply(service("b", "2026-01-01T00:00:00Z", "10.0.0.1"));
    world.apply(service("a", "2026-01-01T00:00:00Z", "10.0.0.1"));
    assert_eq!(changes(&mut world), ["a 10.0.0.1:80"]);
}

#[test]
fn a_slice_that_was_only_touched_is_no_change() {
    let mut world = world();
    world.apply(SourceEvent::Synced);
    world.apply(service("a", "2026-01-01T00:00:00Z", "10.0.0.1"));
    world.apply(slice("s", "a", &["10.9.0.1"], &json!({})));
    assert_eq!(changes(&mut world), ["a 10.0.0.1:80"]);
    let time = json!({"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:01.5Z"});
    world.apply(slice("s", "a", &["10.9.0.1"], &time));
    assert_eq!(changes(&mut world), Vec::<String>::new());
    world.apply(slice("s", "a", &["10.9.0.2"], &time));
    assert_eq!(changes(&mut world), ["a 10.0.0.1:80"]);
}

#[test]
fn each_trigger_of_each_slice_is_told_once() {
    let mut world = world();
    let apply = |world: &mut World, name: &str, ip: &str, time: Option<&str>| {
        let time = time.map(|time| json!({"endpoints.kubernetes.io/last-change-trigger-time": time}));
        world.apply(slice(name, "a", &[ip], &time.unwrap_or_else(|| json!({}))));
    };
    let triggers = |world: &mut World| -> Vec<u64> {
        let triggers = world.take_triggers();
        assert!(triggers.iter().all(|trigger| trigger.family == Family::V4 && trigger.service.name == "a"));
        triggers.iter().map(|trigger| trigger.at_ns - 1_767_225_600_000_000_000).collect()
    };
    apply(&mut world, "s", "10.9.0.1", Some("2026-01-01T00:00:01.5Z"));
    apply(&mut world, "s", "10.9.0.2", Some("2026-01-01T00:00:02Z"));
    apply(&mut world, "t", "10.9.0.3", Some("2026-01-01T00:00:01Z"));
    assert_eq!(triggers(&mut world), [1_500_000_000, 2_000_000_000, 1_000_000_000]);
    // The same again, a change without a new trigger, none, and the end.
    apply(&mut world, "s", "10.9.0.2", Some("2026-01-01T00:00:02Z"));
    apply(&mut world, "s", "10.9.0.4", Some("2026-01-01T00:00:02Z"));
    apply(&mut world, "t", "10.9.0.3", None);
    world.apply(delete(Kind::EndpointSlice, "s"));
    assert_eq!(triggers(&mut world), Vec::<u64>::new());
    apply(&mut world, "s", "10.9.0.4", Some("2026-01-01T00:00:03Z"));
    assert_eq!(triggers(&mut world), [3_000_000_000]);
}

#[test]
fn slices_that_come_first_wait_for_their_service() {
    let mut world = world();
    world.apply(SourceEvent::Synced);
    world.apply(slice("s", "a", &["10.9.0.1"], &json!({})));
    assert_eq!(changes(&mut world), Vec::<String>::new());
    world.apply(service("a", "2026-01-01T00:00:00Z", "10.0.0.1"));
    match &world.take_changes()[..] {
        [Change::Upsert(service)] => assert_eq!(service.ports[0].backends.len(), 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_slice_that_moves_to_another_service_leaves_the_first() {
    let mut world = world();
    world.apply(SourceEvent::Synced);
    world.apply(service("a", "2026-01-01T00:00:00Z", "10.0.0.1"));
    world.apply(service("b", "2026-01-01T00:00:00Z", "10.0.0.2"));
    world.apply(slice("s", "a", &["10.9.0.1"], &json!({})));
    assert_eq!(changes(&mut world).len(), 2);
    world.apply(slice("s", "b", &["10.9.0.1"], &json!({})));
    let counts: Vec<usize> = world
        .take_changes()
        .into_iter()
        .map(|change| match change {
            Change::Upsert(service) => service.ports[0].backends.len(),
            Change::Remove(name) => panic!("{name}"),
        })
        .collect();
    assert_eq!(counts, [0, 1]);
}

#[test]
fn the_zone_comes_from_the_node_object_unless_it_is_given() {
    let mut world = world();
    world.apply(SourceEvent::Synced);
    let node = |name: &str, zone: &str| {
        let labels = [("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into();
        let metadata = ObjectMeta { name: Some(name.into()), labels: Some(labels), ..ObjectMeta::default() };
        SourceEvent::Apply(Node { metadata, ..Node::default() }.into_object())
    };
    world.apply(service("a", "2026-01-01T00:00:00Z", "10.0.0.1"));
    let hinted: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "n", "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4", "ports": [{"port": 8080}],
        "endpoints": [
            {"addresses": ["10.9.0.1"], "hints": {"forZones": [{"name": "z1"}]}},
            {"addresses": ["10.9.0.2"], "hints": {"forZones": [{"name": "z2"}]}}
        ]
    }))
    .unwrap();
    world.apply(SourceEvent::Apply(hinted.into_object()));
    let cluster = |world: &mut World| match &world.take_changes()[..] {
        [] => None,
        [Change::Upsert(service)] => Some(service.ports[0].backends.values().filter(|b| b.in_cluster).count()),
        other => panic!("{other:?}"),
    };
    assert_eq!(cluster(&mut world), Some(2));
    world.apply(node("other", "z1"));
    assert_eq!(cluster(&mut world), None);
    world.apply(node("me", "z1"));
    assert_eq!(cluster(&mut world), Some(1));
    world.apply(SourceEvent::Replace(Kind::Node, Vec::new()));
    assert_eq!(cluster(&mut world), Some(2));
}
