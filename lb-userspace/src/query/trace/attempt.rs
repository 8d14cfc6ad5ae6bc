//! One packet's way: through the data path, to the backend, and back.

use std::net::SocketAddr;

use lb_common::abi::{Counter, FlowKey, FrontendValue, counter_name, device_flag, proto};
use lb_common::datapath::{
    Arrival, Hook, Outcome, Reason, SocketCall, SocketVerdict, Verdict, pipeline, socket_connect,
};
use lb_common::wire::IpVersion;
use lb_common::wire::tcp::flag;

use super::finding::{Cause, Findings, Severity, Way};
use super::leg::{Leg, forwarded, handed_over, redirected};
use super::overlay::{Overlay, Step, Traced, end, tuple};
use super::packet::Packet;
use super::probe::tracked;
use super::question::{Entry, Question, ingress_hook};
use super::surroundings::Surroundings;

/// What became of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt {
    pub(super) steps: Vec<Step>,
    pub(super) frontend: Option<FrontendValue>,
    /// A backend was picked from a set.
    pub(super) picked: bool,
    pub(super) backend: Option<SocketAddr>,
    pub(super) decision: String,
    pub(super) rewrite: String,
    pub(super) findings: Findings,
}

/// A packet that went through the data path.
struct Passed<A> {
    outcome: Outcome,
    before: FlowKey<A>,
    packet: Packet,
}

impl<A: Traced> Passed<A> {
    fn after(&self) -> FlowKey<A> {
        self.packet.key().unwrap_or(self.before)
    }

    fn is_translated(&self) -> bool {
        self.outcome.reason().is_translated()
    }
}

fn pass<A: Traced>(env: &Overlay<'_, A>, key: FlowKey<A>, flags: u8, size: u16, arrival: Arrival) -> Passed<A> {
    let mut packet = Packet::new(&key, flags, size);
    env.at.set(arrival.ifindex);
    let outcome = pipeline::process::<A, _, _>(&mut packet, env, arrival);
    Passed { outcome, before: key, packet }
}

/// Sends a packet.
pub(super) fn attempt<A: Traced>(env: &Overlay<'_, A>, node: &dyn Surroundings, question: &Question) -> Attempt {
    let mut done = Attempt::default();
    let ends = A::from_ip(question.client.ip()).zip(A::from_ip(question.target.ip()));
    let Some((src, dst)) = ends else { return done };
    let key = FlowKey {
        src,
        dst,
        sport: lb_common::abi::Be16::new(question.client.port()),
        dport: lb_common::abi::Be16::new(question.target.port()),
        proto: question.protocol,
        pad: [0; 3],
    };
    match question.entry {
        Entry::Bare(device) => {
            let name = node.link(device).map_or_else(|_gone| format!("device {device}"), |link| link.name);
            let text = format!("packets of {} come by {name}, where no program of Sluice's is", question.client.ip());
            let advice = "sluice status, Devices: give the device a role by --pod-device or --uplink";
            done.findings.add(Severity::Fails, Way::Request, Cause::NoProgram, text, advice);
        }
        Entry::Device(arrival) => by_packet(env, node, question, key, arrival, &mut done),
        Entry::Socket(device) => by_socket(env, node, question, key, device, &mut done),
    }
    done.steps.clone_from(&env.steps.borrow());
    done.frontend = env.frontend.get();
    done.picked = env.picked.get();
    done
}

/// A process connects.
fn by_socket<A: Traced>(
    env: &Overlay<'_, A>,
    node: &dyn Surroundings,
    question: &Question,
    key: FlowKey<A>,
    device: Option<Arrival>,
    done: &mut Attempt,
) {
    let call = SocketCall {
        cookie: [u32::MAX; 2],
        netns: [u32::MAX; 2],
        host: device.is_none(),
        addr: key.dst,
        port: key.dport,
        proto: key.proto,
    };
    match socket_connect(env, &call) {
        SocketVerdict::To(addr, port) => {
            let backend = end(addr, port);
            let key = FlowKey { dst: addr, dport: port, ..key };
            done.decision = "translated when it connects".into();
            done.rewrite = format!("{} -> {backend}", question.target);
            done.backend = Some(backend);
            let src = device.is_none().then(|| node.route(addr.ip(), None, None).ok()).flatten();
            let src = src.and_then(|route| route.source).and_then(A::from_ip).unwrap_or(key.src);
            let key = FlowKey { src, ..key };
            let packet = Packet::new(&key, flag::SYN, question.size);
            let from = device.map(|arrival| stack_device(env, node, arrival.ifindex));
            let leg = leg(Way::Request, &packet, &key, from, tracked::NEW, question.size);
            let out = forwarded(node, &leg, &mut done.findings);
            let reply = key.flipped();
            let packet = Packet::new(&reply, flag::SYN | flag::ACK, 0);
            let leg = self::leg(Way::Reply, &packet, &reply, out, tracked::ESTABLISHED, 0);
            if done.findings.found.iter().all(|finding| finding.severity != Severity::Fails) {
                forwarded(node, &leg, &mut done.findings);
            }
        }
        SocketVerdict::Refused => {
            done.decision = "the call fails: connection refused".into();
            let counter =
                if env.frontend.get().is_some() { Counter::RejectNoEndpoints } else { Counter::RejectUnknownPort };
            let text = format!("{} ({})", counter.meaning(), Counter::SocketRefused.name());
            done.findings.add(Severity::Fails, Way::Request, Cause::Refused, text, explain(question));
        }
        SocketVerdict::Pass => match device {
            Some(arrival) => by_packet(env, node, question, key, arrival, done),
            None => match node.route(question.target.ip(), None, None) {
                Ok(route) if !route.local => {
                    let arrival = Arrival { ifindex: route.device, hook: Hook::UplinkEgress, from: 0 };
                    by_packet(env, node, question, key, arrival, done);
                }
                _ => not_served(question, done),
            },
        },
    }
}

fn explain(question: &Question) -> String {
    format!("sluice explain {} names the rule and each endpoint", question.target)
}

fn not_served(question: &Question, done: &mut Attempt) {
    done.decision = "passes, untranslated".into();
    let text = format!("no frontend has {}: the packet goes on untranslated", question.target);
    done.findings.add(Severity::Fails, Way::Request, Cause::NotServed, text, explain(question));
}

/// The device by which the stack takes a packet of this one to have come: a bridge's, for its ports.
fn stack_device<A: Traced>(env: &Overlay<'_, A>, node: &dyn Surroundings, device: u32) -> u32 {
    let master = node.link(device).map_or(0, |link| link.master);
    let is_bridge = master != 0 && flags(env, master) & device_flag::BRIDGE != 0;
    if is_bridge { master } else { device }
}

fn flags<A: Traced>(env: &Overlay<'_, A>, device: u32) -> u32 {
    lb_common::datapath::Host::<A>::device_flags(env, device)
}

fn leg<'a, A: Traced>(
    way: Way,
    packet: &'a Packet,
    key: &FlowKey<A>,
    from: Option<u32>,
    state: u32,
    size: u16,
) -> Leg<'a> {
    Leg {
        way,
        packet: packet.network(),
        l4: <A as IpVersion>::HEADER,
        protocol: key.proto,
        src: key.src.ip(),
        dst: key.dst.ip(),
        from,
        state,
        size: u32::from(size),
    }
}

/// A packet at a device.
fn by_packet<A: Traced>(
    env: &Overlay<'_, A>,
    node: &dyn Surroundings,
    question: &Question,
    key: FlowKey<A>,
    arrival: Arrival,
    done: &mut Attempt,
) {
    let passed = pass(env, key, flag::SYN, question.size, arrival);
    if !passed.is_translated() {
        return untranslated(env, question, passed.outcome, done);
    }
    let after = passed.after();
    done.decision = format!("{:?}, {}", passed.outcome.verdict(), passed.outcome.reason().name());
    done.rewrite = format!("{} becomes {}", tuple(&passed.before), tuple(&after));
    done.backend = Some(end(after.dst, after.dport));
    let from = Some(stack_device(env, node, arrival.ifindex));
    let leg = leg(Way::Request, &passed.packet, &after, from, tracked::NEW, question.size);
    let redirects = passed.outcome.ifindex();
    let out = match passed.outcome.verdict() {
        Verdict::Redirect => {
            redirected(node, &leg, redirects, &mut done.findings);
            Some(redirects)
        }
        Verdict::RedirectPeer | Verdict::Bounce => {
            handed_over(node, &leg, redirects, &mut done.findings);
            Some(redirects)
        }
        _ => forwarded(node, &leg, &mut done.findings),
    };
    if done.findings.found.iter().any(|finding| finding.severity == Severity::Fails) {
        return;
    }
    let unseen = passed.outcome.verdict() != Verdict::Pass;
    answer(env, node, &after, arrival, out, unseen, &mut done.findings);
}

fn untranslated<A: Traced>(env: &Overlay<'_, A>, question: &Question, outcome: Outcome, done: &mut Attempt) {
    let reason = outcome.reason();
    let counter = reason.counter_index().and_then(counter_name);
    let meaning = reason.counter_index().and_then(|index| Counter::ALL.iter().find(|counter| counter.index() == index));
    let meaning = meaning.map_or_else(|| reason.name(), |counter| counter.meaning());
    let text = counter.map_or_else(|| meaning.to_owned(), |counter| format!("{counter}: {meaning}"));
    match outcome.verdict() {
        Verdict::Pass | Verdict::Later if reason == Reason::NOT_SERVED => not_served(question, done),
        Verdict::Pass | Verdict::Later => {
            done.decision = format!("passes, {}", reason.name());
            done.findings.add(Severity::Fails, Way::Request, Cause::NotServed, text, explain(question));
        }
        Verdict::Bounce | Verdict::Drop if counter.is_some_and(|name| name.starts_with("reject")) => {
            done.decision = format!("refused at once, {}", reason.name());
            done.findings.add(Severity::Fails, Way::Request, Cause::Refused, text, explain(question));
        }
        _ => {
            done.decision = format!("dropped, {}", reason.name());
            let steps = env.steps.borrow();
            let route = steps.iter().rev().find(|step| step.asked.starts_with("route to "));
            let (cause, text, advice) = match (reason.counter_index(), route) {
                (Some(index), _) if index == Counter::DropNoRoute.index() && env.not_forwarding.borrow().is_some() => {
                    let setting = env.not_forwarding.borrow().clone().unwrap_or_default();
                    let text = format!("forwarding is off: {setting} is 0, so the kernel tells of no way out ({text})");
                    (Cause::ForwardingOff, text, format!("sysctl -w {setting}=1"))
                }
                (Some(index), Some(Step { asked, found })) if index == Counter::DropNoRoute.index() => {
                    let get = asked.replace("route to", "ip route get");
                    (
                        Cause::NoRoute,
                        format!("no {asked}: {found} ({text})"),
                        format!("{get}; ip rule; ip route show table all"),
                    )
                }
                (Some(index), Some(Step { found, .. })) if index == Counter::DropTooBig.index() => {
                    let advice = "ip link: the MTU of the device that it leaves by".to_owned();
                    (Cause::Mtu, format!("MTU: {} bytes are too large {found} ({text})", question.size), advice)
                }
                _ => (Cause::Dropped, text, explain(question)),
            };
            done.findings.add(Severity::Fails, Way::Request, cause, text, advice);
        }
    }
}

/// The backend's first answer to a request that arrived as `request`, which left by `out`. `unseen`: past connection tracking.
fn answer<A: Traced>(
    env: &Overlay<'_, A>,
    node: &dyn Surroundings,
    request: &FlowKey<A>,
    arrival: Arrival,
    out: Option<u32>,
    unseen: bool,
    to: &mut Findings,
) {
    let key = request.flipped();
    let syn_ack = flag::SYN | flag::ACK;
    let invalid = unseen && request.proto == proto::TCP;
    let state = if invalid { tracked::INVALID } else { tracked::ESTABLISHED };
    if let Some(device) = out
        && let Some(hook) = ingress_hook(flags(env, device))
    {
        let at = Arrival { ifindex: device, hook, from: device };
        let passed = pass(env, key, syn_ack, 0, at);
        if passed.is_translated() {
            let after = passed.after();
            to.line(Way::Reply, format!("{} becomes {}", tuple(&key), tuple(&after)));
            let leg = leg(Way::Reply, &passed.packet, &after, Some(device), state, 0);
            match passed.outcome.verdict() {
                Verdict::Redirect => redirected(node, &leg, passed.outcome.ifindex(), to),
                Verdict::RedirectPeer | Verdict::Bounce => handed_over(node, &leg, passed.outcome.ifindex(), to),
                _ => _ = forwarded(node, &leg, to),
            }
            return;
        }
        if passed.outcome.verdict() == Verdict::Drop {
            let text = format!("{} is dropped: {}", tuple(&key), passed.outcome.reason().name());
            return to.add(Severity::Fails, Way::Reply, Cause::Dropped, text, "sluice status: its counters");
        }
    }
    let packet = Packet::new(&key, syn_ack, 0);
    let leg = leg(Way::Reply, &packet, &key, out, state, 0);
    let before = to.found.len();
    let leaves = forwarded(node, &leg, to);
    let fails = to.found.iter().skip(before).any(|finding| finding.severity == Severity::Fails);
    let Some(leaves) = leaves.filter(|_| !fails) else { return };
    // A bridge's programs are at its ports.
    let port = if flags(env, leaves) & device_flag::BRIDGE == 0 { leaves } else { arrival.ifindex };
    let hook = match ingress_hook(flags(env, port)) {
        Some(Hook::UplinkIngress) => Hook::UplinkEgress,
        Some(_) => Hook::PodEgress,
        None => return untranslated_reply(node, &key, leaves, to),
    };
    let passed = pass(env, key, syn_ack, 0, Arrival { ifindex: port, hook, from: out.unwrap_or(0) });
    if passed.is_translated() {
        to.line(Way::Reply, format!("{} becomes {}", tuple(&key), tuple(&passed.after())));
    } else {
        untranslated_reply(node, &key, leaves, to);
    }
}

fn untranslated_reply<A: Traced>(node: &dyn Surroundings, key: &FlowKey<A>, device: u32, to: &mut Findings) {
    let name = node.link(device).map_or_else(|_gone| format!("device {device}"), |link| link.name);
    let text = format!("the reply {} leaves by {name} untranslated: the client does not know it", tuple(key));
    let advice = format!("sluice status, Devices: {name} needs a role; ip route get {}", key.dst.ip());
    to.add(Severity::Fails, Way::Reply, Cause::ReplyUntranslated, text, advice);
}
