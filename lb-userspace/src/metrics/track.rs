//! What changes of Services mean for the metrics: how long an endpoint's change took to come into force, and how many
//! service ports have no endpoint on this node where their policy wants one.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::kube_proxy::KubeProxyMetrics;
use crate::model::desired::{Change, DesiredPort, DesiredService, FrontendKind, ServiceName, SetKind, WhenEmpty};
use crate::model::family::{Family, PerFamily};
use crate::model::trigger::Trigger;

/// What is kept of a Service, by the hash of its name: service ports without a local endpoint, for the internal and for
/// the external policy.
type Known = PerFamily<[u16; 2]>;

/// Follows the changes.
#[derive(Debug)]
pub struct Tracker {
    known: HashMap<u64, Known>,
    /// Earlier changes are not measured: another agent wrote them.
    since: u64,
}

/// What a batch changes, to be counted when it is in force.
#[derive(Debug)]
pub struct Batch(Vec<(u64, Option<Known>)>);

impl Tracker {
    /// Measures what happens from now on.
    pub fn new() -> Self {
        Self { known: HashMap::new(), since: now_ns() }
    }

    /// Reads a batch before it is written.
    pub fn read(changes: &[Change]) -> Batch {
        let read = changes.iter().map(|change| match change {
            Change::Upsert(service) => (hash(&service.name), Some(read(service))),
            Change::Remove(name) => (hash(name), None),
        });
        Batch(read.collect())
    }

    /// What changed because of these triggers is in force.
    pub fn programmed(&self, triggers: &[Trigger], metrics: &KubeProxyMetrics) {
        let now = now_ns();
        for Trigger { family, at_ns, .. } in triggers.iter().filter(|trigger| trigger.at_ns > self.since) {
            metrics.programmed(*family, Duration::from_nanos(now.saturating_sub(*at_ns)));
        }
    }

    /// The batch is in force.
    pub fn written(&mut self, batch: Batch, metrics: &KubeProxyMetrics) {
        for (name, read) in batch.0 {
            let before = match read {
                Some(read) => self.known.insert(name, read),
                None => self.known.remove(&name),
            };
            let (before, after) = (before.unwrap_or_default(), read.unwrap_or_default());
            for family in Family::ALL {
                for (at, policy) in ["internal", "external"].into_iter().enumerate() {
                    let (was, is) = (before[family][at], after[family][at]);
                    if was != is {
                        metrics.no_local_endpoints(family, policy).add(i64::from(is) - i64::from(was));
                    }
                }
            }
        }
    }
}

impl Default for Tracker {
    fn default() -> Self {
        Self::new()
    }
}

fn read(service: &DesiredService) -> Known {
    let mut known = Known::default();
    for port in &service.ports {
        let [internal, external] = without_local(port);
        known[port.id.family][0] += u16::from(internal);
        known[port.id.family][1] += u16::from(external);
    }
    known
}

/// Whether the internal, and the external, policy wants a local endpoint but has only others.
fn without_local(port: &DesiredPort) -> [bool; 2] {
    if port.local_empty != WhenEmpty::Drop || port.backends.values().any(|backend| backend.in_local) {
        return [false; 2];
    }
    let is_cluster_ip = |kind| kind == FrontendKind::ClusterIp;
    [
        port.frontends.iter().any(|f| is_cluster_ip(f.kind) && f.internal == SetKind::Local),
        port.frontends.iter().any(|f| !is_cluster_ip(f.kind) && f.external == SetKind::Local),
    ]
}

fn hash(name: &ServiceName) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn now_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prometheus::Registry;

    use super::*;
    use crate::model::algorithm::{Algorithm, TableSize};
    use crate::model::desired::{Frontend, PortId, Protocol};
    use crate::model::ejection::Ejection;

    fn service(external: SetKind) -> Change {
        let name = ServiceName { namespace: "n".into(), name: "s".into() };
        let frontend = Frontend {
            addr: "192.0.2.1:30000".parse().unwrap(),
            kind: FrontendKind::NodePort,
            internal: SetKind::Cluster,
            external,
            source_ranges: false,
            node_address: false,
        };
        let id =
            PortId { service: name.clone(), port_name: String::new(), protocol: Protocol::Tcp, family: Family::V4 };
        let port = DesiredPort {
            id,
            frontends: vec![frontend],
            backends: BTreeMap::new(),
            affinity_secs: 0,
            algorithm: Algorithm::Random,
            table_size: TableSize::default(),
            ejection: Ejection::Off,
            cluster_empty: WhenEmpty::Drop,
            local_empty: WhenEmpty::Drop,
            source_ranges: Vec::new(),
        };
        Change::Upsert(DesiredService { name, ports: vec![port], health: None })
    }

    fn observed(metrics: &Registry) -> u64 {
        let families = metrics.gather();
        let family = families.iter().find(|f| f.name() == "kubeproxy_network_programming_duration_seconds").unwrap();
        family.get_metric().iter().map(|metric| metric.get_histogram().get_sample_count()).sum()
    }

    #[test]
    fn each_trigger_is_measured_and_none_from_before_the_start() {
        let registry = Registry::new();
        let metrics = KubeProxyMetrics::new(&registry).unwrap();
        let tracker = Tracker::new();
        let observe = |times: &[u64]| {
            let service = ServiceName { namespace: "n".into(), name: "s".into() };
            let trigger = |at_ns: &u64| Trigger { service: service.clone(), family: Family::V6, at_ns: *at_ns };
            tracker.programmed(&times.iter().map(trigger).collect::<Vec<_>>(), &metrics);
            observed(&registry)
        };
        let later = now_ns() + 1;
        assert_eq!(observe(&[]), 0);
        assert_eq!(observe(&[1]), 0, "from before the start");
        assert_eq!(observe(&[later, 1, later + 1]), 2);
    }

    #[test]
    fn ports_without_local_endpoints_are_counted_while_they_are() {
        let metrics = KubeProxyMetrics::new(&Registry::new()).unwrap();
        let mut tracker = Tracker::new();
        let external = metrics.no_local_endpoints(Family::V4, "external");
        tracker.written(Tracker::read(&[service(SetKind::Local)]), &metrics);
        assert_eq!((external.get(), metrics.no_local_endpoints(Family::V4, "internal").get()), (1, 0));
        tracker.written(Tracker::read(&[service(SetKind::Cluster)]), &metrics);
        assert_eq!(external.get(), 0);
        tracker.written(Tracker::read(&[service(SetKind::Local)]), &metrics);
        let gone = Change::Remove(ServiceName { namespace: "n".into(), name: "s".into() });
        tracker.written(Tracker::read(&[gone]), &metrics);
        assert_eq!(external.get(), 0);
    }
}
