//! The metric families of kube-proxy that have a meaning here: same names, labels and buckets, for the dashboards and
//! alerts that exist.

use std::time::{Duration, SystemTime};

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    exponential_buckets, linear_buckets,
};

use crate::model::desired::Family;

const FAMILY: &str = "ip_family";

/// Whether all was written, or what had changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// The first full state of an agent.
    Full,
    /// Changes.
    Partial,
}

/// kube-proxy's families.
#[derive(Debug)]
pub struct KubeProxyMetrics {
    network_programming: HistogramVec,
    sync: HistogramVec,
    full_sync: HistogramVec,
    partial_sync: HistogramVec,
    last_sync: GaugeVec,
    last_queued: GaugeVec,
    endpoint_changes_pending: IntGauge,
    endpoint_changes: IntCounter,
    service_changes_pending: IntGauge,
    service_changes: IntCounter,
    no_local_endpoints: IntGaugeVec,
    healthz: IntCounterVec,
    livez: IntCounterVec,
}

fn name(name: &str) -> String {
    format!("kubeproxy_{name}")
}

fn help(text: &str) -> String {
    format!("[ALPHA] {text}")
}

/// Up to 1 s by quarters, to a minute by seconds, to two by five seconds, to five by thirty.
fn network_programming_buckets() -> prometheus::Result<Vec<f64>> {
    let parts = [
        linear_buckets(0.0, 0.25, 3)?,
        linear_buckets(1.0, 1.0, 59)?,
        linear_buckets(60.0, 5.0, 12)?,
        linear_buckets(120.0, 30.0, 7)?,
    ];
    Ok(parts.concat())
}

impl KubeProxyMetrics {
    /// Makes and registers them; families by address family begin with both at zero.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let sync_buckets = exponential_buckets(0.001, 2.0, 15)?;
        let histogram = |base: &str, text: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name(base), help(text)).buckets(buckets.to_vec());
            let made = HistogramVec::new(options, &[FAMILY])?;
            for family in Family::ALL {
                made.with_label_values(&[family.name()]);
            }
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let family_gauge = |base: &str, text: &str| {
            let made = GaugeVec::new(Opts::new(name(base), help(text)), &[FAMILY])?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let gauge = |base: &str, text: &str| {
            let made = IntGauge::new(name(base), help(text))?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let counter = |base: &str, text: &str| {
            let made = IntCounter::new(name(base), help(text))?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let code_counter = |base: &str, text: &str| {
            let made = IntCounterVec::new(Opts::new(name(base), help(text)), &["code"])?;
            made.with_label_values(&["200"]);
            made.with_label_values(&["503"]);
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let no_local_endpoints = IntGaugeVec::new(
            Opts::new(
                name("sync_proxy_rules_no_local_endpoints_total"),
                help("Number of services with a Local traffic policy and no endpoints on this node"),
            ),
            &[FAMILY, "traffic_policy"],
        )?;
        for family in Family::ALL {
            for policy in ["internal", "external"] {
                no_local_endpoints.with_label_values(&[family.name(), policy]);
            }
        }
        registry.register(Box::new(no_local_endpoints.clone()))?;
        Ok(Self {
            network_programming: histogram(
                "network_programming_duration_seconds",
                "In Cluster Network Programming Latency in seconds",
                &network_programming_buckets()?,
            )?,
            sync: histogram("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", &sync_buckets)?,
            full_sync: histogram(
                "sync_full_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for full resyncs",
                &sync_buckets,
            )?,
            partial_sync: histogram(
                "sync_partial_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for partial resyncs",
                &sync_buckets,
            )?,
            last_sync: family_gauge(
                "sync_proxy_rules_last_timestamp_seconds",
                "The last time proxy rules were successfully synced",
            )?,
            last_queued: family_gauge(
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "The last time a sync of proxy rules was queued",
            )?,
            endpoint_changes_pending: gauge(
                "sync_proxy_rules_endpoint_changes_pending",
                "Pending proxy rules Endpoint changes",
            )?,
            endpoint_changes: counter(
                "sync_proxy_rules_endpoint_changes_total",
                "Cumulative proxy rules Endpoint changes",
            )?,
            service_changes_pending: gauge(
                "sync_proxy_rules_service_changes_pending",
                "Pending proxy rules Service changes",
            )?,
            service_changes: counter(
                "sync_proxy_rules_service_changes_total",
                "Cumulative proxy rules Service changes",
            )?,
            no_local_endpoints,
            healthz: code_counter("proxy_healthz_total", "Cumulative proxy healthz HTTP status")?,
            livez: code_counter("proxy_livez_total", "Cumulative proxy livez HTTP status")?,
        })
    }

    /// `/healthz` was answered.
    pub fn healthz_answered(&self, code: u16) {
        self.healthz.with_label_values(&[&code.to_string()]).inc();
    }

    /// `/livez` was answered.
    pub fn livez_answered(&self, code: u16) {
        self.livez.with_label_values(&[&code.to_string()]).inc();
    }

    /// This many objects have changed and wait.
    pub fn changes_received(&self, services: u64, slices: u64) {
        if services + slices == 0 {
            return;
        }
        self.service_changes.inc_by(services);
        self.endpoint_changes.inc_by(slices);
        self.service_changes_pending.add(i64::try_from(services).unwrap_or(i64::MAX));
        self.endpoint_changes_pending.add(i64::try_from(slices).unwrap_or(i64::MAX));
        let now = seconds_now();
        for family in Family::ALL {
            self.last_queued.with_label_values(&[family.name()]).set(now);
        }
    }

    /// Nothing waits any more.
    pub fn nothing_pending(&self) {
        self.service_changes_pending.set(0);
        self.endpoint_changes_pending.set(0);
    }

    /// Changes were written.
    pub fn synced(&self, kind: SyncKind, took: Duration) {
        let now = seconds_now();
        let by_kind = match kind {
            SyncKind::Full => &self.full_sync,
            SyncKind::Partial => &self.partial_sync,
        };
        for family in Family::ALL {
            for histogram in [&self.sync, by_kind] {
                histogram.with_label_values(&[family.name()]).observe(took.as_secs_f64());
            }
            self.last_sync.with_label_values(&[family.name()]).set(now);
        }
    }

    /// From the change of an endpoint to its being in the kernel.
    pub fn programmed(&self, family: Family, took: Duration) {
        self.network_programming.with_label_values(&[family.name()]).observe(took.as_secs_f64());
    }

    /// The gauge of service ports without local endpoints under a `Local` policy.
    pub fn no_local_endpoints(&self, family: Family, policy: &str) -> IntGauge {
        self.no_local_endpoints.with_label_values(&[family.name(), policy])
    }
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_of_network_programming_are_kube_proxys() {
        let buckets = network_programming_buckets().unwrap();
        assert_eq!(buckets.len(), 3 + 59 + 12 + 7);
        assert_eq!(&buckets[..5], [0.0, 0.25, 0.5, 1.0, 2.0]);
        assert_eq!(&buckets[60..64], [58.0, 59.0, 60.0, 65.0]);
        assert_eq!(&buckets[73..], [115.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0]);
    }
}
