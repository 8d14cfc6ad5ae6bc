//! Backends that fail in all ways, and what is decided of them and written.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_common::abi::{SILENT, rest};
use proptest::prelude::*;

use super::judge::{ON_PROBATION, Record, Sample, State, Verdict, step};
use super::{Outliers, SilenceWatch};
use crate::maps::memory::MemoryTables;
use crate::maps::{BackendMarks as _, Tables as _};
use crate::model::desired::{NodeFacts, ResolveSettings};
use crate::model::ejection::{Ejection, EjectionSettings};
use crate::model::event::SourceEvent;
use crate::model::family::{Family, PerFamily};
use crate::model::world::World;
use crate::plan::{Existing, Limits, Planner};
use crate::source::manifests::objects;

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
    bench.second(|id| of_many(40, if id < 3 { 40 } else { 0 }));
    assert_eq!(bench.resting(), [0, 1, 2], "100 % against 22 %");
    let mut half = Bench::new(10, "window=5s,share=30%");
    assert!(half.second(|id| of_many(40, if id < 5 { 40 } else { 0 })).is_empty(), "100 % against 44 %");
    bench.records.retain(|id, _| *id < 4);
    let back = bench.second(|_| Sample::default());
    assert_eq!((back.len(), bench.resting().len()), (2, 1));
}

/// A node that serves `default/web` with four endpoints.
struct Served {
    tables: MemoryTables,
    planner: Planner,
    outliers: Outliers,
    now: Duration,
}

fn served(annotation: &str) -> Served {
    let both = PerFamily { v4: 100, v6: 100 };
    let limits = Limits { services: 10, backends: both, slots: both, blocks: both };
    let planner = Planner::restore(&limits, Existing::default());
    let tables = MemoryTables::new(limits);
    let mut served = Served { tables, planner, outliers: Outliers::default(), now: Duration::from_secs(1_000) };
    served.becomes(annotation);
    served
}

impl Served {
    fn becomes(&mut self, annotation: &str) {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web, annotations: {{{annotation}}}}}, \
             spec: {{clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}}}\n---\n\
             {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, \
             metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}, addressType: IPv4, \
             ports: [{{port: 8080}}], endpoints: [{{addresses: [10.1.0.1]}}, {{addresses: [10.1.0.2]}}, \
             {{addresses: [10.1.0.3]}}, {{addresses: [10.1.0.4]}}]}}\n"
        );
        let mut world = World::new(NodeFacts::default(), ResolveSettings::default());
        for object in objects(&text) {
            world.apply(SourceEvent::Apply(object.unwrap()));
        }
        world.apply(SourceEvent::Synced);
        let changes = world.take_changes();
        self.outliers.heard(&changes);
        for change in &changes {
            let staged = self.planner.stage(change).unwrap();
            for step in staged.steps() {
                self.tables.apply(&step.op).unwrap();
            }
            staged.commit();
        }
    }

    /// How each backend is to be passed over, by id.
    fn rests(&self) -> Vec<u16> {
        let rest = |(at, _): (&(Family, u32), _)| self.tables.marks.get(at).map_or(rest::OFF, |mark| mark.rest);
        self.tables.backends.iter().map(rest).collect()
    }

    /// A second passes, in which every backend answers so many, and the first one fails some.
    fn second(&mut self, answered: u64, failed: u64) -> Vec<String> {
        for (at, (key, entry)) in self.tables.backends.iter().enumerate() {
            let cell = self.tables.outcomes.entry(*key).or_default();
            cell.generation = entry.generation;
            cell.answered += answered;
            cell.failed += if at == 0 { failed } else { 0 };
            (cell.clients, cell.failing) = (u64::MAX, if at == 0 && failed > 0 { u64::MAX } else { 0 });
        }
        self.now += Duration::from_secs(1);
        let events = self.outliers.look(&mut self.tables, &self.planner, self.now);
        events.into_iter().map(|event| event.reason).collect()
    }
}

const ON: &str = "sluice-lb.github.io/outlier-ejection: 'window=5s'";

#[test]
fn what_is_judged_is_written_and_told_and_a_successor_goes_on_with_it() {
    let mut served = served(ON);
    assert!(served.second(0, 0).is_empty());
    assert_eq!(served.rests(), [rest::NONE; 4]);
    assert_eq!(served.second(30, 15), ["BackendEjected"]);
    assert_eq!(served.rests(), [rest::EJECTED, rest::NONE, rest::NONE, rest::NONE]);
    assert_eq!((served.outliers.totals().ejections, served.outliers.totals().resting), (1, 1));

    // Another agent finds it, and lets it rest as long once more.
    served.outliers = Outliers::default();
    served.becomes(ON);
    for _ in 0..5 {
        assert!(served.second(0, 0).is_empty());
        assert_eq!(served.rests()[0], rest::EJECTED);
    }
    assert!(served.second(0, 0).is_empty());
    assert_eq!(served.rests()[0], ON_PROBATION);
    assert_eq!(served.second(10, 0), ["BackendReadmitted"]);
    assert_eq!(served.rests(), [rest::NONE; 4]);
}

#[test]
fn turned_off_nobody_rests_also_where_a_former_agent_had_it_on() {
    let mut first = served(ON);
    first.second(0, 0);
    first.second(30, 15);
    first.becomes("");
    first.second(30, 30);
    assert_eq!(first.rests(), [rest::OFF; 4]);

    let mut second = served(ON);
    second.second(0, 0);
    second.second(30, 15);
    second.outliers = Outliers::default();
    second.becomes("");
    second.second(0, 0);
    assert_eq!(second.rests(), [rest::OFF; 4]);
}

#[test]
fn a_backend_that_falls_silent_and_comes_back_is_told_of_once() {
    let Served { mut tables, planner, now, .. } = served("");
    let mut watch = SilenceWatch::default();
    assert!(watch.look(&mut tables, &planner, now).is_empty());
    let ((family, id), generation) = tables.backends.iter().map(|(at, entry)| (*at, entry.generation)).next().unwrap();
    tables.set_silent(family, id, generation, SILENT | 7).unwrap();
    tables.signs += 1;
    let told: Vec<_> = (1..4).flat_map(|n| watch.look(&mut tables, &planner, now + Duration::from_secs(n))).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].reason == "BackendSilent" && told[0].note.contains("10.1.0.1:8080"), "{told:?}");
    assert_eq!(watch.count(), 1);
    tables.set_silent(family, id, generation, 0).unwrap();
    let told = watch.look(&mut tables, &planner, now + Duration::from_secs(5));
    assert!(told[0].reason == "BackendBack" && told[0].note.contains("after 4 s"), "{told:?}");
    assert_eq!(watch.count(), 0);
}

#[tokio::test]
async fn a_silent_backend_that_answers_the_agent_is_silent_no_more_and_one_that_does_not_is_left_alone() {
    let listening = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut probes = super::probe::Probes::default();
    assert!(probes.begin(1, listening.local_addr().unwrap()));
    // Refused, which is an answer, and an address that nobody has (RFC 5737), where there is none.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(probes.begin(2, closed) && probes.begin(3, "192.0.2.200:80".parse().unwrap()));
    let mut answers = BTreeMap::new();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        answers.extend(std::iter::from_fn(|| probes.next()));
    }
    assert_eq!(answers, BTreeMap::from([(1, true), (2, true), (3, false)]));
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
