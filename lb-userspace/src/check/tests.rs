//! Each check, provoked and not provoked.

use super::facts::*;
use super::finding::Level::{Ok as Fine, Problem, Skipped, Warning};
use super::firewall::{Firewall, iptables, nft};
use super::*;
use crate::devices::Role;

fn device(name: &str, role: Role) -> DeviceFacts {
    let why = "because".to_owned();
    DeviceFacts { name: name.into(), role, why, forwarding: Some(true), ..DeviceFacts::default() }
}

fn front(addr: &str, node_port: bool) -> Front {
    let service = "shop/web:http/TCP".to_owned();
    Front { addr: addr.parse().unwrap(), protocol: 6, node_port, cluster_ip: !node_port, service }
}

fn program(hook: &str, id: u32, name: &str, owner: Owner) -> HookProgram {
    HookProgram { hook: hook.into(), id, name: name.into(), owner }
}

/// A node on which all is in order.
fn sound() -> Facts {
    let uplink = DeviceFacts {
        addresses: vec!["192.0.2.1".parse().unwrap()],
        default_route: true,
        ..device("eth0", Role::Uplink)
    };
    let mut firewall = Firewall::default();
    firewall.add("nft", nft::parse(r#"{"nftables": []}"#).unwrap());
    Facts {
        kernel: "6.12.1".into(),
        mounts: Mounts { on_bpffs: true, cgroup2: Some("/sys/fs/cgroup".into()), ..Mounts::default() },
        capabilities: Some(u64::MAX),
        clock: Clock { now: 1_900_000_000, synchronised: Some(true) },
        sysctls: Sysctls {
            forward_v4: Some(true),
            forward_v6: Some(true),
            local_ports: Some((32_768, 60_999)),
            ..Sysctls::default()
        },
        devices: vec![uplink, device("veth1", Role::Pod), device("lo", Role::Ignored)],
        firewall,
        programs: Programs { at_hooks: vec![program("eth0 ingress", 7, "uplink_ingress", Owner::Own)], failed: None },
        frontends: vec![front("10.96.0.10:80", false), front("192.0.2.1:30080", true)],
        snat_ports: (1024, 29_999),
        maps: vec![MapFill {
            map: "FRONTENDS4".into(),
            used: 10,
            capacity: 100,
            setting: Some("--max-frontends"),
            evicts: false,
        }],
        agent: Some(AgentFacts { alive: true, synced: true, node_name: "n1".into(), ..AgentFacts::default() }),
        names: Some(Names { own: "n1".into(), object: Some(true), here: true, ..Names::default() }),
        ..Facts::default()
    }
}

fn found(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = sound();
    change(&mut facts);
    all(&facts).into_iter().filter(|finding| finding.level != Fine).collect()
}

#[test]
fn a_sound_node_gets_one_line_for_each_check_and_nothing_to_do() {
    let lines = all(&sound());
    assert_eq!(lines.len(), CHECKS.len(), "{lines:#?}");
    assert!(lines.iter().all(|line| line.level == Fine && line.todo.is_none()), "{lines:#?}");
    assert_eq!(worst(&lines), Fine);
}

/// What is changed, the check that has to say it, how bad it is, a part of what it says and of what to do.
type Provoked = (fn(&mut Facts), &'static str, Level, &'static str, &'static str);

#[rustfmt::skip]
const PROVOKED: &[Provoked] = &[
    (|f| f.kernel = "5.4.0-100".into(), "kernel", Problem, "older than 5.10", "newer kernel"),
    (|f| f.mounts.on_bpffs = false, "bpffs", Warning, "not on a BPF file system", "mount -t bpf"),
    (|f| { f.mounts.on_bpffs = false; f.mounts.in_the_way = true; }, "bpffs", Problem, "not empty", "--pin-path"),
    (|f| f.mounts.cgroup2 = None, "cgroup", Warning, "not mounted", "mount -t cgroup2"),
    (|f| f.mounts.cgroup_namespace = true, "cgroup", Warning, "a part of the cgroups", "host's"),
    (|f| f.capabilities = Some(1 << 12), "capabilities", Problem, "BPF, PERFMON", "root"),
    (|f| f.capabilities = None, "capabilities", Skipped, "cannot be read", "/proc"),
    (|f| f.clock.now = 5, "clock", Problem, "never set", "set it"),
    (|f| f.clock.synchronised = Some(false), "clock", Warning, "nobody keeps", "chronyd"),
    (|f| f.sysctls.forward_v4 = Some(false), "forwarding", Problem, "net.ipv4.ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1"),
    (|f| f.sysctls.forward_v6 = Some(false), "forwarding", Problem, "IPv6", "conf.all.forwarding=1"),
    (|f| f.devices[1].forwarding = Some(false), "forwarding", Problem, "come in by veth1", "net.ipv4.conf.veth1.forwarding=1"),
    (|f| { f.devices.push(device("eth1", Role::Uplink)); f.sysctls.rp_filter_all = 1; }, "rp-filter", Warning, "strict on eth0, eth1", "rp_filter=2"),
    (|f| f.devices[0].route_localnet = true, "route-localnet", Warning, "on for eth0", "route_localnet=0"),
    (|f| f.snat_ports = (32_800, 40_000), "snat-ports", Warning, "share 32800-40000", "ip_local_reserved_ports=32800-40000"),
    (|f| f.snat_ports = (1024, 31_000), "snat-ports", Warning, "30080 of shop/web:http/TCP", "30000"),
    (|f| f.kube_proxy.processes = vec![77], "kube-proxy", Problem, "runs (pid 77)", "delete daemonset kube-proxy"),
    (|f| f.kube_proxy.ipvs_servers = 3, "kube-proxy", Warning, "3 virtual servers", "ipvsadm --clear"),
    (|f| f.programs.at_hooks.push(program("eth0 ingress", 8, "uplink_ingress", Owner::OtherSluice)), "programs", Problem, "another Sluice", "cleanup --pin-path"),
    (|f| f.programs.at_hooks.push(program("eth0 ingress", 3, "cil_from_netdev", Owner::Foreign)), "programs", Warning, "cil_from_netdev (3) at eth0 ingress", "translate no Services"),
    (|f| f.programs.at_hooks.insert(0, program("eth0 ingress", 3, "cil_from_netdev", Owner::Foreign)), "programs", Warning, "cil_from_netdev (3) at eth0 ingress", "kubeProxyReplacement=false"),
    (|f| f.programs.at_hooks.push(program("eth0 xdp", 9, "drop_all", Owner::Foreign)), "programs", Warning, "drop_all (9) at eth0 xdp", "let packets"),
    (|f| f.programs.failed = Some("EPERM".into()), "programs", Skipped, "EPERM", "root"),
    (|f| { f.listening.insert("0.0.0.0:30080".parse().unwrap()); }, "ports", Warning, "30080 of shop/web", "ss -ltnp"),
    (|f| { f.listening.insert("[::]:10256".parse().unwrap()); f.agent = None; }, "ports", Warning, "port 10256", "--healthz-bind-address"),
    (|f| f.agent.as_mut().unwrap().ports_taken = vec!["0.0.0.0:10256 for healthz".into()], "ports", Problem, "10256 for healthz", "ss -ltnp"),
    (|f| f.agent.as_mut().unwrap().alive = false, "agent", Problem, "does not run", "start it"),
    (|f| f.agent.as_mut().unwrap().synced = false, "agent", Problem, "first full state", "log"),
    (|f| f.agent.as_mut().unwrap().errors = vec!["eth0: EBUSY".into()], "agent", Problem, "EBUSY", "log"),
    (|f| f.agent.as_mut().unwrap().not_served = vec!["Pods of x".into()], "agent", Warning, "Pods of x", "docs/sockets.md"),
    (|f| f.agent.as_mut().unwrap().failing = Some((40, "refused".into())), "source", Problem, "for 40 s: refused", "as they were"),
    (|f| f.api = Some(Api { url: "https://10.96.0.10:80".into(), addr: "10.96.0.10:80".parse().ok(), reached: None }), "source", Warning, "through the ClusterIP", "--api-server"),
    (|f| f.api = Some(Api { reached: Some(Err("timed out".into())), ..Api::default() }), "source", Problem, "timed out", "routes"),
    (|f| f.agent.as_mut().unwrap().refusals = vec![["Service", "a/b", "BadPort", "port 0"].map(Into::into)], "refusals", Warning, "Service a/b: BadPort", "docs/manifests.md"),
    (|f| f.maps[0].used = 90, "maps", Warning, "90 of 100", "--max-frontends"),
    (|f| f.maps[0].used = 100, "maps", Problem, "what comes next is not served", "--max-frontends"),
    (|f| { f.maps[0].used = 100; f.maps[0].evicts = true; }, "maps", Warning, "pushed out", "--max-frontends"),
    (|f| f.devices[0].role = Role::Ignored, "uplinks", Problem, "eth0 is no uplink", "--uplink eth0"),
    (|f| { f.devices[0].role = Role::Pod; f.devices[0].default_route = false; }, "uplinks", Problem, "its address 192.0.2.1", "--uplink eth0"),
    (|f| way(f, |way| way.route = Err("Network is unreachable".into())), "backends", Problem, "10.1.0.1:8080 of shop/web: there is no route (Network is unreachable)", "ip route get 10.1.0.1"),
    (|f| way(f, |way| { way.local = true; leads(way).uplink = true; }), "backends", Problem, "said to be on this node, but the route leads out by eth0", "--node-name"),
    (|f| way(f, |way| leads(way).running = false), "backends", Problem, "eth0, by which the route leads, is down", "ip link set eth0 up"),
    (|f| way(f, |way| leads(way).unanswered = true), "backends", Problem, "nobody on eth0 answers for 10.1.0.1", "ip neigh show 10.1.0.1"),
    (|f| way(f, |way| { leads(way).unanswered = true; leads(way).next = "192.0.2.254".parse().ok(); }), "backends", Problem, "answers for 192.0.2.254", "its node is gone"),
    (|f| way(f, |way| way.probed = Some(Probed::Refused)), "backends", Problem, "nothing listens on port 8080", "targetPort"),
    (|f| way(f, |way| way.probed = Some(Probed::Unanswered)), "backends", Problem, "does not answer", "NetworkPolicy"),
    (|f| way(f, |way| way.probed = Some(Probed::Unreachable("No route to host".into()))), "backends", Problem, "No route to host", "ip neigh show"),
    (|f| f.devices.clear(), "uplinks", Problem, "no device is an uplink", "--uplink DEVICE"),
    (|f| *names(f) = Names { own: "n1".into(), object: Some(false), ..Names::default() }, "node-name", Problem, "no Node n1", "kubectl get nodes"),
    (|f| *names(f) = Names { own: "n1".into(), others: ["N1.example".to_owned()].into(), ..Names::default() }, "node-name", Problem, "policy Local finds no endpoint", "--node-name N1.example"),
    (|f| *names(f) = Names { own: "n1".into(), others: ["a".to_owned(), "b".to_owned()].into(), ..Names::default() }, "node-name", Warning, "policy Cluster hides clients", "a, b"),
    (|f| *names(f) = Names { own: "n1".into(), nowhere: true, ..Names::default() }, "node-name", Warning, "endpoints have no nodeName", "nodeName"),
    (|f| f.names = None, "node-name", Skipped, "not known", "start the agent"),
    (|f| nft(f, "forward", "drop", "[]"), "forward-policy", Problem, "nft inet filter c drops IPv4", "nft add rule inet filter c"),
    (|f| nft(f, "forward", "drop", r#"[{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "cni0"}}, {"accept": null}]"#), "forward-policy", Warning, "but for what its rules let through", "all Pods"),
    (|f| nft(f, "forward", "drop", r#"[{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}]"#), "forward-policy", Problem, "nothing reaches a Pod", "accept"),
    (|f| nft(f, "forward", "accept", r#"[{"reject": null}]"#), "forward-policy", Problem, "drops IPv4", "accept"),
    (|f| iptables(f, "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"), "forward-policy", Problem, "iptables -t filter FORWARD drops IPv4", "iptables -I FORWARD"),
    (|f| iptables(f, "*filter\n:FORWARD ACCEPT [0:0]\n:D - [0:0]\n-A FORWARD -j D\n-A D -j DROP\n"), "forward-policy", Problem, "drops IPv4", "POD-CIDR"),
    (|f| nft(f, "input", "accept", r#"[{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 30080}}, {"drop": null}]"#), "firewall-rules", Warning, "NodePort 30080 of shop/web", "nft delete rule inet filter c handle 4"),
    (|f| nft(f, "input", "accept", r#"[{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": {"prefix": {"addr": "10.96.0.8", "len": 29}}}}, {"drop": null}]"#), "firewall-rules", Warning, "10.96.0.10:80 of shop/web", "loadBalancerSourceRanges"),
    (|f| nft(f, "input", "accept", r#"[{"match": {"op": "==", "left": {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}}, {"payload": {"protocol": "tcp", "field": "dport"}}]}, "right": {"set": [{"concat": ["192.0.2.1", 30080]}]}}}, {"drop": null}]"#), "firewall-rules", Warning, "NodePort 30080", "handle 4"),
    (|f| nft(f, "input", "accept", r#"[{"vmap": {"key": {"payload": {"protocol": "tcp", "field": "dport"}}, "data": {"set": [[{"range": [30000, 30100]}, {"drop": null}]]}}}]"#), "firewall-rules", Warning, "NodePort 30080", "handle 4"),
    (|f| nft(f, "input", "accept", r#"[{"match": {"op": "in", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": "@ports"}}]"#), "firewall-rules", Warning, "NodePort 30080", "handle 4"),
    (|f| iptables(f, "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT ! -s 10.0.0.0/8 -p tcp -m multiport --dports 22,30080 -m comment --comment \"only -d us\" -j DROP\n"), "firewall-rules", Warning, "NodePort 30080", "iptables -t filter -D INPUT ! -s 10.0.0.0/8"),
    (|f| { f.frontends.clear(); iptables(f, "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 31000 -j DROP\n"); }, "firewall-rules", Warning, "port 31000, from which NodePorts are taken", "-D INPUT -p tcp"),
    (|f| iptables(f, "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-ABC - [0:0]\n"), "kube-proxy", Warning, "2 iptables chains", "iptables-restore"),
    (|f| kube_proxy_table(f), "kube-proxy", Warning, "nft table ip6 kube-proxy", "nft delete table ip6 kube-proxy"),
];

/// A backend behind a sound way, but for this.
fn way(facts: &mut Facts, change: impl FnOnce(&mut Way)) {
    let route = Ok(Leads { device: "eth0".into(), running: true, ..Leads::default() });
    let mut way = Way { backend: "10.1.0.1:8080".parse().unwrap(), protocol: 6, local: false, route, probed: None };
    change(&mut way);
    facts.ways.push(("shop/web".into(), way));
}

fn leads(way: &mut Way) -> &mut Leads {
    way.route.as_mut().unwrap()
}

fn names(facts: &mut Facts) -> &mut Names {
    facts.names.as_mut().unwrap()
}

/// A chain at a hook, with one rule unless it has no expression.
fn nft(facts: &mut Facts, hook: &str, policy: &str, expressions: &str) {
    let place = r#""family": "inet", "table": "filter""#;
    let rule = if expressions == "[]" {
        String::new()
    } else {
        format!(r#", {{"rule": {{{place}, "chain": "c", "handle": 4, "expr": {expressions}}}}}"#)
    };
    let json = format!(
        r#"{{"nftables": [{{"metainfo": {{}}}}, {{"set": {{{place}, "name": "ports", "elem": [22, 30080]}}}},
            {{"chain": {{{place}, "name": "c", "hook": "{hook}", "policy": "{policy}"}}}}{rule}]}}"#
    );
    facts.firewall.add("nft", nft::parse(&json).unwrap());
}

fn iptables(facts: &mut Facts, text: &str) {
    facts.firewall.add("iptables-save", iptables::parse(text, false));
}

fn kube_proxy_table(facts: &mut Facts) {
    let json = r#"{"nftables": [{"table": {"family": "ip6", "name": "kube-proxy"}},
        {"chain": {"family": "ip6", "table": "kube-proxy", "name": "services"}},
        {"rule": {"family": "ip6", "table": "kube-proxy", "chain": "services", "handle": 1,
            "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 30080}}]}}]}"#;
    facts.firewall.add("nft", nft::parse(json).unwrap());
}

#[test]
fn each_check_finds_what_it_looks_for_when_it_is_provoked_and_nothing_else() {
    let mut wrong = Vec::new();
    for (at, (change, check, level, says, todo)) in PROVOKED.iter().enumerate() {
        let lines = found(change);
        let is_it = |line: &Finding| {
            (&*line.check, line.level) == (*check, *level)
                && line.found.contains(says)
                && line.todo.as_ref().is_some_and(|text| text.contains(todo))
        };
        if lines.len() != 1 || !lines.iter().all(is_it) {
            wrong.push(format!("{at} ({check}, {says}): {lines:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unprovoked = CHECKS.iter().find(|check| !PROVOKED.iter().any(|(_, name, ..)| *name == check.name));
    assert!(unprovoked.is_none(), "{unprovoked:?}");
}

/// What looks like a fault, but is not one.
#[rustfmt::skip]
const IN_ORDER: &[fn(&mut Facts)] = &[
    |f| f.sysctls.rp_filter_all = 1,
    |f| { f.snat_ports = (32_768, 40_000); f.sysctls.reserved_ports = vec![(35_000, 50_000), (30_000, 34_999)]; },
    |f| f.devices[2].forwarding = Some(false),
    |f| { f.devices[1].port = true; f.devices[1].forwarding = Some(false); },
    |f| iptables(f, "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -j ACCEPT\n"),
    |f| iptables(f, "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -d 10.9.9.9/32 -j DROP\n"),
    |f| iptables(f, "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n"),
    |f| iptables(f, "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -d 10.0.0.0/8 -p tcp -m tcp --dport 10250 -j DROP\n"),
    |f| iptables(f, "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 1024:65535 -j ACCEPT\n"),
    |f| iptables(f, "*filter\n:KUBE-FIREWALL - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n"),
    |f| { f.listening.insert("127.0.0.1:30080".parse().unwrap()); },
    |f| { f.listening.insert("0.0.0.0:10256".parse().unwrap()); },
    |f| way(f, |way| way.probed = Some(Probed::Taken)),
    |f| way(f, |way| { leads(way).own = true; leads(way).running = false; }),
    |f| *names(f) = Names { own: "n1".into(), object: Some(true), others: ["a".to_owned()].into(), ..Names::default() },
];

#[test]
fn what_only_looks_like_a_fault_is_left_alone() {
    for (at, change) in IN_ORDER.iter().enumerate() {
        assert_eq!(found(change), [], "{at}");
    }
}

#[test]
fn a_chain_that_lets_through_what_kube_proxy_marked_still_drops_everything() {
    let text = "*filter\n:FORWARD DROP [0:0]\n:KUBE-FORWARD - [0:0]\n-A FORWARD -j KUBE-FORWARD\n\
                -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n";
    let lines = found(|facts| iptables(facts, text));
    let checks: Vec<(&str, Level)> = lines.iter().map(|line| (&*line.check, line.level)).collect();
    assert_eq!(checks, [("forward-policy", Problem), ("kube-proxy", Warning)], "{lines:#?}");
}

#[test]
fn without_the_tools_of_the_firewall_that_is_said() {
    let lines = found(|facts| facts.firewall = Firewall::default());
    let checks: Vec<(&str, Level)> = lines.iter().map(|line| (&*line.check, line.level)).collect();
    assert_eq!(checks, [("forward-policy", Skipped), ("firewall-rules", Skipped), ("kube-proxy", Skipped)]);
    assert!(lines[0].found.contains("not installed"), "{lines:#?}");
}

#[test]
fn a_chain_that_two_tools_show_counts_once_and_as_iptables_shows_it() {
    let mut facts = sound();
    iptables(&mut facts, "*filter\n:c ACCEPT [0:0]\n");
    assert_eq!(facts.firewall.chains.len(), 1);
    let json = r#"{"nftables": [{"chain": {"family": "ip", "table": "filter", "name": "c"}}]}"#;
    let mut both = Firewall::default();
    both.add("nft", nft::parse(json).unwrap());
    both.add("iptables-save", iptables::parse("*filter\n:c ACCEPT [0:0]\n", false));
    assert_eq!(both.chains, facts.firewall.chains);
}

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/troubleshooting.md");

/// Replaces what is between two lines, and says what was there.
fn swap(text: &str, begin: &str, end: &str, fresh: &str) -> (String, String) {
    let (before, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin}"));
    let (head, rest) = rest.split_once('\n').unwrap();
    let (was, after) = rest.split_once(end).unwrap_or_else(|| panic!("no {end}"));
    (format!("{before}{begin}{head}\n{fresh}{end}{after}"), was.to_owned())
}

fn table<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let rows = rows.map(|(name, about)| format!("| `{name}` | {about} |\n"));
    std::iter::once("| check | looks at |\n|---|---|\n".to_owned()).chain(rows).collect::<Vec<_>>().concat()
}

#[test]
fn the_documents_have_every_check() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let of_node = table(CHECKS.iter().map(|check| (check.name, check.about)));
    let of_manifests = table(manifests::CHECKS.into_iter());
    let (text, was) = swap(&text, "<!-- checks: ", "<!-- end of checks -->", &of_node);
    let (text, was_of_manifests) =
        swap(&text, "<!-- checks of manifests", "<!-- end of checks of manifests -->", &of_manifests);
    if std::env::var_os("SLUICE_BLESS").is_some() {
        std::fs::write(DOCUMENT, text).unwrap();
    } else {
        assert_eq!((was, was_of_manifests), (of_node, of_manifests), "run this test with SLUICE_BLESS=1");
    }
}
