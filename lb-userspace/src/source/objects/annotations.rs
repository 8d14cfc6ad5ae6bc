//! Sluice's own annotations of Services and EndpointSlices: their names, and what they say.

use std::collections::BTreeMap;

use crate::model::algorithm::{Algorithm, TableSize};
use crate::model::ejection::Ejection;
use crate::model::reason::Reason;
use crate::model::record::Spread;
use crate::model::refusals::Refusals;
use crate::model::weights::Weights;

/// What all of them begin with.
const PREFIX: &str = "sluice-lb.github.io/";
/// How new connections are spread.
const ALGORITHM: &str = "algorithm";
/// How many places the table of Maglev has.
const TABLE_SIZE: &str = "maglev-table-size";
/// How much each endpoint gets.
const WEIGHTS: &str = "weights";
/// Whether backends rest that fail far more often than their fellows.
const EJECTION: &str = "outlier-ejection";

type Annotations = BTreeMap<String, String>;

/// Sluice's annotations of an object, without the prefix. One that is not `known` for this kind of object is noted.
fn own<'a>(
    annotations: &'a Annotations,
    known: &'static [&'static str],
    bad: &mut Refusals,
) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    let all = annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.trim())));
    for (name, _) in all.clone().filter(|(name, _)| !known.contains(name)) {
        bad.note(Reason::UnknownAnnotation, || {
            let known: Vec<String> = known.iter().map(|name| format!("{PREFIX}{name}")).collect();
            format!("annotation {PREFIX}{name} is not known and has no effect: there is {}", known.join(", "))
        });
    }
    all
}

/// What a Service's annotations say of how its connections are spread; none: nothing.
pub(super) fn spread(annotations: &Annotations, bad: &mut Refusals) -> Option<Box<Spread>> {
    let mut spread = Spread::default();
    for (name, value) in own(annotations, &[ALGORITHM, TABLE_SIZE, WEIGHTS, EJECTION], bad) {
        match name {
            ALGORITHM => match Algorithm::asked(value) {
                Ok(asked) => {
                    spread.algorithm = Some(asked.algorithm);
                    spread.weighted = asked.weighted;
                }
                Err(wrong) => bad.note(Reason::BadAlgorithm, || {
                    format!("annotation {PREFIX}{ALGORITHM}: {wrong}; it is served with the default")
                }),
            },
            TABLE_SIZE => match TableSize::parse(value) {
                Ok(size) => spread.table_size = Some(size),
                Err(wrong) => bad.note(Reason::BadTableSize, || {
                    format!("annotation {PREFIX}{TABLE_SIZE}: {wrong}; the table has the default size")
                }),
            },
            WEIGHTS => spread.weights = weights(value, bad),
            EJECTION => match Ejection::parse(value) {
                Ok(ejection) => spread.ejection = Some(ejection),
                Err(wrong) => bad.note(Reason::BadEjection, || {
                    format!("annotation {PREFIX}{EJECTION}: {wrong}; it is served with the default")
                }),
            },
            _ => {}
        }
    }
    (spread != Spread::default()).then(|| Box::new(spread))
}

/// What a slice's annotations say of the weights of its endpoints.
pub(super) fn slice_weights(annotations: &Annotations, bad: &mut Refusals) -> Option<Box<Weights>> {
    let found = own(annotations, &[WEIGHTS], bad).find(|(name, _)| *name == WEIGHTS);
    found.and_then(|(_, value)| weights(value, bad)).map(Box::new)
}

fn weights(value: &str, bad: &mut Refusals) -> Option<Weights> {
    match Weights::parse(value) {
        Ok(weights) => Some(weights),
        Err(wrong) => {
            bad.note(Reason::BadWeights, || {
                format!("annotation {PREFIX}{WEIGHTS}: {wrong}; it has no effect, all endpoints have the same")
            });
            None
        }
    }
}
