//! Clients told apart by the device at which they come in, and by their address whatever the device.

use super::{AT_POD, AT_UPLINK, PROTOCOLS, Trip, balanced, full};
use crate::abi::{Counter, config_flag, frontend_flag, proto};
use crate::testkit::{Action, Endpoint, Family, Hook, POD, Pkt, Scene, UPLINK};

/// Only what comes in by these devices is inside.
fn told_by_device<A: Family>(scene: &mut Scene<'_, A>, local: &[u32]) {
    let mut config = Scene::config();
    config.flags = config_flag::LOCAL_DEVICES;
    config.cluster = [A::NO_PREFIX; 4];
    scene.node.set_config(config);
    scene.node.set_local(local);
}

/// Any other client of a `ClusterIP` gets the node's address, a Pod as well.
pub fn pod_behind_another_device_is_source_translated_towards_a_cluster_ip<A: Family>(scene: &mut Scene<'_, A>) {
    told_by_device(scene, &[]);
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::local(1, A::LOCAL)]));
        let (client, front, back) = ((A::POD, 40_000), (A::VIP, 80), (A::LOCAL, 8080));
        let first = Pkt::first(proto, client, front);
        let allocated =
            scene.allocated(Hook::PodIngress, &first, Action::Route, &Pkt::first(proto, (A::NODE, 0), back));
        let node = (A::NODE, allocated);
        scene.routes(Hook::PodIngress, &Pkt::reply(proto, back, node), &Pkt::reply(proto, front, client));
        scene.routes(Hook::PodIngress, &Pkt::data(proto, client, front), &Pkt::data(proto, node, back));
        scene.routes(Hook::PodIngress, &Pkt::data(proto, back, node), &Pkt::data(proto, front, client));
        // Other frontends do not ask for it: the reply passes the Pod's device anyway.
        let (client, front) = ((A::POD, 40_001), (A::LB, 443));
        Trip { edge: AT_POD, proto, client, front, back }.open(scene);
    }
    scene.counted(Counter::NewFlow, 4);
    // The same Pod behind a device that counts.
    told_by_device(scene, &[POD]);
    let (client, front, back) = ((A::POD, 40_002), (A::VIP, 80), (A::LOCAL, 8080));
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::local(1, A::LOCAL)]));
        Trip { edge: AT_POD, proto, client, front, back }.open(scene);
    }
}

/// `externalTrafficPolicy: Local`: the short cut is for local clients only.
pub fn pod_behind_another_device_is_bound_by_the_external_policy<A: Family>(scene: &mut Scene<'_, A>) {
    let endpoints = [Endpoint::local(1, A::LOCAL), Endpoint::remote(2, A::REMOTE)];
    scene.serve(&full(proto::TCP, &endpoints).flags(frontend_flag::EXTERNAL_LOCAL));
    told_by_device(scene, &[]);
    for port in 40_000..40_040 {
        let client = (A::POD, port);
        scene.passes(Hook::PodIngress, &Pkt::syn(client, (A::LB, 443)), &Pkt::syn(client, (A::LOCAL, 8080)));
    }
    scene.serve(
        &balanced::<A>(proto::TCP)
            .endpoints(&[Endpoint::remote(2, A::REMOTE)])
            .flags(frontend_flag::EXTERNAL_LOCAL | frontend_flag::EXTERNAL_EMPTY_DROPS),
    );
    scene.drops(Hook::PodIngress, &Pkt::syn((A::POD, 41_000), (A::LB, 443)));
    scene.counted(Counter::DropNoLocalEndpoints, 1);
}

/// It keeps its address towards a `ClusterIP`, and takes the short cut of `externalTrafficPolicy: Local`.
pub fn client_of_a_local_uplink_is_inside<A: Family>(scene: &mut Scene<'_, A>) {
    told_by_device(scene, &[UPLINK]);
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::local(1, A::LOCAL)]));
        let (client, front, back) = ((A::CLIENT, 40_000), (A::VIP, 80), (A::LOCAL, 8080));
        let trip = Trip { edge: AT_UPLINK, proto, client, front, back };
        trip.open(scene);
        trip.talk(scene);
        // Towards another node it needs the node's address all the same, or the reply would pass this node by.
        let flags = frontend_flag::EXTERNAL_LOCAL | frontend_flag::EXTERNAL_EMPTY_DROPS;
        scene.serve(&balanced(proto).endpoints(&[Endpoint::remote(2, A::REMOTE)]).flags(flags));
        let first = Pkt::first(proto, client, (A::LB, 443));
        scene.allocated(
            Hook::UplinkIngress,
            &first,
            Action::Route,
            &Pkt::first(proto, (A::NODE, 0), (A::REMOTE, 8080)),
        );
    }
    scene.counted(Counter::DropNoLocalEndpoints, 0);
}

/// A cluster prefix that is left over from another mode makes nobody local.
pub fn addresses_do_not_count_where_devices_do<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    config.flags |= config_flag::LOCAL_DEVICES;
    scene.node.set_config(config);
    scene.node.set_local(&[]);
    scene.serve(&full(proto::TCP, &[Endpoint::local(1, A::LOCAL)]));
    let syn = Pkt::syn((A::POD, 40_000), (A::VIP, 80));
    scene.allocated(Hook::PodIngress, &syn, Action::Route, &Pkt::syn((A::NODE, 0), (A::LOCAL, 8080)));
}

/// Where the cluster's prefixes are known, a client behind a Pod's device has to be in one of them, like any other.
pub fn client_behind_a_pod_device_is_told_by_its_address<A: Family>(scene: &mut Scene<'_, A>) {
    let mut config = Scene::config();
    config.cluster[0] = A::SERVICES;
    scene.node.set_config(config);
    let flags = frontend_flag::EXTERNAL_LOCAL | frontend_flag::EXTERNAL_EMPTY_DROPS;
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::local(1, A::LOCAL)]));
        let (client, front, back) = ((A::POD, 40_000), (A::VIP, 80), (A::LOCAL, 8080));
        let first = Pkt::first(proto, client, front);
        let allocated =
            scene.allocated(Hook::PodIngress, &first, Action::Route, &Pkt::first(proto, (A::NODE, 0), back));
        scene.routes(
            Hook::PodIngress,
            &Pkt::reply(proto, back, (A::NODE, allocated)),
            &Pkt::reply(proto, front, client),
        );
        scene.serve(&balanced(proto).endpoints(&[Endpoint::remote(2, A::REMOTE)]).flags(flags));
        scene.drops(Hook::PodIngress, &Pkt::first(proto, (A::POD, 40_001), (A::LB, 443)));
    }
    // Where they are not known, whoever is behind a Pod's device is inside.
    config.flags = 0;
    scene.node.set_config(config);
    for proto in PROTOCOLS {
        scene.serve(&full(proto, &[Endpoint::local(1, A::LOCAL)]));
        let (client, front, back) = ((A::POD, 40_002), (A::VIP, 80), (A::LOCAL, 8080));
        Trip { edge: AT_POD, proto, client, front, back }.open(scene);
    }
}
