//! The real kube-proxy, in its nftables mode, on the node whose network namespace the caller is in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::daemon::{self, Daemon};
use super::{Assets, Cluster};

/// A running kube-proxy; ends when it is dropped. Its rules stay as long as the namespace.
#[derive(Debug)]
pub struct KubeProxy {
    daemon: Daemon,
    log: PathBuf,
}

impl KubeProxy {
    /// Starts it for a node of this cluster whose Pods have these ranges; `fields` are laid over its configuration.
    pub fn start(cluster: &Cluster, dir: &Path, node: &str, cluster_cidrs: [&str; 2], fields: &Value) -> Result<Self> {
        let program = Assets::kube_proxy()?;
        // Connection tracking's limits are the machine's, and stay as they are. Changes are not gathered.
        let mut config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": node,
            "clusterCIDR": cluster_cidrs.join(","),
            "clientConnection": {"kubeconfig": cluster.kubeconfig()},
            "nftables": {"minSyncPeriod": "10ms", "syncPeriod": "30s"},
            "conntrack": {
                "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
                "udpTimeout": "0s", "udpStreamTimeout": "0s",
            },
        });
        for (field, value) in fields.as_object().into_iter().flatten() {
            config[field] = value.clone();
        }
        let path = dir.join("kube-proxy.json");
        fs::write(&path, config.to_string()).with_context(|| format!("writing {}", path.display()))?;
        let log = dir.join("kube-proxy.log");
        let mut command = Command::new(program);
        command.arg("--config").arg(path).arg("--v=2");
        Ok(Self { daemon: Daemon::spawn("kube-proxy", command, log.clone())?, log })
    }

    /// An error with the log's last lines if it has ended.
    pub fn check_running(&self) -> Result<()> {
        self.daemon.check_running()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        daemon::tail(&self.log, 60)
    }
}
