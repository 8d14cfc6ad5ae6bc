//! Random cluster states, small and full of coincidences, drawn from a tape of bytes that proptest can shrink.

use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
    SessionAffinityConfig,
};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::desired::{ExternalIps, NodeFacts, ResolveSettings};

/// Choices, one a byte; zeros after the end, so that short tapes are simple states.
pub(super) struct Tape<'a>(std::slice::Iter<'a, u8>);

impl<'a> Tape<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.iter())
    }

    pub(super) fn below(&mut self, bound: u8) -> u8 {
        self.0.next().copied().unwrap_or_default() % bound
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.below(u8::try_from(choices.len()).unwrap()))]
    }

    fn text(&mut self, choices: &[&str]) -> String {
        self.one_of(choices).to_owned()
    }

    fn maybe_text(&mut self, choices: &[&str]) -> Option<String> {
        Some(self.text(choices)).filter(|text| !text.is_empty())
    }

    fn flag(&mut self) -> Option<bool> {
        self.one_of(&[None, Some(true), Some(false)])
    }
}

pub(super) const NODE_ADDRESSES: [&str; 3] = ["192.168.0.1", "192.168.0.2", "fd00::1"];

pub(super) fn node(tape: &mut Tape<'_>) -> NodeFacts {
    NodeFacts {
        held: Vec::new(),
        name: "me".into(),
        zone: tape.maybe_text(&["", "z1", "z2"]),
        addresses: NODE_ADDRESSES.iter().map(|ip| ip.parse().unwrap()).collect(),
        node_port_addresses: NODE_ADDRESSES[1..].iter().map(|ip| ip.parse().unwrap()).collect(),
        loopback_node_ports: false,
    }
}

pub(super) fn settings(tape: &mut Tape<'_>) -> ResolveSettings {
    ResolveSettings {
        external_ips: if tape.below(2) == 1 { ExternalIps::On } else { ExternalIps::Off },
        ..ResolveSettings::default()
    }
}

pub(super) fn service(tape: &mut Tape<'_>, name: &str) -> Service {
    let cluster_ips: &[&[&str]] = &[
        &["10.0.0.1"],
        &["10.0.0.1", "fd01::1"],
        &["fd01::1"],
        &["fd01::2", "10.0.0.2"],
        &["10.0.0.1"],
        &["None"],
        &["10.0.0.1"],
        &["10.0.0.2"],
    ];
    let texts = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let cluster_ips = tape.one_of(cluster_ips);
    let ports = (0..=tape.below(2)).map(|index| ServicePort {
        name: Some(if index == 0 { tape.text(&["", "a"]) } else { "b".to_owned() }),
        protocol: tape.maybe_text(&["", "TCP", "UDP"]),
        port: 80 + i32::from(index),
        node_port: tape.one_of(&[None, Some(0), Some(30_000 + i32::from(index)), Some(30_000 + i32::from(index))]),
        ..ServicePort::default()
    });
    let ports = ports.collect();
    let ingress = (0..tape.below(3)).map(|_| LoadBalancerIngress {
        ip: tape.maybe_text(&["", "203.0.113.1", "203.0.113.2", "fd02::1"]),
        ip_mode: tape.maybe_text(&["", "VIP", "Proxy"]),
        ..LoadBalancerIngress::default()
    });
    let ingress = ingress.collect();
    let affinity = tape.one_of(&[None, Some(0), Some(1), Some(77)]);
    Service {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("n".into()),
            labels: (tape.below(16) == 15)
                .then(|| [("service.kubernetes.io/service-proxy-name".to_owned(), "x".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some(tape.text(&[
                "ClusterIP",
                "NodePort",
                "LoadBalancer",
                "LoadBalancer",
                "ClusterIP",
                "ExternalName",
            ])),
            cluster_ip: Some(cluster_ips[0].to_owned()),
            cluster_ips: texts(cluster_ips),
            external_ips: tape.one_of(&[None, Some(&["198.51.100.1"][..]), Some(&["fd03::1"][..])]).and_then(texts),
            internal_traffic_policy: tape.maybe_text(&["", "Cluster", "Local"]),
            external_traffic_policy: tape.maybe_text(&["", "Cluster", "Local", "Local"]),
            load_balancer_source_ranges: tape
                .one_of(&[None, None, Some(&[" 10.1.0.0/16 "][..]), Some(&["fd04::/64", "0.0.0.0/0"][..])])
                .and_then(texts),
            session_affinity: Some(if affinity.is_some() { "ClientIP".into() } else { "None".into() }),
            session_affinity_config: affinity
                .filter(|secs| *secs != 0)
                .map(|secs| SessionAffinityConfig { client_ip: Some(ClientIPConfig { timeout_seconds: Some(secs) }) }),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: Some(ServiceStatus {
            load_balancer: Some(LoadBalancerStatus { ingress: Some(ingress) }),
            ..ServiceStatus::default()
        }),
    }
}

pub(super) fn slices(tape: &mut Tape<'_>, service: &str) -> Vec<EndpointSlice> {
    // Real states lean to one of these: all endpoints with hints, or none.
    let hinted = tape.below(3);
    (0..tape.below(4)).map(|index| slice(tape, service, &format!("{service}-{index}"), hinted)).collect()
}

pub(super) fn slice(tape: &mut Tape<'_>, service: &str, name: &str, hinted: u8) -> EndpointSlice {
    let address_type = tape.one_of(&["IPv4", "IPv4", "IPv4", "IPv6", "IPv6", "FQDN"]);
    let mut labels = vec![("kubernetes.io/service-name".to_owned(), service.to_owned())];
    match tape.below(16) {
        14 => labels.push(("service.kubernetes.io/headless".to_owned(), String::new())),
        15 => labels.push(("service.kubernetes.io/service-proxy-name".to_owned(), "x".to_owned())),
        _ => {}
    }
    let ports = (0..=tape.below(2)).map(|_| EndpointPort {
        name: tape.one_of(&[None, Some(""), Some("a"), Some("b")]).map(str::to_owned),
        protocol: tape.maybe_text(&["", "TCP", "UDP"]),
        port: tape.one_of(&[Some(8080), Some(8080), Some(8081), None, Some(0)]),
        ..EndpointPort::default()
    });
    let ports = ports.collect();
    let endpoints = (0..tape.below(5)).map(|_| endpoint(tape, address_type, hinted)).collect();
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("n".into()),
            labels: Some(labels.into_iter().collect()),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports),
    }
}

fn endpoint(tape: &mut Tape<'_>, address_type: &str, hinted: u8) -> Endpoint {
    let addresses = match address_type {
        "IPv4" => vec![tape.text(&["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4", "192.168.0.1"]), "10.9.0.9".into()],
        "IPv6" => vec![tape.text(&["fd09::1", "fd09::2", "fd09::3", "fd00::1"])],
        _ => vec!["pod.example.org".into()],
    };
    let conditions = match tape.below(4) {
        0 => None,
        1 => Some(EndpointConditions { ready: Some(false), serving: tape.flag(), terminating: Some(true) }),
        _ => Some(EndpointConditions { ready: tape.flag(), serving: tape.flag(), terminating: tape.flag() }),
    };
    let zones = |names: &[&str]| {
        let zones = names.iter().map(|name| ForZone { name: (*name).to_owned() }).collect();
        Some(EndpointHints { for_zones: Some(zones), for_nodes: None })
    };
    let nodes = |name: &str| {
        let nodes = vec![ForNode { name: name.to_owned() }];
        Some(EndpointHints { for_nodes: Some(nodes), ..zones(&["z1"]).unwrap() })
    };
    let hints = match (hinted, tape.below(8)) {
        (0, _) | (_, 0) => None,
        (1, choice) => zones([&["z1"][..], &["z2"], &["z1", "z2"], &[]][usize::from(choice) % 4]),
        (_, choice) => nodes(["me", "other"][usize::from(choice) % 2]),
    };
    Endpoint {
        addresses,
        conditions,
        hints,
        node_name: tape.one_of(&[None, Some("me"), Some("me"), Some("other")]).map(str::to_owned),
        ..Endpoint::default()
    }
}
