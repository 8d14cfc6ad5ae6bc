//! What an agent's start waits for.

use super::*;

#[test]
fn the_start_does_not_wait_for_rare_programs_of_ipv6_where_nobody_has_an_address() {
    on_a_node(|pin_path| async move {
        let settings = settings(&pin_path);
        let mut programs = Loaded::load(&settings.load, &object(), &[]).unwrap().programs;
        programs.postpone_v6();
        programs.load(&programs_at_start());
        let is_loaded = |programs: &mut sluice::load::Programs, name| programs.id(name).is_some();
        assert!(is_loaded(&mut programs, "pod_ingress") && is_loaded(&mut programs, "ingress_rest4"));
        assert!(!is_loaded(&mut programs, "ingress_rest6") && !is_loaded(&mut programs, "egress_rest6"));
        assert_eq!(programs.load_postponed(), []);
        assert!(is_loaded(&mut programs, "ingress_rest6") && is_loaded(&mut programs, "egress_rest6"));
        // From then on they come with the others.
        programs.load(&["tunnel_ingress"]);
        assert!(is_loaded(&mut programs, "tunnel_in_rest4") && is_loaded(&mut programs, "tunnel_in_rest6"));
    });
}
