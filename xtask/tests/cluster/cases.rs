//! Forty Services that together touch every field, each as it begins and as it becomes.

use serde_json::{Value, json};
use xtask::lab::plan::{DNS_PORT, HTTP_PORT, external_ip, lb_ip};
use xtask::lab::{Family, Lab};

use crate::objects::{NAMESPACE, endpoint, pods, service, slice};

/// A Service's life: the objects to apply at each step.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) steps: [Vec<Value>; 2],
}

/// A Service with the endpoints of some Pods.
fn of_pods(lab: &Lab, name: &str, spec: &Value, names: &[&str]) -> Vec<Value> {
    let mut objects = vec![service(name, spec)];
    objects.extend(pods(name, names.iter().map(|pod| lab.pod(pod).unwrap())));
    objects
}

/// The same with something laid over each endpoint.
fn with_endpoints(lab: &Lab, name: &str, spec: &Value, endpoints: &[(&str, Value)]) -> Vec<Value> {
    let mut objects = vec![service(name, spec)];
    objects.extend(slices(lab, name, endpoints));
    objects
}

fn slices(lab: &Lab, name: &str, endpoints: &[(&str, Value)]) -> [Value; 2] {
    Family::ALL.map(|family| {
        let each = endpoints.iter().map(|(pod, over)| {
            let pod = lab.pod(pod).unwrap();
            let mut endpoint = endpoint(&pod.addr.of(family).to_string(), pod.cni.node());
            for (field, value) in over.as_object().unwrap() {
                endpoint[field] = value.clone();
            }
            endpoint
        });
        slice(name, family, &each.collect::<Vec<_>>())
    })
}

/// Further slices of the same Service.
fn renamed(slices: impl Into<Vec<Value>>, suffix: &str) -> Vec<Value> {
    let mut slices = slices.into();
    for slice in &mut slices {
        let name = format!("{}-{suffix}", slice["metadata"]["name"].as_str().unwrap());
        slice["metadata"]["name"] = json!(name);
    }
    slices
}

fn labelled(mut objects: Vec<Value>, label: &str) -> Vec<Value> {
    objects[0]["metadata"]["labels"] = json!({ label: "other" });
    objects
}

fn ingress(mut objects: Vec<Value>, ingress: &Value) -> Vec<Value> {
    objects[0]["status"] = json!({"loadBalancer": {"ingress": ingress}});
    objects
}

fn lb(n: u8) -> Value {
    json!(Family::ALL.map(|family| json!({"ip": lb_ip(n).of(family), "ipMode": "VIP"})))
}

fn external(n: u8) -> Value {
    json!(Family::ALL.map(|family| external_ip(n).of(family)))
}

fn conditions(ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>) -> Value {
    json!({"conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
}

fn zones(zone: &str) -> Value {
    json!({"hints": {"forZones": [{"name": zone}]}})
}

fn nodes(node: &str) -> Value {
    json!({"hints": {"forNodes": [{"name": node}], "forZones": [{"name": "zone-b"}]}})
}

fn case(name: &'static str, first: Vec<Value>, then: Vec<Value>) -> Case {
    Case { name, steps: [first, then] }
}

const ALL: [&str; 5] = ["br1", "br2", "rt1", "rt2", "remote1"];

/// Types, families, affinity, ports and the policies.
pub(crate) fn of_services(lab: &Lab) -> Vec<Case> {
    let pods = |name: &str, spec: Value, names: &[&str]| of_pods(lab, name, &spec, names);
    let plain = |name: &str| pods(name, json!({}), &ALL);
    let headless = json!({"clusterIP": "None"});
    let elsewhere = json!({"type": "ExternalName", "externalName": "example.org", "ipFamilyPolicy": null});
    let affinity = |secs: u32| json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": secs}}});
    let http = json!({"name": "http", "port": 80, "targetPort": HTTP_PORT});
    let one_family = |family: &str| json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": [family]});
    let both = |protocols: [&str; 2]| {
        let names = [("TCP", "http", HTTP_PORT), ("UDP", "dns", DNS_PORT)];
        let ports = names.iter().filter(|(protocol, ..)| protocols.contains(protocol));
        json!({"ports": ports.map(|(protocol, name, target)| json!({"name": name, "protocol": protocol, "port": 7777,
            "targetPort": target})).collect::<Vec<_>>()})
    };
    let many: Vec<Value> = (1..=4).map(|n| json!({"name": format!("p{n}"), "port": 100 + n})).collect();
    let local = |field: &str, kind: &str| json!({"type": kind, field: "Local"});
    let (external_local, internal_local) =
        (local("externalTrafficPolicy", "NodePort"), local("internalTrafficPolicy", "ClusterIP"));
    vec![
        case("plain", plain("plain"), pods("plain", json!({}), &["remote1"])),
        case("ipv4", pods("ipv4", one_family("IPv4"), &ALL), plain("ipv4")),
        case("ipv6", pods("ipv6", one_family("IPv6"), &ALL), pods("ipv6", one_family("IPv6"), &["rt1"])),
        case("affine", pods("affine", json!({"sessionAffinity": "ClientIP"}), &ALL), plain("affine")),
        case("affine-60", pods("affine-60", affinity(60), &ALL), pods("affine-60", affinity(7), &ALL)),
        case("node-port", pods("node-port", json!({"type": "NodePort"}), &ALL), plain("node-port")),
        case("to-node-port", plain("to-node-port"), pods("to-node-port", json!({"type": "NodePort"}), &["remote1"])),
        case(
            "etp-local",
            pods("etp-local", external_local.clone(), &ALL),
            pods("etp-local", json!({"type": "NodePort"}), &ALL),
        ),
        case(
            "etp-remote",
            pods("etp-remote", external_local.clone(), &["remote1"]),
            pods("etp-remote", external_local, &[]),
        ),
        case("itp-local", pods("itp-local", internal_local.clone(), &ALL), plain("itp-local")),
        case(
            "itp-remote",
            pods("itp-remote", internal_local.clone(), &["remote1"]),
            pods("itp-remote", internal_local.clone(), &["rt2"]),
        ),
        case(
            "itp-etp-local",
            pods(
                "itp-etp-local",
                json!({"type": "NodePort", "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Local"}),
                &["br2", "remote1"],
            ),
            pods("itp-etp-local", internal_local, &["br2", "remote1"]),
        ),
        case("headless", pods("headless", headless, &ALL), plain("headless-other")),
        case("named", vec![service("named", &elsewhere)], plain("named")),
        case("to-named", plain("to-named"), vec![service("to-named", &elsewhere)]),
        case("proxied", labelled(plain("proxied"), "service.kubernetes.io/service-proxy-name"), plain("proxied")),
        case(
            "to-proxied",
            plain("to-proxied"),
            labelled(plain("to-proxied"), "service.kubernetes.io/service-proxy-name"),
        ),
        case("empty", pods("empty", json!({}), &[]), plain("empty")),
        case(
            "same-number",
            pods("same-number", both(["TCP", "UDP"]), &ALL),
            pods("same-number", both(["UDP", "UDP"]), &ALL),
        ),
        case(
            "many-ports",
            pods("many-ports", json!({"ports": [http, many[0], many[1], many[2], many[3]]}), &ALL),
            pods("many-ports", json!({"ports": [many[1], http]}), &ALL),
        ),
        case(
            "sctp",
            pods("sctp", json!({"ports": [{"name": "s", "protocol": "SCTP", "port": 9}]}), &[]),
            pods("sctp", json!({"ports": [{"name": "s", "protocol": "SCTP", "port": 10}]}), &[]),
        ),
        case("unnamed", pods("unnamed", json!({"ports": [{"port": 80}]}), &ALL), unnamed(lab)),
    ]
}

/// The port has no name on either side.
fn unnamed(lab: &Lab) -> Vec<Value> {
    let mut objects = of_pods(lab, "unnamed", &json!({"ports": [{"port": 80}]}), &ALL);
    for slice in &mut objects[1..] {
        slice["ports"] = json!([{"name": "", "protocol": "TCP", "port": HTTP_PORT}]);
    }
    objects
}

/// Load balancers and external IPs.
pub(crate) fn of_addresses(lab: &Lab) -> Vec<Case> {
    let balancer = |name: &str, spec: Value, names: &[&str]| {
        let mut merged = json!({"type": "LoadBalancer"});
        merged.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        of_pods(lab, name, &merged, names)
    };
    let ranges = |ranges: &[&str]| json!({ "loadBalancerSourceRanges": ranges });
    let vip = |name: &str, n, spec: Value| ingress(balancer(name, spec, &ALL), &lb(n));
    let proxy = json!([{"ip": lb_ip(3).v4, "ipMode": "Proxy"}, {"ip": lb_ip(3).v6, "ipMode": "VIP"}]);
    let local = json!({"externalTrafficPolicy": "Local"});
    vec![
        case("lb", vip("lb", 1, json!({})), ingress(balancer("lb", json!({}), &ALL), &json!([]))),
        case("lb-later", balancer("lb-later", json!({}), &ALL), vip("lb-later", 2, json!({}))),
        case("lb-proxy", ingress(balancer("lb-proxy", json!({}), &ALL), &proxy), vip("lb-proxy", 3, json!({}))),
        case(
            "lb-name",
            ingress(balancer("lb-name", json!({}), &ALL), &json!([{"hostname": "lb.example.org"}])),
            vip("lb-name", 4, json!({})),
        ),
        case(
            "lb-ranges",
            vip("lb-ranges", 5, ranges(&["10.90.0.0/24", "fd90::/64"])),
            vip("lb-ranges", 5, ranges(&["192.0.2.0/24", "2001:db8::/32"])),
        ),
        case(
            "lb-open",
            vip("lb-open", 6, ranges(&["0.0.0.0/0", "192.0.2.0/24"])),
            vip("lb-open", 6, ranges(&["192.0.2.0/24"])),
        ),
        case("lb-local", vip("lb-local", 7, local.clone()), ingress(balancer("lb-local", local, &["remote1"]), &lb(7))),
        case(
            "lb-no-ports",
            vip("lb-no-ports", 8, json!({"allocateLoadBalancerNodePorts": false})),
            vip("lb-no-ports", 8, json!({})),
        ),
        case(
            "lb-class",
            vip("lb-class", 9, json!({"loadBalancerClass": "example.org/x"})),
            of_pods(lab, "lb-class", &json!({}), &ALL),
        ),
        case(
            "external",
            of_pods(lab, "external", &json!({"externalIPs": external(1)}), &ALL),
            of_pods(lab, "external", &json!({"externalIPs": [external_ip(2).v4]}), &ALL),
        ),
        case(
            "external-local",
            of_pods(
                lab,
                "external-local",
                &json!({"type": "NodePort", "externalIPs": external(3),
            "externalTrafficPolicy": "Local"}),
                &["remote1"],
            ),
            of_pods(lab, "external-local", &json!({}), &["remote1"]),
        ),
    ]
}

/// Endpoints and their slices.
pub(crate) fn of_endpoints(lab: &Lab) -> Vec<Case> {
    let with = |name: &str, spec: Value, endpoints: &[(&str, Value)]| with_endpoints(lab, name, &spec, endpoints);
    let ready = || conditions(Some(true), Some(true), Some(false));
    let leaving = || conditions(Some(false), Some(true), Some(true));
    let unready = || conditions(Some(false), Some(false), Some(false));
    let gone = || conditions(Some(false), Some(false), Some(true));
    let internal = || json!({"internalTrafficPolicy": "Local"});
    let mut two = with("two-slices", json!({}), &[("br1", leaving()), ("br2", ready())]);
    two.extend(renamed(slices(lab, "two-slices", &[("br1", ready()), ("rt1", ready())]), "more"));
    let mut foreign = of_pods(lab, "foreign-slices", &json!({}), &["rt2"]);
    let mut labelled = renamed(slices(lab, "foreign-slices", &[("br1", ready())]), "headless");
    labelled[0]["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
    labelled[1]["ports"] = json!([{"name": "other", "protocol": "TCP", "port": HTTP_PORT}]);
    labelled.push(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "foreign-slices-fqdn", "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": "foreign-slices"}},
        "addressType": "FQDN", "ports": [{"name": "http", "port": HTTP_PORT}],
        "endpoints": [{"addresses": ["pod.example.org"]}],
    }));
    foreign.extend(labelled);
    vec![
        case(
            "zones",
            with("zones", json!({}), &[("br1", zones("zone-a")), ("remote1", zones("zone-b"))]),
            with("zones", json!({}), &[("br1", zones("zone-c")), ("remote1", zones("zone-b"))]),
        ),
        case(
            "nodes",
            with("nodes", json!({}), &[("rt1", nodes("node1")), ("remote1", nodes("node2"))]),
            with("nodes", json!({}), &[("rt1", nodes("node1")), ("remote1", json!({}))]),
        ),
        case(
            "unready-first",
            with(
                "unready-first",
                json!({"publishNotReadyAddresses": true}),
                &[("br1", conditions(Some(true), Some(false), Some(true)))],
            ),
            with("unready-first", json!({}), &[("br1", unready())]),
        ),
        case(
            "leaving",
            with("leaving", json!({}), &[("br1", leaving()), ("remote1", leaving())]),
            with("leaving", internal(), &[("br1", leaving()), ("remote1", ready()), ("rt1", gone())]),
        ),
        case(
            "unsaid",
            with(
                "unsaid",
                json!({}),
                &[("br1", conditions(None, None, None)), ("rt1", conditions(Some(false), None, Some(true)))],
            ),
            with("unsaid", json!({}), &[("rt1", conditions(Some(false), None, Some(true)))]),
        ),
        case("two-slices", two, with("two-slices", json!({}), &[])),
        case("foreign-slices", foreign, of_pods(lab, "foreign-slices", &json!({}), &["rt2", "br2"])),
    ]
}
