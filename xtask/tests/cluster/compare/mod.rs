//! Side by side with the real kube-proxy: random states of a cluster, asked over real sockets.

mod ask;
mod dice;
mod flows;
mod health;
mod known;
mod random;
mod relay;
mod setups;
mod sides;
mod state;
mod targets;

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use ask::{Asker, Brought, Event, Events};
use dice::Dice;
use flows::Flows;
use health::HealthPorts;
use known::{Judged, agree};
use setups::Setup;
use sides::{Sides, Who};
use state::State;
use targets::Target;

/// Questions that are under way at a time: most of them wait.
const WORKERS: usize = 64;

/// The same when asking again: few at a time, so that kube-proxy's refusals by ICMP stay below the kernel's limit.
const FEW_WORKERS: usize = 4;

/// Flows that are open while the state changes.
const FLOWS: usize = 24;

/// One client's questions to one Service, in order.
struct Task {
    who: Who,
    service: String,
    targets: Vec<Target>,
}

/// A question that the sides answered differently.
struct Difference {
    who: Who,
    service: String,
    target: Target,
    brought: Brought,
}

/// A state, asked through.
struct Compared {
    asked: usize,
    found: Vec<Difference>,
    /// Differences that were not there when asked again, in words.
    gone: String,
}

impl Difference {
    fn what(&self) -> String {
        format!("{}\n", Judged { who: self.who, service: &self.service, target: &self.target })
    }

    fn tell(&self) -> String {
        let Brought { theirs, ours } = &self.brought;
        format!("{}    kube-proxy {theirs:?}\n    sluice     {ours:?}\n", self.what())
    }
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")))
}

#[test]
fn random_states_are_served_as_kube_proxy_serves_them() {
    let seed = setting("SLUICE_COMPARE_SEED").unwrap_or(1);
    let states = setting("SLUICE_COMPARE_STATES").unwrap_or(5);
    let xdp = setting("SLUICE_COMPARE_XDP").unwrap_or(seed % 2) != 0;
    let setup = setting("SLUICE_COMPARE_SETUP").unwrap_or(seed - 1);
    let setup = &setups::ALL[usize::try_from(setup).unwrap() % setups::ALL.len()];
    let mut sides = Sides::start(xdp, setup);
    let mut state = State::default();
    let (mut told, mut health, mut flows_seen) = (String::new(), HealthPorts::default(), 0);
    for number in 0..states {
        let begun = Instant::now();
        let mut dice = Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let before = sides.api.list("Service");
        // What flows need of chance depends on the answers: the states do not.
        let flows = Flows::open(&sides, setup, &by_service(&before), &mut Dice::new(number), FLOWS);
        let of_flows = flows.services();
        let of_flows = of_flows.iter().map(String::as_str).collect();
        let were = objects(&before, &state, &of_flows);
        state.step(&sides, &mut dice);
        sides.settle();
        flows_seen += flows.count();
        let mut others = flows.go_on(&sides, &state);
        let services = sides.api.list("Service");
        if !others.is_empty() {
            eprintln!("before the change:\n{were}after it:\n{}", objects(&services, &state, &of_flows));
        }
        let Compared { asked, found, gone } = compare(&sides, setup, by_service(&services));
        others.extend(health.compare(&sides, &services));
        eprintln!(
            "state {number} of seed {seed} ({}, XDP {xdp}): {asked} questions, {} differences, {} ms",
            setup.name,
            found.len() + others.len(),
            begun.elapsed().as_millis()
        );
        if !gone.is_empty() {
            eprintln!("gone when asked again:\n{gone}");
        }
        if !found.is_empty() || !others.is_empty() {
            let text = others.concat() + &tell(&services, &state, &found);
            eprintln!("{text}");
            write!(told, "state {number}:\n{text}").unwrap();
        }
    }
    eprintln!("{flows_seen} flows met a change, {} health check ports were seen", health.count());
    eprintln!("objects that the API refused: {}", state.refused.len());
    for words in state.refused.iter().collect::<BTreeSet<_>>() {
        eprintln!("  {words}");
    }
    assert!(told.is_empty(), "SLUICE_COMPARE_SEED={seed}: Sluice differs from kube-proxy:\n{told}");
}

/// The targets of each Service, but for those of the API server and of this test.
fn by_service(services: &[Value]) -> Vec<(String, Vec<Target>)> {
    let name = |service: &Value| service["metadata"]["name"].as_str().unwrap().to_owned();
    let each = services.iter().map(|service| (name(service), targets::of_service(service)));
    each.filter(|(name, _)| name != "kubernetes" && name != "sentinel").collect()
}

/// Asks everything from everywhere, and again what differed: a connection may have met a change half done.
fn compare(sides: &Sides, setup: &Setup, mut by_service: Vec<(String, Vec<Target>)>) -> Compared {
    by_service.push(("nobody".to_owned(), targets::of_nobody()));
    let tasks = by_service.iter().flat_map(|(service, targets)| {
        Who::ALL.into_iter().filter(|who| !setup.outsiders.contains(who)).flat_map(move |who| {
            // What shares an affinity is asked one after the other.
            let (affine, free): (Vec<_>, Vec<_>) =
                targets.iter().filter(|target| target.concerns(who)).cloned().partition(|target| target.affine);
            let each = free.into_iter().map(|target| vec![target]).chain([affine]);
            each.map(move |targets| Task { who, service: service.clone(), targets })
        })
    });
    let asked = AtomicUsize::new(0);
    let first = ask_all(sides, setup, WORKERS, tasks.collect(), &asked);
    if first.is_empty() {
        return Compared { asked: asked.into_inner(), found: first, gone: String::new() };
    }
    thread::sleep(Duration::from_millis(500));
    let words: Vec<String> = first.iter().map(Difference::tell).collect();
    let mut again: Vec<Task> = Vec::new();
    for Difference { who, service, target, .. } in first {
        let affine = again.iter().any(|task| task.who == who && task.service == service && task.targets[0].affine);
        if !target.affine {
            again.push(Task { who, service, targets: vec![target] });
        } else if !affine {
            let (_, targets) = by_service.iter().find(|(name, _)| *name == service).unwrap();
            let targets = targets.iter().filter(|target| target.affine && target.concerns(who)).cloned().collect();
            again.push(Task { who, service, targets });
        }
    }
    let second = ask_all(sides, setup, FEW_WORKERS, again, &AtomicUsize::new(0));
    let mut gone = String::new();
    if second.len() < words.len() {
        let left: Vec<String> = second.iter().map(Difference::what).collect();
        gone = words.into_iter().filter(|words| !left.iter().any(|what| words.starts_with(what))).collect();
    }
    Compared { asked: asked.into_inner(), found: second, gone }
}

fn ask_all(sides: &Sides, setup: &Setup, workers: usize, tasks: Vec<Task>, asked: &AtomicUsize) -> Vec<Difference> {
    let tasks = Mutex::new(tasks.into_iter());
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(task) = tasks.lock().unwrap().next() else { return };
                    let (namespaces, addr) = sides.client(task.who);
                    let client = Asker { who: task.who, namespaces, addr };
                    let mut seen: Vec<(Target, Brought)> = Vec::new();
                    for target in task.targets {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let brought = client.ask(&target, |brought| agree(setup, task.who, &target, brought));
                        let alike = seen.iter().filter(|(other, _)| other.shares_affinity(&target));
                        if !agree(setup, task.who, &target, &brought)
                            || task.who != Who::Strangers && !keeps(&brought, alike.map(|(_, each)| each))
                        {
                            let (service, target, brought) = (task.service.clone(), target.clone(), brought.clone());
                            found.lock().unwrap().push(Difference { who: task.who, service, target, brought });
                        }
                        seen.push((target, brought));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// Whether Sluice keeps to one Pod at all addresses of a port where kube-proxy does.
fn keeps<'a>(brought: &'a Brought, others: impl Iterator<Item = &'a Brought>) -> bool {
    let others: Vec<&Brought> = others.collect();
    let all = |side: fn(&Brought) -> &Events| {
        others.iter().copied().chain([brought]).flat_map(side).cloned().collect::<Events>()
    };
    let pods = |events: Events| {
        let pods: BTreeSet<String> = events
            .into_iter()
            .filter_map(|event| if let Event::Answer(pod, _) = event { Some(pod) } else { None })
            .collect();
        pods.len()
    };
    others.is_empty() || pods(all(|each| &each.theirs)) > 1 || pods(all(|each| &each.ours)) <= 1
}

/// The differences in words, with the objects that they are about.
fn tell(services: &[Value], state: &State, found: &[Difference]) -> String {
    let mut text = String::new();
    text.extend(found.iter().map(Difference::tell));
    let names: BTreeSet<&str> = found.iter().map(|difference| difference.service.as_str()).collect();
    text + &objects(services, state, &names)
}

/// The Services of these names, with their slices.
fn objects(services: &[Value], state: &State, names: &BTreeSet<&str>) -> String {
    let mut text = String::new();
    for service in
        services.iter().filter(|service| service["metadata"]["name"].as_str().is_some_and(|name| names.contains(name)))
    {
        let name = service["metadata"]["name"].as_str().unwrap();
        let status: &Value = &service["status"];
        writeln!(text, "  {name}: {} {} {status}", service["metadata"]["labels"], service["spec"]).unwrap();
        for slice in state.slices(name) {
            writeln!(text, "    {} {} {}", slice["metadata"], slice["ports"], slice["addressType"]).unwrap();
            for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                writeln!(text, "      {endpoint}").unwrap();
            }
        }
    }
    text
}
