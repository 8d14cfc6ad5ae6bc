//! Backends that fail in all ways, and what is decided of them and written.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::judge::{Record, Sample, State, Verdict, step};
use crate::model::ejection::{Ejection, EjectionSettings};

/// A Service's backends by number.
struct Bench {
    records: BTreeMap<u32, Record>,
    settings: EjectionSettings,
    now: Duration,
}

/// Connections of many clients, of which so many failed, spread over all of them.
fn of_many(answered: u64, failed: u64) -> Sample {
    let bits = |number: u64| if number >= 64 { u64::MAX } else { (1 << number) - 1 };
    Sample { answered, failed, clients: bits(answered), failing: bits(failed) }
}

impl Bench {
    fn new(backends: u32, settings: &str) -> Self {
        let Ok(Ejection::On(settings)) = Ejection::parse(settings) else { panic!("{settings}") };
        Self { records: (0..backends).map(|id| (id, Record::default())).collect(), settings, now: Duration::ZERO }
    }

    /// A second passes, in which this is counted.
    fn second(&mut self, counted: impl Fn(u32) -> Sample) -> Vec<(u32, Verdict)> {
        self.now += Duration::from_secs(1);
        step(&mut self.records, self.now, &self.settings, counted)
    }

    fn resting(&self) -> Vec<u32> {
        let resting = self.records.iter().filter(|(_, record)| record.state != State::Serving);
        resting.map(|(id, _)| *id).collect()
    }
}

#[test]
fn a_backend_that_fails_every_second_connection_rests_twice_as_long_each_time() {
    let mut bench = Bench::new(10, "window=5s,longest=15s");
    let mut rests = Vec::new();
    for _ in 0..120 {
        let served = bench.records[&3].state;
        let counted = |id| match (id, served) {
            (3, State::Ejected { .. }) => Sample::default(),
            (3, _) => of_many(20, 10),
            _ => of_many(20, 0),
        };
        for (id, verdict) in bench.second(counted) {
            assert_eq!(id, 3);
            if let Verdict::Ejected(rest, _) = verdict {
                rests.push(rest.as_secs());
            }
        }
    }
    assert!(rests.starts_with(&[5, 10, 15, 15]), "{rests:?}");
}

#[test]
fn a_backend_that_behaves_again_serves_again_and_is_forgiven() {
    let mut bench = Bench::new(4, "window=5s");
    assert!(matches!(bench.second(|id| of_many(40, if id == 1 { 20 } else { 0 }))[..], [(1, Verdict::Ejected(..))]));
    let mut verdicts = Vec::new();
    for _ in 0..30 {
        let rests = matches!(bench.records[&1].state, State::Ejected { .. });
        verdicts.extend(bench.second(|id| if id == 1 && rests { Sample::default() } else { of_many(4, 0) }));
    }
    assert_eq!(verdicts, [(1, Verdict::OnProbation), (1, Verdict::Serves)]);
    assert_eq!(bench.records[&1].times, 0);
}

#[test]
fn nobody_rests_where_all_fail_alike_or_too_little_is_known() {
    let mut bench = Bench::new(10, "window=5s");
    for _ in 0..20 {
        assert!(bench.second(|_| of_many(40, 20)).is_empty());
    }
    let mut bench = Bench::new(10, "window=5s,least=100");
    for _ in 0..20 {
        assert!(bench.second(|id| of_many(10, if id == 1 { 10 } else { 0 })).is_empty(), "50 in 5 s");
    }
    // Without fellows there is nobody to go to, and one that nobody else is asked beside is not compared.
    let mut alone = Bench::new(1, "window=5s");
    assert!(alone.second(|_| of_many(100, 100)).is_empty());
    let mut unasked = Bench::new(2, "window=5s");
    assert!(unasked.second(|id| if id == 0 { of_many(100, 100) } else { Sample::default() }).is_empty());
}

#[test]
fn one_client_that_provokes_failures_ejects_nobody_as_long_as_there_is_another() {
    for others in 1..5 {
        let mut bench = Bench::new(10, "window=5s");
        let provoked = Sample { answered: 1_000, failed: 990, clients: (2 << others) - 1, failing: 1 };
        for _ in 0..20 {
            let counted = |id| if id == 1 { provoked } else { of_many(40, 0) };
            assert!(bench.second(counted).is_empty(), "{others} others");
        }
    }
    // Two of ten are many enough.
    let mut bench = Bench::new(10, "window=5s");
    let seen = Sample { answered: 1_000, failed: 300, clients: 0x3ff, failing: 3 };
    assert_eq!(bench.second(|id| if id == 1 { seen } else { of_many(40, 0) }).len(), 1);
}

#[test]
fn fellows_that_are_gone_take_their_place_among_those_that_may_rest_with_them() {
    let mut bench = Bench::new(10, "window=5s,share=30%");
    bench.second(|id| of_many(40, if id < 5 { 40 } else { 0 }));
    assert_eq!(bench.resting(), [0, 1, 2], "half of them fail, 100 % against 44 %: no more than three rest");
    bench.records.retain(|id, _| *id < 4);
    let back = bench.second(|_| Sample::default());
    assert_eq!((back.len(), bench.resting().len()), (2, 1));
}

proptest! {
    /// Whatever is counted: never more than the share rests, never all, and no rest is longer than the longest.
    #[test]
    fn at_most_the_share_rests_whatever_is_counted(
        backends in 1_u32..12,
        share in 1_u8..=50,
        window in 1_u16..8,
        seconds in prop::collection::vec(prop::collection::vec((0_u64..60, 0_u64..80, any::<u64>(), any::<u64>()), 12), 1..60),
        gone in prop::collection::vec(0_u32..12, 0..4),
    ) {
        let mut bench = Bench::new(backends, &format!("window={window}s,share={share}%,least=5,longest=20s"));
        for (at, second) in seconds.iter().enumerate() {
            if let Some(gone) = gone.get(at / 10) {
                bench.records.remove(gone);
            }
            let verdicts = bench.second(|id| {
                let (answered, failed, clients, failing) = second[id as usize];
                Sample { answered, failed, clients, failing }
            });
            let (all, resting) = (bench.records.len(), bench.resting().len());
            prop_assert!(resting <= bench.settings.most(all) && (resting < all || all == 0));
            for (_, verdict) in verdicts {
                if let Verdict::Ejected(rest, sum) = verdict {
                    prop_assert!(rest.as_secs() <= 20 && sum.failed > 0 && sum.failing.count_ones() > 0);
                }
            }
        }
    }

    /// Nobody who fails nothing rests.
    #[test]
    fn a_backend_that_fails_nothing_never_rests(
        seconds in prop::collection::vec(prop::collection::vec((0_u64..60, any::<u64>()), 6), 1..60),
        failing in 0_u32..6,
    ) {
        let mut bench = Bench::new(6, "window=3s,least=1,ratio=1%,share=50%");
        for second in &seconds {
            let verdicts = bench.second(|id| {
                let (answered, clients) = second[id as usize];
                if id == failing { of_many(answered, answered) } else { Sample { answered, clients, ..Sample::default() } }
            });
            prop_assert!(verdicts.iter().all(|(id, _)| *id == failing));
        }
    }
}
