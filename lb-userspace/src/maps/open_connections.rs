//! Connections that are open, by backend: counted from the tables of flows and sockets, which is what people are shown, and
//! what the data path's own counts (`StatsValue::open`) are brought back to where the two differ.
//!
//! The programs see most connections begin and end. They do not see one that is evicted, or swept, or whose socket went
//! without a hook, and what began before its Service had such an algorithm is in no count yet.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::Pod;
use aya::maps::{Array, MapData};
use lb_common::abi::{
    BackendValue, FlowKey, FlowValue, FrontendKey, FrontendValue, SocketKey, SocketValue, StatsValue, StatusValue, V4,
    V6, algorithm, flow_kind, flow_state, map_name,
};

use super::address::MapAddress;
use super::batch;
use super::failure::TableFailure;
use super::flows::{End, FlowTable, reverse_key};
use super::pins::{open, open_raw, read_failure};
use super::sockets;
use super::traffic::Cells;
use crate::model::family::{Family, PerFamily};

/// Entries read in one system call.
const CHUNK: usize = 4_096;

/// Open connections by backend id and generation.
type Open = HashMap<(u32, u32), u32>;

/// Open connections of every backend, by its family, id and generation.
pub fn by_backend(pin_path: &Path) -> Result<HashMap<(Family, u32, u32), u32>, TableFailure> {
    let dir = pin_path.join("maps");
    let v4 = count::<V4>(&dir, |_service| true)?;
    let v6 = count::<V6>(&dir, |_service| true)?;
    let of =
        |family: Family, open: Open| open.into_iter().map(move |((id, generation), n)| ((family, id, generation), n));
    Ok(of(Family::V4, v4).chain(of(Family::V6, v6)).collect())
}

/// Counts those of Services that are wanted, in the order in which a connection moves between the tables.
fn count<A>(dir: &Path, wanted: impl Fn(u32) -> bool) -> Result<Open, TableFailure>
where
    A: MapAddress + Hash + 'static,
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
    SocketKey<A>: Pod,
    SocketValue<A>: Pod,
{
    let at = usize::from(A::IS_V6);
    let mut tally = Tally { wanted, open: Open::new(), seen: HashSet::new() };
    tally.add(&FlowTable::<A>::open(dir, map_name::HALF_OPEN[at])?, true)?;
    tally.add(&FlowTable::<A>::open(dir, map_name::FLOWS[at])?, false)?;
    let Tally { wanted, mut open, .. } = tally;
    sockets::walk::<A>(dir, |_, value| {
        if wanted(value.service) {
            *open.entry((value.backend, value.generation)).or_default() += 1;
        }
        ControlFlow::Continue(())
    })?;
    Ok(open)
}

/// What has been counted so far.
struct Tally<A, W> {
    wanted: W,
    open: Open,
    /// Half-open flows that were counted: one may be established by the time that the other table is walked.
    seen: HashSet<FlowKey<A>>,
}

impl<A, W: Fn(u32) -> bool> Tally<A, W>
where
    A: MapAddress + Hash + 'static,
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    fn add(&mut self, table: &FlowTable<A>, half_open: bool) -> Result<(), TableFailure> {
        // A flow counts by the entry of its requests. Only where that alone does not tell, the other is looked for: one
        // side has closed, or the backend has reset the connection.
        let mut reset = Vec::new();
        table.walk(|keys, values| {
            for (key, value) in keys.iter().zip(values).filter(|(_, value)| (self.wanted)(value.service)) {
                match value.kind {
                    flow_kind::FORWARD if !self.seen.contains(key) && is_open(table, key, value) => {
                        *self.open.entry((value.backend, value.generation)).or_default() += 1;
                        if half_open {
                            self.seen.insert(*key);
                        }
                    }
                    flow_kind::REVERSE | flow_kind::REVERSE_SNAT if value.state & flow_state::RST != 0 => {
                        reset.push(reverse_key(key, value));
                    }
                    _ => {}
                }
            }
            ControlFlow::Continue(())
        })?;
        for key in reset {
            let forward = table.get(&key).filter(|value| value.kind == flow_kind::FORWARD);
            let counted = forward.filter(|value| End::of(value.state, 0) == End::Open);
            if let Some(open) = counted.and_then(|value| self.open.get_mut(&(value.backend, value.generation))) {
                *open = open.saturating_sub(1);
            }
        }
        Ok(())
    }
}

/// Whether a flow is not over, by its forward entry; what its backend has reset is found by the other.
fn is_open<A>(table: &FlowTable<A>, key: &FlowKey<A>, value: &FlowValue<A>) -> bool
where
    A: MapAddress + 'static,
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    match End::of(value.state, 0) {
        End::Open => true,
        End::Closed => false,
        End::HalfClosed => {
            let reverse = table.get(&reverse_key(key, value)).map_or(0, |reverse| reverse.state);
            End::of(value.state, reverse) != End::Closed
        }
    }
}

/// Brings the data path's counts to what the tables hold, for Services whose algorithm goes by them.
pub struct Recount {
    dir: PathBuf,
    status: Array<MapData, StatusValue>,
    /// When the agent has last written Services, as far as that has been looked at.
    read: Option<(u64, u64)>,
    cells: PerFamily<Cells>,
    counted: PerFamily<Counted>,
}

/// What one round has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recounted {
    /// Backends whose connections are counted.
    pub backends: usize,
    /// Those whose count was wrong.
    pub corrected: usize,
}

/// Services whose algorithm counts connections, and their backends.
#[derive(Debug, Default)]
struct Counted {
    services: HashSet<u32>,
    /// Id and generation.
    backends: Vec<(u32, u32)>,
}

impl Recount {
    /// Opens the pins.
    pub fn open(pin_path: &Path) -> Result<Self, TableFailure> {
        let dir = pin_path.join("maps");
        let [v4, v6] = map_name::STATS;
        let cells = PerFamily { v4: Cells::open(&dir, v4)?, v6: Cells::open(&dir, v6)? };
        Ok(Self { status: open(&dir, map_name::STATUS)?, read: None, cells, counted: PerFamily::default(), dir })
    }

    /// Counts once. Without such Services it reads one number.
    pub fn once(&mut self) -> Result<Recounted, TableFailure> {
        let status = self.status.get(&0, 0).map_err(read_failure(map_name::STATUS))?;
        let written = (status.updated_ns, status.synced_ns);
        // While Services are being written there is no end of it yet: those are read again at the next round.
        if self.read != Some(written) {
            self.counted = PerFamily { v4: counted::<V4>(&self.dir)?, v6: counted::<V6>(&self.dir)? };
            self.read = Some(written);
        }
        let mut done = Recounted::default();
        let Self { dir, cells, counted, .. } = self;
        recount::<V4>(dir, &cells.v4, &counted.v4, &mut done)?;
        recount::<V6>(dir, &cells.v6, &counted.v6, &mut done)?;
        Ok(done)
    }
}

/// The Services of one family whose algorithm counts.
fn counted<A>(dir: &Path) -> Result<Counted, TableFailure>
where
    A: MapAddress,
    FrontendKey<A>: Pod,
    BackendValue<A>: Pod,
{
    let mut counted = Counted::default();
    let at = usize::from(A::IS_V6);
    let walk = |map, source| TableFailure::Batch { map, source };
    let frontends = open_raw(dir, map_name::FRONTENDS[at])?;
    let walked = batch::walk::<FrontendKey<A>, FrontendValue>(frontends.fd().as_fd(), CHUNK, |_, values| {
        let counting = values.iter().filter(|value| algorithm::counts_connections(value.algorithm));
        counted.services.extend(counting.map(|value| value.service));
        ControlFlow::Continue(())
    });
    walked.map_err(|source| walk(map_name::FRONTENDS[at], source))?;
    if counted.services.is_empty() {
        return Ok(counted);
    }
    let backends = open_raw(dir, map_name::BACKENDS[at])?;
    let walked = batch::walk::<u32, BackendValue<A>>(backends.fd().as_fd(), CHUNK, |ids, values| {
        let own = ids.iter().zip(values).filter(|(_, value)| value.generation != 0);
        let own = own.filter(|(_, value)| counted.services.contains(&value.service));
        counted.backends.extend(own.map(|(id, value)| (*id, value.generation)));
        ControlFlow::Continue(())
    });
    walked.map_err(|source| walk(map_name::BACKENDS[at], source))?;
    Ok(counted)
}

fn recount<A>(dir: &Path, cells: &Cells, counted: &Counted, done: &mut Recounted) -> Result<(), TableFailure>
where
    A: MapAddress + Hash + 'static,
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
    SocketKey<A>: Pod,
    SocketValue<A>: Pod,
{
    if counted.backends.is_empty() {
        return Ok(());
    }
    let mut before = Vec::with_capacity(counted.backends.len());
    for (id, generation) in &counted.backends {
        before.push(cells.read(*id, *generation)?);
    }
    let open = count::<A>(dir, |service| counted.services.contains(&service))?;
    for (backend, before) in counted.backends.iter().zip(before) {
        let (id, generation) = *backend;
        let (Some(before), Some(after)) = (before, cells.read(id, generation)?) else { continue };
        done.backends += 1;
        let by = difference(&before, &after, open.get(backend).copied().unwrap_or(0));
        if by != 0 {
            cells.count_open(id, by)?;
            done.corrected += 1;
        }
    }
    Ok(())
}

/// What a count lacks, from what it was before and after the tables were walked, and what they hold. Connections that began or
/// ended meanwhile may have been met or not.
fn difference(before: &StatsValue, after: &StatsValue, held: u32) -> i32 {
    let signed = |open: u32| i64::from(open.cast_signed());
    let (before_open, after_open, held) = (signed(before.open), signed(after.open), i64::from(held));
    let begun = i64::try_from(after.connections.saturating_sub(before.connections)).unwrap_or(i64::MAX / 2);
    let least = before_open.min(after_open.saturating_sub(begun));
    let most = after_open.max(before_open.saturating_add(begun));
    let by = held - held.clamp(least, most);
    i32::try_from(by).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(open: i32, connections: u64) -> StatsValue {
        StatsValue { open: open.cast_unsigned(), connections, ..StatsValue::default() }
    }

    #[test]
    fn a_count_at_rest_is_brought_to_what_the_tables_hold() {
        for (open, held, by) in [(5, 5, 0), (5, 7, 2), (5, 0, -5), (-3, 0, 3), (-3, 4, 7), (0, 0, 0)] {
            assert_eq!(difference(&cell(open, 90), &cell(open, 90), held), by, "{open} {held}");
        }
    }

    #[test]
    fn what_begins_or_ends_meanwhile_is_no_difference() {
        // Three began, two of those at hand, or of the new ones, ended.
        let (before, after) = (cell(10, 90), cell(11, 93));
        for held in 8..=13 {
            assert_eq!(difference(&before, &after, held), 0, "{held}");
        }
        assert_eq!((difference(&before, &after, 7), difference(&before, &after, 15)), (-1, 2));
        // Two ended, and none began.
        let (before, after) = (cell(10, 90), cell(8, 90));
        for (held, by) in [(7, -1), (8, 0), (9, 0), (10, 0), (11, 1)] {
            assert_eq!(difference(&before, &after, held), by, "{held}");
        }
    }
}
