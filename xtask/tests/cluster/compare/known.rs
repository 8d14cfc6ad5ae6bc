//! Where Sluice means to differ from kube-proxy, and why.

use std::collections::BTreeSet;
use std::fmt;

use super::ask::{Brought, Event, Events, Source};
use super::setups::Setup;
use super::sides::Who;
use super::targets::{Kind, Target};

/// A question, in words.
pub(crate) struct Judged<'a> {
    pub(crate) who: Who,
    pub(crate) service: &'a str,
    pub(crate) target: &'a Target,
}

impl fmt::Display for Judged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { kind, dst, transport, affine, .. } = self.target;
        let affine = if *affine { " affine" } else { "" };
        write!(f, "  {} {kind:?} {dst}/{}{affine} {:?}", self.service, transport.name(), self.who)
    }
}

/// Whether what Sluice did is what kube-proxy did, but for the differences that are meant.
pub(crate) fn agree(setup: &Setup, who: Who, target: &Target, brought: &Brought) -> bool {
    let (mut theirs, mut ours) = (brought.theirs.clone(), brought.ours.clone());
    if target.kind == Kind::NodePortLoopback {
        // kube-proxy's nftables mode does not serve NodePorts on loopback. Sluice does.
        return !theirs.iter().any(is_answer);
    }
    if theirs.iter().any(is_eperm) {
        // netfilter's answer to a datagram of the node's own that it refuses or drops. Sluice tells the two apart.
        return ours.iter().all(|event| matches!(event, Event::Refused | Event::Silence));
    }
    if ours.len() == 1 && ours.contains(&Event::Refused) && theirs.contains(&Event::Refused) {
        // kube-proxy refuses by ICMP, of which the kernel sends only so many.
        theirs.remove(&Event::Silence);
    }
    if target.is_outside_for_us(who) && theirs != ours {
        // Endpoints of this node, or nobody if there are none that serve.
        let here = |event: &Event| matches!(event, Event::Answer(pod, _) if is_here(pod));
        let nobody = ours.iter().all(|event| *event == Event::Silence) && !theirs.iter().any(here);
        return nobody || ours.iter().all(here);
    }
    if theirs.contains(&Event::Silence) {
        if who.pod().is_some() && target.affine && ours.iter().all(is_answer) {
            // kube-proxy keeps to an endpoint whose answers are lost, such as the client itself; see `lost_by_them`.
            return ours.len() == 1;
        }
        if ours.iter().any(|event| lost_by_them(who, event)) {
            theirs.remove(&Event::Silence);
            // Silence takes its time, so that they were not asked often enough to have met everybody; and whose address
            // is lent to a Pod that its endpoint says is elsewhere is no matter.
            return pods(&theirs).is_subset(&pods(&ours));
        }
    }
    if setup.masquerade_all {
        // A socket's translation lends no address, and none is lent to who talks to the node itself.
        return pods(&theirs) == pods(&ours)
            || (who != Who::Strangers && target.affine && theirs.len() == 1 && ours.len() == 1);
    }
    let theirs: Events = theirs.into_iter().map(|event| meant(who, target, event)).collect();
    if who.by_socket() && target.kind == Kind::LoadBalancer {
        let itself = |event: &Event| matches!(event, Event::Answer(pod, _) if who.pod() == Some(pod.as_str()));
        let lent = |event: Event| match event {
            Event::Answer(pod, _) if itself(&Event::Answer(pod.clone(), Source::Own)) => {
                Event::Answer(pod, Source::Node)
            }
            event => event,
        };
        ours = ours.into_iter().map(lent).collect();
    }
    if who.off_node() && target.kind != Kind::ClusterIp {
        // Where an endpoint does not say that it is on this node, the node's address is lent although it is.
        ours = ours.into_iter().map(|event| meant(who, target, event)).collect();
    }
    if who != Who::Strangers && target.affine && theirs.iter().all(is_answer) && ours.iter().all(is_answer) {
        // Each side has its own choice, and keeps to it.
        return theirs.len() <= 1 && ours.len() <= 1;
    }
    theirs == ours
}

fn pods(events: &Events) -> BTreeSet<&str> {
    events
        .iter()
        .map(|event| match event {
            Event::Answer(pod, _) | Event::Failed(pod) => pod.as_str(),
            Event::Refused => "refused",
            Event::Silence => "silence",
        })
        .collect()
}

const fn is_answer(event: &Event) -> bool {
    matches!(event, Event::Answer(..))
}

fn is_eperm(event: &Event) -> bool {
    matches!(event, Event::Failed(words) if words.contains("Operation not permitted"))
}

/// Whether a Pod is on the node under test.
fn is_here(pod: &str) -> bool {
    pod != "remote1" && pod != "node2"
}

/// Whether silence is what kube-proxy makes of a flow that Sluice keeps with this Pod.
pub(crate) fn flow_lost_by_them(who: Who, pod: &str) -> bool {
    lost_by_them(who, &Event::Answer(pod.to_owned(), Source::Node))
}

/// An answer of Sluice's that kube-proxy loses:
///
/// - A Pod of another node is led to a Pod of another node. Under a `Local` policy kube-proxy keeps the client's
///   address, so the answer does not come by this node and is not understood. Sluice lends its own address.
/// - A Pod is led to itself, and its endpoint does not say that it is on this node: kube-proxy then lends no address.
fn lost_by_them(who: Who, event: &Event) -> bool {
    let Event::Answer(pod, source) = event else { return false };
    let itself = who.pod() == Some(pod.as_str());
    if who == Who::RemotePod { !is_here(pod) && *source == Source::Node } else { itself }
}

/// What Sluice does where kube-proxy did this.
fn meant(who: Who, target: &Target, event: Event) -> Event {
    let Event::Answer(pod, Source::Node) = &event else { return event };
    let itself = who.pod() == Some(pod.as_str());
    let own = match who {
        Who::Host => false,
        // Where source ranges are to be looked at, a Pod's sockets are left to its device.
        _ if itself && target.kind == Kind::LoadBalancer => false,
        // A process that is led to itself talks to itself: its socket is, and no packet needs another source.
        _ if itself && who.by_socket() => true,
        _ if itself => false,
        // A Pod that kube-proxy takes for an outside client of a ClusterIP: nor does its socket need another address.
        _ if target.kind == Kind::ClusterIp && who.by_socket() => true,
        // The client's address survives where the answer comes by this node anyway. kube-proxy lends the node's to
        // all that comes by a NodePort, a load balancer or an external IP under `externalTrafficPolicy: Cluster`.
        _ if target.kind == Kind::ClusterIp => false,
        _ => is_here(pod) || !who.off_node(),
    };
    if own { Event::Answer(pod.clone(), Source::Own) } else { event }
}
