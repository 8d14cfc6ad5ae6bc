//! Where Sluice means to differ from kube-proxy, and why.

use super::ask::{Brought, Event, Events, Source};
use super::sides::Who;
use super::targets::{Kind, Target};

/// Whether what Sluice did is what kube-proxy did, but for the differences that are meant.
pub(crate) fn agree(who: Who, target: &Target, brought: &Brought) -> bool {
    let Brought { theirs, ours } = brought;
    if target.kind == Kind::NodePortLoopback {
        // kube-proxy's nftables mode does not serve NodePorts on loopback. Sluice does.
        return theirs.iter().all(|event| *event == Event::Refused);
    }
    if theirs.iter().all(is_eperm) {
        // netfilter's answer to a datagram of the node's own that it refuses or drops. Sluice tells the two apart.
        return !theirs.is_empty() && ours.iter().all(|event| matches!(event, Event::Refused | Event::Silence));
    }
    let wanted: Events = theirs.iter().map(|event| meant(who, target, event)).collect();
    if target.affine && wanted.iter().all(is_answer) && ours.iter().all(is_answer) {
        // Each side has its own choice, and keeps to it.
        return wanted.len() == 1 && ours.len() == 1;
    }
    wanted == *ours
}

const fn is_answer(event: &Event) -> bool {
    matches!(event, Event::Answer(..))
}

fn is_eperm(event: &Event) -> bool {
    matches!(event, Event::Failed(words) if words.contains("Operation not permitted"))
}

/// What Sluice does where kube-proxy did this.
fn meant(who: Who, target: &Target, event: &Event) -> Event {
    let Event::Answer(pod, Source::Node) = event else { return event.clone() };
    // The client's address survives where the reply comes by this node anyway: kube-proxy lends the node's to every
    // connection from outside under `externalTrafficPolicy: Cluster`, Sluice only where the Pod is elsewhere.
    let here = pod != "remote1" && pod != "node2";
    if who.off_node() && here && target.kind != Kind::ClusterIp {
        return Event::Answer(pod.clone(), Source::Own);
    }
    event.clone()
}
