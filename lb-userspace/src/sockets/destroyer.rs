//! Destroys sockets in every network namespace of the node: enters each on a separate thread.

use std::collections::{BTreeMap, HashSet};
use std::thread;

use super::error::DestroyError;
use super::namespaces::{Namespaces, Survey};
use super::outcome::{Failure, Outcome};
use super::search;
use crate::linux::netns::own_netns_cookie;
use crate::maps::sockets::SocketRow as Victim;

/// Destroys sockets. Finds namespaces by the node's processes and by the files to which they are bound, remembers where
/// it found them, and keeps none of them alive.
#[derive(Debug, Default)]
pub struct Destroyer {
    namespaces: Namespaces,
}

impl Destroyer {
    /// Looks for the node's network namespaces now, to say which can be reached.
    pub fn survey(&mut self) -> Result<Survey, DestroyError> {
        let namespaces = &mut self.namespaces;
        on_own_thread(move || namespaces.refresh(&HashSet::new()))
    }

    /// Destroys the victims. Namespaces are looked for at most once, and only if one is not known.
    pub fn destroy(&mut self, victims: &[Victim]) -> Outcome {
        if victims.is_empty() {
            return Outcome::default();
        }
        let namespaces = &mut self.namespaces;
        on_own_thread(move || destroy(namespaces, victims)).unwrap_or_else(|why| all_failed(victims, why))
    }
}

fn all_failed(victims: &[Victim], why: DestroyError) -> Outcome {
    Outcome { failed: vec![Failure { victims: victims.to_vec(), why }], ..Outcome::default() }
}

/// Does something that may leave its thread in another namespace.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, DestroyError> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work);
        let result = worker.map_err(DestroyError::Thread)?.join();
        Ok(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn destroy(namespaces: &mut Namespaces, victims: &[Victim]) -> Outcome {
    let own = match own_netns_cookie() {
        Ok(cookie) => cookie,
        Err(e) => return all_failed(victims, DestroyError::Cookie(e)),
    };
    let mut by_netns: BTreeMap<u64, Vec<Victim>> = BTreeMap::new();
    for victim in victims {
        by_netns.entry(victim.netns_cookie).or_default().push(*victim);
    }
    let mut outcome = Outcome::default();
    // First, while the thread is still in it: this one needs no rights to enter.
    if let Some(victims) = by_netns.remove(&own) {
        search::destroy(&victims, &mut outcome);
    }
    by_netns.retain(|cookie, victims| !in_namespace(namespaces, *cookie, victims, &mut outcome));
    if !by_netns.is_empty() {
        let wanted = by_netns.keys().copied().collect();
        outcome.survey = Some(namespaces.refresh(&wanted));
        by_netns.retain(|cookie, victims| !in_namespace(namespaces, *cookie, victims, &mut outcome));
    }
    outcome.not_found = by_netns.into_values().flatten().collect();
    outcome
}

/// Destroys victims in one namespace, if it is known.
fn in_namespace(namespaces: &mut Namespaces, netns_cookie: u64, victims: &[Victim], outcome: &mut Outcome) -> bool {
    match namespaces.enter(netns_cookie) {
        Ok(true) => {
            outcome.entered += 1;
            search::destroy(victims, outcome);
            true
        }
        Ok(false) => false,
        Err(why) => {
            outcome.failed.push(Failure { victims: victims.to_vec(), why });
            true
        }
    }
}
