//! Plays a scenario as the agent would, on tables in memory, and writes down what they hold after each step.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::scenario::{Fail, Happens, Restart, Scenario, Step};
use crate::devices::NodeNetwork;
use crate::maps::faulty::FaultyTables;
use crate::maps::memory::MemoryTables;
use crate::maps::{TableFailure, Tables, dump};
use crate::model::desired::{Change, HealthCheck, ServiceName};
use crate::model::event::{Kind, Object, SourceEvent};
use crate::model::family::PerFamily;
use crate::model::world::World;
use crate::plan::Limits;
use crate::reconcile::{ReconcileSettings, Surroundings, Writer};

/// Kind, namespace and name.
type Key = (Kind, String, String);
type Store = FaultyTables<MemoryTables>;

/// The agent, and the cluster around it.
struct Stage {
    settings: ReconcileSettings,
    network: NodeNetwork,
    /// What the API would list.
    objects: BTreeMap<Key, Object>,
    world: World,
    writer: Writer<Store>,
    /// As last announced.
    health: BTreeMap<ServiceName, HealthCheck>,
    synced: bool,
}

/// Plays the steps; the text says what the maps hold after each.
pub(super) fn play(scenario: &Scenario) -> String {
    let mut stage = Stage::new(scenario);
    let mut out = format!("# {}\n", scenario.head.scenario);
    for step in &scenario.steps {
        let before = stage.held();
        let writes = stage.play(step);
        writeln!(out, "\n== {}", step.happens.step).unwrap();
        if stage.held() == before {
            // A restart must not even write what is there already.
            writeln!(
                out,
                "as before, {}",
                if writes == 0 { "nothing was written".into() } else { format!("writes: {writes}") }
            )
            .unwrap();
        } else {
            out += &stage.held();
        }
    }
    out
}

impl Stage {
    fn new(scenario: &Scenario) -> Self {
        let room = scenario.head.limits;
        let limits = Limits {
            services: room.services,
            backends: PerFamily::both(room.backends),
            slots: PerFamily::both(room.slots),
            blocks: PerFamily::both(room.blocks),
        };
        let mut tables = MemoryTables::new(limits);
        tables.frontend_limit = room.frontends;
        let settings = scenario.head.flags.settings();
        let mut stage = Self {
            world: World::new(crate::model::desired::NodeFacts::default(), settings.resolve.clone()),
            settings,
            network: scenario.head.node.network(),
            objects: BTreeMap::new(),
            writer: Writer::restore(FaultyTables::new(tables)).unwrap(),
            health: BTreeMap::new(),
            synced: false,
        };
        stage.start();
        stage
    }

    /// A new agent on the maps as they are.
    fn start(&mut self) {
        let tables = self.writer.tables().inner.clone();
        self.writer = Writer::restore(FaultyTables::new(tables)).unwrap();
        let node = self.settings.node_facts(&self.network, None);
        self.world = World::new(node, self.settings.resolve.clone());
        self.health.clear();
        self.synced = false;
    }

    /// Carries one step out; the number of writes.
    fn play(&mut self, step: &Step) -> usize {
        let Happens { delete, node, restart, fail, retry, .. } = &step.happens;
        if let Some(node) = node {
            self.network = node.network();
        }
        let mut events = Vec::new();
        for text in delete {
            let key = key_of(text);
            assert!(self.objects.remove(&key).is_some(), "{text} is not there");
            let (kind, namespace, name) = key;
            events.push(SourceEvent::Delete { kind, namespace, name });
        }
        for object in &step.objects {
            self.objects.insert((object.kind(), object.namespace().into(), object.name().into()), object.clone());
            events.push(SourceEvent::Apply(object.clone()));
        }
        if let Some(restart) = restart {
            self.start();
            events = if *restart == Restart::Synced { self.lists() } else { Vec::new() };
        } else if !self.synced {
            events = self.lists();
        }
        let base = self.writer.tables().inner.writes;
        self.arm(*fail);
        for event in events {
            self.world.apply(event);
        }
        self.converge(*retry);
        self.arm(None);
        self.writer.tables().inner.writes - base
    }

    /// What the API lists to an agent that starts.
    fn lists(&self) -> Vec<SourceEvent> {
        let kinds = [Kind::Node, Kind::ServiceCidr, Kind::Pod, Kind::Service, Kind::EndpointSlice];
        let of = |kind| self.objects.values().filter(|object| object.kind() == kind).cloned().collect();
        let lists = kinds.map(|kind| SourceEvent::Replace(kind, of(kind)));
        lists.into_iter().chain([SourceEvent::Synced]).collect()
    }

    /// As `reconcile` does with a batch of events.
    fn converge(&mut self, retry: bool) {
        self.world.set_node(self.settings.node_facts(&self.network, self.world.node()));
        self.configure();
        if !self.world.synced() {
            return;
        }
        let changes = self.world.take_changes();
        for change in &changes {
            match change {
                Change::Upsert(service) => match service.health {
                    Some(health) => drop(self.health.insert(service.name.clone(), health)),
                    None => drop(self.health.remove(&service.name)),
                },
                Change::Remove(name) => drop(self.health.remove(name)),
            }
        }
        if self.synced {
            self.writer.write(changes);
        } else {
            self.writer.write_first(changes);
            self.synced = true;
            self.configure();
        }
        if self.writer.pending() && (self.writer.take_freed_room() || retry) {
            self.writer.retry();
        }
    }

    fn configure(&mut self) {
        let service_cidrs = self.world.service_cidrs();
        let around = Surroundings {
            node: self.world.node(),
            service_cidrs: &service_cidrs,
            services_known: self.synced || self.writer.services() > 0,
        };
        let settings = self.settings.family_settings(&self.network, &around);
        for (family, settings) in settings.iter() {
            self.writer.tables().configure(family, settings).unwrap();
        }
    }

    fn arm(&mut self, fail: Option<Fail>) {
        let tables = self.writer.tables();
        tables.count = 0;
        tables.fault = match fail {
            None => Box::new(|_, _| false),
            Some(Fail { write, and_after, .. }) => {
                Box::new(move |count, _| count == write || (and_after && count > write))
            }
        };
        if fail.is_some_and(|fail| !fail.full) {
            tables.failure = || TableFailure::Write { map: "BACKENDS4", source: aya::maps::MapError::KeyNotFound };
        }
    }

    /// Everything that there is to see.
    fn held(&mut self) -> String {
        let tables = self.writer.tables();
        let mut out = dump::text(&tables.inner.read().unwrap());
        for (family, settings) in tables.inner.settings.iter() {
            out += &dump::settings(family, settings);
        }
        let count = |count: Option<u32>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        for (name, HealthCheck { port, local_v4, local_v6 }) in &self.health {
            writeln!(out, "health {name} port={port} local-v4={} local-v6={}", count(*local_v4), count(*local_v6))
                .unwrap();
        }
        let mut refusals: Vec<_> = self.world.refusals().chain(self.writer.refusals()).collect();
        refusals.sort_unstable_by_key(|row| (row.kind, &row.object, row.reason.name(), &row.message));
        for refusal in refusals {
            writeln!(out, "refused {} {} {}: {}", refusal.kind, refusal.object, refusal.reason, refusal.message)
                .unwrap();
        }
        out
    }
}

/// `Service default/web`, or `Node n1`.
fn key_of(text: &str) -> Key {
    let (kind, path) = text.split_once(' ').unwrap();
    let kind =
        Kind::ALL.iter().copied().find(|known| known.name() == kind).unwrap_or_else(|| panic!("{text}: unknown kind"));
    let (namespace, name) = path.split_once('/').unwrap_or(("", path));
    (kind, namespace.into(), name.into())
}
