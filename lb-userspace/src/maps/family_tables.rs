//! The pinned maps of one address family.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData};
use ipnet::IpNet;
use lb_common::abi::{
    ABI_VERSION, BackendValue, Be16, FamilyConfig, FrontendKey, FrontendValue, OutlierValue, SERVICE_RANGES, SetRef,
    SourceRangeKey, StatsValue, config_flag, frontend_scope, map_name,
};

use super::address::{MapAddress, cidrs, prefixes};
use super::batch;
use super::failure::TableFailure;
use super::filters::{FamilyFilters, FlowEnds};
use super::mapped::MappedArray;
use super::pins::{fault, halves, open, open_raw, read_failure, removed, write_failure};
use super::service_ranges::service_ranges;
use super::set_tables::SetTables;
use super::tables::{FamilySettings, PinnedFacts};
use super::traffic::{Cells, Traffic};
use crate::plan::{BackendEntry, Existing, Vip};

/// Maps of one family.
pub(super) struct FamilyTables<A>
where
    BackendValue<A>: Pod,
    FamilyConfig<A>: Pod,
{
    frontends: HashMap<MapData, FrontendKey<A>, FrontendValue>,
    /// The same map, for reading in batches.
    frontends_raw: MapData,
    pub(super) backends: MappedArray<BackendValue<A>>,
    /// How connections to backends go that are judged.
    pub(super) outliers: MappedArray<OutlierValue>,
    slots: MappedArray<u32>,
    tables: SetTables,
    ranges: LpmTrie<MapData, SourceRangeKey<A>, u32>,
    config: Array<MapData, FamilyConfig<A>>,
    stats: Cells,
    filters: FamilyFilters<A>,
    /// What the filters hold is known.
    filters_adopted: bool,
    wanted: FamilyConfig<A>,
    /// Ranges of `ClusterIP`s in `ranges`; none: not known yet.
    service_ranges: Option<BTreeSet<IpNet>>,
}

impl<A> FamilyTables<A>
where
    A: MapAddress + std::hash::Hash + 'static,
    FrontendKey<A>: Pod,
    BackendValue<A>: Pod,
    SourceRangeKey<A>: Pod,
    FamilyConfig<A>: Pod,
{
    const AT: usize = if A::IS_V6 { 1 } else { 0 };
    const FRONTENDS: &'static str = map_name::FRONTENDS[Self::AT];
    const BACKENDS: &'static str = map_name::BACKENDS[Self::AT];
    const SLOTS: &'static str = map_name::SLOTS[Self::AT];
    const RANGES: &'static str = map_name::RANGES[Self::AT];
    const CONFIG: &'static str = map_name::CONFIG[Self::AT];

    pub(super) fn open(dir: &Path) -> Result<Self, TableFailure> {
        let config: Array<_, FamilyConfig<A>> = open(dir, Self::CONFIG)?;
        let mut wanted = config.get(&0, 0).map_err(read_failure(Self::CONFIG))?;
        if wanted.abi == 0 {
            (wanted.vip_lo, wanted.vip_hi) = (A::MAX, A::ZERO);
        }
        wanted.abi = ABI_VERSION;
        Ok(Self {
            frontends: open(dir, Self::FRONTENDS)?,
            frontends_raw: open_raw(dir, Self::FRONTENDS)?,
            backends: MappedArray::open(dir, Self::BACKENDS)?,
            outliers: MappedArray::open(dir, map_name::OUTLIERS[Self::AT])?,
            slots: MappedArray::open(dir, Self::SLOTS)?,
            tables: SetTables::open(dir, map_name::MAGLEV[Self::AT])?,
            ranges: open(dir, Self::RANGES)?,
            config,
            stats: Cells::open(dir, map_name::STATS[Self::AT])?,
            filters: FamilyFilters::open(dir, Self::AT)?,
            filters_adopted: false,
            wanted,
            service_ranges: None,
        })
    }

    pub(super) fn backend_count(&self) -> u32 {
        self.backends.len()
    }

    /// Tables of Maglev.
    pub(super) const fn tables(&mut self) -> &mut SetTables {
        &mut self.tables
    }

    pub(super) const fn block_count(&self) -> u32 {
        self.tables.limit()
    }

    pub(super) fn slot_count(&self) -> u32 {
        self.slots.len()
    }

    fn address(ip: IpAddr, map: &'static str) -> Result<A, TableFailure> {
        A::from_ip(ip).ok_or(TableFailure::WrongFamily { addr: ip, map })
    }

    fn key(vip: &Vip) -> Result<FrontendKey<A>, TableFailure> {
        Ok(FrontendKey {
            addr: Self::address(vip.addr, Self::FRONTENDS)?,
            port: Be16::new(vip.port),
            proto: vip.proto,
            scope: if vip.addr.is_loopback() { frontend_scope::HOST } else { frontend_scope::ALL },
        })
    }

    pub(super) fn put_frontend(&mut self, vip: &Vip, value: &FrontendValue) -> Result<(), TableFailure> {
        let key = Self::key(vip)?;
        self.filters()?.before_frontend(&key)?;
        fault(Self::FRONTENDS)?;
        let inserted = self.frontends.insert(key, value, 0);
        inserted.map_err(|source| write_failure(Self::FRONTENDS, source))
    }

    pub(super) fn delete_frontend(&mut self, vip: &Vip) -> Result<(), TableFailure> {
        let key = Self::key(vip)?;
        // Before it is gone, for then what the filters hold could not be read from it.
        self.filters()?;
        fault(Self::FRONTENDS)?;
        removed(Self::FRONTENDS, self.frontends.remove(&key))?;
        self.filters()?.after_frontend(&key);
        Ok(())
    }

    pub(super) fn put_backend(&mut self, id: u32, entry: &BackendEntry) -> Result<(), TableFailure> {
        self.stats.begin(id, entry.generation)?;
        // What was found out of it stays.
        let known = self.backends.get(id)?.filter(|known| known.generation == entry.generation).unwrap_or_default();
        let value = BackendValue {
            addr: Self::address(entry.addr.ip(), Self::BACKENDS)?,
            port: Be16::new(entry.addr.port()),
            flags: entry.flags,
            generation: entry.generation,
            service: entry.service,
            weight: entry.weight,
            silent: known.silent,
            answered: known.answered,
            rest: known.rest,
            ..BackendValue::default()
        };
        self.filters()?.before_backend(id, value.addr, value.port)?;
        self.backends.set(id, value)
    }

    /// A backend's service id, and what was counted for it.
    pub(super) fn counted(&self, id: u32) -> Result<(u32, StatsValue), TableFailure> {
        let backend = self.backends.get(id)?.unwrap_or_default();
        Ok((backend.service, self.stats.read(id, backend.generation)?.unwrap_or_default()))
    }

    /// What was counted for those backends that are of this family.
    pub(super) fn traffic(&self, existing: &Existing, into: &mut Traffic) -> Result<(), TableFailure> {
        for (_, id, entry) in existing.backends.iter().filter(|(family, ..)| *family == A::FAMILY) {
            if let Some(counted) = self.stats.read(*id, entry.generation)? {
                into.add(A::FAMILY, *id, entry.service, &counted);
            }
        }
        Ok(())
    }

    pub(super) fn delete_backend(&mut self, id: u32) -> Result<(), TableFailure> {
        // Counted no more, and not once more where the rest fails and is tried again.
        self.stats.end(id)?;
        self.filters()?;
        self.backends.set(id, BackendValue::default())?;
        self.filters()?.after_backend(id);
        Ok(())
    }

    /// The filters, which begin with what the maps hold.
    fn filters(&mut self) -> Result<&mut FamilyFilters<A>, TableFailure> {
        if !self.filters_adopted {
            let keys: Result<Vec<_>, _> = self.frontends.keys().collect();
            let keys = keys.map_err(read_failure(Self::FRONTENDS))?;
            let mut backends = Vec::new();
            self.walk_backends(|id, value| backends.push((id, value.addr, value.port)))?;
            self.filters.adopt(keys.into_iter(), backends.into_iter());
            self.filters_adopted = true;
        }
        Ok(&mut self.filters)
    }

    /// Only these have flows.
    pub(super) fn settle(&mut self, since: Instant, live: &FlowEnds) -> Result<(), TableFailure> {
        self.filters()?.settle(since, live)
    }

    pub(super) fn put_slots(&mut self, base: u32, ids: &[u32]) -> Result<(), TableFailure> {
        for (slot, id) in (base..).zip(ids) {
            self.slots.set(slot, *id)?;
        }
        Ok(())
    }

    fn range_key(service: u32, net: &IpNet) -> Result<Key<SourceRangeKey<A>>, TableFailure> {
        let addr = Self::address(net.network(), Self::RANGES)?;
        Ok(Key::new(u32::BITS + u32::from(net.prefix_len()), SourceRangeKey { service, addr }))
    }

    pub(super) fn put_range(&mut self, service: u32, net: &IpNet) -> Result<(), TableFailure> {
        fault(Self::RANGES)?;
        let inserted = self.ranges.insert(&Self::range_key(service, net)?, 1, 0);
        inserted.map_err(|source| write_failure(Self::RANGES, source))
    }

    pub(super) fn delete_range(&mut self, service: u32, net: &IpNet) -> Result<(), TableFailure> {
        fault(Self::RANGES)?;
        removed(Self::RANGES, self.ranges.remove(&Self::range_key(service, net)?))
    }

    pub(super) fn set_vip_range(&mut self, range: Option<(IpAddr, IpAddr)>) -> Result<(), TableFailure> {
        (self.wanted.vip_lo, self.wanted.vip_hi) = match range {
            None => (A::MAX, A::ZERO),
            Some((lo, hi)) => (Self::address(lo, Self::CONFIG)?, Self::address(hi, Self::CONFIG)?),
        };
        self.write_config()
    }

    /// Addresses of the Services' ranges mean nothing any more, unless they have an entry.
    pub(super) fn leave_services(&mut self) -> Result<(), TableFailure> {
        self.wanted.services = cidrs(&[]);
        self.wanted.flags &= !config_flag::SERVICE_RANGES;
        self.set_vip_range(None)
    }

    pub(super) fn configure(&mut self, settings: &FamilySettings) -> Result<(), TableFailure> {
        self.wanted.flags = settings.flags;
        self.wanted.node = settings.node.and_then(A::from_ip).unwrap_or(A::ZERO);
        self.wanted.cluster = cidrs(&settings.cluster);
        let ranges = service_ranges(&settings.services);
        self.wanted.services = cidrs(&ranges.prefixes);
        if !ranges.exact.is_empty() {
            self.wanted.flags |= config_flag::SERVICE_RANGES;
        }
        self.wanted.snat_lo = Be16::new(settings.snat_ports.0);
        self.wanted.snat_hi = Be16::new(settings.snat_ports.1);
        self.wanted.host_netns = halves(settings.host_netns);
        self.wanted.forward = settings.forward;
        let mut known = match self.service_ranges.take() {
            Some(known) => known,
            None => self.read_service_ranges()?,
        };
        // Those that are new before the settings lead to them, and those that are gone afterwards.
        for net in ranges.exact.difference(&known.clone()) {
            self.put_range(SERVICE_RANGES, net)?;
            known.insert(*net);
        }
        self.write_config()?;
        for net in known.difference(&ranges.exact) {
            self.delete_range(SERVICE_RANGES, net)?;
        }
        self.service_ranges = Some(ranges.exact);
        Ok(())
    }

    /// What was configured last.
    pub(super) fn add_facts(&self, to: &mut PinnedFacts) -> Result<(), TableFailure> {
        let FamilyConfig { node, cluster, services, .. } = &self.wanted;
        to.node.extend(Some(node.ip()).filter(|ip| !ip.is_unspecified()));
        to.cluster.extend(prefixes(cluster));
        let exact = self.read_service_ranges()?;
        if exact.is_empty() {
            to.services.extend(prefixes(services));
        }
        to.services.extend(exact);
        Ok(())
    }

    fn read_service_ranges(&self) -> Result<BTreeSet<IpNet>, TableFailure> {
        let all: Result<Vec<_>, _> = self.ranges.keys().collect();
        let all = all.map_err(read_failure(Self::RANGES))?;
        Ok(all.iter().filter_map(Self::range_of).filter(|(id, _)| *id == SERVICE_RANGES).map(|(_, net)| net).collect())
    }

    fn range_of(key: &Key<SourceRangeKey<A>>) -> Option<(u32, IpNet)> {
        let bits = u8::try_from(key.prefix_len().saturating_sub(u32::BITS)).unwrap_or(A::BITS);
        let SourceRangeKey { service, addr } = key.data();
        Some((service, IpNet::new(addr.ip(), bits).ok()?))
    }

    fn write_config(&mut self) -> Result<(), TableFailure> {
        fault(Self::CONFIG)?;
        self.config.set(0, self.wanted, 0).map_err(|source| write_failure(Self::CONFIG, source))
    }

    pub(super) fn read(&self, into: &mut Existing) -> Result<(), TableFailure> {
        let mut sets = BTreeSet::new();
        let walked =
            batch::walk::<FrontendKey<A>, FrontendValue>(self.frontends_raw.fd().as_fd(), 4096, |keys, values| {
                for (key, value) in keys.iter().zip(values) {
                    let vip = Vip { addr: key.addr.ip(), port: key.port.get(), proto: key.proto };
                    into.frontends.push((vip, *value));
                    sets.extend([value.internal, value.external].map(|set| (set.base, set.count)));
                }
                ControlFlow::Continue(())
            });
        walked.map_err(|source| TableFailure::Batch { map: Self::FRONTENDS, source })?;
        for (base, count) in sets.into_iter().filter(|(_, count)| *count > 0) {
            let end = base.saturating_add(count).min(self.slots.len());
            let ids = (base..end).map(|slot| Ok(self.slots.get(slot)?.unwrap_or(0))).collect::<Result<_, _>>()?;
            into.sets.push((A::FAMILY, SetRef { base, count }, ids));
        }
        into.tables.extend(self.tables.read()?.into_iter().map(|(set, blocks)| (A::FAMILY, set, blocks)));
        self.read_backends(into)?;
        self.read_ranges(into)
    }

    pub(super) fn read_backends(&self, into: &mut Existing) -> Result<(), TableFailure> {
        if into.next_generation == 0 {
            // No backend was ever written: the walk through a large array would find nothing.
            return Ok(());
        }
        self.walk_backends(|id, value| {
            let entry = BackendEntry {
                addr: SocketAddr::new(value.addr.ip(), value.port.get()),
                flags: value.flags,
                weight: value.weight,
                generation: value.generation,
                service: value.service,
            };
            into.backends.push((A::FAMILY, id, entry));
        })
    }

    pub(super) fn walk_backends(&self, mut each: impl FnMut(u32, &BackendValue<A>)) -> Result<(), TableFailure> {
        self.backends.walk(|id, value| {
            if value.generation != 0 {
                each(id, value);
            }
        })
    }

    fn read_ranges(&self, into: &mut Existing) -> Result<(), TableFailure> {
        for key in self.ranges.keys() {
            let key = key.map_err(read_failure(Self::RANGES))?;
            // Ranges of ClusterIPs belong to no Service.
            into.ranges.extend(Self::range_of(&key).filter(|(service, _)| *service != SERVICE_RANGES));
        }
        let (lo, hi) = (self.wanted.vip_lo.ip(), self.wanted.vip_hi.ip());
        into.vip_range[A::FAMILY] = (lo <= hi).then_some((lo, hi));
        Ok(())
    }
}
