//! The cluster's state from step to step: Services and slices made, edited in place, replaced, removed.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use xtask::lab::plan::NODE1;

use super::dice::Dice;
use super::random::{self, Pair, SERVICES};
use super::sides::{Sides, ZONE};

/// What was put into the API.
#[derive(Default)]
pub(crate) struct State {
    pairs: BTreeMap<usize, Pair>,
    /// Objects that the API did not take.
    pub(crate) refused: Vec<String>,
}

impl State {
    /// The next state.
    pub(crate) fn step(&mut self, sides: &Sides, dice: &mut Dice) {
        if dice.percent(15) {
            let zone = dice.pick(&[json!(ZONE), json!(ZONE), json!("zone-b"), Value::Null]);
            let node = json!({"kind": "Node", "metadata": {"name": NODE1}});
            sides.api.merge(&node, &json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}));
        }
        for number in 0..SERVICES {
            let fresh = random::pair(dice, &sides.ours, number);
            let known = self.pairs.contains_key(&number);
            match dice.below(20) {
                0..=3 if known => {}
                4 if known => self.remove(sides, number),
                5..=7 if known => {
                    self.remove(sides, number);
                    self.put(sides, number, fresh);
                }
                8..=10 if known => {
                    // Its endpoints alone.
                    let mut pair = self.pairs[&number].clone();
                    let ports = pair.service["spec"]["ports"].as_array().cloned().unwrap_or_default();
                    pair.slices = random::slices(dice, &sides.ours, &format!("s{number}"), &ports);
                    self.put(sides, number, pair);
                }
                11..=13 if known => {
                    let mut pair = self.pairs[&number].clone();
                    pair.service = fresh.service;
                    self.put(sides, number, pair);
                }
                _ => self.put(sides, number, fresh),
            }
        }
    }

    fn put(&mut self, sides: &Sides, number: usize, pair: Pair) {
        let known = self.pairs.remove(&number);
        let mut service = pair.service.clone();
        let status = service.as_object_mut().unwrap().remove("status");
        let mut outcome = sides.api.try_put(&service, known.is_none());
        if outcome.is_err() && known.is_some() {
            // Not every change can be made in place.
            sides.api.delete(&service);
            outcome = sides.api.try_put(&service, true);
        }
        match outcome {
            Ok(_) => {
                if let Some(status) = status {
                    sides.api.merge_status(&service, &status);
                }
            }
            Err(words) => {
                self.refused.push(words);
                for slice in known.iter().flat_map(|pair| &pair.slices) {
                    sides.api.delete(slice);
                }
                return;
            }
        }
        let name = |slice: &Value| (slice["metadata"]["namespace"].clone(), slice["metadata"]["name"].clone());
        let old: Vec<_> = known.iter().flat_map(|pair| &pair.slices).map(name).collect();
        let new: Vec<_> = pair.slices.iter().map(name).collect();
        let mut kept = Vec::new();
        for slice in &pair.slices {
            match sides.api.try_put(slice, !old.contains(&name(slice))) {
                Ok(_) => kept.push(slice.clone()),
                Err(words) => {
                    self.refused.push(words);
                    if old.contains(&name(slice)) {
                        sides.api.delete(slice);
                    }
                }
            }
        }
        for slice in known.iter().flat_map(|pair| &pair.slices) {
            if !new.contains(&name(slice)) {
                sides.api.delete(slice);
            }
        }
        self.pairs.insert(number, Pair { service: pair.service, slices: kept });
    }

    fn remove(&mut self, sides: &Sides, number: usize) {
        let Some(pair) = self.pairs.remove(&number) else { return };
        sides.api.delete(&pair.service);
        for slice in &pair.slices {
            sides.api.delete(slice);
        }
    }

    /// A Service's slices.
    pub(crate) fn slices(&self, service: &str) -> &[Value] {
        let number = service.trim_start_matches('s').parse::<usize>().ok();
        number.and_then(|number| self.pairs.get(&number)).map(|pair| pair.slices.as_slice()).unwrap_or_default()
    }
}
