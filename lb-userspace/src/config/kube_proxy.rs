//! kube-proxy's configuration, field by field: what Sluice takes over, what does not apply, what it refuses.

use serde_json::Value;

use super::document::{leaves, texts};
use super::findings::Loaded;
use super::values::{NodePortAddress, duration};
use crate::model::address::parse_ip;
use crate::model::algorithm::Algorithm;
use crate::model::desired::Family;

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
    NodeName,
    BindAddress,
    NodePortAddresses,
    ExternalIps,
    Scheduler,
    Verbosity,
    LogFormat,
    Unknown,
}

const OTHER_MODE: &str = "it belongs to a mode of kube-proxy that is not chosen";
const OTHER_LOCAL: &str = "it belongs to a detectLocalMode that is not chosen";
const WINDOWS: &str = "it is for Windows";
const NO_RULES: &str = "there are no netfilter rules";
pub(super) const EXTERNAL_IPS: &str = "featureGates.AllowServiceExternalIPs";
const IPVS: &str = "there is no IPVS";
const SCHEDULER: &str = "ipvs.scheduler";

pub(super) fn read(document: &Value, loaded: &mut Loaded) {
    let mode = document["mode"].as_str().filter(|mode| !mode.is_empty()).unwrap_or("iptables");
    let given = leaves(document);
    let local = document["detectLocalMode"].as_str().unwrap_or_default();
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
            Rule::ClusterCidr if !matches!(local, "" | "ClusterCIDR") => loaded.pass_over(field, &written, OTHER_LOCAL),
            Rule::ClusterCidr => {
                let cidrs = written.split(',').map(|cidr| cidr.trim().to_owned()).collect();
                loaded.take(field, &written, "cluster-cidr", cidrs);
            }
            Rule::NodeName => loaded.take(field, &written, "node-name", vec![written.trim().to_lowercase()]),
            Rule::BindAddress => bind_address(field, &written, &given, loaded),
            Rule::NodePortAddresses => node_port_addresses(field, texts(value), loaded),
            Rule::Scheduler => scheduler(&written, loaded),
            Rule::ExternalIps => loaded.take(field, &written, "external-ips", texts(value)),
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

fn is_given(given: &[(String, Value)], field: &str) -> bool {
    given.iter().any(|(name, _)| name == field)
}

fn defaults(given: &[(String, Value)], mode: &str, loaded: &mut Loaded) {
    let is_given = |field: &str| is_given(given, field);
    for (field, value) in DEFAULTS.iter().filter(|(field, _)| !is_given(field)) {
        if let Rule::Flag(flag) = rule(field, mode) {
            loaded.take(field, &format!("{value} (default)"), flag, vec![(*value).to_owned()]);
        }
    }
    // Without the field, NodePorts are on the primary addresses in nftables mode, on all addresses in the others.
    if mode != "nftables" && !is_given("nodePortAddresses") {
        let written = format!("all (default of mode {mode})");
        loaded.take("nodePortAddresses", &written, "node-port-addresses", vec!["all".to_owned()]);
    }
    if mode == "ipvs" && !is_given(SCHEDULER) {
        scheduler("", loaded);
    }
    if !is_given("hostnameOverride")
        && let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname")
    {
        let name = name.trim().to_lowercase();
        loaded.take("hostnameOverride", &format!("{name} (default: the host's name)"), "node-name", vec![name]);
    }
    if !is_given(EXTERNAL_IPS) {
        loaded.pass_over(EXTERNAL_IPS, "(default)", "as by kube-proxy: on, and off from Kubernetes 1.40 on");
    }
    loaded.settings.entry("kube".to_owned()).or_default();
}

/// IPVS's schedulers by their names; nothing means the first.
fn scheduler(written: &str, loaded: &mut Loaded) {
    let (name, shown) = if written.is_empty() { ("rr", "rr (default)") } else { (written, written) };
    match Algorithm::asked(name) {
        Ok(asked) if Algorithm::schedulers().any(|known| known == name) => {
            loaded.take(SCHEDULER, shown, "algorithm", vec![asked.algorithm.name().to_owned()]);
        }
        _ => {
            let why =
                format!("there is no such algorithm: use {}", Algorithm::schedulers().collect::<Vec<_>>().join(", "));
            loaded.refuse(SCHEDULER, written, &why);
        }
    }
}

fn detect_local(field: &str, mode: &str, given: &[(String, Value)], loaded: &mut Loaded) {
    let (flag, needs) = match mode {
        "ClusterCIDR" => ("cluster-cidr", None),
        "NodeCIDR" => ("node-cidr", None),
        "BridgeInterface" => ("bridge-interface", Some("detectLocal.bridgeInterface")),
        "InterfaceNamePrefix" => ("interface-name-prefix", Some("detectLocal.interfaceNamePrefix")),
        _ => return loaded.refuse(field, mode, "it is no mode of kube-proxy"),
    };
    match needs.filter(|needs| !is_given(given, needs)) {
        Some(missing) => loaded.refuse(field, mode, &format!("{missing} is not set")),
        None => loaded.take(field, mode, "detect-local", vec![flag.to_owned()]),
    }
}

/// kube-proxy binds nothing to it: it stands for the node's primary address, and its family says which loopback address
/// metrics are on.
fn bind_address(field: &str, written: &str, given: &[(String, Value)], loaded: &mut Loaded) {
    let Some(ip) = parse_ip(written) else { return loaded.refuse(field, written, "an IP address is expected") };
    if ip.is_unspecified() {
        loaded.pass_over(field, written, "the node's addresses are read from its Node object and its routes");
    } else {
        loaded.take(field, written, "node-ip", vec![ip.to_string()]);
    }
    if ip.is_ipv6() && !is_given(given, "metricsBindAddress") {
        let address = "[::1]:10249";
        let written = format!("{address} (default with this bindAddress)");
        loaded.take("metricsBindAddress", &written, "metrics-bind-address", vec![address.to_owned()]);
    }
}

/// A family that no entry speaks of has `NodePort`s on all addresses.
fn node_port_addresses(field: &str, mut entries: Vec<String>, loaded: &mut Loaded) {
    let written = entries.join(",");
    let addresses: Result<Vec<NodePortAddress>, String> = entries.iter().map(|entry| entry.parse()).collect();
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(wrong) => return loaded.refuse(field, &written, &wrong),
    };
    let mut shown = written;
    for (family, all) in [(Family::V4, "0.0.0.0/0"), (Family::V6, "::/0")] {
        if !addresses.iter().any(|address| address.is_of(family)) {
            entries.push(all.to_owned());
            shown = format!("{shown} and {all} (default of {})", family.name());
        }
    }
    loaded.take(field, &shown, "node-port-addresses", entries);
}

fn rule(field: &str, mode: &str) -> Rule {
    match field {
        "clientConnection.kubeconfig" => Rule::Flag("kubeconfig"),
        "clientConnection.acceptContentTypes" | "clientConnection.contentType" => {
            Rule::Passed("the API is spoken to in JSON")
        }
        "clientConnection.qps" | "clientConnection.burst" => {
            Rule::Passed("three watches and a few events need no throttle of their own")
        }
        "hostnameOverride" => Rule::NodeName,
        "bindAddress" => Rule::BindAddress,
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
        "ipvs.scheduler" if mode == "ipvs" => Rule::Scheduler,
        "iptables.masqueradeAll"
        | "nftables.masqueradeAll"
        | "iptables.syncPeriod"
        | "ipvs.scheduler"
        | "ipvs.syncPeriod"
        | "nftables.syncPeriod" => Rule::Passed(OTHER_MODE),
        "iptables.minSyncPeriod" | "ipvs.minSyncPeriod" | "nftables.minSyncPeriod" => {
            Rule::Passed("changes are written at once; only what arrives meanwhile is taken together")
        }
        "iptables.masqueradeBit" | "nftables.masqueradeBit" => Rule::Passed(NO_RULES),
        "iptables.localhostNodePorts" => {
            Rule::Passed("NodePorts on loopback addresses are a matter of the socket hooks")
        }
        "ipvs.excludeCIDRs" | "ipvs.strictARP" | "ipvs.tcpTimeout" | "ipvs.tcpFinTimeout" | "ipvs.udpTimeout" => {
            Rule::Passed(IPVS)
        }
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
        "nodePortAddresses" => Rule::NodePortAddresses,
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
        EXTERNAL_IPS => Rule::ExternalIps,
        _ if field.starts_with("featureGates.") => Rule::Passed("it is a gate of kube-proxy's own code"),
        _ => Rule::Unknown,
    }
}
