//! Finds victims among the sockets of the current network namespace, moves those that can be moved, and destroys the others.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use lb_common::abi::proto;

use super::diag::{Diag, End, Query, cookie};
use super::error::DestroyError;
use super::mover::{self, Stray};
use super::outcome::{Failure, Outcome};
use crate::maps::sockets::SocketRow as Victim;
use crate::model::desired::Family;

/// A socket, as long as it is connected to this peer.
type Key = (u64, SocketAddr);

fn key(socket_cookie: u64, peer: SocketAddr) -> Key {
    (socket_cookie, SocketAddr::new(peer.ip().to_canonical(), peer.port()))
}

/// Moves or destroys victims, all of which are sockets of the calling thread's network namespace.
pub(super) fn destroy(victims: &[Victim], outcome: &mut Outcome) {
    let mut by_protocol: HashMap<u8, HashMap<Key, Victim>> = HashMap::new();
    for victim in victims {
        let of_protocol = by_protocol.entry(victim.protocol).or_default();
        of_protocol.insert(key(victim.socket_cookie, victim.peer), *victim);
    }
    for (protocol, victims) in by_protocol {
        let mut search = SocketSearch { protocol, left: victims, hidden: HashSet::new() };
        let result = match protocol {
            proto::UDP | proto::TCP => search.run(outcome),
            other => Err(DestroyError::Protocol(other)),
        };
        if let Err(why) = result {
            outcome.failed.push(Failure { victims: search.left.into_values().collect(), why });
            continue;
        }
        let (hidden, gone): (Vec<_>, Vec<_>) =
            search.left.into_iter().partition(|(key, _)| search.hidden.contains(key));
        outcome.gone += gone.len();
        if !hidden.is_empty() {
            let victims = hidden.into_iter().map(|(_, victim)| victim).collect();
            outcome.failed.push(Failure { victims, why: DestroyError::Hidden });
        }
    }
}

/// The victims of one protocol.
struct SocketSearch {
    protocol: u8,
    left: HashMap<Key, Victim>,
    /// In the last listing, and not found when they were to be destroyed.
    hidden: HashSet<Key>,
}

impl SocketSearch {
    fn run(&mut self, outcome: &mut Outcome) -> Result<(), DestroyError> {
        let mut diag = Diag::open()?;
        let result = self.rounds(&mut diag, outcome);
        outcome.listings += diag.listings;
        result
    }

    fn rounds(&mut self, diag: &mut Diag, outcome: &mut Outcome) -> Result<(), DestroyError> {
        let mut looked_twice = false;
        loop {
            self.hidden.clear();
            let mut pieces = 0;
            let before = self.left.len();
            for family in [Family::V4, Family::V6] {
                // An IPv6 socket can be connected to an IPv4 peer, so those are looked through in any case.
                if family == Family::V6 || self.left.values().any(|victim| victim.family == Family::V4) {
                    pieces = pieces.max(self.pass(diag, family, outcome)?);
                }
                if self.left.is_empty() {
                    return Ok(());
                }
            }
            // With the one in front destroyed, the kernel finds the next of several with equal addresses.
            let uncovered = !self.hidden.is_empty() && self.left.len() < before;
            // What was listed and then not found may have ended in between, and a listing in pieces can miss a socket:
            // one more look tells.
            let in_doubt = (!self.hidden.is_empty() || pieces > 1) && !looked_twice;
            if !uncovered && !in_doubt {
                return Ok(());
            }
            looked_twice |= !uncovered;
        }
    }

    /// Lists the sockets of one family once, and moves or destroys the victims among them.
    fn pass(&mut self, diag: &mut Diag, family: Family, outcome: &mut Outcome) -> Result<usize, DestroyError> {
        let query = Query { protocol: self.protocol, family, peer_port: self.only_port() };
        let mut found = Vec::new();
        let mut strays = Vec::new();
        let pieces = diag.list(query, |id, inode| {
            let key = key(cookie(&id), SocketAddr::new(id.destination_address, id.destination_port));
            if let Some(victim) = self.left.get(&key) {
                found.push((key, id));
                strays.extend(Stray::of(victim, inode));
            }
        })?;
        let moved = mover::connect_anew(&strays);
        outcome.moved += moved.len();
        for (key, id) in found {
            if moved.contains(&key.0) {
                self.left.remove(&key);
                continue;
            }
            match diag.destroy(self.protocol, family, id)? {
                End::Destroyed => {
                    outcome.destroyed += 1;
                    self.left.remove(&key);
                }
                End::NotFound => {
                    self.hidden.insert(key);
                }
            }
        }
        Ok(pieces)
    }

    /// The port that all peers have, so that the kernel leaves out the other sockets.
    fn only_port(&self) -> Option<u16> {
        let mut ports = self.left.values().map(|victim| victim.peer.port());
        let first = ports.next()?;
        ports.all(|port| port == first).then_some(first)
    }
}
