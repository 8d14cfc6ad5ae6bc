//! Who hears of what the reconciler does: metrics, health, health check servers, events.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::writer::Outcome;
use crate::check::board::Board;
use crate::devices::AttachReport;
use crate::events::{Event, EventSink, RefusalWatch, Regarding};
use crate::health::check_ports::HealthChange;
use crate::health::{HealthCheckRegistry, ProxyHealth};
use crate::http::TakenPorts;
use crate::metrics::kube_proxy::SyncKind;
use crate::metrics::{Metrics, TrackedBatch, Tracker};
use crate::model::desired::{Change, Frontend, FrontendKind, Refusal, ServiceName};
use crate::model::event::{Kind, SourceEvent};
use crate::model::family::PerFamily;
use crate::model::trigger::Trigger;
use crate::outliers::Totals;

/// All of them.
#[derive(Debug)]
pub struct Observers {
    metrics: Metrics,
    health: Arc<ProxyHealth>,
    checks: HealthCheckRegistry,
    events: EventSink,
    taken: TakenPorts,
    board: Board,
    tracker: Tracker,
    refusals: RefusalWatch,
    /// Services of which it was told that they use `externalIPs`.
    external: HashSet<ServiceName>,
}

/// A batch that is about to be written.
#[derive(Debug)]
pub(super) struct PendingBatch {
    tracked: TrackedBatch,
    checks: Vec<HealthChange>,
}

impl Observers {
    /// Tells these.
    pub fn new(
        metrics: Metrics,
        health: Arc<ProxyHealth>,
        checks: HealthCheckRegistry,
        events: EventSink,
        taken: TakenPorts,
        board: Board,
    ) -> Self {
        Self {
            metrics,
            health,
            checks,
            events,
            taken,
            board,
            tracker: Tracker::new(),
            refusals: RefusalWatch::default(),
            external: HashSet::new(),
        }
    }

    /// The agent has begun its work.
    pub(super) fn started(&self, node: &str) {
        self.events.send(Event::normal(Regarding::node(node), "Starting", "StartSluice", String::new()));
    }

    /// Events of the source have arrived.
    pub(super) fn received(&self, events: &[SourceEvent]) {
        self.board.heard(events);
        let (mut services, mut slices) = (0, 0);
        for event in events {
            let (kind, number) = match event {
                SourceEvent::Apply(object) => (object.kind(), 1),
                SourceEvent::Delete { kind, .. } => (*kind, 1),
                SourceEvent::Replace(kind, objects) => (*kind, u64::try_from(objects.len()).unwrap_or(u64::MAX)),
                SourceEvent::Synced
                | SourceEvent::Version(_)
                | SourceEvent::HostPorts { .. }
                | SourceEvent::Refused(_) => continue,
            };
            match kind {
                Kind::Service => services += number,
                Kind::EndpointSlice => slices += number,
                _ => {}
            }
        }
        self.metrics.kube_proxy().changes_received(services, slices);
    }

    /// What is known of the node: where its health checks are answered, and whether it may get new connections.
    pub(super) fn node(&self, addresses: &[IpAddr], eligible: bool) {
        self.checks.set_addresses(addresses);
        self.health.set_eligible(eligible);
    }

    /// These changes are about to be written.
    pub(super) fn announce(&mut self, changes: &[Change]) -> PendingBatch {
        self.health.queued();
        for change in changes {
            self.external_ips(change);
        }
        PendingBatch { tracked: Tracker::read(changes), checks: self.checks.changes(changes) }
    }

    /// Warns of a Service with `externalIPs`, once (KEP-5707).
    fn external_ips(&mut self, change: &Change) {
        let service = match change {
            Change::Upsert(service) => service,
            Change::Remove(name) => {
                self.external.remove(name);
                return;
            }
        };
        let is_external = |frontend: &Frontend| frontend.kind == FrontendKind::ExternalIp;
        if !service.ports.iter().any(|port| port.frontends.iter().any(is_external)) {
            self.external.remove(&service.name);
        } else if self.external.insert(service.name.clone()) {
            let ServiceName { namespace, name } = &service.name;
            let note = "externalIPs are served, as they are by kube-proxy up to Kubernetes 1.39. Whoever may set them can \
                        claim any address (CVE-2020-8554); they are off from 1.40 on";
            let regarding = Regarding::object("Service", namespace, name);
            let event = Event::warning(regarding, "ExternalIPsDeprecated", "Serve", note.to_owned());
            self.events.send(Event { everywhere: true, ..event });
        }
    }

    /// They are, as far as that went.
    pub(super) fn written(&mut self, batch: PendingBatch, kind: SyncKind, outcome: &Outcome, took: Duration) {
        self.tracker.written(batch.tracked, self.metrics.kube_proxy());
        self.checks.take(batch.checks);
        self.metrics.kube_proxy().synced(kind, took);
        self.wrote(outcome);
    }

    /// What changed because of these triggers is in force.
    pub(super) fn programmed(&self, triggers: &[Trigger]) {
        self.tracker.programmed(triggers, self.metrics.kube_proxy());
    }

    /// Something was written outside of a batch.
    pub(super) fn wrote(&self, outcome: &Outcome) {
        self.metrics.update(|snapshot| {
            snapshot.map_writes += u64::try_from(outcome.writes).unwrap_or(0);
            snapshot.writes_refused += u64::try_from(outcome.refused).unwrap_or(0);
        });
    }

    /// The reconciler has nothing to do for now. `troubled`: because a write fails, not because all is written.
    pub(super) fn settled(&self, troubled: bool) {
        self.metrics.kube_proxy().nothing_pending();
        if troubled {
            self.health.queued();
        } else {
            self.health.settled();
        }
    }

    /// The first full state is in force.
    pub(super) fn ready(&self) {
        self.health.set_ready();
    }

    /// Ports of the agent that somebody else has.
    pub(super) const fn taken(&self) -> &TakenPorts {
        &self.taken
    }

    /// What the agent's own checks found.
    pub(super) const fn board(&self) -> &Board {
        &self.board
    }

    /// The task that writes is alive.
    pub(super) fn alive(&self) {
        self.health.alive();
    }

    /// The refusals have changed: these are all.
    pub(super) fn refused<'a>(&mut self, refusals: impl Iterator<Item = &'a Refusal> + Clone) {
        // The reconciler logs refusals itself, so many lines at a time.
        for event in self.refusals.news(refusals.clone()) {
            self.events.send_quietly(event);
        }
        self.metrics.update(|snapshot| snapshot.count_refusals(refusals));
    }

    /// How backends behave, and what there is to tell of it.
    pub(super) fn backends(&self, events: Vec<Event>, outliers: Totals, silent: usize) {
        for event in events {
            self.events.send(event);
        }
        self.metrics.update(|snapshot| {
            snapshot.ejections = outliers.ejections;
            snapshot.backends_resting = outliers.resting;
            snapshot.backends_silent = silent;
        });
    }

    /// What is attached has changed.
    pub(super) fn attached(&self, attach: &AttachReport) {
        self.metrics.update(|snapshot| snapshot.attach.clone_from(attach));
    }

    /// How things are has changed.
    pub(super) fn state(&self, now: &State) {
        self.metrics.update(|snapshot| {
            snapshot.source_connected = now.source_connected;
            snapshot.synced = now.synced;
            snapshot.services = now.services;
            snapshot.slots = now.slots;
        });
    }
}

/// How things are.
pub(super) struct State {
    pub(super) source_connected: bool,
    pub(super) synced: bool,
    pub(super) services: usize,
    pub(super) slots: PerFamily<usize>,
}
