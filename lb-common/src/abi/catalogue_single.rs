//! The maps of which there is one for both families, see `catalogue.rs`.

/// Hands the maps that have no address family to the macro `$then`.
#[macro_export]
macro_rules! single_tables {
    ($then:ident) => {
        $then! {
            /// Devices.
            DEVICES devices [DEVICES]: pinned Hash(u32 => DeviceValue) {
                size: Size::Constant(1 << 13),
                object: 4_096,
                holds: "interface index → role, whether local, addresses",
                writer: "agent (`devices`)",
                readers: "kernel",
                miss: "unknown device: no redirect by XDP",
            }
            /// Network namespaces that opted out of the socket hooks.
            OPT_OUT opt_out [OPT_OUT]: pinned Hash([u32; 2] => u32) {
                size: Size::Fixed(1_024),
                holds: "network namespace's cookie → 1",
                writer: "agent (`sockets`)",
                readers: "kernel",
                miss: "its sockets are served",
            }
            /// When rare events last happened, see [`crate::abi::lately`].
            LATELY lately [LATELY]: pinned Array(u32 => u32) {
                size: Size::Fixed(lately::COUNT),
                holds: "event and family → time in ticks; 0: never",
                writer: "kernel; agent's sweep (`FLOW_FILTER`)",
                carried: Carried::Shared,
                readers: "kernel",
            }
            /// The second stage of TC programs, see [`crate::abi::tc_rest`].
            TC_REST tc_rest [TC_REST]: pinned ProgramArray(u32 => u32) {
                size: Size::Fixed(tc_rest::COUNT),
                holds: "direction, kind of device and family → program for rare packets",
                writer: "agent (at start)",
                carried: Carried::Shared,
                readers: "kernel",
                miss: "the packet passes untranslated: `second_stage_missing`",
            }
            /// The second stage of the XDP program.
            XDP_REST xdp_rest [XDP_REST]: pinned ProgramArray(u32 => u32) {
                size: Size::Fixed(xdp_rest::COUNT),
                holds: "family → program for rare packets",
                writer: "agent (at start)",
                carried: Carried::Shared,
                readers: "kernel",
                miss: "TC does the work: `second_stage_missing`",
            }
            /// The same for the XDP program that takes no frames in fragments: a table holds programs of one kind.
            XDP_LINEAR_REST xdp_linear_rest [XDP_LINEAR_REST]: pinned ProgramArray(u32 => u32) {
                size: Size::Fixed(xdp_rest::COUNT),
                holds: "family → program for rare packets",
                writer: "agent (at start)",
                carried: Carried::Shared,
                readers: "kernel",
                miss: "TC does the work: `second_stage_missing`",
            }
            /// The same programs once more, for a successor with other tables, whose own are in those meanwhile.
            TC_OWN tc_own [TC_OWN]: pinned ProgramArray(u32 => u32) {
                size: Size::Fixed(tc_rest::COUNT),
                holds: "as `TC_REST` → program of the agent whose maps these are",
                writer: "agent (at start)",
                carried: Carried::Own,
                readers: "its successor's programs",
            }
            /// Those of `XDP_REST`.
            XDP_OWN xdp_own [XDP_OWN]: pinned ProgramArray(u32 => u32) {
                size: Size::Fixed(xdp_rest::COUNT),
                holds: "as `XDP_REST` → program of the agent whose maps these are",
                writer: "agent (at start)",
                carried: Carried::Own,
                readers: "its successor's programs",
            }
            /// Those of `XDP_LINEAR_REST`.
            XDP_LINEAR_OWN xdp_linear_own [XDP_LINEAR_OWN]: pinned ProgramArray(u32 => u32) {
                size: Size::Fixed(xdp_rest::COUNT),
                holds: "as `XDP_LINEAR_REST` → program of the agent whose maps these are",
                writer: "agent (at start)",
                carried: Carried::Own,
                readers: "its successor's programs",
            }
            /// How far a successor with other tables is, see [`crate::abi::handover`].
            HANDOVER handover [HANDOVER]: pinned Array(u32 => u32) {
                size: Size::Fixed(1),
                holds: "0 → whether flows are carried over from former maps",
                writer: "agent",
                carried: Carried::Shared,
                readers: "kernel",
            }
            /// Why clients of service ports got nothing.
            CAUSES causes [CAUSES]: pinned LruHash(CauseKey => CauseValue) {
                size: Size::Constant(1 << 14),
                object: 16_384,
                holds: "service id, counter → number, time",
                writer: "kernel; agent removes",
                carried: Carried::Last,
                readers: "agent, CLI",
                miss: "it never happened",
            }
            /// What became of packets, for who listens, see [`crate::abi::watch`].
            EVENTS events [EVENTS]: pinned RingBuf([u8; 0] => [u8; 0]) {
                size: Size::Fixed(EVENTS_BYTES),
                holds: "new flows, refusals and drops; entries are bytes",
                writer: "kernel, while `sluice monitor` listens",
                readers: "CLI",
            }
            /// Whether somebody listens.
            WATCH watch [WATCH]: pinned Array(u32 => u64) {
                size: Size::Fixed(watch::COUNT),
                holds: "0 → until when somebody listens, in 2^30 ns; 1 → events lost",
                writer: "CLI (`sluice monitor`); kernel (1)",
                readers: "kernel, CLI",
            }
            /// Counters, per CPU.
            COUNTERS counters [COUNTERS]: pinned PerCpuArray(u32 => u64) {
                size: Size::Each(Counter::COUNT, "counter"),
                holds: "counter → number",
                writer: "kernel",
                readers: "CLI",
            }
        }
    };
}
