//! A part of a Service that does not fit as a whole: endpoints that are gone go, and others come in their place, no more
//! than there were.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::planner::Planner;
use crate::model::desired::{Backend, Change};
use crate::model::family::PerFamily;

/// How much of a Service to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// The endpoints that it has and keeps, and new ones in the place of those that are gone, while there are ids.
    WithNew,
    /// Of those that it has and keeps, one in so many. A set that shrinks needs new slots beside its old ones, too.
    Kept(usize),
}

impl Portion {
    /// In the order in which they are tried.
    pub const ALL: [Self; 8] = [
        Self::WithNew,
        Self::Kept(1),
        Self::Kept(2),
        Self::Kept(4),
        Self::Kept(16),
        Self::Kept(64),
        Self::Kept(1 << 10),
        Self::Kept(usize::MAX),
    ];
}

impl Planner {
    /// This part of the change; none: the Service is not in the maps, and so has nothing that could go.
    pub fn part(&self, change: &Change, portion: Portion) -> Option<Change> {
        let Change::Upsert(service) = change else { return None };
        let states = self.services.get(&service.name)?;
        let mut part = service.clone();
        let mut room = PerFamily::from_fn(|family| self.backend_ids[family].available());
        for port in &mut part.ports {
            let old = states.iter().find(|state| state.is(port)).map_or(&[][..], |state| &state.backends);
            let has = |addr: &SocketAddr| old.binary_search_by(|backend| backend.addr.cmp(addr)).is_ok();
            let (kept, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
                std::mem::take(&mut port.backends).into_iter().partition(|(addr, _)| has(addr));
            port.backends = match portion {
                Portion::WithNew => {
                    let room = &mut room[port.id.family];
                    // In the place of those that went: a Service that does not fit takes no room from others.
                    let places = (*room).min(old.len().saturating_sub(kept.len()));
                    let fitting = new.into_iter().take(places).collect::<Vec<_>>();
                    *room -= fitting.len();
                    kept.into_iter().chain(fitting).collect()
                }
                Portion::Kept(one_in) => some_of(kept, one_in),
            };
        }
        Some(Change::Upsert(part))
    }
}

fn some_of(backends: BTreeMap<SocketAddr, Backend>, one_in: usize) -> BTreeMap<SocketAddr, Backend> {
    let count = backends.len().div_ceil(one_in);
    backends.into_iter().take(count).collect()
}
