//! Fragments of a node in plain memory.

use super::family::Family;
use super::memory::Memory;
use crate::abi::{FragmentKey, FragmentValue, HeldKey, HeldValue, SenderKey, Waiting};
use crate::datapath::Fragments;

impl<A: Family> Fragments<A> for Memory<A> {
    type Held = Box<HeldValue>;

    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentValue> {
        self.hash();
        self.fragments.firsts.borrow().get(key).copied()
    }

    fn set_fragment(&self, key: &FragmentKey<A>, value: &FragmentValue) {
        self.fragments.firsts.borrow_mut().insert(*key, *value);
    }

    fn early(&self, key: &FragmentKey<A>) -> Option<Waiting> {
        self.fragments.datagrams.borrow().get(key).copied()
    }

    fn set_early(&self, key: &FragmentKey<A>, value: Option<Waiting>) {
        let mut datagrams = self.fragments.datagrams.borrow_mut();
        match value {
            Some(value) => datagrams.insert(*key, value),
            None => datagrams.remove(key),
        };
    }

    fn sender(&self, key: &SenderKey<A>) -> Option<Waiting> {
        self.fragments.senders.borrow().get(key).copied()
    }

    fn set_sender(&self, key: &SenderKey<A>, value: &Waiting) {
        self.fragments.senders.borrow_mut().insert(*key, *value);
    }

    fn held(&self, key: &HeldKey<A>) -> Option<Box<HeldValue>> {
        self.fragments.held.borrow().get(key).copied().map(Box::new)
    }

    fn set_held(&self, key: &HeldKey<A>, value: Option<&HeldValue>) {
        let mut held = self.fragments.held.borrow_mut();
        match value {
            Some(value) => held.insert(*key, *value),
            None => held.remove(key),
        };
    }
}
