//! The loop around [`Writer`]: waits for events, writes, retries, reports, and notices a successor.
//!
//! A tick on which nothing has changed looks for a successor and does nothing else.

use std::time::{Duration, Instant};

use lb_common::abi::REPORT_LEN;
use tokio::sync::watch;
use tokio::time::{self, MissedTickBehavior};

use super::claim::{Claim, now_ns};
use super::facts::{ReconcileSettings, Surroundings};
use super::former::FormerFacts;
use super::inputs::{Ended, Inputs};
use super::look_after::LookAfter;
use super::observers::{Observers, State};
use super::origin::Origin;
use super::reporter::Reporter;
use super::retry::Retry;
use super::start::{Leftovers, Start};
use super::writer::{Outcome, Writer, millis};
use crate::allocator;
use crate::causes::with_causes;
use crate::devices::{AttachReport, NodeNetwork};
use crate::maps::{AgentTables, FamilySettings, LiveFlows, TableFailure};
use crate::metrics::kube_proxy::SyncKind;
use crate::model::desired::NodeFacts;
use crate::model::event::SourceEvent;
use crate::model::family::PerFamily;
use crate::model::world::World;
use crate::sockets::Reaper;

/// Housekeeping: report, successor.
const TICK: Duration = Duration::from_millis(200);
/// Where nothing is served yet, the first write waits this long for the node's addresses.
const NETWORK_PATIENCE: Duration = Duration::from_secs(3);
/// Events taken together before changes are worked out.
const EVENTS_AT_ONCE: usize = 100_000;
/// A change of this many writes leaves memory behind that is worth giving back.
const LARGE_CHANGE: usize = 5_000;

/// The one task that writes maps.
#[derive(Debug)]
pub struct Reconciler<T> {
    writer: Writer<T>,
    world: World,
    settings: ReconcileSettings,
    observers: Observers,
    reporter: Reporter,
    reaper: Reaper,
    claim: Claim,
    lost: Option<Ended>,
    started: Instant,
    start: Start,
    leftovers: Leftovers,
    facts: NodeFacts,
    former: FormerFacts,
    configured: Option<PerFamily<FamilySettings>>,
    retry: Retry,
    look_after: LookAfter,
    /// Something was written that the metrics do not show yet.
    wrote: bool,
    /// Writes since memory was last given back.
    writes: usize,
}

impl<T: AgentTables> Reconciler<T> {
    /// Claims the maps for this process and takes over what they hold. `started`: when the agent began.
    pub fn new(
        mut tables: T,
        settings: ReconcileSettings,
        origin: Origin,
        observers: Observers,
        reaper: Reaper,
        started: Instant,
        claim: Claim,
    ) -> Result<Self, TableFailure> {
        claim.stake(&mut tables)?;
        let former = FormerFacts::new(tables.pinned_facts()?, matches!(origin, Origin::Kube(_)));
        let mut writer = Writer::restore(tables)?;
        writer.while_it(claim.go_on());
        tracing::info!(services = writer.services(), "took over what the maps hold");
        let facts = NodeFacts { name: settings.node_name.clone(), ..NodeFacts::default() };
        Ok(Self {
            writer,
            world: World::new(facts.clone(), settings.resolve.clone()),
            reporter: Reporter::new(&settings, origin, observers.taken(), observers.board()),
            settings,
            observers,
            reaper,
            claim,
            lost: None,
            started,
            start: Start::default(),
            leftovers: Leftovers::default(),
            facts,
            former,
            configured: None,
            retry: Retry::new(),
            look_after: LookAfter::default(),
            wrote: true,
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
                    self.start.network_known |= changed.is_ok();
                    if changed.is_err() {
                        // The sender is gone; its last value stays. Do not spin on it.
                        time::sleep(TICK).await;
                    }
                }
                _ = tick.tick() => {
                    if let Some(ended) = self.claim.lost(self.writer.tables()) {
                        return ended;
                    }
                    self.tick(&mut inputs.attach);
                    if inputs.live.has_changed().unwrap_or(false) {
                        tokio::task::block_in_place(|| self.settle(inputs.live.borrow_and_update().as_ref()));
                    }
                    if !self.is_due() && !inputs.network.has_changed().unwrap_or(false) {
                        continue;
                    }
                }
                changed = inputs.attach.changed(), if !self.start.attached => {
                    self.start.attached |= changed.is_ok();
                    // Reported before the first full state is announced: who waits for that finds it.
                    inputs.attach.mark_changed();
                    self.tick(&mut inputs.attach);
                }
            }
            self.start.network_known |= inputs.network.has_changed().unwrap_or(false);
            let network = inputs.network.borrow_and_update().clone();
            tokio::task::block_in_place(|| self.apply(&mut batch, &network));
            if let Some(ended) = self.lost {
                return ended;
            }
        }
    }

    /// Takes events in, and brings the maps to what is desired then.
    pub(super) fn apply(&mut self, batch: &mut Vec<SourceEvent>, network: &NodeNetwork) {
        for event in batch.drain(..) {
            self.world.apply(event);
        }
        self.converge(network);
    }

    /// Housekeeping. `attach`: what is attached where.
    pub(super) fn tick(&mut self, attach: &mut watch::Receiver<AttachReport>) {
        self.start.network_known |= self.writer.services() == 0 && self.started.elapsed() > NETWORK_PATIENCE;
        self.observers.alive();
        let changed = attach.has_changed();
        self.start.attached |= changed.as_ref().copied().unwrap_or(true);
        // To look at it marks it as seen.
        let attach = changed.unwrap_or(false).then(|| attach.borrow_and_update().clone());
        self.report(attach);
        if self.start.synced {
            self.look_after.tick(&mut self.writer, &self.observers);
        }
        self.give_memory_back();
    }

    /// A sweep has seen which frontends and backends have flows.
    fn settle(&mut self, live: Option<&LiveFlows>) {
        if let Some(live) = live
            && let Err(failure) = self.writer.tables().settle(live)
        {
            tracing::warn!(error = with_causes(&failure), "cannot take old entries out of the filters yet");
        }
    }

    /// Whether there is something to do although nothing has happened.
    pub(super) fn is_due(&self) -> bool {
        let Start { synced, first_write, .. } = self.start;
        !synced || first_write.is_some() || self.configured.is_none() || self.retry.is_due()
    }

    /// The maps.
    #[cfg(test)]
    pub(super) fn tables(&mut self) -> &mut T {
        self.writer.tables()
    }

    /// The node's addresses have been read.
    #[cfg(test)]
    pub(super) const fn know_network(&mut self) {
        self.start.network_known = true;
    }

    /// Reports put together so far.
    #[cfg(test)]
    pub(super) const fn reports_serialised(&self) -> usize {
        self.reporter.serialised
    }

    fn converge(&mut self, network: &NodeNetwork) {
        if !self.start.network_known {
            return;
        }
        self.take_facts(network);
        if !self.world.synced() {
            return;
        }
        self.lost = self.claim.lost(self.writer.tables());
        if self.lost.is_some() {
            return;
        }
        let begin = Instant::now();
        let mut triggers = self.world.take_triggers();
        let changes = self.leftovers.sift(self.world.take_changes(), &self.world, &self.writer);
        if !self.start.synced {
            self.look_after.heard(&changes);
            let announced = self.observers.announce(&changes);
            let outcome = self.leftovers.write(&mut self.writer, changes);
            if self.broken_off(&outcome) {
                return;
            }
            self.start.synced = true;
            // Also those that went while no agent ran.
            self.reaper.wake();
            self.observers.written(announced, SyncKind::Full, &outcome, begin.elapsed());
            // Only now an address that no Service has is known to be one.
            self.configure(network);
            self.wrote = true;
            self.writes += outcome.writes;
            self.start.first_write = Some((outcome, millis(begin)));
        } else if !changes.is_empty() || self.leftovers.are_due() {
            let services = changes.len();
            self.look_after.heard(&changes);
            let announced = self.observers.announce(&changes);
            let outcome = self.leftovers.write(&mut self.writer, changes);
            if self.broken_off(&outcome) {
                return;
            }
            self.wrote = true;
            self.writes += outcome.writes;
            if outcome.backends_gone > 0 {
                self.reaper.wake();
            }
            self.stamp(false);
            self.observers.written(announced, SyncKind::Partial, &outcome, begin.elapsed());
            outcome.log(services, begin);
        }
        triggers.retain(|trigger| !self.writer.is_deferred(&trigger.service));
        self.observers.programmed(&triggers);
        self.announce();
        self.retry();
        self.observers.settled(self.configured.is_none() || self.writer.in_trouble());
    }

    /// The first full state counts once the programs are where the packets are.
    fn announce(&mut self) {
        if !self.start.attached {
            return;
        }
        let Some((outcome, millis_to_write)) = self.start.first_write.take() else { return };
        self.stamp(true);
        self.observers.ready();
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
            self.retry.reset();
            return;
        }
        if self.writer.take_freed_room() || self.retry.is_due() {
            let begin = Instant::now();
            let outcome = self.writer.retry();
            if self.broken_off(&outcome) {
                return;
            }
            if outcome.backends_gone > 0 {
                self.reaper.wake();
            }
            self.stamp(false);
            self.observers.wrote(&outcome);
            self.wrote = true;
            outcome.log(outcome.services + outcome.refused, begin);
            self.retry.tried();
        }
        self.retry.schedule();
    }

    fn take_facts(&mut self, network: &NodeNetwork) {
        let facts = self.settings.node_facts(network, self.former.node(&self.world));
        if facts != self.facts {
            self.world.set_node(facts.clone());
            self.facts = facts;
        }
        let gone = self.world.node_is_gone(self.reporter.is_kube());
        let leaving = self.world.node().is_some_and(|node| node.leaving);
        self.observers.node(&self.settings.health_addresses(&self.facts), !gone && !leaving);
        self.configure(network);
    }

    /// Writes the settings of the data path, where they are not those already.
    fn configure(&mut self, network: &NodeNetwork) {
        let service_cidrs = self.former.service_cidrs(&self.world);
        let around = Surroundings {
            node: self.former.node(&self.world),
            service_cidrs: &service_cidrs,
            services_known: self.start.synced || self.writer.services() > 0,
        };
        let families = self.settings.family_settings(network, &around);
        if self.configured.as_ref() != Some(&families) {
            let tables = self.writer.tables();
            let written = families.iter().try_for_each(|(family, settings)| tables.configure(family, settings));
            match written {
                Ok(()) => self.configured = Some(families),
                Err(failure) => {
                    self.configured = None;
                    tracing::error!(%failure, "cannot write the settings of the data path, trying again");
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
            tracing::error!(%failure, "cannot write the agent's state");
        }
    }

    /// A batch is broken off because another agent is to write: this one does nothing more.
    fn broken_off(&mut self, outcome: &Outcome) -> bool {
        if outcome.broken_off {
            self.lost = self.claim.lost(self.writer.tables()).or(Some(Ended::TakenOver));
        }
        outcome.broken_off
    }

    /// Tells the log, the metrics and the report what is new.
    fn report(&mut self, attach: Option<AttachReport>) {
        let refusals = self.world.refusals().chain(self.writer.refusals());
        let versions = [self.world.refusals_version(), self.writer.refusals_version()];
        let news = self.reporter.look(attach, versions);
        if news.refusals {
            self.reporter.log(refusals.clone());
            self.observers.refused(refusals.clone());
        }
        if news.attach {
            self.observers.attached(self.reporter.attach());
        }
        if news.source || std::mem::take(&mut self.wrote) {
            self.observers.state(&State {
                source_connected: self.reporter.source().connected,
                synced: self.start.synced,
                services: self.writer.services(),
                slots: self.writer.slots_in_use(),
            });
        }
        match self.reporter.report(refusals, self.world.host_ports(), REPORT_LEN) {
            None => {}
            Some(Ok(json)) => match self.writer.tables().set_report(&json) {
                Ok(()) => self.reporter.written(),
                Err(failure) => tracing::error!(%failure, "cannot write the report"),
            },
            Some(Err(error)) => tracing::error!(%error, "cannot serialise the report"),
        }
    }
}
