//! The settings in force, in the words of kube-proxy's configuration: the answer to `/configz`.

use std::time::Duration;

use serde_json::{Value, json};

use super::conntrack::Conntrack;
use super::values::BindAddress;
use crate::devices::LocalDevices;

/// Settings that have a name in kube-proxy's configuration.
#[derive(Clone, Debug)]
pub struct Effective<'a> {
    /// `hostnameOverride`.
    pub node_name: &'a str,
    /// `logging.format`.
    pub log_format: &'static str,
    /// `clientConnection.kubeconfig`.
    pub kubeconfig: String,
    /// `healthzBindAddress`.
    pub healthz: BindAddress,
    /// `metricsBindAddress`.
    pub metrics: BindAddress,
    /// `bindAddressHardFail`.
    pub hard_fail: bool,
    /// `nftables.syncPeriod`.
    pub sync_period: Duration,
    /// `nftables.masqueradeAll`.
    pub masquerade_all: bool,
    /// `detectLocalMode`.
    pub detect_local_mode: &'static str,
    /// `detectLocal`.
    pub local_devices: Option<LocalDevices>,
    /// `clusterCIDR`.
    pub cluster_cidrs: Vec<String>,
    /// `nodePortAddresses`.
    pub node_port_addresses: Vec<String>,
    /// `oomScoreAdj`.
    pub oom_score_adj: Option<i32>,
    /// `conntrack`.
    pub conntrack: &'a Conntrack,
}

impl Effective<'_> {
    /// JSON as `/configz` has it. What Sluice has no setting for is as kube-proxy has it by default.
    pub fn configz(&self) -> String {
        json!({ "kubeproxy.config.k8s.io": self.to_json() }).to_string()
    }

    fn to_json(&self) -> Value {
        let bind = |address: BindAddress| address.0.map(|addr| addr.to_string()).unwrap_or_default();
        let secs = |duration: Duration| go_duration(duration);
        let (bridge, prefix) = match &self.local_devices {
            Some(LocalDevices::Bridge(name)) => (name.as_str(), ""),
            Some(LocalDevices::Prefix(prefix)) => ("", prefix.as_str()),
            None => ("", ""),
        };
        let or_zero = |duration: Option<Duration>| secs(duration.unwrap_or_default());
        json!({
            "kind": "KubeProxyConfiguration",
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "clientConnection": {
                "kubeconfig": self.kubeconfig,
                "acceptContentTypes": "",
                "contentType": "application/json",
                "qps": 5,
                "burst": 10,
            },
            "logging": {
                "format": self.log_format,
                "flushFrequency": "5s",
                "verbosity": 0,
                "options": { "text": { "infoBufferSize": "0" }, "json": { "infoBufferSize": "0" } },
            },
            "hostnameOverride": self.node_name,
            "bindAddress": "0.0.0.0",
            "healthzBindAddress": bind(self.healthz),
            "metricsBindAddress": bind(self.metrics),
            "bindAddressHardFail": self.hard_fail,
            "enableProfiling": false,
            "showHiddenMetricsForVersion": "",
            "mode": "nftables",
            "iptables": {
                "masqueradeBit": 14,
                "masqueradeAll": false,
                "localhostNodePorts": true,
                "syncPeriod": "0s",
                "minSyncPeriod": "0s",
            },
            "ipvs": {
                "syncPeriod": "0s",
                "minSyncPeriod": "0s",
                "scheduler": "",
                "excludeCIDRs": null,
                "strictARP": false,
                "tcpTimeout": "0s",
                "tcpFinTimeout": "0s",
                "udpTimeout": "0s",
            },
            "nftables": {
                "masqueradeBit": 14,
                "masqueradeAll": self.masquerade_all,
                "syncPeriod": secs(self.sync_period),
                "minSyncPeriod": "0s",
            },
            "winkernel": {
                "networkName": "",
                "sourceVip": "",
                "enableDSR": false,
                "rootHnsEndpointName": "",
                "forwardHealthCheckVip": false,
            },
            "detectLocalMode": self.detect_local_mode,
            "detectLocal": { "bridgeInterface": bridge, "interfaceNamePrefix": prefix },
            "clusterCIDR": self.cluster_cidrs.join(","),
            "nodePortAddresses": self.node_port_addresses,
            "oomScoreAdj": self.oom_score_adj,
            "conntrack": {
                "maxPerCore": self.conntrack.max_per_core.unwrap_or(0),
                "min": self.conntrack.min.unwrap_or(0),
                "tcpEstablishedTimeout": or_zero(self.conntrack.tcp_established),
                "tcpCloseWaitTimeout": or_zero(self.conntrack.tcp_close_wait),
                "tcpBeLiberal": self.conntrack.tcp_be_liberal,
                "udpTimeout": or_zero(self.conntrack.udp),
                "udpStreamTimeout": or_zero(self.conntrack.udp_stream),
            },
            "configSyncPeriod": "15m0s",
            "portRange": "",
        })
    }
}

/// A duration as Go prints it.
fn go_duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    let fraction = duration.subsec_nanos();
    if secs == 0 && fraction != 0 {
        return format!("{}ms", duration.as_secs_f64() * 1000.0);
    }
    let seconds = f64::from(u32::try_from(secs % 60).unwrap_or(0)) + f64::from(fraction) / 1e9;
    match (secs / 3600, secs / 60 % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::kube_proxy_tests::CAPTURED;

    fn effective(conntrack: &Conntrack, local_devices: Option<LocalDevices>) -> Value {
        Effective {
            node_name: "node-a",
            log_format: "text",
            kubeconfig: String::new(),
            healthz: BindAddress(None),
            metrics: BindAddress(None),
            hard_fail: false,
            sync_period: Duration::from_secs(30),
            masquerade_all: false,
            detect_local_mode: "ClusterCIDR",
            local_devices,
            cluster_cidrs: Vec::new(),
            node_port_addresses: Vec::new(),
            oom_score_adj: None,
            conntrack,
        }
        .to_json()
    }

    fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        let Value::Object(fields) = value else { return };
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            paths(value, &path, found);
            found.insert(path);
        }
    }

    #[test]
    fn every_field_of_a_real_kube_proxys_answer_is_there_and_no_other() {
        let real: Value = serde_saphyr::from_str(CAPTURED).unwrap();
        let (mut expected, mut found) = (BTreeSet::new(), BTreeSet::new());
        paths(&real, "", &mut expected);
        expected.extend([".apiVersion".to_owned(), ".kind".to_owned()]);
        paths(&effective(&Conntrack::default(), None), "", &mut found);
        assert_eq!(found, expected);
    }

    #[test]
    fn the_devices_of_detect_local_are_shown() {
        let shown = |local| effective(&Conntrack::default(), Some(local))["detectLocal"].clone();
        let bridge = shown(LocalDevices::Bridge("cni0".into()));
        assert_eq!(bridge, json!({ "bridgeInterface": "cni0", "interfaceNamePrefix": "" }));
        let prefix = shown(LocalDevices::Prefix("cali".into()));
        assert_eq!(prefix, json!({ "bridgeInterface": "", "interfaceNamePrefix": "cali" }));
    }

    #[test]
    fn durations_are_printed_as_go_does() {
        let printed = [0, 30_000, 90_000, 3_600_000, 250].map(|ms| go_duration(Duration::from_millis(ms)));
        assert_eq!(printed, ["0s", "30s", "1m30s", "1h0m0s", "250ms"]);
    }
}
