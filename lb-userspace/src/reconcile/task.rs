//! The loop around [`Writer`]: waits for events, writes, retries, reports, and notices a successor.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lb_common::abi::REPORT_LEN;
use tokio::sync::{mpsc, watch};
use tokio::time::{self, MissedTickBehavior};

use super::facts::{ReconcileSettings, Surroundings};
use super::observers::{Observers, State};
use super::report::{Origin, Report, SourceRow};
use super::writer::{Outcome, Writer};
use crate::allocator;
use crate::attach::{AttachReport, NodeNetwork};
use crate::maps::kernel::KernelTables;
use crate::maps::{FamilySettings, TableFailure, Tables};
use crate::metrics::kube_proxy::SyncKind;
use crate::model::desired::{NodeFacts, Refusal};
use crate::model::event::SourceEvent;
use crate::model::family::PerFamily;
use crate::model::world::World;
use crate::sockets::Reaper;

/// Housekeeping: report, successor.
const TICK: Duration = Duration::from_millis(200);
/// The first write waits this long for the node's addresses.
const NETWORK_PATIENCE: Duration = Duration::from_secs(3);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// Events taken together before changes are worked out.
const EVENTS_AT_ONCE: usize = 100_000;
/// A change of this many writes leaves memory behind that is worth giving back.
const LARGE_CHANGE: usize = 5_000;
/// Ranges of `ClusterIP`s that the data path knows, per family.
const SERVICE_RANGES: usize = 2;
/// Lines of the log about refusals at a time; the report has them all.
const LINES_AT_ONCE: usize = 50;

/// Where everything comes from.
#[derive(Debug)]
pub struct Inputs {
    /// Kubernetes objects.
    pub events: mpsc::Receiver<SourceEvent>,
    /// The node's addresses.
    pub network: watch::Receiver<NodeNetwork>,
    /// Devices and features, for the report.
    pub attach: watch::Receiver<AttachReport>,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Another agent has taken this pin path over.
    TakenOver,
    /// The source is gone.
    SourceEnded,
}

/// The one task that writes maps.
#[allow(missing_debug_implementations, reason = "the maps have none")]
pub struct Reconciler {
    writer: Writer<KernelTables>,
    world: World,
    settings: ReconcileSettings,
    origin: Origin,
    observers: Observers,
    pid: u32,
    started: Instant,
    facts: NodeFacts,
    configured: Option<PerFamily<FamilySettings>>,
    network_known: bool,
    /// The programs are on the devices that were there at the start.
    attached: bool,
    /// What the first write did and how long it took, until it is announced.
    first_write: Option<(Outcome, u64)>,
    synced: bool,
    retry_after: Duration,
    retry_at: Option<time::Instant>,
    reported: String,
    /// Refusals that the log has.
    said: HashSet<Refusal>,
    /// Writes since memory was last given back.
    writes: usize,
    reaper: Reaper,
}

impl Reconciler {
    /// Claims the maps for this process and takes over what they hold. `started`: when the agent began.
    pub fn new(
        mut tables: KernelTables,
        settings: ReconcileSettings,
        origin: Origin,
        observers: Observers,
        reaper: Reaper,
        started: Instant,
    ) -> Result<Self, TableFailure> {
        let pid = std::process::id();
        tables.update_status(|status| {
            status.pid = pid;
            status.started_ns = now_ns();
            status.synced_ns = 0;
        })?;
        let writer = Writer::restore(tables)?;
        tracing::info!(services = writer.services(), "took over what the maps hold");
        let facts = NodeFacts { name: settings.node_name.clone(), ..NodeFacts::default() };
        Ok(Self {
            writer,
            world: World::new(facts.clone(), settings.resolve.clone()),
            settings,
            origin,
            observers,
            pid,
            started,
            facts,
            configured: None,
            reaper,
            network_known: false,
            attached: false,
            first_write: None,
            synced: false,
            retry_after: RETRY_FIRST,
            retry_at: None,
            reported: String::new(),
            said: HashSet::new(),
            writes: 0,
        })
    }

    /// Works until a successor takes over or the source ends.
    pub async fn run(mut self, mut inputs: Inputs) -> Ended {
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        self.observers.started(&self.settings.node_name);
        loop {
            tokio::select! {
                taken = inputs.events.recv_many(&mut batch, EVENTS_AT_ONCE) => {
                    if taken == 0 {
                        return Ended::SourceEnded;
                    }
                    self.observers.received(&batch);
                }
                changed = inputs.network.changed() => {
                    self.network_known |= changed.is_ok();
                    if changed.is_err() {
                        // The sender is gone; its last word stays. Do not spin on it.
                        time::sleep(TICK).await;
                    }
                }
                _ = tick.tick() => {
                    self.network_known |= self.started.elapsed() > NETWORK_PATIENCE;
                    if self.superseded() {
                        return Ended::TakenOver;
                    }
                    // To look at it marks it as seen.
                    self.attached |= inputs.attach.has_changed().unwrap_or(true);
                    self.report(&inputs.attach.borrow_and_update().clone());
                    self.give_memory_back();
                }
                changed = inputs.attach.changed(), if !self.attached => self.attached |= changed.is_ok(),
            }
            self.network_known |= inputs.network.has_changed().unwrap_or(false);
            let network = inputs.network.borrow_and_update().clone();
            tokio::task::block_in_place(|| {
                for event in batch.drain(..) {
                    self.world.apply(event);
                }
                self.converge(&network);
            });
        }
    }

    fn converge(&mut self, network: &NodeNetwork) {
        if !self.network_known {
            return;
        }
        self.take_facts(network);
        if !self.world.synced() {
            return;
        }
        if self.superseded() {
            return;
        }
        let begin = Instant::now();
        let mut triggers = self.world.take_triggers();
        let changes = self.world.take_changes();
        if !self.synced {
            let announced = self.observers.announce(&changes);
            let outcome = self.writer.write_first(changes);
            self.synced = true;
            // Also those that went while no agent ran.
            self.reaper.wake();
            self.observers.written(announced, SyncKind::Full, &outcome, begin.elapsed());
            // Only now an address that no Service has is known to be one.
            self.configure(network);
            self.writes += outcome.writes;
            self.first_write = Some((outcome, millis(begin)));
        } else if !changes.is_empty() {
            let services = changes.len();
            let announced = self.observers.announce(&changes);
            let outcome = self.writer.write(changes);
            self.writes += outcome.writes;
            if outcome.backends_gone > 0 {
                self.reaper.wake();
            }
            self.stamp(false);
            self.observers.written(announced, SyncKind::Partial, &outcome, begin.elapsed());
            log(services, &outcome, begin);
        }
        triggers.retain(|trigger| !self.writer.is_parked(&trigger.service));
        self.observers.programmed(&triggers);
        self.announce();
        self.retry();
        self.observers.settled(self.configured.is_none() || self.writer.in_trouble());
    }

    /// The first full state counts once the programs are where the packets are.
    fn announce(&mut self) {
        if !self.attached {
            return;
        }
        let Some((outcome, millis_to_write)) = self.first_write.take() else { return };
        self.stamp(true);
        tracing::info!(
            services = self.writer.services(),
            writes = outcome.writes,
            refused = outcome.refused,
            millis = millis_to_write,
            since_start_millis = millis(self.started),
            "first full state is in the kernel"
        );
    }

    /// What did not fit is tried again at once when room has appeared, else after a pause that grows.
    fn retry(&mut self) {
        if !self.writer.pending() {
            (self.retry_at, self.retry_after) = (None, RETRY_FIRST);
            return;
        }
        let due = self.retry_at.is_some_and(|at| at <= time::Instant::now());
        if self.writer.take_freed_room() || due {
            let begin = Instant::now();
            let outcome = self.writer.retry();
            if outcome.backends_gone > 0 {
                self.reaper.wake();
            }
            self.stamp(false);
            self.observers.wrote(&outcome);
            log(outcome.services + outcome.refused, &outcome, begin);
            if due {
                self.retry_after = (self.retry_after * 2).min(RETRY_LAST);
            }
            self.retry_at = None;
        }
        if self.retry_at.is_none() {
            self.retry_at = Some(time::Instant::now() + self.retry_after);
        }
    }

    fn take_facts(&mut self, network: &NodeNetwork) {
        let facts = self.settings.node_facts(network, self.world.node());
        if facts != self.facts {
            self.world.set_node(facts.clone());
            self.facts = facts;
        }
        let gone = self.world.node_is_gone(matches!(self.origin, Origin::Kube(_)));
        let leaving = self.world.node().is_some_and(|node| node.leaving);
        self.observers.node(&self.settings.health_addresses(&self.facts), !gone && !leaving);
        self.configure(network);
    }

    /// Writes the settings of the data path, where they are not those already.
    fn configure(&mut self, network: &NodeNetwork) {
        let service_cidrs = self.world.service_cidrs();
        let around = Surroundings {
            node: self.world.node(),
            service_cidrs: &service_cidrs,
            services_known: self.synced || self.writer.services() > 0,
        };
        let families = self.settings.family_settings(network, &around);
        if self.configured.as_ref() != Some(&families) {
            if let Some(left_out) = families.iter().find_map(|(_, family)| family.services.get(SERVICE_RANGES)) {
                tracing::warn!(%left_out, "more than {SERVICE_RANGES} ranges of ClusterIPs: unallocated addresses pass here");
            }
            let tables = self.writer.tables();
            let written = families.iter().try_for_each(|(family, settings)| tables.configure(family, settings));
            match written {
                Ok(()) => self.configured = Some(families),
                Err(failure) => {
                    self.configured = None;
                    tracing::error!(%failure, "settings of the data path are not written yet");
                }
            }
        }
    }

    fn give_memory_back(&mut self) {
        if self.writes >= LARGE_CHANGE {
            self.writes = 0;
            allocator::give_back();
        }
    }

    fn stamp(&mut self, first: bool) {
        let now = now_ns();
        let written = self.writer.tables().update_status(|status| {
            status.updated_ns = now;
            if first {
                status.synced_ns = now;
            }
        });
        if let Err(failure) = written {
            tracing::error!(%failure, "the agent's state is not written");
        }
    }

    /// Whether another agent has written its process id: it writes the maps from now on.
    fn superseded(&mut self) -> bool {
        self.writer.tables().status().is_ok_and(|status| status.pid != self.pid)
    }

    /// Each refusal is logged once, when it appears.
    fn say_what_is_refused(&mut self) {
        let current: HashSet<&Refusal> = self.world.refusals().chain(self.writer.refusals()).collect();
        if current.len() == self.said.len() && current.iter().all(|refusal| self.said.contains(*refusal)) {
            return;
        }
        let mut fresh: Vec<&Refusal> = current.iter().copied().filter(|row| !self.said.contains(*row)).collect();
        fresh.sort_unstable();
        for Refusal { kind, object, reason, message } in fresh.iter().take(LINES_AT_ONCE) {
            tracing::warn!(kind, %object, reason = reason.name(), "not served as it stands: {message}");
        }
        if fresh.len() > LINES_AT_ONCE {
            tracing::warn!("and {} more, which `sluice status` shows", fresh.len() - LINES_AT_ONCE);
        }
        self.said = current.into_iter().cloned().collect();
    }

    fn report(&mut self, attach: &AttachReport) {
        self.say_what_is_refused();
        let source: SourceRow = (&self.origin).into();
        let state = State {
            attach,
            source_connected: source.connected,
            synced: self.synced,
            services: self.writer.services(),
            slots: self.writer.slots_in_use(),
        };
        let refusals = self.world.refusals().chain(self.writer.refusals());
        self.observers.tick(&state, refusals.clone());
        let refusals = refusals.map(Into::into).collect();
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION"),
            node_name: &self.settings.node_name,
            source,
            attach,
            sockets: &attach.sockets,
            refusals,
            refusals_omitted: 0,
        };
        match report.to_json(REPORT_LEN) {
            Ok(json) if json == self.reported => {}
            Ok(json) => match self.writer.tables().set_report(&json) {
                Ok(()) => self.reported = json,
                Err(failure) => tracing::error!(%failure, "the report is not written"),
            },
            Err(error) => tracing::error!(%error, "the report cannot be put into words"),
        }
    }
}

fn log(services: usize, outcome: &Outcome, begin: Instant) {
    tracing::debug!(
        services,
        writes = outcome.writes,
        refused = outcome.refused,
        millis = millis(begin),
        "changes are in the kernel"
    );
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn now_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}
