//! Events for who listens: each once, with what it is about.

use super::{AT_POD, AT_UPLINK, PROTOCOLS, full, opened};
use crate::abi::{Be16, Counter, EventValue, frontend_flag};
use crate::datapath::Reason;
use crate::testkit::{Family, Hook, Pkt, Scene};

/// What was told of a packet from there to here.
#[track_caller]
fn told<A: Family>(scene: &mut Scene<'_, A>, from: (A, u16), to: (A, u16), reason: Reason) -> EventValue<A> {
    let events = scene.node.told();
    let [event] = events[..] else { panic!("{} instead of one event: {events:?}", events.len()) };
    let ends = ((event.key.src, event.key.sport), (event.key.dst, event.key.dport));
    let wanted = ((from.0, Be16::new(from.1)), (to.0, Be16::new(to.1)));
    assert_eq!((ends, Reason::of_number(event.reason).name()), (wanted, reason.name()));
    event
}

/// From a Pod and from outside; packets of the flow that come later are no news.
pub fn who_listens_is_told_of_new_flows_refusals_and_drops<A: Family>(scene: &mut Scene<'_, A>) {
    scene.node.listen();
    for (proto, edge) in PROTOCOLS.into_iter().flat_map(|proto| [(proto, AT_POD), (proto, AT_UPLINK)]) {
        let trip = opened(scene, edge, proto);
        trip.talk(scene);
        let event = told(scene, trip.client, trip.front, Reason::NEW_FLOW);
        assert_eq!((event.dst, event.dport), (trip.back.0, Be16::new(trip.back.1)));
        assert!(event.service != 0 && event.backend != 0 && event.length > 0 && event.key.proto == proto);
        let known = event.service;
        // Without an endpoint its Service refuses.
        scene.serve(&full(proto, &[]));
        let other = (trip.client.0, 40_999);
        scene.send(edge.0, &Pkt::first(proto, other, trip.front));
        let event = told(scene, other, trip.front, Reason::counted(Counter::RejectNoEndpoints));
        assert_eq!((event.service, event.backend, event.dst), (known, 0, A::ZERO));
        scene.serve(&full(proto, &[]).flags(frontend_flag::INTERNAL_EMPTY_DROPS | frontend_flag::EXTERNAL_EMPTY_DROPS));
        scene.send(edge.0, &Pkt::first(proto, other, trip.front));
        assert_eq!(told(scene, other, trip.front, Reason::counted(Counter::DropNoLocalEndpoints)).service, known);
    }
    // What belongs to no Service has none of the packet before.
    let nobody = Pkt::syn((A::CLIENT, 40_000), (A::UNALLOCATED, 80));
    scene.drops(Hook::UplinkIngress, &nobody);
    let event = told(scene, (A::CLIENT, 40_000), (A::UNALLOCATED, 80), Reason::counted(Counter::DropUnallocatedVip));
    assert_eq!(event.service, 0);
}

/// Neither are packets of a known flow.
pub fn nobody_is_told_while_nobody_listens<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        opened(scene, AT_UPLINK, proto);
        scene.serve(&full(proto, &[]));
        scene.send(Hook::UplinkIngress, &Pkt::first(proto, (A::CLIENT, 40_999), (A::LB, 443)));
    }
    assert_eq!(scene.node.told(), []);
}
