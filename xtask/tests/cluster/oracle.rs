//! What the maps must hold, from the API's own objects: the rules once more, read literally and without a thought for
//! cost, and told by `sluice services -o json` in the same words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

/// What is served, by `namespace/name:port/PROTOCOL family`. Ids are left out, addresses stand for them.
pub(crate) type Served = BTreeMap<String, Value>;

/// The node whose maps they are.
pub(crate) struct NodeView<'a> {
    pub(crate) name: &'a str,
    pub(crate) zone: Option<&'a str>,
    /// All of its addresses.
    pub(crate) addresses: &'a [IpAddr],
    /// Those on which `NodePort`s are served.
    pub(crate) node_port_addresses: &'a [IpAddr],
}

/// What the agent says it serves.
pub(crate) fn served(services: &Value) -> Served {
    let mut served = Served::new();
    for row in services.as_array().unwrap() {
        let text = |field: &str| row[field].as_str().unwrap();
        let key = format!("{}:{}/{} {}", text("service"), text("port"), text("protocol"), text("family"));
        let mut by_id = BTreeMap::new();
        let mut backends = BTreeMap::new();
        for backend in row["backends"].as_array().unwrap() {
            let address = backend["address"].as_str().unwrap();
            by_id.insert(backend["id"].as_u64().unwrap(), address);
            backends.insert(address, sorted(&backend["flags"]));
        }
        let addresses = |ids: &Value| -> BTreeSet<&str> {
            let known = |id: &Value| by_id.get(&id.as_u64().unwrap()).copied().unwrap_or("an unknown backend");
            ids.as_array().unwrap().iter().map(known).collect()
        };
        let mut frontends = BTreeMap::new();
        for frontend in row["frontends"].as_array().unwrap() {
            let name = format!("{} {} {}", text_of(&frontend["kind"]), text_of(&frontend["address"]), frontend["port"]);
            frontends.insert(
                name,
                json!({
                    "internal": addresses(&frontend["internal"]),
                    "external": addresses(&frontend["external"]),
                    "flags": sorted(&frontend["flags"]),
                }),
            );
        }
        let row = json!({
            "affinity": row["affinity_secs"],
            "ranges": sorted(&row["source_ranges"]),
            "frontends": frontends,
            "backends": backends,
        });
        assert!(served.insert(key.clone(), row).is_none(), "{key} is there twice");
    }
    served
}

fn sorted(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|item| text_of(item).to_owned()).collect()
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What it should serve.
pub(crate) fn wanted(services: &[Value], slices: &[Value], node: &NodeView<'_>) -> Served {
    let mut wanted = Served::new();
    for service in services {
        let spec = &service["spec"];
        if text_of(&spec["type"]) == "ExternalName"
            || text_of(&spec["clusterIP"]) == "None"
            || text_of(&spec["clusterIP"]).is_empty()
            || !service["metadata"]["labels"]["service.kubernetes.io/service-proxy-name"].is_null()
        {
            continue;
        }
        for port in items(&spec["ports"]) {
            for cluster_ip in items(&spec["clusterIPs"]) {
                let (key, row) = wanted_port(service, port, text_of(cluster_ip), slices, node);
                wanted.insert(key, row);
            }
        }
    }
    wanted
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn is_v6(address: &str) -> bool {
    address.contains(':')
}

/// One endpoint of a port.
#[expect(clippy::struct_excessive_bools, reason = "the conditions of the API are independent")]
#[derive(Clone, Copy)]
struct Endpoint<'a> {
    api: &'a Value,
    ready: bool,
    serving: bool,
    terminating: bool,
    local: bool,
}

impl Endpoint<'_> {
    fn hints(&self, field: &str) -> Vec<&str> {
        items(&self.api["hints"][field]).map(|hint| text_of(&hint["name"])).collect()
    }
}

type Endpoints<'a> = BTreeMap<SocketAddr, Endpoint<'a>>;

fn wanted_port(
    service: &Value,
    port: &Value,
    cluster_ip: &str,
    slices: &[Value],
    node: &NodeView<'_>,
) -> (String, Value) {
    let (meta, spec) = (&service["metadata"], &service["spec"]);
    let v6 = is_v6(cluster_ip);
    let family = if v6 { "IPv6" } else { "IPv4" };
    let key = format!(
        "{}/{}:{}/{} {family}",
        text_of(&meta["namespace"]),
        text_of(&meta["name"]),
        text_of(&port["name"]),
        text_of(&port["protocol"])
    );

    let mut vips: Vec<(&str, String, u64)> = vec![("ClusterIP", cluster_ip.to_owned(), port["port"].as_u64().unwrap())];
    for ingress in items(&service["status"]["loadBalancer"]["ingress"]) {
        let ip = text_of(&ingress["ip"]);
        if !ip.is_empty() && is_v6(ip) == v6 && matches!(text_of(&ingress["ipMode"]), "" | "VIP") {
            vips.push(("LoadBalancer", ip.to_owned(), port["port"].as_u64().unwrap()));
        }
    }
    for ip in items(&spec["externalIPs"]).map(text_of).filter(|ip| is_v6(ip) == v6) {
        vips.push(("ExternalIP", ip.to_owned(), port["port"].as_u64().unwrap()));
    }
    let node_port = port["nodePort"].as_u64().unwrap_or_default();
    if node_port != 0 {
        for ip in node.node_port_addresses.iter().filter(|ip| ip.is_ipv6() == v6) {
            vips.push(("NodePort", ip.to_string(), node_port));
        }
    }

    let internal_local = text_of(&spec["internalTrafficPolicy"]) == "Local";
    let external_local = text_of(&spec["externalTrafficPolicy"]) == "Local";
    let externally_accessible = vips.len() > 1;
    let uses_cluster = !internal_local || externally_accessible;
    let uses_local = internal_local || (external_local && externally_accessible);

    let mut ranges: BTreeSet<String> = items(&spec["loadBalancerSourceRanges"])
        .map(|range| text_of(range).trim().to_owned())
        .filter(|range| is_v6(range) == v6)
        .collect();
    if ranges.iter().any(|range| range.ends_with("/0")) {
        ranges.clear();
    }

    let endpoints = merge(service, port, family, slices, node);
    let (cluster, local, has_any) = categorize(&endpoints, uses_cluster, uses_local, node);
    let cluster = cluster.unwrap_or_default();
    let local = local.unwrap_or_default();

    let mut frontends = BTreeMap::new();
    for (kind, ip, number) in &vips {
        let (internal, external) = match *kind {
            "ClusterIP" => (internal_local, internal_local),
            // Who is inside the cluster is not subject to externalTrafficPolicy.
            _ => (false, external_local),
        };
        let mut flags = BTreeSet::new();
        for (is, flag) in [
            (has_any, "internal-empty-drops"),
            (has_any, "external-empty-drops"),
            (internal, "internal-local"),
            (external, "external-local"),
            (*kind == "LoadBalancer" && !ranges.is_empty(), "source-ranges"),
        ] {
            if is {
                flags.insert(flag);
            }
        }
        let set = |is_local: bool| -> BTreeSet<String> {
            if is_local { &local } else { &cluster }.iter().map(ToString::to_string).collect()
        };
        frontends.insert(
            format!("{kind} {ip} {number}"),
            json!({"internal": set(internal), "external": set(external), "flags": flags}),
        );
    }

    let mut backends = BTreeMap::new();
    for (address, endpoint) in endpoints.iter().filter(|(_, e)| e.ready || e.serving) {
        let mut flags = BTreeSet::new();
        for (is, flag) in [
            (endpoint.local, "local"),
            (endpoint.terminating, "terminating"),
            (cluster.contains(address), "in-cluster-set"),
            (local.contains(address), "in-local-set"),
            (node.addresses.contains(&address.ip()), "host-network"),
        ] {
            if is {
                flags.insert(flag);
            }
        }
        backends.insert(*address, flags);
    }

    let affinity = match text_of(&spec["sessionAffinity"]) {
        "ClientIP" => spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].as_u64().unwrap_or(10_800),
        _ => 0,
    };
    (key, json!({"affinity": affinity, "ranges": ranges, "frontends": frontends, "backends": backends}))
}

fn merge<'a>(service: &Value, port: &Value, family: &str, slices: &'a [Value], node: &NodeView<'_>) -> Endpoints<'a> {
    let mut merged = Endpoints::new();
    for slice in slices {
        let (meta, labels) = (&slice["metadata"], &slice["metadata"]["labels"]);
        if meta["namespace"] != service["metadata"]["namespace"]
            || labels["kubernetes.io/service-name"] != service["metadata"]["name"]
            || !labels["service.kubernetes.io/headless"].is_null()
            || slice["addressType"] != family
        {
            continue;
        }
        for slice_port in items(&slice["ports"]) {
            let number = slice_port["port"].as_u64().unwrap_or_default();
            let same = text_of(&slice_port["name"]) == text_of(&port["name"])
                && text_of(&slice_port["protocol"]) == text_of(&port["protocol"]);
            if !same || number == 0 {
                continue;
            }
            for api in items(&slice["endpoints"]) {
                let condition = |name: &str| api["conditions"][name].as_bool();
                let endpoint = Endpoint {
                    api,
                    ready: condition("ready").unwrap_or(true),
                    serving: condition("serving").unwrap_or(true),
                    terminating: condition("terminating").unwrap_or(false),
                    local: text_of(&api["nodeName"]) == node.name,
                };
                let ip: IpAddr = text_of(&api["addresses"][0]).parse().unwrap();
                let address = SocketAddr::new(ip, u16::try_from(number).unwrap());
                let rank = |e: &Endpoint<'_>| (!e.terminating, e.ready, e.serving, e.local);
                let better = merged.get(&address).is_none_or(|known| rank(&endpoint) > rank(known));
                if better {
                    merged.insert(address, endpoint);
                }
            }
        }
    }
    merged
}

type Set = Option<BTreeSet<SocketAddr>>;

/// The cluster set, the local set, and whether there is any endpoint at all.
fn categorize(all: &Endpoints<'_>, uses_cluster: bool, uses_local: bool, node: &NodeView<'_>) -> (Set, Set, bool) {
    if all.is_empty() {
        return (None, None, false);
    }
    let pick = |wanted: &dyn Fn(&Endpoint<'_>) -> bool| -> BTreeSet<SocketAddr> {
        all.iter().filter(|(_, endpoint)| wanted(endpoint)).map(|(address, _)| *address).collect()
    };
    let mut has_any = false;
    let mut cluster = None;
    if uses_cluster {
        let ready: Vec<&Endpoint<'_>> = all.values().filter(|e| e.ready).collect();
        let on_node = |e: &Endpoint<'_>| e.hints("forNodes").contains(&node.name);
        let in_zone = |e: &Endpoint<'_>| node.zone.is_some_and(|zone| e.hints("forZones").contains(&zone));
        let every = |field: &str| ready.iter().all(|e| !e.hints(field).is_empty());
        let mut set = if every("forNodes") && ready.iter().any(|e| on_node(e)) {
            pick(&|e| e.ready && on_node(e))
        } else if every("forZones") && ready.iter().any(|e| in_zone(e)) {
            pick(&|e| e.ready && in_zone(e))
        } else {
            pick(&|e| e.ready)
        };
        if set.is_empty() {
            set = pick(&|e| e.serving && e.terminating);
        }
        has_any = !set.is_empty();
        cluster = Some(set);
    }
    let mut local = None;
    if uses_local {
        has_any |= all.values().any(|e| e.ready || (e.serving && e.terminating));
        if all.values().any(|e| e.local && e.ready) {
            local = Some(pick(&|e| e.local && e.ready));
        } else if all.values().any(|e| e.local && e.serving && e.terminating && !e.ready) {
            local = Some(pick(&|e| e.local && e.serving && e.terminating));
        }
    }
    (cluster, local, has_any)
}
