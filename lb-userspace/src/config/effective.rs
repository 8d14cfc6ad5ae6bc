//! The settings in force, in the words of kube-proxy's configuration: the answer to `/configz`.

use std::time::Duration;

use serde_json::{Value, json};

use super::conntrack::Conntrack;
use super::values::BindAddress;

/// Settings that have a name in kube-proxy's configuration.
#[derive(Clone, Debug)]
pub struct Effective<'a> {
    /// `hostnameOverride`.
    pub node_name: &'a str,
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
    /// JSON as `/configz` has it.
    pub fn configz(&self) -> String {
        json!({ "kubeproxy.config.k8s.io": self.to_json() }).to_string()
    }

    fn to_json(&self) -> Value {
        let bind = |address: BindAddress| address.0.map(|addr| addr.to_string()).unwrap_or_default();
        let secs = |duration: Duration| go_duration(duration);
        let or_zero = |duration: Option<Duration>| secs(duration.unwrap_or_default());
        json!({
            "kind": "KubeProxyConfiguration",
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "clientConnection": { "kubeconfig": self.kubeconfig },
            "hostnameOverride": self.node_name,
            "bindAddress": "0.0.0.0",
            "healthzBindAddress": bind(self.healthz),
            "metricsBindAddress": bind(self.metrics),
            "bindAddressHardFail": self.hard_fail,
            "enableProfiling": false,
            "mode": "nftables",
            "nftables": {
                "masqueradeAll": self.masquerade_all,
                "syncPeriod": secs(self.sync_period),
                "minSyncPeriod": "0s",
            },
            "detectLocalMode": self.detect_local_mode,
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
    use super::*;

    #[test]
    fn durations_are_printed_as_go_does() {
        let printed = [0, 30_000, 90_000, 3_600_000, 250].map(|ms| go_duration(Duration::from_millis(ms)));
        assert_eq!(printed, ["0s", "30s", "1m30s", "1h0m0s", "250ms"]);
    }
}
