//! The maps of the agent alone, see `catalogue.rs`.

/// Hands the maps that programs know nothing of to the macro `$then`.
#[macro_export]
macro_rules! agent_tables {
    ($then:ident) => {
        $then! {
            // First: it says whose the others are. An agent that is killed in between leaves nothing that its successor
            // refuses.
            /// Agent's state.
            STATUS status [STATUS]: pinned Array(u32 => StatusValue) {
                size: Size::Fixed(1),
                holds: "0 → ABI version, the agent's random number, pid, times, next generation",
                writer: "agent",
                carried: Carried::Shared,
                readers: "agent, CLI",
            }
            /// Service names.
            NAMES names [NAMES]: pinned Hash(u32 => NameValue) {
                size: Size::ByNode { large: 1 << 16, small: 1 << 15 },
                flags: NO_PREALLOC,
                holds: "service id → `namespace/name:port/PROTOCOL`",
                writer: "agent",
                readers: "agent, CLI",
                flag: Some(Flag {
                    name: "--max-services",
                    help: "Room for service ports",
                    counts: "service ports, both families",
                    full: "the Service that does not fit stays as it was: refusal `ServicesFull`",
                }),
            }
            /// Traffic of backends that are gone, by service id.
            TOTALS totals [TOTALS]: pinned Hash(u32 => StatsValue) {
                size: Size::As("NAMES"),
                flags: NO_PREALLOC,
                holds: "service id → the same as `STATS`, of backends that are gone",
                writer: "agent",
                readers: "agent, CLI",
                miss: "no backend is gone yet",
            }
            /// Agent's report.
            REPORT report [REPORT]: pinned Array(u32 => ReportValue) {
                size: Size::Fixed(1),
                holds: "0 → the agent's report, JSON",
                writer: "agent",
                readers: "CLI",
            }
        }
    };
}
