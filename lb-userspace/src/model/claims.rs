//! Who may have a frontend that several Services want: the oldest, then the first by name.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use super::desired::{DesiredService, Family, NodeFacts, Protocol, ResolveSettings, ServiceName};
use super::reason::Reason;
use super::record::ServiceRecord;
use super::refusals::Refusals;

type Key = (SocketAddr, Protocol);

/// Age, then name: the least has the best claim. A Service of unknown age counts as youngest.
type Seniority = (Reverse<Option<Reverse<i64>>>, ServiceName);

#[derive(Debug)]
struct Claimant {
    seniority: Seniority,
    keys: Box<[Key]>,
}

/// All frontends that are wanted, by whom.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// First is the one who has it.
    wanted: HashMap<Key, Vec<u32>>,
    claimants: HashMap<u32, Claimant>,
}

impl Claims {
    /// Sets what a Service claims (none: it is gone), and marks every other Service that gains or loses by it.
    pub(super) fn set(
        &mut self,
        id: u32,
        service: Option<&ServiceRecord>,
        node: &NodeFacts,
        settings: &ResolveSettings,
        dirty: &mut BTreeSet<u32>,
    ) {
        let new = service.filter(|service| service.skip.is_none()).map(|service| Claimant {
            seniority: (Reverse(service.created.map(Reverse)), service.name.clone()),
            keys: keys(service, node, settings),
        });
        let old = self.claimants.get(&id);
        if let (Some(old), Some(new)) = (old, &new)
            && old.seniority == new.seniority
            && old.keys == new.keys
        {
            return;
        }
        if let Some(old) = self.claimants.remove(&id) {
            for key in old.keys {
                if let Some(rivals) = self.wanted.get_mut(&key) {
                    rivals.retain(|rival| *rival != id);
                    dirty.extend(rivals.iter());
                    if rivals.is_empty() {
                        self.wanted.remove(&key);
                    }
                }
            }
        }
        let Some(new) = new else { return };
        for key in &new.keys {
            let rivals = self.wanted.entry(*key).or_insert_with(|| Vec::with_capacity(1));
            let senior = |rival: &u32| self.claimants.get(rival).is_some_and(|rival| rival.seniority < new.seniority);
            let at = rivals.iter().take_while(|rival| senior(rival)).count();
            dirty.extend(rivals.iter());
            rivals.insert(at, id);
        }
        self.claimants.insert(id, new);
    }

    /// Takes from a resolved Service the frontends that another one has, and says so.
    pub(super) fn drop_lost_frontends<'a>(
        &self,
        id: u32,
        service: &mut DesiredService,
        name_of: impl Fn(u32) -> Option<&'a ServiceName>,
    ) -> Refusals {
        let mut bad = Refusals::of_service(&service.name);
        for port in &mut service.ports {
            let protocol = port.id.protocol;
            port.frontends.retain(|frontend| {
                let winner = self.wanted.get(&(frontend.addr, protocol)).and_then(|rivals| rivals.first());
                let Some(winner) = winner.filter(|winner| **winner != id) else { return true };
                bad.note(Reason::DuplicateFrontend, || {
                    format!(
                        "{}/{} of port {:?} is not served here: {} is older (or first by name) and has it; \
                         give one of the two another address or port",
                        frontend.addr,
                        protocol.name(),
                        port.id.port_name,
                        name_of(*winner)
                            .map(ServiceName::object)
                            .map_or_else(String::new, |(kind, name)| format!("{kind} {name}")),
                    )
                });
                false
            });
        }
        service.ports.retain(|port| !port.frontends.is_empty());
        bad
    }
}

fn keys(service: &ServiceRecord, node: &NodeFacts, settings: &ResolveSettings) -> Box<[Key]> {
    let mut keys: Vec<Key> = service
        .ports
        .iter()
        .flat_map(|port| [Family::V4, Family::V6].map(|family| (port, family)))
        .flat_map(|(port, family)| {
            let frontends = service.frontends(port, family, node, settings);
            frontends.into_iter().map(|frontend| (frontend.addr, port.protocol))
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into()
}
