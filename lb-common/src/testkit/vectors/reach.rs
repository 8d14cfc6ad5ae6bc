//! Each frontend type from each side, to Pods on this node and on others, and back.

use super::{AT_POD, AT_UPLINK, PROTOCOLS, Trip, frontends, full};
use crate::abi::{Counter, backend_flag, frontend_flag, frontend_kind, proto};
use crate::testkit::{Action, Endpoint, Family, Hook, POD, Pkt, Scene, Service, UPLINK, UPLINK2};

fn from_a_pod<A: Family>(scene: &mut Scene<'_, A>, endpoint: Endpoint<A>) {
    let mut port = 40_000;
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[endpoint]));
        for (addr, front, _) in frontends::<A>() {
            let back = (endpoint.addr, endpoint.port);
            let trip = Trip { edge: AT_POD, proto, client: (A::POD, port), front: (addr, front), back };
            trip.open(scene);
            trip.talk(scene);
            port += 1;
        }
    }
    scene.counted(Counter::NewFlow, 8);
    scene.counted(Counter::FlowEstablished, 8);
    scene.flows(16, 0);
}

/// The Pod's own address reaches the endpoint, the reply comes from the frontend.
pub fn pod_reaches_every_frontend_on_a_local_pod<A: Family>(scene: &mut Scene<'_, A>) {
    from_a_pod(scene, Endpoint::local(1, A::LOCAL));
}

/// A Pod's flow to a remote Pod needs no source NAT either: its reply passes the Pod's own interface.
pub fn pod_reaches_every_frontend_on_a_remote_pod<A: Family>(scene: &mut Scene<'_, A>) {
    from_a_pod(scene, Endpoint::remote(1, A::REMOTE));
}

/// Also under `externalTrafficPolicy: Cluster`.
pub fn external_client_reaches_a_local_pod_with_its_own_address<A: Family>(scene: &mut Scene<'_, A>) {
    let mut port = 40_000;
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::local(1, A::LOCAL)]));
        for (addr, front, kind) in frontends::<A>() {
            if kind == frontend_kind::CLUSTER_IP {
                continue;
            }
            let client = (A::CLIENT, port);
            let trip = Trip { edge: AT_UPLINK, proto, client, front: (addr, front), back: (A::LOCAL, 8080) };
            trip.open(scene);
            trip.talk(scene);
            port += 1;
        }
    }
    scene.counted(Counter::NewFlow, 6);
    scene.flows(12, 0);
}

/// Whatever uplink the routing table prefers.
pub fn reply_leaves_by_the_uplink_of_its_request<A: Family>(scene: &mut Scene<'_, A>) {
    for proto in PROTOCOLS {
        let service = Service::new(proto, A::NODE2, 30080, frontend_kind::NODE_PORT);
        scene.serve(&service.endpoints(&[Endpoint::local(1, A::LOCAL)]));
        let (client, front, back) = ((A::CLIENT2, 40_000), (A::NODE2, 30080), (A::LOCAL, 8080));
        let first = Pkt::first(proto, client, front).bytes();
        let translated = Pkt::first(proto, client, back).bytes();
        scene.bytes(Hook::UplinkIngress, UPLINK2, &first, Action::Pass, &translated);
        let reply = Pkt::reply(proto, back, client).bytes();
        let restored = Pkt::reply(proto, front, client).bytes();
        scene.bytes(Hook::UplinkEgress, UPLINK, &reply, Action::Route, &restored);
        scene.bytes(Hook::UplinkEgress, UPLINK2, &reply, Action::Pass, &restored);
    }
}

/// A request may come by an uplink that has no route back, or that is gone meanwhile.
pub fn reply_leaves_by_the_routing_table_where_its_uplink_does_not_lead_to_the_client<A: Family>(
    scene: &mut Scene<'_, A>,
) {
    for proto in PROTOCOLS {
        let (client, front) = ((A::CLIENT, 40_000), (A::NODE2, 30080));
        let service = Service::new(proto, front.0, front.1, frontend_kind::NODE_PORT);
        scene.serve(&service.endpoints(&[Endpoint::local(1, A::LOCAL)]));
        let back = (A::LOCAL, 8080);
        let first = Pkt::first(proto, client, front).bytes();
        let translated = Pkt::first(proto, client, back).bytes();
        scene.bytes(Hook::UplinkIngress, UPLINK2, &first, Action::Pass, &translated);
        let reply = Pkt::reply(proto, back, client).bytes();
        scene.bytes(Hook::UplinkEgress, UPLINK, &reply, Action::Pass, &Pkt::reply(proto, front, client).bytes());
    }
    scene.counted(Counter::ReplyRerouted, 2);
}

/// A packet from the node's own address to itself would be a martian: the source stays, also for external clients.
pub fn host_network_endpoint_sees_the_clients_address<A: Family>(scene: &mut Scene<'_, A>) {
    let mut endpoint = Endpoint::local(1, A::NODE);
    endpoint.flags |= backend_flag::HOST_NETWORK;
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[endpoint]));
        let (front, back) = ((A::VIP, 80), (A::NODE, 8080));
        Trip { edge: AT_POD, proto, client: (A::POD, 40_000), front, back }.open(scene);
        // Off-cluster to a ClusterIP would otherwise be source-NATed.
        Trip { edge: AT_UPLINK, proto, client: (A::CLIENT, 40_000), front, back }.open(scene);
    }
}

/// Pods take the short cut: the external policy does not bind them.
pub fn local_external_policy_takes_local_endpoints_for_external_clients_only<A: Family>(scene: &mut Scene<'_, A>) {
    let endpoints = [Endpoint::local(1, A::LOCAL), Endpoint::remote(2, A::REMOTE)];
    scene.serve(&full(proto::TCP, &endpoints).flags(frontend_flag::EXTERNAL_LOCAL));
    for port in 40_000..40_040 {
        let client = (A::CLIENT, port);
        scene.passes(Hook::UplinkIngress, &Pkt::syn(client, (A::LB, 443)), &Pkt::syn(client, (A::LOCAL, 8080)));
    }
    let mut remote = 0;
    for port in 40_000..40_064 {
        let syn = Pkt::syn((A::POD, port), (A::LB, 443));
        let got = scene.node.send(Hook::PodIngress, POD, &syn.bytes());
        assert_eq!(got.action, Action::Pass);
        remote += u32::from(got.bytes == syn.to(A::REMOTE, 8080).bytes());
    }
    assert!((1..64).contains(&remote), "a Pod's choice is not bound by the external policy: {remote} of 64 remote");
}

/// `externalTrafficPolicy: Local`: its address is a Pod's, and it comes by the uplink.
pub fn pod_of_another_node_is_outside_at_external_addresses<A: Family>(scene: &mut Scene<'_, A>) {
    let endpoints = [Endpoint::local(1, A::LOCAL), Endpoint::remote(2, A::LOCAL2)];
    let flags = frontend_flag::EXTERNAL_LOCAL | frontend_flag::EXTERNAL_EMPTY_DROPS;
    let mut from = 40_000;
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &endpoints).flags(flags));
        for (addr, port, kind) in frontends::<A>() {
            if kind == frontend_kind::CLUSTER_IP {
                continue;
            }
            for _ in 0..20 {
                from += 1;
                let client = (A::REMOTE, from);
                let led = Pkt::first(proto, client, (A::LOCAL, 8080));
                scene.passes(Hook::UplinkIngress, &Pkt::first(proto, client, (addr, port)), &led);
            }
        }
        scene.serve(&full(proto, &endpoints[1..]).flags(flags));
        for (addr, port, kind) in frontends::<A>() {
            let first = Pkt::first(proto, (A::REMOTE, 41_000), (addr, port));
            if kind == frontend_kind::CLUSTER_IP {
                // XDP may not redirect into the Pod's device.
                scene.node.expect_hand_over();
                assert_ne!(scene.send(Hook::UplinkIngress, &first).action, Action::Drop);
            } else {
                scene.drops(Hook::UplinkIngress, &first);
            }
        }
    }
    scene.counted(Counter::DropNoLocalEndpoints, 6);
}

/// `internalTrafficPolicy: Local`.
pub fn local_internal_policy_takes_local_endpoints_only<A: Family>(scene: &mut Scene<'_, A>) {
    let endpoints = [Endpoint::remote(2, A::REMOTE), Endpoint::local(1, A::LOCAL)];
    scene.serve(&full(proto::UDP, &endpoints).flags(frontend_flag::INTERNAL_LOCAL));
    for port in 40_000..40_040 {
        let client = (A::POD, port);
        scene.passes(Hook::PodIngress, &Pkt::udp(client, (A::VIP, 80)), &Pkt::udp(client, (A::LOCAL, 8080)));
    }
}
