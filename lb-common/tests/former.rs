//! While a successor carries flows over from a former agent's tables (docs/upgrade.md), a packet of a flow that only those have
//! is left to the former agent's program, and what begins is the successor's.
#![cfg(feature = "testkit")]

use lb_common::abi::{Counter, V4, V6, proto};
use lb_common::testkit::{Action, Family, Hook, HostNode, Node as _, Pkt, Scene, vectors};

/// A node with an open connection, whose entries are in a former agent's tables alone.
fn carried<A: Family>(node: &mut HostNode<A>, protocol: u8) -> [Pkt<A>; 2] {
    let (client, front, back) = ((A::POD, 40_000), (A::LB, 443), (A::LOCAL, 8080));
    let mut scene = Scene::new("former", node);
    scene.serve(&vectors::balanced(protocol));
    let first = Pkt::first(protocol, client, front);
    scene.passes(Hook::PodIngress, &first, &first.clone().to(back.0, back.1));
    let reply = Pkt::reply(protocol, back, client);
    scene.passes(Hook::PodEgress, &reply, &reply.clone().from(front.0, front.1));
    let memory = &node.memory;
    let entries = memory.flows.take().into_iter().chain(memory.half_open.take());
    memory.former.borrow_mut().extend(entries.map(|(key, _)| key));
    assert_eq!(memory.former.borrow().len(), 2);
    [Pkt::data(protocol, client, front), reply]
}

/// Sends a packet, which becomes this one.
#[track_caller]
fn becomes<A: Family>(node: &mut HostNode<A>, hook: Hook, sent: &Pkt<A>, expected: &Pkt<A>) {
    let outcome = node.send(hook, hook.device(), &sent.bytes());
    assert_eq!((outcome.action, outcome.bytes), (Action::Pass, expected.bytes()));
}

fn is_left_to_the_former_program<A: Family>(protocol: u8) {
    let mut node = HostNode::<A>::default();
    let [request, reply] = carried(&mut node, protocol);
    becomes(&mut node, Hook::PodIngress, &request, &request);
    becomes(&mut node, Hook::PodEgress, &reply, &reply);
    assert_eq!((node.flows(), node.counter(Counter::NewFlow)), ((0, 0), 1));
    // Another connection begins here.
    let (client, front, back) = ((A::POD, 40_001), (A::LB, 443), (A::LOCAL, 8080));
    let first = Pkt::first(protocol, client, front);
    becomes(&mut node, Hook::PodIngress, &first, &first.clone().to(back.0, back.1));
    let reply = Pkt::reply(protocol, back, client);
    becomes(&mut node, Hook::PodEgress, &reply, &reply.clone().from(front.0, front.1));
    assert_eq!(node.counter(Counter::NewFlow), 2);
}

#[test]
fn packets_of_flows_that_only_the_former_tables_have_are_left_to_the_former_program() {
    for protocol in [proto::TCP, proto::UDP] {
        is_left_to_the_former_program::<V4>(protocol);
        is_left_to_the_former_program::<V6>(protocol);
    }
}

#[test]
fn a_port_that_a_former_flow_has_is_not_lent_again() {
    let mut node = HostNode::<V4>::default();
    let [_, _] = carried(&mut node, proto::TCP);
    // Without its forward entry the client's SYN begins a flow here, which would take the key of the former one's replies.
    node.memory.former.borrow_mut().retain(|key| key.dst != V4::LB);
    let replies: Vec<_> = node.memory.former.borrow().iter().copied().collect();
    assert_eq!(replies.len(), 1);
    let syn = Pkt::syn((V4::POD, 40_000), (V4::LB, 443));
    let _sent = node.send(Hook::PodIngress, Hook::PodIngress.device(), &syn.bytes());
    assert_eq!(node.counter(Counter::NewFlow), 2);
    assert!(!node.memory.half_open.borrow().contains_key(&replies[0]));
}
