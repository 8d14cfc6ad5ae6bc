//! Named vectors: the same scripts for the host's tests and for the programs in the kernel.
//!
//! | group | subject |
//! |---|---|
//! | `reach` | each frontend type from each side, to Pods on this node and on others, and back |
//! | `snat` | allocated source ports: remote Pods, hairpin, off-cluster clients |
//! | `local` | clients told apart by device rather than by address |
//! | `affinity` | `ClientIP` affinity |
//! | `refusal` | no endpoints, unknown ports, unallocated addresses, source ranges |
//! | `lifetime` | flows that end, backends that go away |
//! | `schedule` | the choice of a backend by each algorithm |
//! | `least` | the choice by open connections, and what counts as one |
//! | `silence` | backends that leave connections unanswered |
//! | `ejection` | backends that outlier ejection has sent to rest |
//! | `icmp` | ICMP errors about translated flows, both ways |
//! | `echo` | ICMP echo requests for Services |
//! | `fragments` | fragments in any order |
//! | `headers` | fragments, IP options, extension headers, missing checksums |
//! | `traffic` | what is counted for a backend |
//! | `watch` | events for who listens |
//! | `own` | connections that the node itself has opened |
//! | `direct` | connections that go straight to a Pod, and packets that are none of ours |

pub mod affinity;
pub mod direct;
pub mod echo;
pub mod ejection;
pub mod fragments;
pub mod half_closed;
pub mod headers;
pub mod icmp;
pub mod least;
pub mod lifetime;
pub mod local;
pub mod own;
pub mod reach;
pub mod refusal;
pub mod schedule;
pub mod silence;
pub mod snat;
pub mod traffic;
pub mod watch;

use super::family::Family;
use super::node::Hook;
use super::packet::Pkt;
use super::scene::Scene;
use super::service::{Endpoint, Service};
use crate::abi::{frontend_kind, proto};

/// Calls the macro `$case` with all vectors, as `group { name name ... }`.
#[macro_export]
macro_rules! each_vector {
    ($case:ident) => {
        $case! {
            reach {
                pod_reaches_every_frontend_on_a_local_pod
                pod_reaches_every_frontend_on_a_remote_pod
                external_client_reaches_a_local_pod_with_its_own_address
                reply_leaves_by_the_uplink_of_its_request
                reply_leaves_by_the_routing_table_where_its_uplink_does_not_lead_to_the_client
                host_network_endpoint_sees_the_clients_address
                local_external_policy_takes_local_endpoints_for_external_clients_only
                pod_of_another_node_is_outside_at_external_addresses
                local_internal_policy_takes_local_endpoints_only
            }
            snat {
                external_client_reaches_a_remote_pod_under_the_nodes_address
                off_cluster_client_of_a_cluster_ip_is_source_translated
                pod_reaches_itself_through_its_service
                masquerade_all_translates_every_source
                exhausted_ports_drop_new_flows_only
                reply_by_a_pod_that_is_not_the_backend_is_dropped
                lent_port_of_a_closed_flow_is_lent_again
                refusal_by_a_remote_pod_reaches_the_client
                expired_packet_is_not_redirected
                packet_larger_than_the_way_takes_is_answered
                packet_larger_than_the_way_takes_is_fragmented_where_that_may_be
                endpoint_that_is_not_where_it_says_is_source_translated
                backend_without_a_route_is_a_counted_drop
            }
            local {
                pod_behind_another_device_is_source_translated_towards_a_cluster_ip
                pod_behind_another_device_is_bound_by_the_external_policy
                client_of_a_local_uplink_is_inside
                addresses_do_not_count_where_devices_do
                client_behind_a_pod_device_is_told_by_its_address
            }
            affinity {
                client_keeps_its_backend
                unanswered_syns_make_no_affinity
                clock_starts_anew_with_each_connection
                idle_client_gets_a_fresh_choice
                affine_backend_that_left_the_set_is_replaced
                affinity_is_shared_by_all_frontends_of_a_service_port
            }
            schedule {
                round_robin_takes_one_backend_after_the_other
                source_hash_keeps_a_client_at_its_backend
                a_backend_with_more_slots_gets_more
                maglev_goes_by_the_table_and_the_connection
                maglev_finds_the_members_of_a_large_set
                maglev_without_a_table_picks_at_random
                an_algorithm_that_is_not_known_picks_at_random
                another_algorithm_moves_no_connection
            }
            least {
                fewest_connections_get_the_next_one
                weights_are_a_share_of_open_connections
                connection_that_is_over_counts_no_more
                connection_that_another_replaces_counts_no_more
                large_sets_are_kept_even
                silent_backend_gets_none_though_it_has_the_fewest
                affinity_comes_before_the_count
                other_algorithms_count_no_open_connections
            }
            silence {
                silent_backend_is_passed_over_until_it_answers
                backend_that_has_answered_since_is_not_silent
                refusal_is_an_answer
                single_endpoint_is_never_silent
                half_of_a_set_at_most_is_passed_over
                silent_backend_is_passed_over_by_each_algorithm
                client_with_affinity_leaves_a_silent_backend_and_stays_away
                silent_backend_keeps_its_share_where_that_is_asked
                silence_is_found_out_without_syn_retry
            }
            ejection {
                ejected_backend_is_passed_over_and_one_on_probation_gets_little
                ejected_and_silent_backends_together_are_half_at_most
            }
            refusal {
                no_endpoints_is_refused
                own_packet_for_a_cluster_ip_does_not_leave
                refused_segment_is_answered_by_its_sequence_numbers
                udp_with_ip_options_is_not_answered
                tcp_with_ip_options_is_refused
                refusals_have_a_limit_for_each_client
                no_local_endpoints_drops
                unknown_port_of_a_cluster_ip_is_refused
                unallocated_vip_is_dropped
                ranges_of_cluster_ips_may_be_many
                client_outside_of_source_ranges_is_dropped
                stale_slot_is_a_counted_drop
                slot_of_another_service_is_a_counted_drop
            }
            lifetime {
                flow_is_established_when_the_client_answers_its_backend
                backends_data_before_the_clients_first_ack_is_translated
                mid_stream_tcp_without_a_flow_is_reset
                takeover_leaves_mid_stream_tcp_to_the_stack
                syn_after_a_close_begins_a_new_flow
                syn_that_is_sent_again_without_an_answer_is_offered_another_backend
                silent_backend_keeps_its_clients_where_that_is_asked
                retransmitted_syn_keeps_its_backend
                refused_connection_begins_anew
                reset_and_fin_that_cannot_be_true_end_nothing
                syn_ack_that_answers_no_syn_moves_no_number
                flow_that_is_over_takes_no_other_with_it
                pod_under_an_address_that_is_elsewhere_is_dropped
                udp_moves_when_its_backend_goes
                udp_without_a_reply_moves_when_its_backend_goes
                evicted_half_of_an_unanswered_flow_is_made_again
                syn_of_a_flow_whose_half_was_evicted_begins_anew
                udp_is_refused_when_the_last_backend_goes
                removed_backend_keeps_its_tcp_connections
                syn_to_a_removed_backend_goes_elsewhere
            }
            icmp {
                error_about_a_request_comes_from_the_frontend
                error_of_a_router_keeps_the_routers_address
                error_about_a_reply_reaches_the_pod
                error_about_a_lent_port_reaches_the_client
                error_about_a_reply_to_a_lent_port_reaches_the_remote_pod
                error_that_quotes_a_fragment_is_about_its_datagram
                error_may_quote_extension_headers_and_options
                error_with_extensions_keeps_them
                quoted_udp_checksum_is_never_zero
                error_about_nothing_of_ours_is_untouched
                echo_is_untouched
            }
            echo {
                echo_is_answered_where_a_service_has_endpoints
                echo_request_with_options_or_without_data_is_answered
                echo_is_not_answered_outside_of_source_ranges
                echo_request_that_is_cut_off_is_dropped
                echo_replies_have_a_limit_for_each_client
                echo_is_left_alone_where_that_is_asked
            }
            headers {
                fragments_follow_their_first
                fragment_with_a_header_longer_than_itself_is_untouched
                ip_options_and_extension_headers_are_kept
                datagram_without_a_checksum_stays_without
                udp_checksum_is_never_zero
                jumbo_payload_is_translated
                truncated_packets_are_untouched
            }
            fragments {
                fragments_that_come_before_their_first_wait_for_it
                datagram_may_wait_in_many_cells
                flow_may_begin_with_a_later_fragment
                later_fragment_of_others_is_untouched
                sender_of_fragments_without_a_first_has_a_share
                first_fragment_of_another_datagram_is_not_waited_for
                fragments_of_another_port_are_as_they_came
                fragments_of_other_protocols_are_as_they_came
                next_header_of_later_fragments_does_not_count
                tiny_first_fragment_of_a_service_is_dropped
            }
            traffic {
                packets_are_counted_each_way_for_their_backend
                packets_of_a_busy_connection_are_all_counted_in_the_end
                packets_of_source_translated_flows_are_counted
                packets_of_a_pod_to_itself_are_counted
                a_packet_that_is_dropped_is_not_counted
                a_connection_is_counted_once
                connections_of_a_former_backend_are_not_counted_for_the_next
                backends_that_do_not_answer_or_refuse_are_counted
            }
            watch {
                who_listens_is_told_of_new_flows_refusals_and_drops
                nobody_is_told_while_nobody_listens
            }
            half_closed {
                syn_on_a_half_closed_flow_stays_with_its_backend
                half_closed_flow_that_begins_again_is_not_half_closed
            }
            direct {
                direct_connection_reusing_a_tuple_gets_another_port
                direct_datagram_beside_a_half_open_flow_gets_another_port
                direct_connection_after_the_close_is_untouched
                connection_of_another_proxy_after_the_close_is_untouched
                direct_connection_beside_a_half_closed_flow_gets_another_port
                direct_connection_outlives_the_flow_beside_it
                direct_connection_that_was_reset_gives_up_its_place
                reply_of_a_direct_connection_is_untouched
                packets_of_others_are_untouched
                other_protocols_to_a_vip_are_untouched
                frames_for_other_hosts_are_untouched
            }
            own {
                answers_to_the_nodes_own_connections_are_left_alone
                client_takes_the_place_of_an_unanswered_connection
                mid_stream_tcp_to_an_address_of_the_node_is_left_to_its_stack
                snat_port_of_the_nodes_own_connection_is_not_allocated
                pod_that_uses_the_nodes_address_is_dropped_where_the_stack_would_not
            }
        }
    };
}

/// Both protocols.
pub(super) const PROTOCOLS: [u8; 2] = [proto::TCP, proto::UDP];

/// Address, port and kind of one frontend of each type.
pub(super) fn frontends<A: Family>() -> [(A, u16, u8); 4] {
    [
        (A::VIP, 80, frontend_kind::CLUSTER_IP),
        (A::NODE, 30080, frontend_kind::NODE_PORT),
        (A::LB, 443, frontend_kind::LOAD_BALANCER),
        (A::EXTERNAL, 8000, frontend_kind::EXTERNAL_IP),
    ]
}

/// A Service with all types of frontends.
pub(super) fn full<A: Family>(proto: u8, endpoints: &[Endpoint<A>]) -> Service<A> {
    let mut service = Service::new(proto, A::VIP, 80, frontend_kind::CLUSTER_IP).endpoints(endpoints);
    service.frontends = frontends().to_vec();
    service
}

/// A Service with a load balancer's address alone, on one local Pod.
pub fn balanced<A: Family>(proto: u8) -> Service<A> {
    Service::new(proto, A::LB, 443, frontend_kind::LOAD_BALANCER).endpoints(&[Endpoint::local(1, A::LOCAL)])
}

/// Where a client meets the node, on its way in and back.
#[derive(Clone, Copy)]
pub(super) struct Edge(pub(super) Hook, pub(super) Hook);

/// A Pod's edge.
pub(super) const AT_POD: Edge = Edge(Hook::PodIngress, Hook::PodEgress);
/// The uplink as edge.
pub(super) const AT_UPLINK: Edge = Edge(Hook::UplinkIngress, Hook::UplinkEgress);

/// Client, frontend and backend of one flow whose source is not translated.
#[derive(Clone, Copy)]
pub(super) struct Trip<A> {
    pub(super) edge: Edge,
    pub(super) proto: u8,
    pub(super) client: (A, u16),
    pub(super) front: (A, u16),
    pub(super) back: (A, u16),
}

impl<A: Family> Trip<A> {
    /// First packet, first reply, and the client's answer to that: the flow is established.
    #[track_caller]
    pub(super) fn open(&self, scene: &mut Scene<'_, A>) {
        let Self { edge, proto, client, front, back } = *self;
        self.begin(scene);
        scene.passes(edge.0, &Pkt::answer(proto, client, front), &Pkt::answer(proto, client, back));
    }

    /// First packet and first reply.
    #[track_caller]
    pub(super) fn begin(&self, scene: &mut Scene<'_, A>) {
        let Self { edge, proto, client, front, back } = *self;
        scene.passes(edge.0, &Pkt::first(proto, client, front), &Pkt::first(proto, client, back));
        scene.passes(edge.1, &Pkt::reply(proto, back, client), &Pkt::reply(proto, front, client));
    }

    /// A packet each way.
    #[track_caller]
    pub(super) fn talk(&self, scene: &mut Scene<'_, A>) {
        let Self { edge, proto, client, front, back } = *self;
        scene.passes(edge.0, &Pkt::data(proto, client, front), &Pkt::data(proto, client, back));
        scene.passes(edge.1, &Pkt::data(proto, back, client), &Pkt::data(proto, front, client));
    }
}

/// A Pod's flow to the load balancer's address, on one local Pod, with a packet each way so far.
#[track_caller]
pub(super) fn opened<A: Family>(scene: &mut Scene<'_, A>, edge: Edge, proto: u8) -> Trip<A> {
    scene.serve(&balanced(proto));
    let client = if edge.0 == Hook::PodIngress { A::POD } else { A::CLIENT };
    let trip = Trip { edge, proto, client: (client, 40_000), front: (A::LB, 443), back: (A::LOCAL, 8080) };
    trip.open(scene);
    trip
}
