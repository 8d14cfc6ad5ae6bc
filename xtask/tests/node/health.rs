//! What load balancers, kubelets and monitoring ask the agent itself, over real sockets.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::lab::plan::{BRIDGE_ADDR, NODE1, NODE1_ADDR};
use xtask::lab::{
    Agent, AgentOptions, EndpointState, Family, Lab, LabOptions, Manifests, Netns, Pod, ServiceSpec, sluice_binary,
};

use crate::fixture::{ALL, Node, all};

const HEALTH_PORT: u16 = 32_100;
const PATIENCE: Duration = Duration::from_secs(5);

/// A response: code, headers, body.
#[derive(Clone, Debug)]
struct Said {
    code: u16,
    head: String,
    body: String,
}

impl Said {
    fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn ask_with(ns: &Netns, method: &str, addr: SocketAddr, path: &str) -> Option<Said> {
    let text = ns.run(|| {
        let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    let text = text.ok()?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Said { code, head: head.to_owned(), body: body.to_owned() })
}

fn ask(ns: &Netns, addr: SocketAddr, path: &str) -> Option<Said> {
    ask_with(ns, "GET", addr, path)
}

/// Asks until the answer is as it should be.
fn until(ns: &Netns, addr: SocketAddr, path: &str, good: impl Fn(Option<&Said>) -> bool) -> Option<Said> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = ask(ns, addr, path);
        if good(said.as_ref()) {
            return said;
        }
        let head = said.as_ref().map(|said| &said.head);
        assert!(Instant::now() < deadline, "{addr}{path} says {head:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

fn health_checked() -> ServiceSpec {
    ServiceSpec { external_local: true, health_node_port: Some(HEALTH_PORT), ..all() }
}

fn local_pods(node: &Node) -> impl Iterator<Item = &Pod> {
    node.lab.pods().iter().filter(|pod| pod.cni.node() == NODE1)
}

fn node_object(manifests: &Manifests, taints: &Value) {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE1}, "spec": {"taints": taints},
    });
    manifests.put("node.json", &node).unwrap();
}

#[test]
fn healthz_and_livez_say_what_kube_proxy_says() {
    let node = Node::start();
    for family in Family::ALL {
        let addr = at(NODE1_ADDR.of(family), 10_256);
        let said = until(&node.lab.client, addr, "/healthz", |said| said.is_some_and(|said| said.code == 200)).unwrap();
        assert!(said.has("Content-Type: application/json") && said.has("X-Content-Type-Options: nosniff"), "{said:?}");
        assert!(said.body.starts_with("{\"lastUpdated\":\"") && said.body.ends_with("}}}"), "{said:?}");
        let json = said.json();
        assert_eq!((&json["nodeEligible"], &json["healthy"]), (&json!(true), &json!(true)));
        assert!(json["status"]["IPv4"]["healthy"] == true && json["status"]["IPv6"]["healthy"] == true);
        let live = ask_with(&node.lab.client, "POST", addr, "/livez").unwrap();
        assert_eq!(live.code, 200);
        assert_eq!(live.json().get("nodeEligible"), None);
        assert_eq!(ask(&node.lab.client, addr, "/readyz").unwrap().code, 200);
        assert_eq!(ask(&node.lab.client, addr, "/metrics").unwrap().code, 404);
    }
}

#[test]
fn a_node_to_be_removed_is_not_eligible_but_alive() {
    let node = Node::start();
    let addr = at(NODE1_ADDR.of(Family::V4), 10_256);
    let client = &node.lab.client;
    let is = |code: u16| move |said: Option<&Said>| said.is_some_and(|said| said.code == code);
    node_object(&node.manifests, &json!([]));
    until(client, addr, "/healthz", is(200));
    node_object(&node.manifests, &json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]));
    let said = until(client, addr, "/healthz", is(503)).unwrap().json();
    assert_eq!((&said["nodeEligible"], &said["healthy"]), (&json!(false), &json!(true)));
    assert_eq!(ask(client, addr, "/livez").unwrap().code, 200);
    node_object(&node.manifests, &json!([]));
    until(client, addr, "/healthz", is(200));
    std::fs::remove_file(node.manifests.dir().join("node.json")).unwrap();
    until(client, addr, "/healthz", is(503));
    assert_eq!(ask(client, addr, "/livez").unwrap().code, 200);
}

#[test]
fn health_check_port_follows_local_endpoints_and_policy() {
    let node = Node::with(LabOptions::default(), &health_checked(), &[]);
    let client = &node.lab.client;
    let is = |code: u16| move |said: Option<&Said>| said.is_some_and(|said| said.code == code);
    for family in Family::ALL {
        let addr = at(NODE1_ADDR.of(family), HEALTH_PORT);
        let said = until(client, addr, "/any/path", is(200)).unwrap();
        assert!(said.has("Content-Type: application/json") && said.has("X-Content-Type-Options: nosniff"), "{said:?}");
        // Four Pods of this node with two ports each.
        assert!(said.has("X-Load-Balancing-Endpoint-Weight: 4"), "{said:?}");
        assert_eq!(
            said.body,
            "{\n\t\"service\": {\n\t\t\"namespace\": \"lab\",\n\t\t\"name\": \"all\"\n\t},\n\
             \t\"localEndpoints\": 4,\n\t\"serviceProxyHealthy\": true\n}"
        );
        let elsewhere = at(BRIDGE_ADDR.of(family), HEALTH_PORT);
        assert!(ask(&node.lab.node1, elsewhere, "/").is_none(), "{elsewhere} is no primary address");
    }
    let addr = at(NODE1_ADDR.of(Family::V4), HEALTH_PORT);
    // Endpoints that end do not count, although they still serve.
    let ending: Vec<_> = local_pods(&node).map(|pod| (pod, EndpointState::Terminating)).collect();
    node.change(|manifests| manifests.endpoints(ALL, &ending).unwrap());
    let said = until(client, addr, "/", is(503)).unwrap();
    assert!(said.has("X-Load-Balancing-Endpoint-Weight: 0"), "{said:?}");
    assert!(said.body.contains("\"localEndpoints\": 0") && said.body.contains("\"serviceProxyHealthy\": true"));
    // Only endpoints elsewhere.
    node.change(|manifests| manifests.ready(ALL, [node.lab.pod("remote1").unwrap()]).unwrap());
    until(client, addr, "/", is(503));
    node.change(|manifests| manifests.ready(ALL, local_pods(&node).take(1)).unwrap());
    assert!(until(client, addr, "/", is(200)).unwrap().has("X-Load-Balancing-Endpoint-Weight: 1"));
    // The policy decides whether there is a port at all.
    node.change(|manifests| manifests.service(&ServiceSpec { external_local: false, ..health_checked() }).unwrap());
    until(client, addr, "/", |said| said.is_none());
    node.change(|manifests| manifests.service(&health_checked()).unwrap());
    until(client, addr, "/", is(200));
    node.change(|manifests| manifests.remove(ALL).unwrap());
    until(client, addr, "/", |said| said.is_none());
}

#[test]
fn a_taken_health_check_port_costs_only_itself() {
    let node = Node::start();
    let addr = at(NODE1_ADDR.of(Family::V4), HEALTH_PORT);
    let other = at(NODE1_ADDR.of(Family::V6), HEALTH_PORT);
    let taken = node.lab.node1.run(|| Ok(TcpListener::bind(addr)?)).unwrap();
    node.change(|manifests| manifests.service(&health_checked()).unwrap());
    let client = &node.lab.client;
    until(client, other, "/", |said| said.is_some_and(|said| said.code == 200));
    let expected = format!(
        "node {NODE1} failed to start healthcheck \"lab/all\" on port {HEALTH_PORT}: listen tcp4 {addr}: \
         bind: address already in use"
    );
    assert!(node.agent.log_tail().contains(&expected), "the log names it");
    assert!(!node.agent.log().contains('\u{1b}'), "the log is no terminal");
    assert_eq!(ask(client, at(NODE1_ADDR.of(Family::V4), 10_256), "/healthz").unwrap().code, 200);
    let ports = || node.agent.json(&["status"]).unwrap()["report"]["ports_taken"].to_string();
    // The report follows what is listened on.
    let deadline = Instant::now() + PATIENCE;
    while !ports().contains(&addr.to_string()) {
        assert!(Instant::now() < deadline, "{}", ports());
        thread::sleep(Duration::from_millis(50));
    }
    drop(taken);
    until(client, addr, "/", |said| said.is_some_and(|said| said.code == 200));
}

#[test]
fn metrics_show_what_the_agent_does() {
    let node = Node::start();
    let here = at("127.0.0.1".parse().unwrap(), 10_249);
    let inside = &node.lab.node1;
    for (path, body) in [("/healthz", "ok"), ("/proxyMode", "nftables")] {
        let said = until(inside, here, path, |said| said.is_some_and(|said| said.code == 200)).unwrap();
        assert_eq!(said.body, body);
    }
    let configz = ask(inside, here, "/configz").unwrap().json();
    assert_eq!(configz["kubeproxy.config.k8s.io"]["hostnameOverride"], NODE1);
    node.change(|manifests| manifests.ready(ALL, local_pods(&node)).unwrap());
    let text = ask(inside, here, "/metrics").unwrap().body;
    let value = |series: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    };
    for family in ["IPv4", "IPv6"] {
        let count = |name: &str| value(&format!("kubeproxy_{name}_count{{ip_family=\"{family}\"}}"));
        assert!(count("sync_full_proxy_rules_duration_seconds") == 1.0, "{text}");
        assert!(count("sync_partial_proxy_rules_duration_seconds") >= 1.0, "{text}");
    }
    assert!(value("kubeproxy_sync_proxy_rules_endpoint_changes_total") >= 4.0);
    assert!(value("sluice_map_entries{map=\"BACKENDS4\"}") >= 4.0);
    assert!(value("sluice_map_entries{map=\"SLOTS4\"}") >= 4.0);
    assert!(value("sluice_map_capacity{map=\"FLOWS6\"}") > 1000.0);
    assert!(value("sluice_devices_attached{role=\"pod\"}") >= 1.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    let both = ["FRONTENDS", "SLOTS", "BACKENDS", "RANGES", "FLOWS", "HALF", "AFFINITY", "SOCKETS", "FRAGS"];
    let both = both.iter().flat_map(|map| [format!("{map}4"), format!("{map}6")]);
    for map in both.chain(["DEVICES", "NAMES", "OPT_OUT", "TOTALS"].map(str::to_owned)) {
        value(&format!("sluice_map_entries{{map=\"{map}\"}}"));
        assert!(value(&format!("sluice_map_capacity{{map=\"{map}\"}}")) > 0.0);
    }
}

#[test]
fn an_endpoints_way_into_the_kernel_is_timed() {
    let node = Node::start();
    let here = at("127.0.0.1".parse().unwrap(), 10_249);
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": "all-late", "namespace": "lab", "labels": {"kubernetes.io/service-name": ALL},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2100-01-01T00:00:00Z"},
        },
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": [{"addresses": ["10.244.2.99"]}],
    });
    node.change(|manifests| manifests.put("late.json", &slice).unwrap());
    let count = "kubeproxy_network_programming_duration_seconds_count";
    let line = format!("{count}{{ip_family=\"IPv4\"}} 1");
    until(&node.lab.node1, here, "/metrics", |said| said.is_some_and(|said| said.body.contains(&line)));
    let text = ask(&node.lab.node1, here, "/metrics").unwrap().body;
    assert!(text.contains(&format!("{count}{{ip_family=\"IPv6\"}} 0")), "{text}");
}

/// kube-proxy sets this for the whole node, and clusters rely on it for connections that Sluice never sees.
#[test]
fn a_kube_proxy_configuration_sets_connection_tracking() {
    let lab = Lab::start(LabOptions::default()).unwrap();
    let manifests = Manifests::of(&lab);
    manifests.service(&all()).unwrap();
    let file = manifests.dir().with_file_name("kube-proxy.yaml");
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n\
         hostnameOverride: other\nmetricsBindAddress: 0.0.0.0:9249\nconntrack: {maxPerCore: 0}\noomScoreAdj: 7\n";
    std::fs::write(&file, text).unwrap();
    let value = || {
        let name = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
        lab.node1.run(|| Ok(std::fs::read_to_string(name)?)).unwrap().trim().to_owned()
    };
    assert_ne!(value(), "3600", "the kernel's own default");
    let options = AgentOptions::new(&sluice_binary().unwrap(), manifests.dir());
    let agent = Agent::start(&lab, options.arg("--config").arg(&file.to_string_lossy())).unwrap();
    assert_eq!(value(), "3600");
    let adjusted = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", agent.pid().unwrap())).unwrap();
    assert_eq!(adjusted.trim(), "7");
    let metrics = at(NODE1_ADDR.of(Family::V4), 9249);
    let said = until(&lab.client, metrics, "/configz", |said| said.is_some()).unwrap().json();
    let config = &said["kubeproxy.config.k8s.io"];
    assert_eq!(config["hostnameOverride"], NODE1, "the command line wins");
    assert_eq!(config["conntrack"]["tcpCloseWaitTimeout"], "1h0m0s");
}
