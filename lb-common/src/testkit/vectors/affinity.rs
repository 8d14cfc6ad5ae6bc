//! `ClientIP` affinity.

use super::full;
use crate::abi::proto;
use crate::testkit::{Action, Endpoint, Family, Hook, Pkt, Scene};

const TIMEOUT: u32 = 10;

pub(super) fn pair<A: Family>() -> [Endpoint<A>; 2] {
    [Endpoint::local(1, A::LOCAL), Endpoint::local(2, A::LOCAL2)]
}

/// Opens a connection and says whether it went to the first of the pair.
#[track_caller]
fn first_of_pair<A: Family>(scene: &mut Scene<'_, A>, hook: Hook, client: (A, u16), front: (A, u16)) -> bool {
    let first = asked(scene, hook, client, front);
    let back = (if first { A::LOCAL } else { A::LOCAL2 }, 8080);
    let away = if hook == Hook::PodIngress { Hook::PodEgress } else { Hook::UplinkEgress };
    scene.passes(away, &Pkt::reply(proto::TCP, back, client), &Pkt::reply(proto::TCP, front, client));
    scene.passes(hook, &Pkt::answer(proto::TCP, client, front), &Pkt::answer(proto::TCP, client, back));
    first
}

/// Sends a SYN and says whether it went to the first of the pair.
#[track_caller]
pub(super) fn asked<A: Family>(scene: &mut Scene<'_, A>, hook: Hook, client: (A, u16), front: (A, u16)) -> bool {
    let syn = Pkt::syn(client, front);
    let got = scene.send(hook, &syn);
    assert_eq!(got.action, Action::Pass);
    if got.bytes == syn.clone().to(A::LOCAL, 8080).bytes() {
        return true;
    }
    assert_eq!(got.bytes, syn.to(A::LOCAL2, 8080).bytes());
    false
}

/// Anyone can send those in anyone's name.
pub fn unanswered_syns_make_no_affinity<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &pair()).affinity(TIMEOUT));
    for (hook, client) in edges() {
        let mut choices = [0, 0];
        for port in 40_000..40_064 {
            choices[usize::from(asked(scene, hook, (client, port), (A::LB, 443)))] += 1;
        }
        assert!(choices[0] > 0 && choices[1] > 0, "{choices:?}");
        let choice = first_of_pair(scene, hook, (client, 41_000), (A::LB, 443));
        for port in 41_001..41_064 {
            assert_eq!(asked(scene, hook, (client, port), (A::LB, 443)), choice, "port {port}");
        }
    }
}

pub(super) fn edges<A: Family>() -> [(Hook, A); 2] {
    [(Hook::PodIngress, A::POD), (Hook::UplinkIngress, A::CLIENT)]
}

/// Over many connections; another Service's clients are spread.
pub fn client_keeps_its_backend<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &pair()).affinity(TIMEOUT));
    for (hook, client) in edges() {
        let choice = first_of_pair(scene, hook, (client, 40_000), (A::LB, 443));
        for port in 40_001..40_200 {
            assert_eq!(first_of_pair(scene, hook, (client, port), (A::LB, 443)), choice, "port {port}");
        }
    }
}

/// Not with each packet, and not only with the first.
pub fn clock_starts_anew_with_each_connection<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &pair()).affinity(TIMEOUT));
    for (hook, client) in edges() {
        let choice = first_of_pair(scene, hook, (client, 40_000), (A::LB, 443));
        for port in 40_001..40_020 {
            scene.node.pass_seconds(8);
            assert_eq!(first_of_pair(scene, hook, (client, port), (A::LB, 443)), choice, "port {port}");
        }
    }
}

/// And that choice is random: one that always gave the same backend again would not be fresh.
pub fn idle_client_gets_a_fresh_choice<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &pair()).affinity(TIMEOUT));
    for (hook, client) in edges() {
        let mut choices = [0, 0];
        for port in 40_000..40_064 {
            choices[usize::from(first_of_pair(scene, hook, (client, port), (A::LB, 443)))] += 1;
            scene.node.pass_seconds(11);
        }
        assert!(choices[0] > 0 && choices[1] > 0, "no fresh choice in {choices:?}");
    }
}

/// The new choice is kept in turn.
pub fn affine_backend_that_left_the_set_is_replaced<A: Family>(scene: &mut Scene<'_, A>) {
    let service = full(proto::TCP, &pair()).affinity(TIMEOUT);
    scene.serve(&service);
    for (n, (hook, client)) in (0u16..).zip(edges()) {
        let port = 40_000 + n * 1_000;
        let choice = first_of_pair(scene, hook, (client, port), (A::LB, 443));
        // Still there, but terminating: a member of no set any more.
        let mut changed = service.clone();
        changed.slots = 256 + 128 * u32::from(n);
        changed.endpoints[usize::from(!choice)].flags &= crate::abi::backend_flag::LOCAL;
        scene.serve(&changed);
        for port in port + 1..port + 40 {
            assert_ne!(first_of_pair(scene, hook, (client, port), (A::LB, 443)), choice, "port {port}");
        }
        scene.serve(&service);
        for port in port + 40..port + 80 {
            assert_ne!(first_of_pair(scene, hook, (client, port), (A::LB, 443)), choice, "port {port}");
        }
    }
}

/// `ClusterIP`, `NodePort`, load balancer and external addresses of one service port are one for affinity.
pub fn affinity_is_shared_by_all_frontends_of_a_service_port<A: Family>(scene: &mut Scene<'_, A>) {
    scene.serve(&full(proto::TCP, &pair()).affinity(TIMEOUT));
    let choice = first_of_pair(scene, Hook::PodIngress, (A::POD, 40_000), (A::VIP, 80));
    for n in 0..20 {
        for (i, (addr, port, _)) in (0..).zip(super::frontends::<A>()) {
            let client = (A::POD, 41_000 + 4 * n + i);
            assert_eq!(first_of_pair(scene, Hook::PodIngress, client, (addr, port)), choice, "{addr:?}:{port}");
        }
    }
}
