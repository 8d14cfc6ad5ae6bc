//! What becomes of a packet that nobody has sent: the data path, run over the pinned maps without a write, and then what
//! lies behind it, there and back.

mod answers;
mod attempt;
mod finding;
mod firewall;
#[cfg(test)]
mod firewall_tests;
mod leg;
mod matches;
mod overlay;
mod packet;
mod probe;
mod question;
mod surroundings;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use lb_common::abi::{FrontendValue, SetRef};
use lb_common::datapath::{Arrival, is_internal};
use serde::Serialize;

use self::attempt::{Attempt, attempt};
pub use self::finding::{Cause, Finding, Severity, Way};
use self::overlay::Overlay;
pub use self::overlay::{Step, Traced};
pub use self::question::{Entry, Names, Question, ingress_hook};
pub use self::surroundings::{Surroundings, ThisNode};
use crate::maps::lookups::Lookups;

/// Backends that are tried, each by a packet. A Service's others are like them.
const TRIED: usize = 256;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Trace {
    /// What becomes of the packet, in one line.
    pub verdict: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub advice: String,
    /// Whether it arrives, and is answered, as far as can be seen.
    pub delivered: bool,
    /// The client.
    pub client: String,
    /// Where it meets Sluice.
    pub entry: String,
    /// Where it sends to.
    pub target: String,
    /// Questions of the data path, and their answers, for the first backend.
    pub steps: Vec<Step>,
    /// Each backend that it may be given.
    pub backends: Vec<BackendRow>,
    /// Backends that were not tried.
    pub left_out: usize,
    /// What to know about this answer.
    pub notes: Vec<String>,
}

/// A backend that the packet may be given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackendRow {
    /// Address and port; empty: none was chosen.
    pub backend: String,
    /// How often, of all new connections.
    pub probability: f64,
    /// What the data path makes of the packet.
    pub decision: String,
    /// The rewrite.
    pub rewrite: String,
    /// The way there, as far as it is all right.
    pub request: Vec<String>,
    /// The way back.
    pub reply: Vec<String>,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
}

/// The set that a client is given, of a frontend.
fn set_of<A: Traced>(env: &Overlay<'_, A>, question: &Question, frontend: &FrontendValue) -> SetRef {
    let internal = match (question.entry, A::from_ip(question.client.ip())) {
        (Entry::Device(arrival), Some(client)) => is_internal(env, client, arrival, frontend.kind),
        _ => true,
    };
    if internal { frontend.internal } else { frontend.external }
}

/// Each backend id of a set, with its first slot and how many it has.
fn members<A>(maps: &Lookups<A>, set: SetRef) -> Vec<(u32, u32, u32)> {
    let mut members: Vec<(u32, u32, u32)> = Vec::new();
    let mut known: HashMap<u32, usize> = HashMap::new();
    for at in 0..set.count {
        let id = (maps.slots)(&set.base.wrapping_add(at)).unwrap_or(0);
        if let Some((_, _, slots)) = known.get(&id).and_then(|index| members.get_mut(*index)) {
            *slots += 1;
        } else {
            known.insert(id, members.len());
            members.push((id, at, 1));
        }
    }
    members
}

/// The random number by which this slot of a set is chosen.
fn random_for(at: u32, count: u32) -> u32 {
    let number = (u64::from(at) << 32).div_ceil(u64::from(count.max(1)));
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Traces a packet.
pub fn trace<A: Traced>(maps: &Lookups<A>, node: &dyn Surroundings, names: &Names, question: &Question) -> Trace {
    let overlay = |random| Overlay::new(maps, node, names, random);
    let first = attempt(&overlay(0), node, question);
    let mut trace = Trace {
        client: question.client.to_string(),
        entry: entry(node, question.entry),
        target: format!("{}/{}", question.target, crate::maps::dump::protocol(question.protocol)),
        steps: first.steps.clone(),
        ..Trace::default()
    };
    let set = first.frontend.map(|frontend| set_of(&overlay(0), question, &frontend)).unwrap_or_default();
    let members = if first.picked { members(maps, set) } else { Vec::new() };
    trace.left_out = members.len().saturating_sub(TRIED);
    if members.is_empty() {
        trace.backends.push(row(first, 1.0));
    } else {
        for (_, at, slots) in members.iter().take(TRIED) {
            let done = attempt(&overlay(random_for(*at, set.count)), node, question);
            trace.backends.push(row(done, f64::from(*slots) / f64::from(set.count)));
        }
    }
    let worst = |row: &BackendRow| row.findings.first().map_or((true, None), |finding| (false, Some(finding.clone())));
    trace.backends.sort_by_cached_key(worst);
    conclude(&mut trace);
    trace
}

fn entry(node: &dyn Surroundings, entry: Entry) -> String {
    let name = |index| node.link(index).map_or_else(|_gone| format!("device {index}"), |link| link.name);
    match entry {
        Entry::Device(Arrival { ifindex, hook, .. }) => format!(
            "{}, {} ({})",
            name(ifindex),
            if hook.is_ingress() { "ingress" } else { "egress" },
            if hook.is_uplink() { "uplink" } else { "Pod's device" }
        ),
        Entry::Bare(index) => format!("{}, where no program of Sluice's is", name(index)),
        Entry::Socket(None) => "its socket, in a process of the node".to_owned(),
        Entry::Socket(Some(arrival)) => format!("its socket, in a Pod behind {}", name(arrival.ifindex)),
    }
}

fn row(done: Attempt, probability: f64) -> BackendRow {
    let mut findings = done.findings.found;
    findings.sort();
    let lines = |way| done.findings.lines.iter().filter(|(of, _)| *of == way).map(|(_, line)| line.clone()).collect();
    BackendRow {
        backend: done.backend.map(|backend| backend.to_string()).unwrap_or_default(),
        probability,
        decision: done.decision,
        rewrite: done.rewrite,
        request: lines(Way::Request),
        reply: lines(Way::Reply),
        findings,
    }
}

/// The first three lines.
fn conclude(trace: &mut Trace) {
    let worst = trace.backends.iter().flat_map(|row| &row.findings).min().cloned();
    let all = trace.backends.len();
    let of_these = |finding: &Finding| {
        let same = |row: &&BackendRow| {
            row.findings.iter().any(|other| (other.severity, other.cause) == (finding.severity, finding.cause))
        };
        let count = trace.backends.iter().filter(same).count();
        if all > 1 { format!(", for {count} of {all} backends") } else { String::new() }
    };
    let chosen = trace.backends.iter().map(|row| row.backend.as_str()).filter(|backend| !backend.is_empty());
    let backends = match chosen.clone().count() {
        0 => String::new(),
        1 => format!(" to {}", chosen.clone().next().unwrap_or_default()),
        more => format!(" to one of {more} backends"),
    };
    let (verdict, why, advice, delivered) = match worst {
        None => {
            let why = "nothing on the way there and back is known to be wrong";
            let advice = "look into the Pod: does it listen on that port, and on that address";
            (format!("delivered{backends}"), why.to_owned(), advice.to_owned(), true)
        }
        Some(finding) => {
            let Finding { severity, way, cause, text, advice } = &finding;
            let way = way.name();
            let verdict = match severity {
                Severity::Fails => format!("not delivered: {} ({way}){}", cause.name(), of_these(&finding)),
                Severity::Doubtful => format!("may not be delivered: {} ({way}){}", cause.name(), of_these(&finding)),
                Severity::Note => format!("delivered{backends}, but note: {} ({way})", cause.name()),
            };
            (verdict, text.clone(), advice.clone(), *severity == Severity::Note)
        }
    };
    (trace.verdict, trace.why, trace.advice, trace.delivered) = (verdict, why, advice, delivered);
}
