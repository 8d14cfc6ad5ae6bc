//! `COUNTERS`: per-CPU array of 64-bit counters. Every drop has a named reason; names are the metric labels.

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// A counter of the data path, by its index in `COUNTERS`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Counter {
            /// All counters, in the order of their index.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)*];
            /// Number of counters.
            pub const COUNT: u32 = {
                let mut n = 0;
                $(let _ = Counter::$variant; n += 1;)*
                n
            };

            /// Index in `COUNTERS`.
            #[inline(always)]
            #[allow(clippy::as_conversions, reason = "a fieldless enum's discriminant has no other const conversion")]
            pub const fn index(self) -> u32 {
                self as u32
            }

            /// Name, as in metrics and in `sluice status`. Drops begin with `drop_`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Counter::$variant => $name,)*
                }
            }

            /// What it counts, for people.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Counter::$variant => concat!($($doc),*).trim_ascii(),)*
                }
            }
        }
    };
}

counters! {
    /// New flow created.
    NewFlow = "new_flow",
    /// Flow moved to the established table: its client has answered its backend.
    FlowEstablished = "flow_established",
    /// UDP flow moved to another backend because its own went away.
    FlowMoved = "flow_moved",
    /// Connection answered with RST or ICMP port unreachable: no endpoints.
    RejectNoEndpoints = "reject_no_endpoints",
    /// Connection refused: the `ClusterIP` has no such port.
    RejectUnknownPort = "reject_unknown_port",
    /// TCP for a frontend, mid-stream, without a flow: answered with RST.
    RejectNoFlow = "reject_no_flow",
    /// No local endpoint under a `Local` policy.
    DropNoLocalEndpoints = "drop_no_local_endpoints",
    /// Address of the Service range that no Service has.
    DropUnallocatedVip = "drop_unallocated_vip",
    /// Client outside of `loadBalancerSourceRanges`.
    DropSourceRange = "drop_source_range",
    /// No free source port towards this backend.
    DropSnatExhausted = "drop_snat_exhausted",
    /// No source address for source NAT.
    DropSnatNoAddress = "drop_snat_no_address",
    /// The flow table refused the entry.
    DropFlowInsert = "drop_flow_insert",
    /// Hop limit reached.
    DropTtl = "drop_ttl",
    /// Larger than the way to the backend takes.
    DropTooBig = "drop_too_big",
    /// No route or neighbour towards the backend.
    DropNoRoute = "drop_no_route",
    /// The packet could not be rewritten.
    DropRewrite = "drop_rewrite",
    /// TCP without a flow and not to be answered (it is a RST itself).
    DropNoFlow = "drop_no_flow",
    /// A slot pointed at a free backend id.
    DropStaleSlot = "drop_stale_slot",
    /// Locally generated packet for a `ClusterIP` that no socket hook has translated, about to leave the node.
    DropUntranslated = "drop_untranslated",
    /// Socket led to a backend when it connected, or when it sent to the frontend first.
    SocketConnected = "socket_connected",
    /// Socket told "connection refused": no endpoints, or the `ClusterIP` has no such port.
    SocketRefused = "socket_refused",
    /// A socket's table entry was refused: it is served, but sees the backend's address as its peer's.
    SocketInsertFailed = "socket_insert_failed",
    /// `bind` to a `NodePort` refused.
    SocketBindRefused = "socket_bind_refused",
    /// The program for rare packets is not there: the packet went on untranslated.
    SecondStageMissing = "second_stage_missing",
    /// ICMP error about a flow, translated.
    IcmpTranslated = "icmp_translated",
    /// Direct connection whose source port was changed because a Service flow had its tuple.
    DirectRemapped = "direct_remapped",
    /// Connection of the node's own noted, from a port that a frontend or source NAT may have.
    OwnConnection = "own_connection",
    /// Reply that left as the routing table has it: the uplink of its request is gone, or has no route to the client.
    ReplyRerouted = "reply_rerouted",
    /// Packet of a Pod whose source is a frontend, or an SNAT port, on an address of the node.
    DropForgedSource = "drop_forged_source",
    /// Fragment that came before its datagram's first: waits for it.
    FragmentHeld = "fragment_held",
    /// First fragment of a datagram that others waited for: all of them go on.
    FragmentReleased = "fragment_released",
    /// The table of established flows refused a flow, which stays half-open.
    FlowTableFull = "flow_table_full",
    /// SNAT port of an idle half-open flow, given to another because all that were tried are in use.
    SnatPortTaken = "snat_port_taken",
    /// Packet from a Pod's device whose source is not behind that device.
    DropForeignSource = "drop_foreign_source",
    /// Reply that came by the device of a Pod that is not the backend.
    DropForgedReply = "drop_forged_reply",
    /// First fragment that ends within its TCP header: nobody has a reason to send such a one.
    DropTinyFragment = "drop_tiny_fragment",
    /// Refusal or ICMP echo request that was not answered: too many answers to this client, or to all.
    DropRefusalLimited = "drop_refusal_limited",
    /// Packet larger than its way takes, sent in two fragments.
    PacketFragmented = "packet_fragmented",
    /// A SYN that was sent again without a reply was offered another backend.
    SynRetried = "syn_retried",
    /// ICMP echo request for an address of a Service with endpoints, answered.
    EchoAnswered = "echo_answered",
    /// A backend left a connection unanswered and has answered none since: new ones pass it over.
    BackendSilent = "backend_silent",
    /// A backend that was passed over has answered: it gets new connections again.
    BackendBack = "backend_back",
    /// New connection that a silent backend was passed over for.
    SilentPassedOver = "silent_passed_over",
    /// New connection that a backend was passed over for which outlier ejection has ejected, or has on probation.
    EjectedPassedOver = "ejected_passed_over",
}

/// Name of a counter by index.
pub fn counter_name(index: u32) -> Option<&'static str> {
    let index = usize::try_from(index).ok()?;
    Counter::ALL.get(index).map(|c| c.name())
}
