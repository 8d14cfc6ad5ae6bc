//! Asks both sides the same, often enough to know what chance can bring.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use xtask::lab::plan::{BRIDGE_ADDR, NODE1_ADDR};
use xtask::lab::probe::{Cause, Transport};
use xtask::lab::{Dual, Family, Netns};

use super::sides::{Who, stranger};
use super::targets::Target;

/// A lab answers in a fraction of this.
const SILENCE: Duration = Duration::from_millis(400);

/// A refusal of IPv6 by ICMP is noticed at the first retransmit only, after a second.
const PATIENCE: Duration = Duration::from_millis(1400);

/// Whose address an endpoint saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Own,
    Node,
    Other(IpAddr),
}

/// What one question brought.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Answer(String, Source),
    Refused,
    Silence,
    Failed(String),
}

pub(crate) type Events = BTreeSet<Event>;

/// What many questions brought, at kube-proxy's and at Sluice's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brought {
    pub(crate) theirs: Events,
    pub(crate) ours: Events,
}

/// A client on both sides.
pub(crate) struct Asker {
    pub(crate) who: Who,
    pub(crate) namespaces: [Netns; 2],
    pub(crate) addr: Dual,
}

impl Asker {
    /// Asks until the sides agree or that is no longer chance. `agree` judges.
    pub(crate) fn ask(&self, target: &Target, agree: impl Fn(&Brought) -> bool) -> Brought {
        let mut brought = Brought::default();
        for tries in [4, 8, 24, 100] {
            self.more(target, tries, &mut brought);
            let several = brought.theirs.iter().chain(&brought.ours).any(|event| matches!(event, Event::Answer(..)));
            if !several || (tries > 4 && agree(&brought)) {
                break;
            }
        }
        brought
    }

    /// What new connections bring at kube-proxy's.
    pub(crate) fn theirs(&self, target: &Target, tries: u16) -> Events {
        let [theirs, _] = &self.namespaces;
        self.many(theirs, target, tries, SILENCE)
    }

    fn more(&self, target: &Target, tries: u16, brought: &mut Brought) {
        let [theirs, ours] = &self.namespaces;
        let slow = target.dst.is_ipv6() && target.transport == Transport::Tcp;
        let patience = if slow { PATIENCE } else { SILENCE };
        let (theirs, ours) = thread::scope(|scope| {
            let theirs = scope.spawn(|| self.many(theirs, target, tries, patience));
            let ours = self.many(ours, target, tries, SILENCE);
            (theirs.join().unwrap(), ours)
        });
        brought.theirs.extend(theirs);
        brought.ours.extend(ours);
    }

    fn many(&self, ns: &Netns, target: &Target, tries: u16, timeout: Duration) -> Events {
        ns.run(|| {
            let mut events = Events::new();
            let (mut silent, mut failed) = (0, 0);
            for number in 0..tries {
                let from = self.source(target, number);
                let event = match target.transport.ask_from(from, target.dst, timeout) {
                    Ok(answer) => Event::Answer(answer.pod, self.classify(answer.client.ip(), from.ip())),
                    Err(failure) => match failure.cause {
                        Cause::Refused => Event::Refused,
                        Cause::TimedOut => Event::Silence,
                        Cause::Unreachable | Cause::Broken | Cause::Other => Event::Failed(failure.source.to_string()),
                    },
                };
                // What takes its time is not tried more often than needed to see whether there is anything else.
                silent += usize::from(event == Event::Silence);
                failed += usize::from(!matches!(event, Event::Answer(..)));
                events.insert(event);
                if silent == 2 || (failed == 2 && events.len() == 1) {
                    break;
                }
            }
            Ok(events)
        })
        .unwrap()
    }

    /// Where a client asks from.
    fn source(&self, target: &Target, number: u16) -> SocketAddr {
        let family = if target.dst.is_ipv6() { Family::V6 } else { Family::V4 };
        let address = match (self.who, family) {
            (Who::Strangers, _) => stranger(number, family),
            (_, Family::V4) => Ipv4Addr::UNSPECIFIED.into(),
            (_, Family::V6) => Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(address, 0)
    }

    fn classify(&self, seen: IpAddr, from: IpAddr) -> Source {
        if NODE1_ADDR.contains(seen) || BRIDGE_ADDR.contains(seen) {
            Source::Node
        } else if self.addr.contains(seen) || seen == from {
            Source::Own
        } else {
            Source::Other(seen)
        }
    }
}
