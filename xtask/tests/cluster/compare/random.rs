//! Random Services and EndpointSlices, valid to the API as a rule, with every field that a proxy looks at.

use serde_json::{Value, json};
use xtask::lab::plan::{
    CLIENT_ADDR, DNS_PORT, Dual, HTTP_PORT, NODE1, NODE1_ADDR, NODE2, NODE2_ADDR, external_ip, lb_ip,
};
use xtask::lab::{Family, Lab};

use super::dice::Dice;
use crate::objects::NAMESPACE;

/// How many Services there are at most.
pub(crate) const SERVICES: usize = 6;

/// Somebody who can be an endpoint.
struct Candidate {
    addr: Dual,
    node: &'static str,
}

fn candidates(lab: &Lab) -> Vec<Candidate> {
    let pods = lab.pods().iter().map(|pod| Candidate { addr: pod.addr, node: pod.cni.node() });
    let nodes = [(NODE1_ADDR, NODE1), (NODE2_ADDR, NODE2)].map(|(addr, node)| Candidate { addr, node });
    pods.chain(nodes).collect()
}

/// A Service and its slices.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) service: Value,
    pub(crate) slices: Vec<Value>,
}

/// The `number`th Service anew.
pub(crate) fn pair(dice: &mut Dice, lab: &Lab, number: usize) -> Pair {
    let name = format!("s{number}");
    let service = service(dice, &name, number);
    let ports: Vec<Value> = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let slices = slices(dice, lab, &name, &ports);
    Pair { service, slices }
}

fn service(dice: &mut Dice, name: &str, number: usize) -> Value {
    let kind = dice.pick(&[
        "ClusterIP",
        "ClusterIP",
        "ClusterIP",
        "NodePort",
        "NodePort",
        "LoadBalancer",
        "LoadBalancer",
        "LoadBalancer",
        "LoadBalancer",
        "ExternalName",
        "Headless",
        "ClusterIP",
    ]);
    let mut meta = json!({"name": name, "namespace": NAMESPACE});
    match dice.below(25) {
        0 => meta["labels"] = json!({"service.kubernetes.io/service-proxy-name": dice.pick(&["other", ""])}),
        1 => meta["labels"] = json!({"service.kubernetes.io/headless": ""}),
        _ => {}
    }
    let own_port = dice.percent(20);
    let mut spec = json!({"ports": ports(dice, if own_port { Some(number) } else { None })});
    if kind == "ExternalName" {
        spec = json!({"type": kind, "externalName": "example.org"});
        return json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec});
    }
    spec["type"] = json!(if kind == "Headless" { "ClusterIP" } else { kind });
    if kind == "Headless" {
        spec["clusterIP"] = json!("None");
    }
    match dice.below(5) {
        0 => {
            spec["ipFamilyPolicy"] = json!("SingleStack");
            spec["ipFamilies"] = json!([dice.pick(&["IPv4", "IPv6"])]);
        }
        1 => {
            spec["ipFamilyPolicy"] = json!("RequireDualStack");
            spec["ipFamilies"] = json!(["IPv6", "IPv4"]);
        }
        _ => {
            spec["ipFamilyPolicy"] = json!("RequireDualStack");
            spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
        }
    }
    if dice.percent(25) {
        spec["internalTrafficPolicy"] = json!("Local");
    }
    if dice.percent(12) {
        spec["publishNotReadyAddresses"] = json!(true);
    }
    if dice.percent(15) {
        spec["trafficDistribution"] = json!(dice.pick(&["PreferClose", "PreferSameZone", "PreferSameNode"]));
    }
    if dice.percent(15) {
        spec["sessionAffinity"] = json!("ClientIP");
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": dice.pick(&[600, 10800, 86400])}});
    }
    let last = u8::try_from(10 + number).unwrap();
    if kind != "Headless" && dice.percent(25) {
        let ips = Family::ALL.map(|family| external_ip(last).of(family));
        let mut chosen = dice.some(&ips, 75);
        if own_port {
            // Addresses that several have, and the node's own.
            chosen.extend(Family::ALL.map(|family| lb_ip(200).of(family)));
            chosen.extend(dice.some(&Family::ALL.map(|family| NODE1_ADDR.of(family)), 50));
        }
        spec["externalIPs"] = json!(chosen);
    }
    if (kind == "NodePort" || kind == "LoadBalancer") && dice.percent(25) {
        // One number for every protocol.
        for (at, port) in spec["ports"].as_array_mut().unwrap().iter_mut().enumerate() {
            let second = usize::from(at == 2);
            port["nodePort"] = json!(32700 + 2 * number + second);
        }
    }
    let external = kind == "NodePort" || kind == "LoadBalancer" || spec["externalIPs"][0].is_string();
    if external && dice.percent(40) {
        spec["externalTrafficPolicy"] = json!("Local");
    }
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec});
    if kind == "LoadBalancer" {
        balancer(dice, &mut service, last, own_port);
    }
    service
}

fn balancer(dice: &mut Dice, service: &mut Value, last: u8, own_port: bool) {
    let spec = &mut service["spec"];
    if dice.percent(20) {
        spec["allocateLoadBalancerNodePorts"] = json!(false);
    }
    if dice.percent(35) {
        let ranges = [
            "10.244.0.0/16".to_owned(),
            "fd44::/16".to_owned(),
            "10.90.0.0/24".to_owned(),
            "fd90::/64".to_owned(),
            format!("{}/32", CLIENT_ADDR.v4),
            format!("{}/128", CLIENT_ADDR.v6),
            "10.90.0.11/32".to_owned(),
            "fd90::11/128".to_owned(),
            "10.244.1.11/32".to_owned(),
            "fd44:80::11/128".to_owned(),
            "192.0.2.0/24".to_owned(),
            "2001:db8::/32".to_owned(),
            " 10.244.128.0/24 ".to_owned(),
            "0.0.0.0/0".to_owned(),
            "::/0".to_owned(),
        ];
        let mut chosen = dice.some(&ranges, 14);
        if chosen.is_empty() {
            chosen.push(dice.pick(&ranges));
        }
        spec["loadBalancerSourceRanges"] = json!(chosen);
    }
    let mut ingress = Vec::new();
    for family in Family::ALL {
        let shared = own_port.then_some(lb_ip(200));
        for ip in [lb_ip(last), lb_ip(last + 50)].into_iter().chain(shared) {
            if dice.percent(55) {
                let mut entry = json!({"ip": ip.of(family)});
                if let Some(mode) = dice.pick(&[None, Some("VIP"), Some("VIP"), Some("Proxy")]) {
                    entry["ipMode"] = json!(mode);
                }
                ingress.push(entry);
            }
        }
    }
    if dice.percent(10) {
        ingress.push(json!({"hostname": "lb.example.org"}));
    }
    if dice.percent(8) {
        // One address twice.
        service["spec"]["externalIPs"] = json!(Family::ALL.map(|family| lb_ip(last).of(family)));
    }
    service["status"] = json!({"loadBalancer": {"ingress": ingress}});
}

fn ports(dice: &mut Dice, own: Option<usize>) -> Value {
    let target = |dice: &mut Dice, port: u16, name: &str| if dice.percent(30) { json!(name) } else { json!(port) };
    let tcp = |dice: &mut Dice, name: &str, port: u16| json!({"name": name, "protocol": "TCP", "port": port, "targetPort": target(dice, HTTP_PORT, "http")});
    let udp = |dice: &mut Dice, name: &str, port: u16| json!({"name": name, "protocol": "UDP", "port": port, "targetPort": target(dice, DNS_PORT, "dns")});
    if let Some(number) = own {
        // No other Service has these, so that it may share an address.
        let port = u16::try_from(9000 + number).unwrap();
        return json!([tcp(dice, "http", port), udp(dice, "dns", port)]);
    }
    match dice.below(9) {
        8 => json!([tcp(dice, "http", 80), {"name": "sctp", "protocol": "SCTP", "port": 80}]),
        0 => {
            let mut port = tcp(dice, "", 80);
            port.as_object_mut().unwrap().remove("name");
            json!([port])
        }
        1 => json!([udp(dice, "dns", 53)]),
        2 => json!([tcp(dice, "http", 80)]),
        3 => json!([tcp(dice, "http", 53), udp(dice, "dns", 53)]),
        4 => json!([tcp(dice, "http", 80), udp(dice, "dns", 53), tcp(dice, "more", 8000)]),
        5 => json!([tcp(dice, "more", 8080), udp(dice, "more-dns", 5353)]),
        _ => json!([tcp(dice, "http", 80), udp(dice, "dns", 53)]),
    }
}

pub(crate) fn slices(dice: &mut Dice, lab: &Lab, service: &str, ports: &[Value]) -> Vec<Value> {
    let mut slices: Vec<Value> = Vec::new();
    for family in ["IPv4", "IPv6", "FQDN"] {
        let count = match family {
            "FQDN" => usize::from(dice.percent(5)),
            _ => dice.pick(&[0, 1, 1, 1, 1, 1, 2, 3]),
        };
        for number in 0..count {
            let mut slice = slice(dice, lab, service, ports, family, number);
            agree_on_duplicates(dice, &slices, &mut slice);
            slices.push(slice);
        }
    }
    let closed = |slice: &Value| slice["ports"].as_array().into_iter().flatten().any(|port| port["port"] == 9);
    if slices.iter().any(closed) {
        say_where_they_are(lab, &mut slices);
    }
    slices
}

/// A Pod's own refusal is lost by kube-proxy as its answer is where it is led to itself and said to be elsewhere; only
/// the answer can be told from others.
fn say_where_they_are(lab: &Lab, slices: &mut [Value]) {
    let candidates = candidates(lab);
    for endpoint in slices.iter_mut().flat_map(|slice| slice["endpoints"].as_array_mut().unwrap()) {
        let is = |candidate: &&Candidate| {
            Family::ALL.iter().any(|family| endpoint["addresses"][0] == json!(candidate.addr.of(*family)))
        };
        if let Some(candidate) = candidates.iter().find(is) {
            endpoint["nodeName"] = json!(candidate.node);
        }
    }
}

/// An endpoint of several slices is the same in all of them, or terminating in some: of anything else it is not promised
/// which counts.
fn agree_on_duplicates(dice: &mut Dice, slices: &[Value], slice: &mut Value) {
    for endpoint in slice["endpoints"].as_array_mut().unwrap() {
        let same = |other: &&Value| other["addresses"][0] == endpoint["addresses"][0];
        let known = slices.iter().flat_map(|slice| slice["endpoints"].as_array().unwrap()).find(same).cloned();
        if let Some(known) = known {
            *endpoint = known;
            if endpoint["conditions"]["terminating"] != true && dice.percent(30) {
                endpoint["conditions"] =
                    json!({"ready": false, "serving": dice.pick(&[true, false]), "terminating": true});
            }
        }
    }
}

fn slice(dice: &mut Dice, lab: &Lab, service: &str, ports: &[Value], family: &str, number: usize) -> Value {
    let mut labels = json!({"kubernetes.io/service-name": service});
    if dice.percent(4) {
        labels["service.kubernetes.io/headless"] = json!("");
    }
    if dice.percent(4) {
        labels["service.kubernetes.io/service-proxy-name"] = json!("other");
    }
    let mut slice_ports = Vec::new();
    for port in ports {
        if dice.percent(5) {
            continue;
        }
        let protocol = port["protocol"].as_str().unwrap();
        let number = if protocol == "UDP" { DNS_PORT } else { HTTP_PORT };
        let mut entry = json!({"name": port["name"], "protocol": protocol, "port": number});
        match dice.below(40) {
            0 => entry["port"] = Value::Null,
            1 => entry["name"] = json!("elsewhere"),
            2 => entry["protocol"] = json!(if protocol == "TCP" { "UDP" } else { "TCP" }),
            3 => entry["port"] = json!(9),
            _ => {}
        }
        slice_ports.push(entry);
    }
    let namespace = if dice.percent(4) { "kube-public" } else { NAMESPACE };
    let chance = dice.pick(&[0, 25, 40, 60, 100]);
    let endpoints: Vec<Value> = if family == "FQDN" {
        vec![json!({"addresses": ["pod.example.org"]})]
    } else {
        let mood = dice.below(4);
        let chosen: Vec<_> = candidates(lab).into_iter().filter(|_| dice.percent(chance)).collect();
        chosen.iter().map(|candidate| endpoint(dice, candidate, family, mood)).collect()
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{}-{number}", family.to_lowercase()),
            "namespace": namespace,
            "labels": labels,
        },
        "addressType": family,
        "ports": slice_ports,
        "endpoints": endpoints,
    })
}

fn endpoint(dice: &mut Dice, candidate: &Candidate, family: &str, mood: usize) -> Value {
    let family = if family == "IPv4" { Family::V4 } else { Family::V6 };
    let mut endpoint = json!({"addresses": [candidate.addr.of(family)]});
    if dice.percent(4) {
        endpoint["addresses"] = json!([candidate.addr.of(family), NODE2_ADDR.of(family)]);
    }
    let other = if candidate.node == NODE1 { NODE2 } else { NODE1 };
    match dice.below(20) {
        0 => {}
        1 => endpoint["nodeName"] = json!(other),
        2 => endpoint["nodeName"] = json!("node9"),
        _ => endpoint["nodeName"] = json!(candidate.node),
    }
    let any = |dice: &mut Dice| dice.pick(&[None, Some(true), Some(false)]);
    // The mood of a slice makes it likely that all of its endpoints are leaving, which chance alone hardly does.
    let [ready, serving, terminating] = match mood {
        0 => [any(dice), any(dice), any(dice)],
        1 => [Some(false), dice.pick(&[None, Some(true)]), dice.pick(&[Some(true), Some(true), Some(false)])],
        _ if dice.percent(15) => [any(dice), any(dice), any(dice)],
        _ => dice.pick(&[[Some(true), Some(true), Some(false)], [None, None, None]]),
    };
    endpoint["conditions"] = json!({"ready": ready, "serving": serving, "terminating": terminating});
    if dice.percent(if mood == 3 { 100 } else { 25 }) {
        let zone = |dice: &mut Dice| json!([{"name": dice.pick(&["zone-a", "zone-a", "zone-b"])}]);
        let node = |dice: &mut Dice| json!([{"name": dice.pick(&[NODE1, NODE1, NODE2])}]);
        endpoint["hints"] = match dice.below(3) {
            0 => json!({"forZones": zone(dice)}),
            1 => json!({"forNodes": node(dice)}),
            _ => json!({"forZones": zone(dice), "forNodes": node(dice)}),
        };
    }
    endpoint
}
