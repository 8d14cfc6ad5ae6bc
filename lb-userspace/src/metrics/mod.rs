//! Metrics for Prometheus: kube-proxy's families under their own names, and Sluice's beside them.
//!
//! [`kube_proxy`] is fed by the reconciler as things happen. [`sluice_metrics`] is put together when somebody asks, from a
//! [`Snapshot`] and the pinned maps: it costs nothing while nobody does.

pub mod kube_proxy;
pub mod metric_family;
mod open_metrics;
mod rest_client;
mod server;
pub mod sluice_metrics;
mod track;
mod traffic;

#[cfg(test)]
mod alerts_tests;
#[cfg(test)]
mod lint;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Registry, TextEncoder};

pub use kube_proxy::KubeProxyMetrics;
pub use rest_client::RestClientMetrics;
pub use server::answers;
pub use sluice_metrics::{AgentInfo, FlowUse, Snapshot};
pub use track::{Batch as TrackedBatch, Tracker};

use crate::maps::sweep::Swept;

/// All metrics of one agent. Clones are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: Registry,
    kube_proxy: KubeProxyMetrics,
    snapshot: Mutex<Snapshot>,
    collector: sluice_metrics::Collector,
}

impl Metrics {
    /// `pin_path`: whose counters and maps are shown. `series_limit`: rows at most, as far as they grow with the node.
    pub fn new(pin_path: PathBuf, info: AgentInfo, series_limit: usize) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let kube_proxy = KubeProxyMetrics::new(&registry)?;
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let collector = sluice_metrics::Collector::new(pin_path, info, series_limit);
        Ok(Self { shared: Arc::new(Shared { registry, kube_proxy, snapshot: Mutex::default(), collector }) })
    }

    /// Shows what is counted of requests to the Kubernetes API as well.
    pub fn show_requests(&self, requests: &RestClientMetrics) -> prometheus::Result<()> {
        requests.register(&self.shared.registry)
    }

    /// The families that kube-proxy has.
    pub fn kube_proxy(&self) -> &KubeProxyMetrics {
        &self.shared.kube_proxy
    }

    /// Changes what is known of the agent.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sockets of dead backends were moved or destroyed.
    pub fn sockets_seen_to(&self, moved: usize, destroyed: usize) {
        self.update(|snapshot| {
            snapshot.sockets_moved += u64::try_from(moved).unwrap_or(0);
            snapshot.sockets_destroyed += u64::try_from(destroyed).unwrap_or(0);
        });
    }

    /// A sweep of the flow tables has ended.
    pub fn swept(&self, swept: &Swept) {
        let amount = |flows: usize| u64::try_from(flows).unwrap_or(u64::MAX);
        if let Some(created) = self.shared.collector.flows_created() {
            self.update(|snapshot| snapshot.flows.swept(created, amount(swept.removed), amount(swept.live)));
        }
    }

    /// Counts of open connections were wrong.
    pub fn recounted(&self, corrected: usize) {
        self.update(|snapshot| snapshot.recounted += u64::try_from(corrected).unwrap_or(0));
    }

    /// Everything, as text. Reads maps: call it where that may take its time.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let snapshot = self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut families = self.shared.registry.gather();
        let taken = families.iter().map(series).sum();
        families.extend(self.shared.collector.families(&snapshot, taken));
        encode(&families)
    }
}

/// How many rows a family has: a histogram's has many.
fn series(family: &MetricFamily) -> usize {
    let of = |metric: &prometheus::proto::Metric| match metric.get_histogram().get_bucket().len() {
        0 => 1,
        buckets => buckets + 3,
    };
    family.get_metric().iter().map(of).sum()
}

fn encode(families: &[MetricFamily]) -> Result<String, prometheus::Error> {
    let mut text = Vec::new();
    TextEncoder::new().encode(families, &mut text)?;
    Ok(String::from_utf8(text).unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()))
}
