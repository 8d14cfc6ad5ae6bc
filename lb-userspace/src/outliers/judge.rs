//! Who of a Service's backends is to rest, and for how long. Pure: time and numbers come from outside.
//!
//! A backend is ejected when, within the window, it has failed [`EjectionSettings::ratio`] of its connections and at least
//! `WORSE` times as many of a hundred as its fellows together, and so has it with its clients: a client that provokes
//! failures alone says nothing as long as there is another. After its rest it is on probation: few connections come to it,
//! and they decide.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::ejection::EjectionSettings;

/// How much worse than its fellows' a backend's share of failures is.
const WORSE: u64 = 3;
/// Of so many connections that would come to a backend on probation one does.
pub const ON_PROBATION: u16 = 16;
/// Connections that decide a probation.
const TRIALS: u64 = 8;

/// What was counted in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Connections answered, be it with a refusal.
    pub answered: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Clients, a bit each.
    pub clients: u64,
    /// Those that saw a failure.
    pub failing: u64,
}

impl Sample {
    fn plus(self, other: &Self) -> Self {
        Self {
            answered: self.answered.saturating_add(other.answered),
            failed: self.failed.saturating_add(other.failed),
            clients: self.clients | other.clients,
            failing: self.failing | other.failing,
        }
    }

    /// Failures cannot be more than connections: one that was answered before is reset now.
    fn failed(&self) -> u64 {
        self.failed.min(self.answered)
    }

    /// Whether a part of a whole is the settings' ratio.
    fn is_much(part: u64, whole: u64, settings: &EjectionSettings) -> bool {
        whole > 0 && part.saturating_mul(100) >= whole.saturating_mul(u64::from(settings.ratio))
    }

    /// Whether it is bad by itself.
    fn is_bad(&self, settings: &EjectionSettings) -> bool {
        let (clients, failing) = (self.clients.count_ones(), (self.failing & self.clients).count_ones());
        Self::is_much(self.failed(), self.answered, settings)
            && failing >= clients.min(2)
            && Self::is_much(failing.into(), clients.into(), settings)
    }

    /// Whether it is much worse than this.
    fn is_worse_than(&self, fellows: &Self) -> bool {
        let (own, others) = (u128::from(self.failed()), u128::from(fellows.failed()));
        fellows.answered > 0
            && own * u128::from(fellows.answered) >= u128::from(WORSE) * others * u128::from(self.answered)
    }
}

/// How a backend is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It gets all of its connections.
    #[default]
    Serving,
    /// It gets none before this time.
    Ejected {
        /// When the rest ends.
        until: Duration,
    },
    /// It gets a few.
    Probation {
        /// When what has come by then decides, however little.
        until: Duration,
    },
}

/// What is known of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// How it is.
    pub state: State,
    /// How often it was ejected lately.
    pub times: u32,
    /// When one of them is forgotten, if it serves well until then.
    forgiven: Duration,
    samples: VecDeque<(Duration, Sample)>,
}

impl Record {
    /// Of a backend that was found in this state.
    pub fn found(state: State, now: Duration, settings: &EjectionSettings) -> Self {
        let until = now + settings.rest(1);
        let (state, times) = match state {
            State::Serving => (State::Serving, 0),
            State::Ejected { .. } => (State::Ejected { until }, 1),
            State::Probation { .. } => (State::Probation { until }, 1),
        };
        Self { state, times, ..Self::default() }
    }

    /// What counts at a time.
    fn sum(&self) -> Sample {
        self.samples.iter().fold(Sample::default(), |sum, (_, sample)| sum.plus(sample))
    }

    fn take(&mut self, now: Duration, sample: Sample, settings: &EjectionSettings) {
        if sample != Sample::default() {
            self.samples.push_back((now, sample));
        }
        while self.samples.front().is_some_and(|(at, _)| *at + settings.window() <= now) {
            self.samples.pop_front();
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.samples.clear();
    }

    const fn rests(&self) -> bool {
        !matches!(self.state, State::Serving)
    }
}

/// What has become of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is ejected for so long, because it has failed so many of its connections.
    Ejected(Duration, Sample),
    /// It is on probation.
    OnProbation,
    /// It serves again.
    Serves,
}

/// Takes what was counted since the last step, and gives what changes. `counted` is asked for each backend, once.
pub fn step<K: Ord + Copy>(
    records: &mut BTreeMap<K, Record>,
    now: Duration,
    settings: &EjectionSettings,
    mut counted: impl FnMut(K) -> Sample,
) -> Vec<(K, Verdict)> {
    for (key, record) in records.iter_mut() {
        record.take(now, counted(*key), settings);
    }
    let mut changes = Vec::new();
    for (key, record) in records.iter_mut() {
        changes.extend(end_of_rest(record, now, settings).map(|verdict| (*key, verdict)));
    }
    let most = settings.most(records.len());
    let mut resting = records.values().filter(|record| record.rests()).count();
    // Fellows that are gone leave less room: whoever has the least time left comes back.
    while resting > most {
        let ends = |state| match state {
            State::Serving => Duration::MAX,
            State::Ejected { until } | State::Probation { until } => until,
        };
        let Some((key, record)) = records.iter_mut().min_by_key(|(_, record)| ends(record.state)) else { break };
        record.enter(State::Serving);
        changes.push((*key, Verdict::Serves));
        resting -= 1;
    }
    for key in outliers(records, settings) {
        if resting >= most {
            break;
        }
        resting += 1;
        changes.extend(records.get_mut(&key).map(|record| (key, eject(record, now, settings))));
    }
    changes
}

/// Backends that serve and should not, the worst first.
fn outliers<K: Ord + Copy>(records: &BTreeMap<K, Record>, settings: &EjectionSettings) -> Vec<K> {
    let sums: Vec<(K, Sample)> =
        records.iter().filter(|(_, record)| !record.rests()).map(|(key, record)| (*key, record.sum())).collect();
    let all = sums.iter().fold((0_u64, 0_u64), |(answered, failed), (_, sum)| {
        (answered.saturating_add(sum.answered), failed.saturating_add(sum.failed()))
    });
    let mut found: Vec<(u64, K)> = Vec::new();
    for (key, sum) in &sums {
        let fellows = Sample { answered: all.0 - sum.answered, failed: all.1 - sum.failed(), ..Sample::default() };
        if sum.answered >= settings.least.into() && sum.is_bad(settings) && sum.is_worse_than(&fellows) {
            found.push((sum.failed().saturating_mul(1_000) / sum.answered.max(1), *key));
        }
    }
    found.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, key)| key).collect()
}

fn eject(record: &mut Record, now: Duration, settings: &EjectionSettings) -> Verdict {
    record.times = record.times.saturating_add(1);
    let (rest, sum) = (settings.rest(record.times), record.sum());
    record.enter(State::Ejected { until: now + rest });
    Verdict::Ejected(rest, sum)
}

/// What time and trials change.
fn end_of_rest(record: &mut Record, now: Duration, settings: &EjectionSettings) -> Option<Verdict> {
    match record.state {
        State::Ejected { until } if now >= until => {
            record.enter(State::Probation { until: now + settings.window() });
            Some(Verdict::OnProbation)
        }
        State::Probation { until } => {
            let sum = record.sum();
            if sum.answered < TRIALS && now < until {
                return None;
            }
            if sum.is_bad(settings) {
                return Some(eject(record, now, settings));
            }
            record.enter(State::Serving);
            record.forgiven = now + settings.rest(record.times);
            Some(Verdict::Serves)
        }
        State::Serving if record.times > 0 && now >= record.forgiven => {
            record.times -= 1;
            record.forgiven = now + settings.rest(record.times);
            None
        }
        State::Serving | State::Ejected { .. } => None,
    }
}
