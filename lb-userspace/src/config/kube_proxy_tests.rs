//! Tests of reading kube-proxy's configuration.

use std::path::Path;

use super::file::parse;
use super::findings::{Finding, Loaded, Takes, Verdict};
use super::kube_proxy::EXTERNAL_IPS;

fn load(fields: &str) -> Loaded {
    let text = format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{fields}");
    parse(&text, Path::new("x"), &|_| Some(Takes::Value)).unwrap()
}

fn finding<'a>(loaded: &'a Loaded, field: &str) -> &'a Finding {
    loaded.findings.iter().find(|finding| finding.field == field).unwrap()
}

/// Fields as a real kube-proxy shows them at `/configz`, those that are for it to decide left out.
pub(super) const CAPTURED: &str = r#"
clientConnection: {kubeconfig: "", acceptContentTypes: "", contentType: application/vnd.kubernetes.protobuf, qps: 5, burst: 10}
logging: {format: text, flushFrequency: 5s, verbosity: 2, options: {text: {infoBufferSize: "0"}, json: {infoBufferSize: "0"}}}
hostnameOverride: node-a
bindAddress: 0.0.0.0
healthzBindAddress: 0.0.0.0:10256
metricsBindAddress: 127.0.0.1:10249
bindAddressHardFail: false
enableProfiling: false
showHiddenMetricsForVersion: ""
mode: nftables
iptables: {masqueradeBit: 14, masqueradeAll: false, localhostNodePorts: true, syncPeriod: 0s, minSyncPeriod: 0s}
ipvs: {syncPeriod: 0s, minSyncPeriod: 0s, scheduler: "", excludeCIDRs: null, strictARP: false, tcpTimeout: 0s,
  tcpFinTimeout: 0s, udpTimeout: 0s}
nftables: {masqueradeBit: 14, masqueradeAll: true, syncPeriod: 30s, minSyncPeriod: 1s}
winkernel: {networkName: "", sourceVip: "", enableDSR: false, rootHnsEndpointName: "", forwardHealthCheckVip: false}
detectLocalMode: ClusterCIDR
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
clusterCIDR: 10.244.0.0/16,fd44::/16
nodePortAddresses: [primary]
oomScoreAdj: -999
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s, tcpBeLiberal: false,
  udpTimeout: 0s, udpStreamTimeout: 0s}
configSyncPeriod: 15m0s
portRange: ""
"#;

#[test]
fn every_field_of_a_real_configuration_has_its_verdict() {
    let loaded = load(CAPTURED);
    assert_eq!(loaded.refused().collect::<Vec<_>>(), Vec::<&Finding>::new());
    let setting = |flag: &str| loaded.settings[flag].join(" ");
    assert_eq!(setting("node-name"), "node-a");
    assert_eq!(setting("cluster-cidr"), "10.244.0.0/16 fd44::/16");
    assert_eq!(setting("node-port-addresses"), "primary");
    assert_eq!(setting("sync-period"), "30s");
    assert_eq!(setting("conntrack-min"), "0");
    assert_eq!(setting("oom-score-adj"), "-999");
    assert!(loaded.settings.contains_key("masquerade-all") && loaded.settings.contains_key("kube"));
    assert_eq!(finding(&loaded, "iptables.masqueradeAll").verdict, Verdict::NotApplicable);
    assert_eq!(finding(&loaded, "healthzBindAddress").verdict, Verdict::Taken);
}

#[test]
fn what_the_file_does_not_say_is_as_in_kube_proxy() {
    let loaded = load("mode: iptables\n");
    assert_eq!(loaded.settings["conntrack-tcp-timeout-close-wait"], ["1h0m0s"]);
    assert_eq!(loaded.settings["node-port-addresses"], ["all"]);
    assert!(!loaded.settings["node-name"][0].is_empty(), "the host's name");
    assert!(!loaded.settings.contains_key("external-ips"));
    assert_eq!(finding(&loaded, EXTERNAL_IPS).verdict, Verdict::NotApplicable);
    assert!(!load("mode: nftables\n").settings.contains_key("node-port-addresses"));
}

#[test]
fn a_family_that_node_port_addresses_do_not_name_is_served_on_all() {
    for (given, taken) in [
        ("[192.0.2.0/24]", &["192.0.2.0/24", "::/0"][..]),
        ("['fd00::/64']", &["fd00::/64", "0.0.0.0/0"]),
        ("[192.0.2.0/24, 'fd00::/64']", &["192.0.2.0/24", "fd00::/64"]),
        ("[localhost, 192.0.2.0/24]", &["localhost", "192.0.2.0/24"]),
        ("[primary]", &["primary"]),
        ("[all]", &["all"]),
    ] {
        let loaded = load(&format!("nodePortAddresses: {given}\n"));
        assert_eq!(loaded.settings["node-port-addresses"], taken, "{given}");
    }
}

#[test]
fn the_bind_address_is_the_nodes_own() {
    let loaded = load("bindAddress: 192.0.2.7\n");
    assert_eq!(loaded.settings["node-ip"], ["192.0.2.7"]);
    assert!(!loaded.settings.contains_key("metrics-bind-address"));
    let loaded = load("bindAddress: '::'\n");
    assert_eq!(loaded.settings["metrics-bind-address"], ["[::1]:10249"]);
    assert!(!loaded.settings.contains_key("node-ip"));
    let loaded = load("bindAddress: 'fd00::7'\nmetricsBindAddress: '[::]:9000'\n");
    assert_eq!(loaded.settings["metrics-bind-address"], ["[::]:9000"]);
    assert_eq!(loaded.settings["node-ip"], ["fd00::7"]);
}

#[test]
fn external_ips_are_served_as_the_gate_says() {
    for gate in ["true", "false"] {
        let loaded = load(&format!("featureGates: {{AllowServiceExternalIPs: {gate}}}\n"));
        assert_eq!(loaded.settings["external-ips"], [gate]);
    }
}

#[test]
fn the_scheduler_of_ipvs_is_taken_over_in_its_mode() {
    for (given, taken) in [
        ("rr", "round-robin"),
        ("wrr", "round-robin"),
        ("lc", "least-connections"),
        ("wlc", "least-connections"),
        ("sh", "source-hash"),
        ("mh", "maglev"),
        ("''", "round-robin"),
    ] {
        let loaded = load(&format!("mode: ipvs\nipvs: {{scheduler: {given}}}\n"));
        assert_eq!(loaded.settings["algorithm"], [taken], "{given}");
        assert_eq!(finding(&loaded, "ipvs.scheduler").verdict, Verdict::Taken, "{given}");
    }
    assert_eq!(load("mode: ipvs\n").settings["algorithm"], ["round-robin"], "the default of IPVS");
    assert!(!load("mode: nftables\nipvs: {scheduler: rr}\n").settings.contains_key("algorithm"));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    for (fields, field) in [
        ("mode: ipvs\nipvs: {scheduler: sed}\n", "ipvs.scheduler"),
        ("mode: ipvs\nipvs: {scheduler: random}\n", "ipvs.scheduler"),
        ("mode: kernelspace\n", "mode"),
        ("detectLocalMode: BridgeInterface\nclusterCIDR: 10.0.0.0/8\n", "detectLocalMode"),
        ("detectLocalMode: InterfaceNamePrefix\ndetectLocal: {bridgeInterface: cni0}\n", "detectLocalMode"),
        ("conntrack: {maxPerCpu: 1}\n", "conntrack.maxPerCpu"),
        ("nftables: {syncPeriod: soon}\nmode: nftables\n", "nftables.syncPeriod"),
        ("bindAddress: eth0\n", "bindAddress"),
        ("nodePortAddresses: [192.0.2.1]\n", "nodePortAddresses"),
    ] {
        let loaded = load(fields);
        let refused: Vec<_> = loaded.refused().map(|finding| finding.field.as_str()).collect();
        assert_eq!(refused, [field]);
    }
}

#[test]
fn devices_of_detect_local_count_in_their_mode_only() {
    let names = "detectLocal: {bridgeInterface: cni0, interfaceNamePrefix: cali}\nclusterCIDR: 10.0.0.0/8\n";
    for (mode, taken, passed) in [
        ("BridgeInterface", "detectLocal.bridgeInterface", ["detectLocal.interfaceNamePrefix", "clusterCIDR"]),
        ("InterfaceNamePrefix", "detectLocal.interfaceNamePrefix", ["detectLocal.bridgeInterface", "clusterCIDR"]),
        ("ClusterCIDR", "clusterCIDR", ["detectLocal.bridgeInterface", "detectLocal.interfaceNamePrefix"]),
        ("NodeCIDR", "detectLocalMode", ["detectLocal.bridgeInterface", "clusterCIDR"]),
    ] {
        let loaded = load(&format!("detectLocalMode: {mode}\n{names}"));
        assert_eq!(finding(&loaded, taken).verdict, Verdict::Taken, "{mode}");
        for field in passed {
            assert_eq!(finding(&loaded, field).verdict, Verdict::NotApplicable, "{mode}");
        }
    }
    let loaded = load(&format!("detectLocalMode: BridgeInterface\n{names}"));
    assert_eq!(
        (&loaded.settings["detect-local"][0][..], &loaded.settings["detect-local-bridge"][0][..]),
        ("bridge-interface", "cni0")
    );
    assert!(!loaded.settings.contains_key("detect-local-prefix") && !loaded.settings.contains_key("cluster-cidr"));
}

#[test]
fn our_own_kind_overrides_and_refuses_what_it_does_not_know() {
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nhostnameOverride: a\n---\n\
         apiVersion: config.sluice-lb.io/v1alpha1\nkind: SluiceConfiguration\nnodeName: b\nexternalIps: false\n\
         serviceCidr: [10.96.0.0/16]\nmaxFlows: 1000\nfoo: 1\n";
    let loaded = parse(text, Path::new("x"), &|flag| match flag {
        "foo" => None,
        "external-ips" => Some(Takes::Perhaps),
        _ => Some(Takes::Value),
    })
    .unwrap();
    assert_eq!(loaded.settings["node-name"], ["b"]);
    assert_eq!(loaded.settings["external-ips"], ["false"]);
    assert_eq!(
        (&loaded.settings["service-cidr"][0][..], &loaded.settings["max-flows"][0][..]),
        ("10.96.0.0/16", "1000")
    );
    assert_eq!(loaded.refused().map(|finding| finding.field.as_str()).collect::<Vec<_>>(), ["foo"]);
    assert!(parse("kind: Pod\n", Path::new("x"), &|_| Some(Takes::Value)).unwrap_err().to_string().contains("\"Pod\""));
}
