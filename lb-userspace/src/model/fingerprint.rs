//! A short stand-in for a desired state that was given out: equal states have equal fingerprints.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::desired::{DesiredPort, DesiredService};

/// The fingerprint of everything that is written to the kernel.
pub(super) fn fingerprint(service: &DesiredService) -> u64 {
    let mut hasher = DefaultHasher::new();
    service.ports.len().hash(&mut hasher);
    service.health.hash(&mut hasher);
    for port in &service.ports {
        let DesiredPort {
            id,
            frontends,
            backends,
            affinity_secs,
            algorithm,
            table_size,
            ejection,
            cluster_empty,
            local_empty,
            source_ranges,
        } = port;
        (id, frontends, backends, algorithm, table_size, ejection).hash(&mut hasher);
        (affinity_secs, cluster_empty, local_empty, source_ranges).hash(&mut hasher);
    }
    hasher.finish()
}
