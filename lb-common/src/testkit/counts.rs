//! What is counted, and the sockets, of a node in plain memory.

use std::collections::HashMap;

use super::family::Family;
use super::memory::Memory;
use crate::abi::{Counter, FlowValue, SocketKey, SocketValue, StatsValue};
use crate::datapath::{Counters, SocketEnv};

impl<A: Family> Memory<A> {
    fn counted<'s>(
        &self,
        all: &'s mut HashMap<u32, StatsValue>,
        backend: u32,
        generation: u32,
    ) -> Option<&'s mut StatsValue> {
        let known = self.backends.get(&backend).is_some_and(|known| known.generation == generation);
        known.then(|| all.entry(backend).or_default())
    }
}

impl<A: Family> Counters<A> for Memory<A> {
    fn count(&self, counter: Counter) {
        Counters::<A>::count_index(self, counter.index());
    }

    fn count_index(&self, index: u32) {
        *self.counters.borrow_mut().entry(index).or_default() += 1;
    }

    fn account(&self, flow: &FlowValue<A>, reply: bool, packets: u32, bytes: u32) {
        let mut all = self.stats.borrow_mut();
        let Some(stats) = self.counted(&mut all, flow.backend, flow.generation) else { return };
        let (count, sum) = if reply {
            (&mut stats.reply_packets, &mut stats.reply_bytes)
        } else {
            (&mut stats.packets, &mut stats.bytes)
        };
        *count += u64::from(packets);
        *sum += u64::from(bytes);
    }

    fn connected(&self, backend: u32, generation: u32, waits: bool) {
        if let Some(stats) = self.counted(&mut self.stats.borrow_mut(), backend, generation) {
            stats.connections += 1;
            stats.unanswered = stats.unanswered.wrapping_add(u64::from(waits));
        }
    }

    fn answered(&self, backend: u32, generation: u32) {
        if let Some(stats) = self.counted(&mut self.stats.borrow_mut(), backend, generation) {
            stats.unanswered = stats.unanswered.wrapping_sub(1);
        }
    }

    fn refused(&self, backend: u32, generation: u32) {
        if let Some(stats) = self.counted(&mut self.stats.borrow_mut(), backend, generation) {
            stats.refused += 1;
        }
    }

    fn went(&self, backend: u32, generation: u32, client: u64, answered: u32, failed: u32) {
        if self.backends.get(&backend).is_some_and(|known| known.generation == generation) {
            let mut all = self.outliers.borrow_mut();
            let cell = all.entry(backend).or_default();
            cell.answered += u64::from(answered);
            cell.failed += u64::from(failed);
            cell.clients |= client;
            if failed != 0 {
                cell.failing |= client;
            }
        }
    }

    fn opened(&self, backend: u32, generation: u32) {
        if let Some(stats) = self.counted(&mut self.stats.borrow_mut(), backend, generation) {
            stats.open = stats.open.wrapping_add(1);
        }
    }

    fn ended(&self, backend: u32, generation: u32) {
        if let Some(stats) = self.counted(&mut self.stats.borrow_mut(), backend, generation) {
            stats.open = stats.open.wrapping_sub(1);
        }
    }

    fn open(&self, backend: u32, generation: u32) -> Option<u32> {
        self.array();
        self.counted(&mut self.stats.borrow_mut(), backend, generation).map(|stats| StatsValue::open_now(stats.open))
    }

    fn blame(&self, service: u32, cause: u32) {
        *self.causes.borrow_mut().entry((service, cause)).or_default() += 1;
    }
}

impl<A: Family> SocketEnv<A> for Memory<A> {
    fn socket(&self, key: &SocketKey<A>) -> Option<SocketValue<A>> {
        self.hash();
        self.sockets.borrow().get(key).copied()
    }

    fn set_socket(&self, key: &SocketKey<A>, value: &SocketValue<A>) -> bool {
        !self.full.get() && {
            self.sockets.borrow_mut().insert(*key, *value);
            true
        }
    }

    fn remove_socket(&self, key: &SocketKey<A>) {
        self.sockets.borrow_mut().remove(key);
    }
}
