//! Connections that are open while the state changes: TCP lives on, UDP goes where kube-proxy's goes, or where it would
//! go afresh.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use xtask::lab::Netns;
use xtask::lab::probe::{Cause, Connection, Failure, Transport, UdpClient};

use super::ask::{Asker, Event, Events};
use super::dice::Dice;
use super::known::{Judged, flow_lost_by_them};
use super::setups::Setup;
use super::sides::{Sides, Who};
use super::state::State;
use super::targets::{Kind, Target};

/// A lab answers in a fraction of this.
const PATIENCE: Duration = Duration::from_millis(300);

/// How often a flow is begun anew until both sides have chosen the same Pod.
const ATTEMPTS: usize = 40;

/// A flow on one side.
enum Open {
    Tcp(Connection),
    Udp(UdpClient),
}

/// What became of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Answered(String),
    Refused,
    Silent,
    /// The socket was told that its peer is gone, and begins anew.
    Ended,
    Failed(String),
}

/// A flow on both sides, with the same Pod.
struct Pair {
    who: Who,
    service: String,
    target: Target,
    pod: String,
    theirs: Open,
    ours: Open,
}

/// Open flows.
#[derive(Default)]
pub(crate) struct Flows(Vec<Pair>);

impl Flows {
    /// Opens some to what answers now.
    pub(crate) fn open(
        sides: &Sides,
        setup: &Setup,
        services: &[(String, Vec<Target>)],
        dice: &mut Dice,
        count: usize,
    ) -> Self {
        let kinds = [Kind::ClusterIp, Kind::NodePort, Kind::LoadBalancer, Kind::ExternalIp];
        let mut all: Vec<(Who, &String, &Target)> = Vec::new();
        for (service, targets) in services {
            for target in targets.iter().filter(|target| kinds.contains(&target.kind)) {
                let same = |who: &Who| !setup.outsiders.contains(who) && !target.is_outside_for_us(*who);
                let whos =
                    Who::ALL.into_iter().filter(|who| *who != Who::Strangers && target.concerns(*who) && same(who));
                all.extend(whos.map(|who| (who, service, target)));
            }
        }
        let mut flows = Vec::new();
        let mut tries = 0;
        while tries < 3 * count && flows.len() < count && !all.is_empty() {
            tries += 1;
            let (who, service, target) = dice.pick(&all);
            if let Some((pod, theirs, ours)) = pair(sides, who, target, dice) {
                flows.push(Pair { who, service: service.clone(), target: target.clone(), pod, theirs, ours });
            }
        }
        Self(flows)
    }

    /// Names of the Services that they are of.
    pub(crate) fn services(&self) -> BTreeSet<String> {
        self.0.iter().map(|flow| flow.service.clone()).collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Goes on with each, and tells of those that went otherwise than kube-proxy's did or would.
    pub(crate) fn go_on(self, sides: &Sides, state: &State) -> Vec<String> {
        let mut told = Vec::new();
        for mut flow in self.0 {
            let ([at_theirs, at_ours], addr) = sides.client(flow.who);
            let theirs = go_on(&mut flow.theirs, &at_theirs, &flow.target);
            let ours = go_on(&mut flow.ours, &at_ours, &flow.target);
            if theirs == ours {
                continue;
            }
            let asker = Asker { who: flow.who, namespaces: [at_theirs, at_ours], addr };
            let afresh = asker.theirs(&flow.target, 40);
            let lost = matches!(&ours, Fate::Answered(pod) if flow_lost_by_them(flow.who, pod));
            // On the way to this state kube-proxy may have seen one in which the Pod did not serve, and moved the flow.
            let stays = matches!(&ours, Fate::Answered(pod) if *pod == flow.pod);
            let may_stay = stays && serves(sides, state, &flow.service, &flow.pod);
            if flow.target.transport == Transport::Udp && (may_stay || may_be(&ours, &afresh))
                || lost && afresh.contains(&Event::Silence)
            {
                continue;
            }
            let what = Judged { who: flow.who, service: &flow.service, target: &flow.target };
            told.push(format!(
                "{what} was with {}\n    kube-proxy {theirs:?}, afresh {afresh:?}\n    sluice     {ours:?}\n",
                flow.pod
            ));
        }
        told
    }
}

/// Whether a Pod is an endpoint of a Service that serves.
fn serves(sides: &Sides, state: &State, service: &str, pod: &str) -> bool {
    let Ok(pod) = sides.ours.pod(pod) else { return false };
    let is = |endpoint: &Value| {
        let addr: Option<IpAddr> = endpoint["addresses"][0].as_str().and_then(|text| text.parse().ok());
        addr.is_some_and(|addr| pod.addr.contains(addr)) && endpoint["conditions"]["serving"] != Value::Bool(false)
    };
    state.slices(service).iter().any(|slice| slice["endpoints"].as_array().into_iter().flatten().any(is))
}

fn may_be(fate: &Fate, afresh: &Events) -> bool {
    afresh.iter().any(|event| match (event, fate) {
        (Event::Answer(pod, _), Fate::Answered(ours)) => pod == ours,
        // netfilter fails a datagram of the node's own whether it refuses or drops it.
        (Event::Refused | Event::Failed(_), Fate::Refused) | (Event::Silence | Event::Failed(_), Fate::Silent) => true,
        _ => false,
    })
}

fn pair(sides: &Sides, who: Who, target: &Target, dice: &mut Dice) -> Option<(String, Open, Open)> {
    let ([theirs, ours], _) = sides.client(who);
    let (pod, first) = begin(&theirs, target, dice)?;
    for _ in 0..ATTEMPTS {
        let (same, second) = begin(&ours, target, dice)?;
        if same == pod {
            return Some((pod, first, second));
        }
    }
    None
}

fn begin(ns: &Netns, target: &Target, dice: &mut Dice) -> Option<(String, Open)> {
    let port = u16::try_from(20_000 + dice.below(12_000)).unwrap();
    let begun = ns.run(|| {
        Ok(match target.transport {
            Transport::Tcp => Connection::open(target.dst, 0, PATIENCE)
                .and_then(|mut flow| flow.ask().map(|answer| (answer.pod, Open::Tcp(flow)))),
            Transport::Udp => UdpClient::open(target.dst, port, PATIENCE)
                .and_then(|mut flow| flow.ask().map(|answer| (answer.pod, Open::Udp(flow)))),
        })
    });
    begun.unwrap().ok()
}

/// One more question; a UDP client that was told its peer is gone asks again from the same port.
fn go_on(flow: &mut Open, ns: &Netns, target: &Target) -> Fate {
    match flow {
        Open::Tcp(connection) => fate(connection.ask().map(|answer| answer.pod)),
        Open::Udp(client) => {
            let mut gone = fate(client.ask().map(|answer| answer.pod));
            for _ in 0..3 {
                if gone != Fate::Ended {
                    break;
                }
                let again = ns.run(|| {
                    // The old socket holds its port until it is closed.
                    Ok(UdpClient::open(target.dst, 0, PATIENCE).and_then(|mut flow| flow.ask()))
                });
                gone = fate(again.unwrap().map(|answer| answer.pod));
            }
            gone
        }
    }
}

fn fate(answer: Result<String, Failure>) -> Fate {
    match answer {
        Ok(pod) => Fate::Answered(pod),
        Err(failure) => match failure.cause {
            Cause::Refused => Fate::Refused,
            Cause::TimedOut => Fate::Silent,
            Cause::Broken => Fate::Ended,
            // What a destroyed socket says to whoever sends first.
            _ if failure.source.raw_os_error() == Some(libc::EDESTADDRREQ) => Fate::Ended,
            Cause::Unreachable | Cause::Other => Fate::Failed(failure.source.to_string()),
        },
    }
}
