//! An agent that dies, hangs, or is refused by the kernel, at each place at which it writes a map, a link or a pin
//! (`lb-userspace/src/faults.rs`): the one after it ends with the same maps, links and pins as one to which nothing happened, and
//! connections go on meanwhile.
//!
//! A sample in everyday runs, all places with `SLUICE_FULL_SIZE=1`; `SLUICE_FAULTS="die upgrade"` names faults and scenarios.

use std::collections::BTreeMap;
use std::env;
use std::time::Instant;

use crate::fault_ground::Ground;
use crate::fault_scenarios::{Fault, Scenario};

/// Places of each scenario at which an everyday run tries each fault.
const SAMPLE: usize = 1;
/// A place that comes more often than this in a scenario is tried that many times only, evenly spread; `SLUICE_FAULTS_ALIKE`
/// says otherwise.
const ALIKE: usize = 5;

fn is_full() -> bool {
    env::var_os("SLUICE_FULL_SIZE").is_some()
}

fn is_asked(word: &str, of: &[&str]) -> bool {
    let asked = env::var("SLUICE_FAULTS").unwrap_or_default();
    let mut words = asked.split_whitespace().filter(|asked| of.contains(asked)).peekable();
    words.peek().is_none() || words.any(|asked| asked == word)
}

/// The numbers of the places, without most of those that are alike.
fn thinned(places: &[String]) -> Vec<usize> {
    let alike = env::var("SLUICE_FAULTS_ALIKE").ok().and_then(|number| number.parse().ok()).unwrap_or(ALIKE);
    let mut by_name = BTreeMap::<&str, Vec<usize>>::new();
    for (number, place) in (1..).zip(places) {
        by_name.entry(place).or_default().push(number);
    }
    let mut numbers: Vec<usize> = by_name
        .into_values()
        .flat_map(|all| match all.len() {
            few if few <= alike => all,
            many => (0..alike).filter_map(|n| all.get((2 * n + 1) * many / (2 * alike)).copied()).collect(),
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Some of these, spread evenly; another sort of faults takes others.
fn sample(numbers: &[usize], sort: usize) -> Vec<usize> {
    if is_full() {
        return numbers.to_vec();
    }
    let parts = SAMPLE * Fault::ALL.len();
    (0..SAMPLE)
        .filter_map(|n| numbers.get(numbers.len() * (2 * (n * Fault::ALL.len() + sort) + 1) / (2 * parts)).copied())
        .collect()
}

/// Whether a place of a way is left to try; of a sample each is tried one way.
fn is_left(scenario: Scenario, next: &[usize; 2], numbers: &[Vec<usize>; 2]) -> bool {
    match (scenario.is_one_way(), is_full()) {
        (true, _) => next[0] < numbers[0].len(),
        (false, true) => next[0] < numbers[0].len() || next[1] < numbers[1].len(),
        (false, false) => next[0] + next[1] < numbers[0].len().max(numbers[1].len()),
    }
}

#[test]
fn wherever_an_agent_dies_hangs_or_is_refused_the_next_one_ends_with_the_truth() {
    let mut ground = Ground::new();
    let mut failures = Vec::new();
    let mut tried = BTreeMap::<_, (usize, usize)>::new();
    let (faults, scenarios) = (Fault::ALL.map(Fault::name), Scenario::ALL.map(Scenario::name));
    for scenario in Scenario::ALL.into_iter().filter(|scenario| is_asked(scenario.name(), &scenarios)) {
        // There and back differ, so each way has its own places; for a sample those of one way do for both.
        let mut places = [Vec::new(), Vec::new()];
        for _way in 0..=usize::from(is_full()) {
            let way = ground.way(scenario);
            places[way] = ground.count(scenario);
        }
        let [one, other] = &mut places;
        let (empty, whole) = if one.is_empty() { (one, &*other) } else { (other, &*one) };
        if empty.is_empty() {
            empty.clone_from(whole);
        }
        let names: Vec<usize> = places.iter().map(|places| thinned(places).len()).collect();
        eprintln!("{}: {:?} places, {names:?} to try", scenario.name(), places.each_ref().map(Vec::len));
        assert!(places.iter().all(|places| !places.is_empty()), "{}: {places:?}", scenario.name());
        for (sort, fault) in Fault::ALL.into_iter().enumerate() {
            let is_for_later = !is_full() && fault == Fault::Hang && scenario != Scenario::Batch;
            if !is_asked(fault.name(), &faults) || !scenario.has(fault) || is_for_later {
                continue;
            }
            let numbers = places.each_ref().map(|places| sample(&thinned(places), sort));
            let mut next = [0, 0];
            while is_left(scenario, &next, &numbers) {
                let way = ground.way(scenario);
                let Some(&number) = numbers[way].get(next[way]).or(numbers[way].last()) else { break };
                next[way] += 1;
                let begun = Instant::now();
                let what = format!("{} {number}, {}, way {way}", fault.name(), scenario.name());
                let result = ground.attempt(scenario, fault, number);
                let (all, reached) = tried.entry((scenario.name(), fault.name())).or_default();
                *all += 1;
                match result {
                    Ok(place) => {
                        *reached += usize::from(place.is_some());
                        let place = place.unwrap_or_else(|| "not reached".into());
                        eprintln!("{what}, at {place}: right, {:.1} s", begun.elapsed().as_secs_f64());
                    }
                    Err(error) => {
                        eprintln!("{what}: WRONG: {error:#}");
                        failures.push(format!("{what}: {error:#}"));
                        ground.recover();
                    }
                }
            }
        }
    }
    eprintln!("tried, reached: {tried:?}");
    assert!(failures.is_empty(), "{} of {tried:?}: {failures:#?}", failures.len());
    // Threads take turns, so the last places of a few attempts are not reached.
    let (all, reached) = tried.values().fold((0, 0), |(a, r), (all, reached)| (a + all, r + reached));
    assert!(reached * 5 >= all * 4, "too few places were reached: {tried:?}");
}
