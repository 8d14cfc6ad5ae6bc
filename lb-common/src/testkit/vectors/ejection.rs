//! Backends that outlier ejection has sent to rest: whom they are passed over for.

use super::full;
use super::silence::{choices, fall_silent, four};
use crate::abi::{Counter, algorithm, proto, rest};
use crate::testkit::{Family, Scene};

/// Whatever the algorithm. The turns of round robin that pass it over are none of the others'.
pub fn ejected_backend_is_passed_over_and_one_on_probation_gets_little<A: Family>(scene: &mut Scene<'_, A>) {
    let of = four();
    for (n, algorithm) in
        (0..).zip([algorithm::RANDOM, algorithm::ROUND_ROBIN, algorithm::SOURCE_HASH, algorithm::MAGLEV])
    {
        let service = full(proto::TCP, &of).algorithm(algorithm);
        let ports = 40_000 + 1_000 * n;
        scene.serve(&service.clone().rest(2, rest::EJECTED));
        assert_eq!(choices(scene, &of, ports..ports + 64)[1], 0, "{algorithm}");
        if algorithm == algorithm::RANDOM {
            scene.serve(&service.clone().rest(2, 16));
            let got = choices(scene, &of, ports + 100..ports + 700)[1];
            assert!((1..=30).contains(&got), "{got} of some 150 on probation");
        }
    }
    assert!(scene.node.counter(Counter::EjectedPassedOver) > 20);
    // Judged, and as good as any other.
    scene.serve(&full(proto::TCP, &of).rest(2, rest::NONE));
    assert!(choices(scene, &of, 50_000..50_064)[1] > 5);
}

/// One of four is silent, and two are ejected: one of these gets its share all the same.
pub fn ejected_and_silent_backends_together_are_half_at_most<A: Family>(scene: &mut Scene<'_, A>) {
    let of = four();
    scene.serve(&full(proto::TCP, &of));
    fall_silent(scene, &of, &[0]);
    scene.serve(&full(proto::TCP, &of).rest(2, rest::EJECTED).rest(3, rest::EJECTED));
    let got = choices(scene, &of, 40_000..40_128);
    assert!(got[0] <= 1 && got[1] == 0 && got[2] > 10 && got[3] > 10, "{got:?}");
    // Two endpoints of which both are ejected: nobody passes them over.
    let two = &of[..2];
    scene.serve(&full(proto::TCP, two).rest(1, rest::EJECTED).rest(2, rest::EJECTED));
    let got = choices(scene, two, 41_000..41_064);
    assert!(got[0] + got[1] == 64 && got[1] > 5, "{got:?}");
}
