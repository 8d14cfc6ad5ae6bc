//! kube-proxy's configuration, field by field: what Sluice takes over, what does not apply, what it refuses.

use serde_json::Value;

use super::file::{leaves, texts};
use super::findings::Loaded;
use super::values::duration;

/// `apiVersion`.
pub(super) const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// `kind`.
pub(super) const KIND: &str = "KubeProxyConfiguration";

/// Fields of which kube-proxy's default is not the kernel's or ours: what is set when the file does not say.
const DEFAULTS: &[(&str, &str)] = &[
    ("oomScoreAdj", "-999"),
    ("conntrack.maxPerCore", "32768"),
    ("conntrack.min", "131072"),
    ("conntrack.tcpEstablishedTimeout", "24h0m0s"),
    ("conntrack.tcpCloseWaitTimeout", "1h0m0s"),
];

/// What becomes of a field.
enum Rule {
    /// It is this flag.
    Flag(&'static str),
    /// It is this switch.
    Switch(&'static str),
    /// It is this flag, unless it is zero, which means a default.
    Period(&'static str),
    /// It means nothing here.
    Passed(&'static str),
    /// It is this flag in this mode of detect-local.
    LocalDevice(&'static str, &'static str),
    /// It is one of these, or refused.
    DetectLocal,
    Mode,
    ClusterCidr,
    Verbosity,
    LogFormat,
    Unknown,
}

const OTHER_MODE: &str = "it belongs to a mode of kube-proxy that is not chosen";
const OTHER_LOCAL: &str = "it belongs to a detectLocalMode that is not chosen";
const WINDOWS: &str = "it is for Windows";
const NO_RULES: &str = "there are no netfilter rules";
const IPVS: &str = "there is no IPVS; how backends are chosen is set per Service";

pub(super) fn read(document: &Value, loaded: &mut Loaded) {
    let mode = document["mode"].as_str().filter(|mode| !mode.is_empty()).unwrap_or("iptables");
    let given = leaves(document);
    let local = document["detectLocalMode"].as_str().unwrap_or_default();
    let by_device = matches!(local, "BridgeInterface" | "InterfaceNamePrefix");
    for (field, value) in &given {
        let written = texts(value).join(",");
        match rule(field, mode) {
            Rule::Flag(flag) => loaded.take(field, &written, flag, texts(value)),
            Rule::Switch(flag) if value == &Value::Bool(true) => loaded.take(field, &written, flag, Vec::new()),
            Rule::Switch(_) if value == &Value::Bool(false) => loaded.pass_over(field, &written, "it is off"),
            Rule::Switch(_) => loaded.refuse(field, &written, "true or false is expected"),
            Rule::Period(flag) => match duration(&written) {
                Ok(period) if period.is_zero() => loaded.pass_over(field, &written, "zero means the default"),
                Ok(_) => loaded.take(field, &written, flag, vec![written.clone()]),
                Err(wrong) => loaded.refuse(field, &written, &wrong),
            },
            Rule::Passed(why) => loaded.pass_over(field, &written, why),
            Rule::DetectLocal => detect_local(field, &written, &given, loaded),
            Rule::LocalDevice(of, flag) if of == local => loaded.take(field, &written, flag, vec![written.clone()]),
            Rule::LocalDevice(..) => loaded.pass_over(field, &written, OTHER_LOCAL),
            Rule::Mode => match written.as_str() {
                "iptables" | "ipvs" | "nftables" => {
                    loaded.pass_over(field, &written, "eBPF is the only mode; other fields are read as for this one");
                }
                _ => loaded.refuse(field, &written, "it is no mode of Linux"),
            },
            Rule::ClusterCidr if by_device => {
                loaded.pass_over(field, &written, "detectLocalMode tells clients apart by their device");
            }
            Rule::ClusterCidr => {
                let cidrs = written.split(',').map(|cidr| cidr.trim().to_owned()).collect();
                loaded.take(field, &written, "cluster-cidr", cidrs);
            }
            Rule::Verbosity => {
                let level = value.as_u64().unwrap_or(0);
                let filter = if level >= 4 { "sluice=debug,info" } else { "info" };
                loaded.take(field, &written, "log", vec![filter.to_owned()]);
            }
            Rule::LogFormat => match written.as_str() {
                "text" | "json" => loaded.take(field, &written, "log-format", vec![written.clone()]),
                _ => loaded.refuse(field, &written, "text or json is expected"),
            },
            Rule::Unknown => loaded.refuse(field, &written, "kube-proxy has no such field"),
        }
    }
    defaults(&given, mode, loaded);
}

fn defaults(given: &[(String, Value)], mode: &str, loaded: &mut Loaded) {
    let is_given = |field: &str| given.iter().any(|(name, _)| name == field);
    for (field, value) in DEFAULTS.iter().filter(|(field, _)| !is_given(field)) {
        if let Rule::Flag(flag) = rule(field, mode) {
            loaded.take(field, &format!("{value} (default)"), flag, vec![(*value).to_owned()]);
        }
    }
    // Without the field, NodePorts are on the primary addresses in nftables mode, on all addresses in the others.
    if mode != "nftables" && !is_given("nodePortAddresses") {
        let all = ["0.0.0.0/0", "::/0"].map(str::to_owned).to_vec();
        loaded.take(
            "nodePortAddresses",
            &format!("{} (default of mode {mode})", all.join(",")),
            "node-port-addresses",
            all,
        );
    }
    loaded.settings.entry("kube".to_owned()).or_default();
}

fn detect_local(field: &str, mode: &str, given: &[(String, Value)], loaded: &mut Loaded) {
    let (flag, needs) = match mode {
        "ClusterCIDR" => ("cluster-cidr", None),
        "NodeCIDR" => ("node-cidr", None),
        "BridgeInterface" => ("bridge-interface", Some("detectLocal.bridgeInterface")),
        "InterfaceNamePrefix" => ("interface-name-prefix", Some("detectLocal.interfaceNamePrefix")),
        _ => return loaded.refuse(field, mode, "it is no mode of kube-proxy"),
    };
    match needs.filter(|needs| !given.iter().any(|(name, _)| name == needs)) {
        Some(missing) => loaded.refuse(field, mode, &format!("{missing} is not set")),
        None => loaded.take(field, mode, "detect-local", vec![flag.to_owned()]),
    }
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn rule(field: &str, mode: &str) -> Rule {
    match field {
        "clientConnection.kubeconfig" => Rule::Flag("kubeconfig"),
        "clientConnection.acceptContentTypes" | "clientConnection.contentType" => {
            Rule::Passed("the API is spoken to in JSON")
        }
        "clientConnection.qps" | "clientConnection.burst" => {
            Rule::Passed("three watches and a few events need no throttle of their own")
        }
        "hostnameOverride" => Rule::Flag("node-name"),
        "bindAddress" => Rule::Passed("the node's addresses are read from its Node object and its routes"),
        "healthzBindAddress" => Rule::Flag("healthz-bind-address"),
        "metricsBindAddress" => Rule::Flag("metrics-bind-address"),
        "bindAddressHardFail" => Rule::Switch("bind-address-hard-fail"),
        "enableProfiling" => Rule::Passed("there is no Go runtime to profile"),
        "showHiddenMetricsForVersion" => Rule::Passed("no metric is hidden"),
        "mode" => Rule::Mode,
        "iptables.masqueradeAll" if mode != "nftables" => Rule::Switch("masquerade-all"),
        "nftables.masqueradeAll" if mode == "nftables" => Rule::Switch("masquerade-all"),
        "iptables.syncPeriod" if mode == "iptables" => Rule::Period("sync-period"),
        "ipvs.syncPeriod" if mode == "ipvs" => Rule::Period("sync-period"),
        "nftables.syncPeriod" if mode == "nftables" => Rule::Period("sync-period"),
        "iptables.masqueradeAll"
        | "nftables.masqueradeAll"
        | "iptables.syncPeriod"
        | "ipvs.syncPeriod"
        | "nftables.syncPeriod" => Rule::Passed(OTHER_MODE),
        "iptables.minSyncPeriod" | "ipvs.minSyncPeriod" | "nftables.minSyncPeriod" => {
            Rule::Passed("changes are written at once; only what arrives meanwhile is taken together")
        }
        "iptables.masqueradeBit" | "nftables.masqueradeBit" => Rule::Passed(NO_RULES),
        "iptables.localhostNodePorts" => {
            Rule::Passed("NodePorts on loopback addresses are a matter of the socket hooks")
        }
        "ipvs.scheduler" | "ipvs.excludeCIDRs" | "ipvs.strictARP" | "ipvs.tcpTimeout" | "ipvs.tcpFinTimeout"
        | "ipvs.udpTimeout" => Rule::Passed(IPVS),
        "winkernel.networkName"
        | "winkernel.sourceVip"
        | "winkernel.enableDSR"
        | "winkernel.rootHnsEndpointName"
        | "winkernel.forwardHealthCheckVip"
        | "windowsRunAsService" => Rule::Passed(WINDOWS),
        "detectLocalMode" => Rule::DetectLocal,
        "detectLocal.bridgeInterface" => Rule::LocalDevice("BridgeInterface", "detect-local-bridge"),
        "detectLocal.interfaceNamePrefix" => Rule::LocalDevice("InterfaceNamePrefix", "detect-local-prefix"),
        "clusterCIDR" => Rule::ClusterCidr,
        "nodePortAddresses" => Rule::Flag("node-port-addresses"),
        "oomScoreAdj" => Rule::Flag("oom-score-adj"),
        "conntrack.maxPerCore" => Rule::Flag("conntrack-max-per-core"),
        "conntrack.min" => Rule::Flag("conntrack-min"),
        "conntrack.tcpEstablishedTimeout" => Rule::Flag("conntrack-tcp-timeout-established"),
        "conntrack.tcpCloseWaitTimeout" => Rule::Flag("conntrack-tcp-timeout-close-wait"),
        "conntrack.tcpBeLiberal" => Rule::Switch("conntrack-tcp-be-liberal"),
        "conntrack.udpTimeout" => Rule::Flag("conntrack-udp-timeout"),
        "conntrack.udpStreamTimeout" => Rule::Flag("conntrack-udp-timeout-stream"),
        "configSyncPeriod" => Rule::Passed("watches are asked for anew on their own"),
        "portRange" => Rule::Passed("kube-proxy itself has ignored it since userspace mode went"),
        "logging.verbosity" => Rule::Verbosity,
        "logging.format" => Rule::LogFormat,
        _ if field.starts_with("logging.") => Rule::Passed("the log has no such options"),
        _ if field.starts_with("featureGates.") => Rule::Passed("it is a gate of kube-proxy's own code"),
        _ => Rule::Unknown,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::super::file::parse;
    use super::super::findings::{Finding, Loaded, Verdict};

    fn load(fields: &str) -> Loaded {
        let text = format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{fields}");
        parse(&text, Path::new("x"), &|_| true).unwrap()
    }

    fn finding<'a>(loaded: &'a Loaded, field: &str) -> &'a Finding {
        loaded.findings.iter().find(|finding| finding.field == field).unwrap()
    }

    /// Fields as a real kube-proxy shows them at `/configz`, those that are for it to decide left out.
    pub(in crate::config) const CAPTURED: &str = r#"
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
        assert_eq!(loaded.settings["node-port-addresses"], ["0.0.0.0/0", "::/0"]);
        assert!(!load("mode: nftables\n").settings.contains_key("node-port-addresses"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (fields, field) in [
            ("mode: kernelspace\n", "mode"),
            ("detectLocalMode: BridgeInterface\nclusterCIDR: 10.0.0.0/8\n", "detectLocalMode"),
            ("detectLocalMode: InterfaceNamePrefix\ndetectLocal: {bridgeInterface: cni0}\n", "detectLocalMode"),
            ("conntrack: {maxPerCpu: 1}\n", "conntrack.maxPerCpu"),
            ("nftables: {syncPeriod: soon}\nmode: nftables\n", "nftables.syncPeriod"),
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
             apiVersion: config.sluice-lb.io/v1alpha1\nkind: SluiceConfiguration\nnodeName: b\nexternalIps: true\n\
             serviceCidr: [10.96.0.0/16]\nmaxFlows: 1000\nfoo: 1\n";
        let loaded = parse(text, Path::new("x"), &|flag| flag != "foo").unwrap();
        assert_eq!(loaded.settings["node-name"], ["b"]);
        assert_eq!(loaded.settings["external-ips"], Vec::<String>::new());
        assert_eq!(
            (&loaded.settings["service-cidr"][0][..], &loaded.settings["max-flows"][0][..]),
            ("10.96.0.0/16", "1000")
        );
        assert_eq!(loaded.refused().map(|finding| finding.field.as_str()).collect::<Vec<_>>(), ["foo"]);
        assert!(parse("kind: Pod\n", Path::new("x"), &|_| true).unwrap_err().to_string().contains("\"Pod\""));
    }
}
