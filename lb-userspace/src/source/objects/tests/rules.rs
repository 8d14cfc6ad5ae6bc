//! Single rules and refusals, by example.

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::model::desired::{DesiredService, ExternalIps, FrontendKind, NodeFacts, Refusal, ResolveSettings};
use crate::model::record::{NodeRecord, ServiceRecord, Skip, SliceRecord};
use crate::model::resolve::resolve;

fn record(spec: &Value) -> ServiceRecord {
    let service: Service =
        serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec})).unwrap();
    service.into()
}

fn slice(value: &Value) -> SliceRecord {
    serde_json::from_value::<EndpointSlice>(value.clone()).unwrap().into()
}

fn node() -> NodeFacts {
    NodeFacts {
        held: Vec::new(),
        name: "me".into(),
        zone: None,
        addresses: vec!["192.168.0.1".parse().unwrap()],
        node_port_addresses: vec!["192.168.0.1".parse().unwrap()],
        loopback_node_ports: false,
    }
}

fn served(record: &ServiceRecord) -> (DesiredService, Vec<Refusal>) {
    resolve(record, &[], &node(), &ResolveSettings { external_ips: ExternalIps::On, ..ResolveSettings::default() })
}

fn reasons(refusals: &[Refusal]) -> Vec<&str> {
    refusals.iter().map(|refusal| refusal.reason.name()).collect()
}

fn addresses(service: &DesiredService) -> Vec<String> {
    service.ports.iter().flat_map(|port| &port.frontends).map(|frontend| frontend.addr.to_string()).collect()
}

#[test]
fn a_bad_port_costs_only_itself() {
    let record = record(&json!({"clusterIP": "10.0.0.1", "ports": [
        {"name": "zero", "port": 0}, {"name": "big", "port": 65_536}, {"name": "odd", "port": 1, "protocol": "XTP"},
        {"name": "good", "port": 80}, {"name": "twin", "port": 80}, {"name": "udp", "port": 80, "protocol": "UDP"}
    ]}));
    let (service, refusals) = served(&record);
    assert_eq!(addresses(&service), ["10.0.0.1:80", "10.0.0.1:80"]);
    assert_eq!(reasons(&refusals), ["BadPort", "BadPort", "UnknownProtocol", "DuplicatePort"]);
    assert!(refusals.iter().all(|refusal| refusal.object == "n/s" && refusal.kind == "Service"));
    assert!(refusals[0].message.contains("\"zero\"") && refusals[0].message.contains("1 to 65535"), "{refusals:?}");
}

#[test]
fn a_port_of_a_protocol_that_is_not_translated_is_told() {
    let ports = json!([{"name": "web", "port": 80}, {"name": "signal", "port": 2905, "protocol": "SCTP"}]);
    let (service, refusals) = served(&record(&json!({"clusterIP": "10.0.0.1", "ports": ports})));
    assert_eq!(addresses(&service).len(), 2, "both are shown");
    assert_eq!(reasons(&refusals), ["ProtocolNotServed"]);
    assert!(refusals[0].message.contains("\"signal\" (2905)"), "{refusals:?}");
}

#[test]
fn a_bad_address_costs_only_itself() {
    let record = record(&json!({
        "clusterIPs": ["10.0.0.1", "10.0.0.300", "10.0.0.2", "::"],
        "externalIPs": ["127.0.0.1", "198.51.100.1", "fd00::1"], "ports": [{"port": 80}]
    }));
    let (service, refusals) = served(&record);
    assert_eq!(addresses(&service), ["10.0.0.1:80", "198.51.100.1:80"]);
    assert_eq!(reasons(&refusals), ["BadAddress", "UnfitAddress", "SecondClusterIp", "UnfitAddress", "WrongFamily"]);
}

#[test]
fn a_service_without_an_address_is_refused_and_a_headless_one_is_not() {
    let without = record(&json!({"ports": [{"port": 80}]}));
    assert_eq!(reasons(&served(&without).1), ["NoClusterIp"]);
    for (spec, skip) in [
        (json!({"clusterIP": "None", "ports": [{"port": 0}]}), Skip::Headless),
        (json!({"type": "ExternalName", "externalName": "x.example"}), Skip::ExternalName),
    ] {
        let skipped = record(&spec);
        assert_eq!(skipped.skip, Some(skip));
        assert_eq!(
            served(&skipped),
            (DesiredService { name: skipped.name.clone(), ports: Vec::new(), health: None }, Vec::new())
        );
    }
}

#[test]
fn external_ips_are_served_unless_told_otherwise_and_said_not_to_be() {
    let record = record(&json!({
        "clusterIP": "10.0.0.1", "externalIPs": ["198.51.100.1"], "ports": [{"port": 80}]
    }));
    let (service, refusals) = resolve(&record, &[], &node(), &ResolveSettings::default());
    assert_eq!((addresses(&service), refusals.len()), (vec!["10.0.0.1:80".into(), "198.51.100.1:80".into()], 0));
    for external_ips in [ExternalIps::Off, ExternalIps::OffByVersion] {
        let (service, refusals) =
            resolve(&record, &[], &node(), &ResolveSettings { external_ips, ..ResolveSettings::default() });
        assert_eq!(addresses(&service), ["10.0.0.1:80"]);
        assert_eq!(reasons(&refusals), ["ExternalIpsOff"]);
        assert!(refusals[0].message.contains("--external-ips"));
    }
}

#[test]
fn load_balancer_addresses_stay_closed_when_no_range_can_be_read() {
    let with_ranges = |ranges: Value| {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "n"},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports": [{"port": 80}],
                "loadBalancerSourceRanges": ranges},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
        }))
        .unwrap();
        served(&service.into())
    };
    let (service, refusals) = with_ranges(json!(["10.0.0.0-10.0.0.9"]));
    assert_eq!(addresses(&service), ["10.0.0.1:80"]);
    assert_eq!(reasons(&refusals), ["BadSourceRange", "SourceRangesUnreadable"]);
    // One readable range is enough: the unreadable one only narrows.
    let (service, refusals) = with_ranges(json!(["bad", " 10.0.0.0/8"]));
    assert_eq!(addresses(&service), ["10.0.0.1:80", "203.0.113.1:80"]);
    assert_eq!(reasons(&refusals), ["BadSourceRange"]);
    assert!(service.ports[0].frontends.iter().any(|f| f.source_ranges && f.kind == FrontendKind::LoadBalancer));
}

#[test]
fn an_affinity_timeout_out_of_range_becomes_the_default() {
    for given in [0, -1, 86_401] {
        let record = record(&json!({
            "clusterIP": "10.0.0.1", "ports": [{"port": 80}], "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": given}}
        }));
        assert_eq!(record.affinity_secs, 10_800);
        assert_eq!(reasons(&record.refusals), ["BadAffinityTimeout"]);
    }
}

#[test]
fn two_ports_that_meet_on_one_address_are_told_apart() {
    // The load balancer's address is the node's, and its port is another port's NodePort.
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "n"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports": [
            {"name": "a", "port": 80, "nodePort": 30_000}, {"name": "b", "port": 30_000, "nodePort": 30_001}
        ]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.168.0.1"}]}}
    }))
    .unwrap();
    let (service, refusals) = served(&service.into());
    let mut all = addresses(&service);
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
    assert_eq!(reasons(&refusals), ["DuplicateFrontend"]);
}

#[test]
fn endpoints_of_the_wrong_kind_are_refused_by_the_slices_name_and_bounded() {
    let mut endpoints =
        vec![json!({"addresses": ["fd00::9"]}), json!({"addresses": ["169.254.0.1"]}), json!({"addresses": []})];
    endpoints.extend((0..500).map(|index| json!({"addresses": [format!("pod-{index}")]})));
    endpoints.push(json!({"addresses": ["10.9.0.1", "10.9.0.2"]}));
    let slice = slice(&json!({
        "metadata": {"name": "x", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints
    }));
    assert_eq!(slice.endpoints.len(), 1);
    assert!(slice.refusals.len() <= 8, "{}", slice.refusals.len());
    assert!(slice.refusals.iter().all(|refusal| refusal.object == "n/x" && refusal.kind == "EndpointSlice"));
    assert!(slice.refusals.iter().any(|refusal| refusal.message.contains("and 496 more")), "{:?}", slice.refusals);
    let (service, refusals) = resolve(
        &record(&json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}]})),
        &[&slice],
        &node(),
        &ResolveSettings::default(),
    );
    assert_eq!(service.ports[0].backends.len(), 1);
    assert_eq!(refusals.len(), slice.refusals.len());
}

#[test]
fn slices_that_are_not_for_us_are_left_out_without_a_word_and_orphans_are_named() {
    let with = |labels: Value, address_type: &str| {
        slice(&json!({
            "metadata": {"name": "x", "namespace": "n", "labels": labels}, "addressType": address_type,
            "ports": [{"port": 1}], "endpoints": [{"addresses": ["x.example"]}]
        }))
    };
    let named = json!({"kubernetes.io/service-name": "s"});
    let headless = json!({"kubernetes.io/service-name": "s", "service.kubernetes.io/headless": ""});
    for slice in [with(named, "FQDN"), with(headless, "IPv4")] {
        assert_eq!((slice.family, slice.endpoints.len(), slice.refusals.len()), (None, 0, 0));
    }
    assert_eq!(reasons(&with(json!({}), "IPv4").refusals), ["NoServiceName"]);
    assert_eq!(reasons(&with(json!({"kubernetes.io/service-name": "s"}), "IPX").refusals), ["BadAddressType"]);
}

#[test]
fn a_node_is_read_for_what_matters() {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "me", "labels": {"topology.kubernetes.io/zone": "z1"}},
        "spec": {
            "podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd01::/64"],
            "taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]
        },
        "status": {"addresses": [
            {"type": "Hostname", "address": "me"}, {"type": "InternalIP", "address": "192.168.0.1"},
            {"type": "ExternalIP", "address": "203.0.113.9"}
        ]}
    }))
    .unwrap();
    let node = NodeRecord::from(node);
    assert_eq!(node.zone.as_deref(), Some("z1"));
    assert_eq!(node.addresses.len(), 2);
    assert_eq!(node.pod_cidrs.len(), 2);
    assert!(node.leaving);
}
