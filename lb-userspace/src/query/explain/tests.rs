//! Situations in which somebody asks, and the rule that has to be named.

use lb_common::abi::{FrontendValue, SetRef, frontend_kind};

use super::*;
use crate::model::desired::{NodeFacts, ResolveSettings};
use crate::model::event::SourceEvent;
use crate::plan::{BackendEntry, Existing, Vip};
use crate::source::manifests::objects;

/// A Service `default/web` with these fields of the spec, at 10.96.0.1 unless they say other.
fn service(spec: &str) -> String {
    let address = if spec.contains("clusterIP") { "" } else { "clusterIP: 10.96.0.1, " };
    named("web", &format!("{address}{spec}"))
}

fn named(name: &str, spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n---\n")
}

fn labelled(label: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, labels: {{{label}: x}}}}, \
         spec: {{clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}}}\n---\n"
    )
}

/// A slice of `web` with these endpoints.
fn slice(endpoints: &str) -> String {
    sliced("IPv4", "{port: 8080}", endpoints)
}

fn sliced(family: &str, port: &str, endpoints: &str) -> String {
    let labels = "kubernetes.io/service-name: web";
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: web-1, labels: {{{labels}}}}}, \
         addressType: {family}, ports: [{port}], endpoints: [{endpoints}]}}\n---\n"
    )
}

const PORT: &str = "ports: [{port: 80}]";
const NODE_PORT: &str = "type: NodePort, ports: [{port: 80, nodePort: 30080}]";
const HERE: &str = "{addresses: [10.1.0.1], nodeName: me}";
const THERE: &str = "{addresses: [10.1.0.2], nodeName: other}";
const UNREADY: &str = "{addresses: [10.1.0.3], nodeName: me, conditions: {ready: false}}";
const DRAINING: &str =
    "{addresses: [10.1.0.4], nodeName: me, conditions: {ready: false, serving: true, terminating: true}}";
const OVER: &str =
    "{addresses: [10.1.0.5], nodeName: me, conditions: {ready: false, serving: false, terminating: true}}";

fn world(text: &str, node: NodeFacts) -> World {
    let mut world = World::new(node, ResolveSettings::default());
    for object in objects(text) {
        world.apply(SourceEvent::Apply(object.unwrap()));
    }
    world.apply(SourceEvent::Synced);
    world.take_changes();
    world
}

fn me() -> NodeFacts {
    let addresses = vec!["192.0.2.1".parse().unwrap()];
    NodeFacts {
        name: "me".into(),
        zone: Some("a".into()),
        node_port_addresses: addresses.clone(),
        addresses,
        held: vec!["10.96.0.53".parse().unwrap()],
        ..NodeFacts::default()
    }
}

/// Objects, target, client, and the verdict and rule of the first line.
type Situation = (String, &'static str, Option<&'static str>, Verdict, Rule);

#[expect(clippy::too_many_lines, reason = "a table")]
fn situations() -> Vec<Situation> {
    use crate::model::reason::Reason::{
        AnsweredByNode, BadAddress, DuplicateFrontend, NoClusterIp, ProtocolNotServed, SourceRangesUnreadable,
        UnfitAddress, WrongFamily,
    };
    use Rule::*;
    use Verdict::{Dropped, NotServed, Refused, Served};
    let both = [HERE, THERE].join(", ");
    let hinted = |kind: &str, names: [&str; 2]| {
        let endpoint = |ip, name| format!("{{addresses: [{ip}], nodeName: x, hints: {{{kind}: [{{name: {name}}}]}}}}");
        slice(&[endpoint("10.1.0.1", names[0]), endpoint("10.1.0.2", names[1])].join(", "))
    };
    let local = "type: NodePort, externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30080}]";
    let inside_local = "internalTrafficPolicy: Local, ports: [{port: 80}]";
    let balancer = |spec: &str, ingress: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{type: LoadBalancer, clusterIP: \
             10.96.0.1, {spec} ports: [{{port: 80}}]}}, status: {{loadBalancer: {{ingress: [{ingress}]}}}}}}\n---\n"
        )
    };
    let vip = "{ip: 198.51.100.1}";
    let ranges = "loadBalancerSourceRanges: [203.0.113.0/24],";
    let with = |spec: &str, endpoints: &str| service(spec) + &slice(endpoints);
    vec![
        (with(PORT, &both), "web", None, Served, AllReady),
        (with(PORT, &both), "default/web:80", None, Served, AllReady),
        (with(PORT, &both), "10.96.0.1:80", None, Served, AllReady),
        (with(PORT, &both), "10.96.0.1:81", None, Refused, UnknownPort),
        (with(PORT, &both), "10.96.0.2:80", None, NotServed, UnknownAddress),
        (with(PORT, &both), "web:https", None, NotServed, UnknownPort),
        (service(PORT), "web", None, Refused, NoSlice),
        (with(PORT, ""), "web", None, Refused, NoEndpoint),
        (with(PORT, UNREADY), "web", None, Refused, NoneReady),
        (with(PORT, OVER), "web", None, Refused, NoneReady),
        (with(PORT, &[UNREADY, OVER].join(", ")), "10.96.0.1:80", Some("pod"), Refused, NoneReady),
        (with(PORT, DRAINING), "web", None, Served, Draining),
        (with(PORT, &[HERE, DRAINING].join(", ")), "web", None, Served, AllReady),
        (service(PORT) + &sliced("IPv4", "{name: http, port: 8080}", HERE), "web", None, Refused, PortNameDiffers),
        (service("ports: [{port: 80, name: http}]") + &slice(HERE), "web:http", None, Refused, PortNameDiffers),
        (service(PORT) + &sliced("IPv4", "{port: 53, protocol: UDP}", HERE), "web", None, Refused, PortProtocolDiffers),
        (service(PORT) + &sliced("IPv6", "{port: 80}", "{addresses: ['fd00::1']}"), "web", None, Refused, OtherFamily),
        (service(PORT) + &sliced("FQDN", "{port: 80}", "{addresses: [a.example]}"), "web", None, Refused, SliceNotUsed),
        (service(PORT) + &sliced("IPv4", "{name: ''}", HERE), "web", None, Refused, PortNameDiffers),
        (with("clusterIP: None, ports: [{port: 80}]", HERE), "web", None, NotServed, Headless),
        (with("type: ExternalName, externalName: a.example", HERE), "web", None, NotServed, ExternalName),
        (labelled("service.kubernetes.io/service-proxy-name") + &slice(HERE), "web", None, NotServed, OtherProxy),
        // The label for headless counts on slices alone.
        (labelled("service.kubernetes.io/headless") + &slice(HERE), "web", None, Served, AllReady),
        (slice(HERE), "web", None, NotServed, NoSuchService),
        (with("clusterIP: '', ports: [{port: 80}]", HERE), "web", None, NotServed, Refusal(NoClusterIp)),
        (with("clusterIP: 10.96.0.300, ports: [{port: 80}]", HERE), "web", None, NotServed, Refusal(BadAddress)),
        (with("clusterIP: 127.0.0.1, ports: [{port: 80}]", HERE), "web", None, NotServed, Refusal(UnfitAddress)),
        (with("clusterIP: 10.96.0.53, ports: [{port: 80}]", HERE), "web", None, NotServed, Refusal(AnsweredByNode)),
        (with("ports: [{port: 80, protocol: SCTP}]", HERE), "web", None, NotServed, Refusal(ProtocolNotServed)),
        (with("ports: []", HERE), "web", None, NotServed, NoPorts),
        (
            named("a", "clusterIP: 10.96.0.1, ports: [{port: 80}]") + &with(PORT, HERE),
            "web",
            None,
            NotServed,
            Refusal(DuplicateFrontend),
        ),
        (
            with("externalIPs: ['fd00::9'], ports: [{port: 80}]", HERE),
            "[fd00::9]:80",
            None,
            NotServed,
            Refusal(WrongFamily),
        ),
        (with(inside_local, THERE), "web", Some("pod"), Dropped, NoneLocal),
        (with(inside_local, UNREADY), "web", Some("node"), Refused, NoneReady),
        (with(inside_local, &both), "web", Some("pod"), Served, LocalOnly),
        (with(inside_local, &[THERE, DRAINING].join(", ")), "web", Some("pod"), Served, Draining),
        (with(local, THERE), "192.0.2.1:30080", Some("outside"), Dropped, NoneLocal),
        (with(local, THERE), "192.0.2.1:30080", Some("203.0.113.9"), Dropped, NoneLocal),
        (with(local, THERE), "192.0.2.1:30080", Some("192.0.2.1"), Served, AllReady),
        (with(local, &both), "192.0.2.1:30080", Some("10.1.0.1"), Served, AllReady),
        (with(local, &both), "192.0.2.1:30080", Some("10.1.0.2"), Served, LocalOnly),
        (with(local, THERE), "web", None, Dropped, NoneLocal),
        (with(NODE_PORT, THERE), "192.0.2.1:30080", Some("outside"), Served, AllReady),
        (with(NODE_PORT, THERE), "192.0.2.1:30081", None, NotServed, UnknownAddress),
        (service(PORT) + &hinted("forZones", ["a", "b"]), "web", None, Served, SameZone),
        (service(PORT) + &hinted("forNodes", ["me", "b"]), "web", None, Served, SameNode),
        (service(PORT) + &hinted("forZones", ["b", "c"]), "web", None, Served, AllReady),
        (balancer("", vip) + &slice(HERE), "198.51.100.1:80", Some("outside"), Served, AllReady),
        (balancer(ranges, vip) + &slice(HERE), "198.51.100.1:80", Some("192.0.2.7"), Dropped, SourceRange),
        (balancer(ranges, vip) + &slice(HERE), "198.51.100.1:80", Some("10.1.0.1"), Dropped, SourceRange),
        (balancer(ranges, vip) + &slice(HERE), "198.51.100.1:80", Some("203.0.113.7"), Served, AllReady),
        (balancer(ranges, vip) + &slice(HERE), "10.96.0.1:80", Some("192.0.2.7"), Served, AllReady),
        (
            balancer("loadBalancerSourceRanges: [nonsense],", vip) + &slice(HERE),
            "198.51.100.1:80",
            None,
            NotServed,
            Refusal(SourceRangesUnreadable),
        ),
        (
            balancer("", "{ip: 198.51.100.1, ipMode: Proxy}") + &slice(HERE),
            "198.51.100.1:80",
            None,
            NotServed,
            UnknownAddress,
        ),
    ]
}

#[test]
fn each_situation_has_its_rule_in_the_first_place() {
    let mut wrong = Vec::new();
    for (n, (objects, target, client, verdict, rule)) in situations().into_iter().enumerate() {
        let client = client.map(|client| client.parse().unwrap());
        let answer = explain(&world(&objects, me()), &target.parse().unwrap(), client).unwrap();
        let first = answer.decisions.first().map(|first| (first.verdict, first.rule));
        if first != Some((verdict, rule)) {
            wrong.push(format!("{n}: {target} from {client:?}: {first:?}, not {:?}\n{objects}", (verdict, rule)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(situations().len() >= 40);
}

#[test]
fn who_finds_no_local_endpoint_learns_where_they_are() {
    let spec = "type: NodePort, externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30080}]";
    let world = world(&(service(spec) + &slice(THERE)), me());
    let answer = explain(&world, &"web".parse().unwrap(), Some(Client::Outside)).unwrap();
    assert_eq!(answer.decisions[0].rule, Rule::NoneLocal);
    assert_eq!(answer.decisions[0].notes[0], "this node is \"me\"; endpoints are on other");
}

#[test]
fn each_endpoint_says_why_it_is_in_a_set_or_left_out() {
    let endpoints = [HERE, THERE, UNREADY, DRAINING, OVER].join(", ");
    let spec = "type: NodePort, externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30080}]";
    let answer = explain(&world(&(service(spec) + &slice(&endpoints)), me()), &"web".parse().unwrap(), None).unwrap();
    let standings: Vec<_> = answer.endpoints.iter().map(|row| (row.cluster.unwrap(), row.node.unwrap())).collect();
    assert_eq!(
        standings,
        [
            (Standing::Ready, Standing::Ready),
            (Standing::Ready, Standing::OtherNode),
            (Standing::NotReady, Standing::NotReady),
            (Standing::Spare, Standing::Spare),
            (Standing::NotServing, Standing::NotServing),
        ]
    );
    assert!(answer.endpoints.iter().all(|row| row.slice == "web-1"));
}

#[test]
fn a_service_that_is_not_there_has_no_explanation() {
    let world = world(&service(PORT), me());
    assert_eq!(explain(&world, &"shop/web".parse().unwrap(), None), None);
    for bad in ["", "a/b/c", "web:", "/web", "a b"] {
        assert!(bad.parse::<Target>().is_err(), "{bad}");
    }
}

/// The maps as they should be for a Service with the one endpoint [`HERE`].
fn maps() -> Existing {
    let set = SetRef { base: 4, count: 1 };
    let vip = Vip { addr: "10.96.0.1".parse().unwrap(), port: 80, proto: 6 };
    let backend =
        BackendEntry { addr: "10.1.0.1:8080".parse().unwrap(), flags: 5, weight: 1, generation: 1, service: 7 };
    let value = FrontendValue {
        internal: set,
        external: set,
        service: 7,
        kind: frontend_kind::CLUSTER_IP,
        ..FrontendValue::default()
    };
    Existing {
        names: vec![(7, Family::V4, "default/web:/TCP".into())],
        frontends: vec![(vip, value)],
        sets: vec![(Family::V4, set, Box::new([3]))],
        backends: vec![(Family::V4, 3, backend)],
        ..Existing::default()
    }
}

#[test]
fn maps_that_somebody_changed_are_named() {
    let world = world(&(service(PORT) + &slice(HERE)), me());
    let differ = |change: fn(&mut Existing)| {
        let mut maps = maps();
        change(&mut maps);
        differences(&world, &"web".parse().unwrap(), &maps).join("; ")
    };
    assert_eq!(differ(|_| {}), "");
    assert_eq!(differ(|maps| maps.names.clear()), "default/web:/TCP (IPv4) is not in the maps");
    let gone = differ(|maps| maps.frontends.clear());
    assert_eq!(gone, "frontend 10.96.0.1:80/TCP of default/web:/TCP is not in the maps");
    let stolen = differ(|maps| maps.frontends[0].1.service = 8);
    assert_eq!(stolen, gone);
    let other = differ(|maps| maps.backends[0].2.addr = "10.6.6.6:80".parse().unwrap());
    assert!(other.contains("should get [10.1.0.1:8080], the maps have [10.6.6.6:80]"), "{other}");
    let extra = differ(|maps| {
        let mut more = maps.frontends[0];
        more.0.port = 81;
        maps.frontends.push(more);
    });
    assert_eq!(extra, "frontend 10.96.0.1:81 of default/web:/TCP is in the maps and should not be");
    let stale = differ(|maps| maps.names.push((9, Family::V4, "default/web:old/TCP".into())));
    assert_eq!(stale, "default/web:old/TCP (IPv4) is in the maps and should not be served");
}
