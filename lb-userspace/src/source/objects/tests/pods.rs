//! Pods with host ports, from their objects to the frontends that they get.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::model::desired::{Change, DesiredService, NodeFacts, ResolveSettings};
use crate::model::event::{Kind, Object, SourceEvent};
use crate::model::record::PodRecord;
use crate::model::world::World;
use crate::source::objects::ApiObject;

fn pod(name: &str, ips: &[&str], ports: &Value) -> Value {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "metadata": {"name": name, "namespace": "n"},
        "spec": {"nodeName": "me", "containers": [{"name": "c", "ports": ports}]},
        "status": {"phase": "Running", "podIP": ips.first().map(|ip| ip["ip"].clone()), "podIPs": ips},
    })
}

fn object(value: &Value) -> Object {
    serde_json::from_value::<Pod>(value.clone()).unwrap().into_object()
}

fn world(host_ports: bool) -> World {
    let ips = |texts: &[&str]| texts.iter().map(|ip| ip.parse().unwrap()).collect();
    let node = NodeFacts {
        name: "me".into(),
        addresses: ips(&["10.244.0.1", "192.168.0.1", "fd00::1"]),
        node_port_addresses: ips(&["192.168.0.1"]),
        loopback_node_ports: true,
        ..NodeFacts::default()
    };
    let mut world = World::new(node, ResolveSettings { host_ports, ..ResolveSettings::default() });
    world.apply(SourceEvent::Synced);
    world
}

fn upserts(world: &mut World) -> Vec<DesiredService> {
    let changes = world.take_changes().into_iter();
    changes
        .map(|change| match change {
            Change::Upsert(service) => service,
            Change::Remove(name) => panic!("{name} is removed"),
        })
        .collect()
}

/// Each port of a Service: its protocol and frontends, and where they lead.
fn led(service: &DesiredService) -> Vec<String> {
    let list = |addresses: Vec<String>| addresses.join(" ");
    let port = |port: &crate::model::desired::DesiredPort| {
        let fronts = list(port.frontends.iter().map(|frontend| frontend.addr.to_string()).collect());
        let local = port.backends.values().all(|backend| backend.local && backend.in_cluster);
        let backs = list(port.backends.keys().map(ToString::to_string).collect());
        format!("{} {fronts} > {backs}{}", port.id.protocol.name(), if local { "" } else { " elsewhere" })
    };
    service.ports.iter().map(port).collect()
}

fn reasons(world: &World) -> Vec<(&'static str, String, &'static str)> {
    world.refusals().map(|row| (row.kind, row.object.clone(), row.reason.name())).collect()
}

#[test]
fn a_host_port_is_served_on_every_address_of_the_node_in_the_pods_families() {
    let mut world = world(true);
    let ports = json!([{"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"},
        {"containerPort": 9000}]);
    world.apply(SourceEvent::Apply(object(&pod("web", &["10.244.0.5", "fd44::5"], &ports))));
    let services = upserts(&mut world);
    assert_eq!(services.len(), 1);
    assert_eq!(services[0].name.to_string(), "n/pod/web");
    assert_eq!(
        led(&services[0]),
        [
            "TCP 10.244.0.1:8080 192.168.0.1:8080 127.0.0.1:8080 > 10.244.0.5:80",
            "TCP [fd00::1]:8080 [::1]:8080 > [fd44::5]:80",
            "UDP 10.244.0.1:53 192.168.0.1:53 127.0.0.1:53 > 10.244.0.5:53",
            "UDP [fd00::1]:53 [::1]:53 > [fd44::5]:53",
        ]
    );
    // A Pod of one family has none of the other.
    world.apply(SourceEvent::Apply(object(&pod("web", &["10.244.0.6"], &ports))));
    assert_eq!(led(&upserts(&mut world)[0])[1], "UDP 10.244.0.1:53 192.168.0.1:53 127.0.0.1:53 > 10.244.0.6:53");
}

/// As upstream's suite has it.
#[test]
fn pods_with_the_same_port_and_another_address_or_protocol_do_not_meet() {
    let mut world = world(true);
    for (name, ip, ports) in [
        ("a", "10.244.0.5", json!([{"containerPort": 8080, "hostPort": 54_323, "hostIP": "127.0.0.1"}])),
        ("b", "10.244.0.6", json!([{"containerPort": 8080, "hostPort": 54_323, "hostIP": "192.168.0.1"}])),
        (
            "c",
            "10.244.0.7",
            json!([{"containerPort": 8080, "hostPort": 54_323, "hostIP": "192.168.0.1", "protocol": "UDP"}]),
        ),
        ("d", "10.244.0.8", json!([{"containerPort": 1, "hostPort": 1, "hostIP": "0.0.0.0"}])),
        ("e", "10.244.0.9", json!([{"containerPort": 1, "hostPort": 2, "hostIP": "192.168.7.7"}])),
    ] {
        world.apply(SourceEvent::Apply(object(&pod(name, &[ip], &ports))));
    }
    let mut services = upserts(&mut world);
    services.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let all: Vec<_> = services.iter().flat_map(led).collect();
    assert_eq!(
        all,
        [
            "TCP 127.0.0.1:54323 > 10.244.0.5:8080",
            "TCP 192.168.0.1:54323 > 10.244.0.6:8080",
            "UDP 192.168.0.1:54323 > 10.244.0.7:8080",
            "TCP 10.244.0.1:1 192.168.0.1:1 127.0.0.1:1 > 10.244.0.8:1",
        ]
    );
    assert_eq!(reasons(&world), [("Pod", "n/e".to_owned(), "HostIpElsewhere")]);
}

#[test]
fn a_pod_that_is_elsewhere_ended_or_on_the_nodes_network_has_no_host_ports() {
    let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
    let changed = |pointer: &str, value: Value| {
        let mut pod = pod("web", &["10.244.0.5"], &ports);
        pod[pointer.split('/').next().unwrap()][pointer.split('/').nth(1).unwrap()] = value;
        pod
    };
    for gone in [
        changed("spec/nodeName", json!("other")),
        changed("spec/hostNetwork", json!(true)),
        changed("status/phase", json!("Succeeded")),
        changed("status/phase", json!("Failed")),
    ] {
        let mut world = world(true);
        world.apply(SourceEvent::Apply(object(&gone)));
        assert_eq!(upserts(&mut world), [], "{gone}");
        // One that had some loses them.
        world.apply(SourceEvent::Apply(object(&pod("web", &["10.244.0.5"], &ports))));
        assert_eq!(upserts(&mut world).len(), 1);
        world.apply(SourceEvent::Apply(object(&gone)));
        assert!(
            matches!(&world.take_changes()[..], [Change::Remove(name)] if name.to_string() == "n/pod/web"),
            "{gone}"
        );
    }
    // Not yet: it has no address.
    let mut world = world(true);
    world.apply(SourceEvent::Apply(object(&pod("web", &[], &ports))));
    assert_eq!(upserts(&mut world), []);
}

#[test]
fn sidecars_have_host_ports_and_bad_ones_cost_only_themselves() {
    let mut value = pod(
        "web",
        &["10.244.0.5"],
        &json!([
            {"containerPort": 80, "hostPort": 70_000}, {"containerPort": 80, "hostPort": 81, "protocol": "XTP"},
            {"containerPort": 80, "hostPort": 82, "hostIP": "nowhere"}, {"containerPort": 80, "hostPort": 83}
        ]),
    );
    let init = |policy: Value, port: u16| json!({"name": "i", "restartPolicy": policy, "ports": [{"containerPort": 1, "hostPort": port}]});
    value["spec"]["initContainers"] = json!([init(json!("Always"), 84), init(Value::Null, 85)]);
    let record: PodRecord = serde_json::from_value::<Pod>(value).unwrap().into();
    assert_eq!(record.ports.iter().map(|port| port.host_port).collect::<Vec<_>>(), [83, 84]);
    let said: Vec<_> = record.refusals.iter().map(|row| (row.kind, row.object.as_str(), row.reason.name())).collect();
    assert_eq!(
        said,
        [("Pod", "n/web", "BadPort"), ("Pod", "n/web", "UnknownProtocol"), ("Pod", "n/web", "BadAddress")]
    );
}

#[test]
fn host_ports_come_and_go_with_who_serves_them_and_with_the_list_of_pods() {
    let mut world = world(false);
    let listed = |names: &[&str]| {
        let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
        let pods = names.iter().map(|name| object(&pod(name, &["10.244.0.5"], &ports))).collect();
        SourceEvent::Replace(Kind::Pod, pods)
    };
    let served = |served| SourceEvent::HostPorts { served, note: "said".into() };
    world.apply(listed(&["web"]));
    assert_eq!(upserts(&mut world), []);
    world.apply(served(true));
    assert_eq!((upserts(&mut world).len(), world.host_ports()), (1, "said"));
    // Lists of other kinds leave it alone.
    world.apply(SourceEvent::Replace(Kind::Service, Vec::new()));
    world.apply(SourceEvent::Replace(Kind::EndpointSlice, Vec::new()));
    world.apply(listed(&["web"]));
    assert_eq!(world.take_changes(), []);
    world.apply(served(false));
    assert!(matches!(&world.take_changes()[..], [Change::Remove(_)]));
    world.apply(served(true));
    assert_eq!(upserts(&mut world).len(), 1);
    world.apply(listed(&[]));
    assert!(matches!(&world.take_changes()[..], [Change::Remove(_)]));
}
