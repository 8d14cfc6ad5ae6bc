//! Flows that one side has closed: the other one may still send.

use super::{AT_POD, AT_UPLINK, Trip, opened};
use crate::abi::{Counter, proto};
use crate::testkit::{Family, Pkt, Scene};
use crate::wire::tcp::flag::{ACK, FIN, RST, SYN};

/// Anyone can send a SYN in the client's name: the backend judges it, and the flow stays.
pub fn syn_on_a_half_closed_flow_stays_with_its_backend<A: Family>(scene: &mut Scene<'_, A>) {
    for (others, edge) in [(0, AT_POD), (2, AT_UPLINK)] {
        for from_client in [true, false] {
            let trip = opened(scene, edge, proto::TCP);
            let Trip { client, front, back, .. } = trip;
            let fin = FIN | ACK;
            if from_client {
                scene.passes(edge.0, &Pkt::tcp(client, front, fin), &Pkt::tcp(client, back, fin));
            } else {
                scene.passes(edge.1, &Pkt::tcp(back, client, fin), &Pkt::tcp(front, client, fin));
            }
            scene.passes(edge.0, &Pkt::syn(client, front), &Pkt::syn(client, back));
            trip.talk(scene);
            // Closed by both it is over.
            if from_client {
                scene.passes(edge.1, &Pkt::tcp(back, client, fin), &Pkt::tcp(front, client, fin));
            } else {
                scene.passes(edge.0, &Pkt::tcp(client, front, fin), &Pkt::tcp(client, back, fin));
            }
            scene.flows(2, others);
            scene.passes(edge.0, &Pkt::syn(client, front), &Pkt::syn(client, back));
            scene.flows(0, 2 + others);
        }
    }
    scene.counted(Counter::FlowEstablished, 4);
}

/// A backend that has forgotten the flow takes the client's next SYN: what was closed before says nothing of it.
pub fn half_closed_flow_that_begins_again_is_not_half_closed<A: Family>(scene: &mut Scene<'_, A>) {
    for (entries, edge) in [(2, AT_POD), (4, AT_UPLINK)] {
        let trip = opened(scene, edge, proto::TCP);
        let Trip { client, front, back, .. } = trip;
        let fin = FIN | ACK;
        scene.passes(edge.0, &Pkt::tcp(client, front, fin), &Pkt::tcp(client, back, fin));
        let syn = |to| Pkt::syn(client, to).sequence(0x3102_0304);
        scene.passes(edge.0, &syn(front), &syn(back));
        let taken = |from, to| Pkt::tcp(from, to, SYN | ACK).acknowledging(0x3102_0305);
        scene.passes(edge.1, &taken(back, client), &taken(front, client));
        // A FIN of the backend alone.
        scene.passes(edge.1, &Pkt::tcp(back, client, fin), &Pkt::tcp(front, client, fin));
        scene.passes(edge.0, &syn(front), &syn(back));
        scene.flows(entries, 0);
        let reset = Pkt::tcp(client, front, RST).sequence(0x3102_0305);
        scene.passes(edge.0, &reset, &reset.clone().to(back.0, back.1));
    }
}
