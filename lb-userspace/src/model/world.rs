//! The store of all objects: takes events of a source, gives the Services whose desired state changed.

mod nodes;
mod pods;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ipnet::IpNet;

use super::claims::Claims;
use super::desired::{Change, Family, NodeFacts, Refusal, ResolveSettings, ServiceName};
use super::event::{Kind, Object, SourceEvent};
use super::fingerprint::fingerprint;
use super::record::{Keeps, NodeRecord, ServiceRecord, SliceRecord};
use super::trigger::Trigger;
use super::view::View;

/// Everything about one Service name: the Service, its slices (which may come first), and what was given out.
#[derive(Debug, Default)]
struct Entry {
    name: ServiceName,
    service: Option<Box<ServiceRecord>>,
    /// By name, ascending.
    slices: Vec<SliceRecord>,
    /// Fingerprint of what was given out last; none: nothing, or that the Service is gone.
    emitted: Option<u64>,
    refusals: Vec<Refusal>,
}

/// All objects, and which Services are to be resolved again.
///
/// Work per event and per change is proportional to the Service that it touches. The desired state itself is not kept,
/// only a fingerprint of it.
#[derive(Debug)]
pub struct World {
    /// As set; without what the Node object adds.
    given: NodeFacts,
    node: NodeFacts,
    node_object: Option<NodeRecord>,
    /// The own Node was there, and is no more: what it said goes on to hold, but for the zone.
    node_gone: bool,
    /// Kinds that were listed once.
    listed: BTreeSet<Kind>,
    settings: ResolveSettings,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_name: HashMap<ServiceName, u32>,
    /// EndpointSlice to entry.
    slice_home: HashMap<ServiceName, u32>,
    claims: Claims,
    /// Entries whose frontends are to be claimed anew.
    reclaim: BTreeSet<u32>,
    dirty: BTreeSet<u32>,
    source_refusals: Vec<Refusal>,
    refusals_version: u64,
    /// By name.
    service_cidrs: BTreeMap<String, Vec<IpNet>>,
    /// Whether host ports are served, for people.
    host_ports: String,
    /// Why EndpointSlices changed, by their entry.
    triggers: Vec<(u32, Family, u64)>,
    synced: bool,
}

impl World {
    /// An empty world as seen from this node.
    pub fn new(node: NodeFacts, settings: ResolveSettings) -> Self {
        Self {
            node: node.clone(),
            given: node,
            node_object: None,
            node_gone: false,
            listed: BTreeSet::new(),
            settings,
            entries: Vec::new(),
            free: Vec::new(),
            by_name: HashMap::new(),
            slice_home: HashMap::new(),
            claims: Claims::default(),
            reclaim: BTreeSet::new(),
            dirty: BTreeSet::new(),
            source_refusals: Vec::new(),
            refusals_version: 0,
            service_cidrs: BTreeMap::new(),
            host_ports: String::new(),
            triggers: Vec::new(),
            synced: false,
        }
    }

    /// Takes one event. Cheap: nothing is resolved before [`World::take_changes`].
    pub fn apply(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Apply(object) => object.put_into(self),
            SourceEvent::Delete { kind, namespace, name } => kind.remove_from(self, &ServiceName { namespace, name }),
            SourceEvent::Replace(kind, objects) => self.replace(kind, objects),
            SourceEvent::Synced => self.synced = true,
            SourceEvent::Version(version) => self.follow_version(version),
            SourceEvent::HostPorts { served, note } => self.follow_host_ports(served, note),
            SourceEvent::Refused(refusals) => {
                self.source_refusals = refusals;
                self.refusals_version += 1;
            }
        }
    }

    /// The node's own facts are now these. A `zone` of none is taken from the Node object, when there is one.
    pub fn set_node(&mut self, node: NodeFacts) {
        self.given = node;
        self.refresh_node();
    }

    /// The Services whose desired state differs from what was given last. Empty before [`World::synced`].
    ///
    /// What goes comes first, but a frontend may still move between two Services of one batch in either order: take the
    /// batch as a whole. A Service without a single served port counts as gone.
    pub fn take_changes(&mut self) -> Vec<Change> {
        if !self.synced {
            return Vec::new();
        }
        self.settle_claims();
        let dirty = std::mem::take(&mut self.dirty);
        let (mut removals, mut upserts) = (Vec::new(), Vec::new());
        for id in dirty {
            match self.resolve_entry(id) {
                Some(change @ Change::Remove(_)) => removals.push(change),
                Some(change) => upserts.push(change),
                None => {}
            }
        }
        removals.append(&mut upserts);
        removals
    }

    /// What changed EndpointSlices since the last call. Take it before the changes: they are its outcome.
    ///
    /// A slice that is removed brings no new trigger: its annotation is from its last change.
    pub fn take_triggers(&mut self) -> Vec<Trigger> {
        let taken = std::mem::take(&mut self.triggers).into_iter();
        let named = taken.filter_map(|(id, family, at_ns)| {
            let service = self.entries.get(id as usize)?.as_ref()?.name.clone();
            Some(Trigger { service, family, at_ns })
        });
        named.collect()
    }

    /// Everything that is not served, and why. As of the last [`World::take_changes`].
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> + Clone {
        self.source_refusals.iter().chain(self.entries.iter().flatten().flat_map(|entry| &entry.refusals))
    }

    /// The wanted Services, and names that only slices have. Take the changes first: they settle who has which frontend.
    pub fn views(&self, wanted: impl Fn(&ServiceName, Option<&ServiceRecord>, &NodeFacts) -> bool) -> Vec<View<'_>> {
        let wants = |entry: &&Entry| wanted(&entry.name, entry.service.as_deref(), &self.node);
        let slots = (0_u32..).zip(&self.entries);
        slots.filter_map(|(id, slot)| Some(self.view(id, slot.as_ref().filter(wants)?))).collect()
    }

    fn view<'a>(&'a self, id: u32, entry: &'a Entry) -> View<'a> {
        let mut view = View::of(&entry.name, entry.service.as_deref(), &entry.slices, &self.node, &self.settings);
        let name_of = |id: u32| self.entries.get(id as usize)?.as_ref().map(|entry| &entry.name);
        view.refusals.extend(self.claims.drop_lost_frontends(id, &mut view.desired, name_of).into_rows());
        view
    }

    /// Changes whenever the refusals do.
    pub const fn refusals_version(&self) -> u64 {
        self.refusals_version
    }

    /// Whether every kind of object was listed at least once. Never becomes false again.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// This node's Node object, as the source had it last.
    pub fn node(&self) -> Option<&NodeRecord> {
        self.node_object.as_ref()
    }

    /// Where the API server takes `ClusterIP`s from, as far as the source says.
    pub fn service_cidrs(&self) -> Vec<IpNet> {
        let mut cidrs: Vec<IpNet> = self.service_cidrs.values().flatten().copied().collect();
        cidrs.sort_unstable();
        cidrs.dedup();
        cidrs
    }

    /// Whether Pods' host ports are served, for people; empty: nobody has said.
    pub fn host_ports(&self) -> &str {
        &self.host_ports
    }

    /// Whether this node's Node object is gone. `required`: a source that was asked and never had it counts as well.
    pub fn node_is_gone(&self, required: bool) -> bool {
        self.node_gone || (required && self.node_object.is_none() && self.has_listed(Kind::Node))
    }

    /// Whether this kind was listed at least once.
    pub fn has_listed(&self, kind: Kind) -> bool {
        self.listed.contains(&kind)
    }

    fn replace(&mut self, kind: Kind, objects: Vec<Object>) {
        self.listed.insert(kind);
        let key = |o: &Object| ServiceName { namespace: o.namespace().to_owned(), name: o.name().to_owned() };
        let listed: HashSet<ServiceName> = objects.iter().filter(|o| o.kind() == kind).map(key).collect();
        for gone in kind.names_in(self).iter().filter(|name| !listed.contains(name)) {
            kind.remove_from(self, gone);
        }
        for object in objects {
            object.put_into(self);
        }
    }

    fn refresh_node(&mut self) {
        let mut node = self.given.clone();
        let object = self.node_object.as_ref().filter(|_| !self.node_gone);
        node.zone = node.zone.or_else(|| object.and_then(|object| object.zone.clone()));
        if node == self.node {
            return;
        }
        let addresses = |facts: &NodeFacts| {
            (facts.node_port_addresses.clone(), facts.held.clone(), facts.addresses.clone(), facts.loopback_node_ports)
        };
        let moved = addresses(&node) != addresses(&self.node);
        self.node = node;
        self.resolve_all_again(moved);
    }

    fn follow_version(&mut self, version: (u32, u32)) {
        let now = self.settings.external_ips.at(version);
        if std::mem::replace(&mut self.settings.external_ips, now) != now {
            self.resolve_all_again(true);
        }
    }

    fn follow_host_ports(&mut self, served: bool, note: String) {
        self.host_ports = note;
        // It is in the same report.
        self.refusals_version += 1;
        if std::mem::replace(&mut self.settings.host_ports, served) != served {
            self.resolve_all_again(true);
        }
    }

    fn resolve_all_again(&mut self, reclaim: bool) {
        let served = |slot: &Option<Entry>| slot.as_ref().is_some_and(|entry| entry.service.is_some());
        let ids = || (0_u32..).zip(&self.entries).filter(|(_, slot)| served(slot)).map(|(id, _)| id);
        self.reclaim.extend(ids().filter(|_| reclaim));
        self.dirty.extend(ids());
    }

    fn settle_claims(&mut self) {
        for id in std::mem::take(&mut self.reclaim) {
            let service = self.entries.get(id as usize).and_then(|slot| slot.as_ref()?.service.as_deref());
            self.claims.set(id, service, &self.node, &self.settings, &mut self.dirty);
        }
    }

    fn resolve_entry(&mut self, id: u32) -> Option<Change> {
        let entry = self.entries.get(id as usize)?.as_ref()?;
        let View { desired, refusals, .. } = self.view(id, entry);
        let now = (!desired.ports.is_empty()).then(|| fingerprint(&desired));

        let entry = self.entry(id)?;
        let refusals_changed = entry.refusals != refusals;
        entry.refusals = refusals;
        let before = std::mem::replace(&mut entry.emitted, now);
        let change = match (before, now) {
            (before, Some(now)) if before != Some(now) => Some(Change::Upsert(desired)),
            (Some(_), None) => Some(Change::Remove(entry.name.clone())),
            _ => None,
        };
        let is_empty = entry.service.is_none() && entry.slices.is_empty();
        self.refusals_version += u64::from(refusals_changed);
        if is_empty {
            self.forget(id);
        }
        change
    }

    fn forget(&mut self, id: u32) {
        if let Some(entry) = self.entries.get_mut(id as usize).and_then(Option::take) {
            self.by_name.remove(&entry.name);
            self.free.push(id);
        }
    }

    fn entry(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    fn entry_id(&mut self, name: &ServiceName) -> u32 {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let entry = Some(Entry { name: name.clone(), ..Entry::default() });
        let id = if let Some(id) = self.free.pop() {
            if let Some(slot) = self.entries.get_mut(id as usize) {
                *slot = entry;
            }
            id
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        };
        self.by_name.insert(name.clone(), id);
        id
    }
}

impl Keeps<ServiceRecord> for World {
    fn put(&mut self, service: Box<ServiceRecord>) {
        let id = self.entry_id(&service.name);
        let Some(entry) = self.entry(id) else { return };
        if entry.service.as_ref() == Some(&service) {
            return;
        }
        entry.service = Some(service);
        self.reclaim.insert(id);
        self.dirty.insert(id);
    }

    fn remove(&mut self, name: &ServiceName) {
        let Some(&id) = self.by_name.get(name) else { return };
        if let Some(entry) = self.entry(id)
            && entry.service.take().is_some()
        {
            self.reclaim.insert(id);
            self.dirty.insert(id);
        }
    }

    fn names(&self) -> Vec<ServiceName> {
        let served =
            self.entries.iter().flatten().filter(|entry| entry.service.is_some() && entry.name.pod().is_none());
        served.map(|entry| entry.name.clone()).collect()
    }
}

impl Keeps<SliceRecord> for World {
    fn put(&mut self, slice: Box<SliceRecord>) {
        let name = ServiceName { namespace: slice.namespace.to_string(), name: slice.name.to_string() };
        let home = ServiceName { namespace: slice.namespace.to_string(), name: slice.service.to_string() };
        let id = self.entry_id(&home);
        if self.slice_home.get(&name).is_some_and(|old| *old != id) {
            Keeps::<SliceRecord>::remove(self, &name);
        }
        let Some(entry) = self.entry(id) else { return };
        let mut trigger = slice.family.zip(slice.triggered_ns);
        match entry.slices.binary_search_by(|known| known.name.cmp(&slice.name)) {
            Ok(at) => {
                let Some(known) = entry.slices.get_mut(at) else { return };
                if *known == *slice {
                    return;
                }
                trigger = trigger.filter(|_| known.triggered_ns != slice.triggered_ns);
                *known = *slice;
            }
            Err(at) => {
                // Most Services have one or two.
                entry.slices.reserve_exact(1);
                entry.slices.insert(at, *slice);
            }
        }
        self.triggers.extend(trigger.map(|(family, at_ns)| (id, family, at_ns)));
        self.slice_home.insert(name, id);
        self.dirty.insert(id);
    }

    fn remove(&mut self, name: &ServiceName) {
        let Some(id) = self.slice_home.remove(name) else { return };
        if let Some(entry) = self.entry(id)
            && let Ok(at) = entry.slices.binary_search_by(|slice| (*slice.name).cmp(&name.name))
        {
            entry.slices.remove(at);
            self.dirty.insert(id);
        }
    }

    fn names(&self) -> Vec<ServiceName> {
        self.slice_home.keys().filter(|name| name.pod().is_none()).cloned().collect()
    }
}
