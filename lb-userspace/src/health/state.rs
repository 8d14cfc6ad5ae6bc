//! Whether this node's proxy keeps up, per address family, and whether the node may get traffic at all.
//!
//! Well means: no update has been waiting for longer than twice the sync period, and the task that writes is alive.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::model::family::{Family, PerFamily};

/// Knows how the proxy is.
#[derive(Debug)]
pub struct ProxyHealth {
    timeout: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    families: PerFamily<FamilyState>,
    eligible: bool,
    /// The first full state is in force.
    ready: bool,
    /// The writer's last sign of life.
    alive: Instant,
}

#[derive(Clone, Copy, Debug)]
struct FamilyState {
    updated: Timestamp,
    /// Since when an update has been waiting.
    pending: Option<Instant>,
}

/// What is said, in the order of kube-proxy's fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthReport {
    /// Now while all is well; else when something was last written.
    pub last_updated: Timestamp,
    /// Now.
    pub current_time: Timestamp,
    /// Whether the node may get new connections; not said by `/livez`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_eligible: Option<bool>,
    /// Whether the proxy keeps up.
    pub healthy: bool,
    /// The same by family.
    pub status: FamilyReports,
}

/// Both families.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FamilyReports {
    /// IPv4.
    #[serde(rename = "IPv4")]
    pub v4: FamilyReport,
    /// IPv6.
    #[serde(rename = "IPv6")]
    pub v6: FamilyReport,
}

/// One family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyReport {
    /// When something was last written.
    pub last_updated: Timestamp,
    /// Whether the proxy keeps up.
    pub healthy: bool,
}

impl ProxyHealth {
    /// Well, as of now. An update may wait for twice `sync_period`.
    pub fn new(sync_period: Duration) -> Self {
        let family = FamilyState { updated: Timestamp::now(), pending: None };
        let inner = Inner { families: PerFamily::both(family), eligible: true, ready: false, alive: Instant::now() };
        Self { timeout: sync_period * 2, inner: Mutex::new(inner) }
    }

    /// An update is waiting since now, if none was.
    pub fn queued(&self) {
        let now = Instant::now();
        for family in self.lock().families.each_mut() {
            family.pending.get_or_insert(now);
        }
    }

    /// Everything that waited, if anything did, is written.
    pub fn settled(&self) {
        for family in self.lock().families.each_mut() {
            if family.pending.is_some() {
                *family = FamilyState { updated: Timestamp::now(), pending: None };
            }
        }
    }

    /// The task that writes is alive.
    pub fn alive(&self) {
        self.lock().alive = Instant::now();
    }

    /// The first full state is in force.
    pub fn set_ready(&self) {
        self.lock().ready = true;
    }

    /// Whether the first full state is in force.
    pub fn is_ready(&self) -> bool {
        self.lock().ready
    }

    /// Whether the node may get new connections.
    pub fn set_eligible(&self, eligible: bool) {
        let before = std::mem::replace(&mut self.lock().eligible, eligible);
        if before != eligible {
            let why = "its Node is being deleted, gone, or to be removed by the autoscaler";
            if eligible {
                tracing::info!("the node may get new connections again");
            } else {
                tracing::warn!(why, "the node should get no new connections: /healthz says so");
            }
        }
    }

    /// Whether the proxy keeps up, whatever the node may.
    pub fn is_healthy(&self) -> bool {
        self.report().healthy
    }

    /// How things are.
    pub fn report(&self) -> HealthReport {
        self.report_at(Instant::now())
    }

    fn report_at(&self, now: Instant) -> HealthReport {
        let inner = self.lock();
        let late = |since: Instant| now.saturating_duration_since(since) > self.timeout;
        let stuck = late(inner.alive);
        let of = |family: Family| {
            let state = inner.families[family];
            FamilyReport { last_updated: state.updated, healthy: !stuck && !state.pending.is_some_and(late) }
        };
        let status = FamilyReports { v4: of(Family::V4), v6: of(Family::V6) };
        let healthy = status.v4.healthy && status.v6.healthy;
        let current_time = Timestamp::now();
        let last_updated = if healthy { current_time } else { status.v4.last_updated.max(status.v6.last_updated) };
        HealthReport { last_updated, current_time, node_eligible: Some(inner.eligible), healthy, status }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(30);

    fn after(health: &ProxyHealth, secs: u64) -> HealthReport {
        health.report_at(Instant::now() + Duration::from_secs(secs))
    }

    #[test]
    fn an_update_may_wait_for_two_sync_periods_and_no_longer() {
        let health = ProxyHealth::new(PERIOD);
        health.queued();
        assert!(after(&health, 59).healthy);
        let late = after(&health, 61);
        assert!(!late.healthy && !late.status.v4.healthy && !late.status.v6.healthy);
        assert!(late.last_updated < late.current_time);
        // Waiting began with the first update, not with the newest.
        health.queued();
        assert!(!after(&health, 61).healthy);
        health.alive();
        health.settled();
        assert!(after(&health, 59).healthy);
    }

    #[test]
    fn a_writer_without_a_sign_of_life_is_unwell() {
        let health = ProxyHealth::new(PERIOD);
        assert!(after(&health, 59).healthy);
        assert!(!after(&health, 61).healthy);
    }

    #[test]
    fn an_ineligible_node_is_healthy_all_the_same() {
        let health = ProxyHealth::new(PERIOD);
        health.set_eligible(false);
        let report = health.report();
        assert_eq!((report.node_eligible, report.healthy), (Some(false), true));
        assert_eq!(report.last_updated, report.current_time);
    }
}
