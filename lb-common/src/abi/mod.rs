//! Every type that crosses the border between the agent and the kernel.
//!
//! Plain integers only: no `bool`, `enum`, `Option` or `usize`, and no padding that the compiler adds. The layouts are
//! asserted in `layout.rs`. Id 0 and generation 0 mean "none", so an empty map fails safe.

mod addr;
mod backend;
mod config;
mod counter;
mod flow;
mod frontend;
mod layout;
mod names;
#[cfg(feature = "user")]
mod pod;
mod socket;
mod stats;

pub use addr::{Address, Be16, V4, V6};
pub use backend::{BackendValue, backend_flag};
pub use config::{Cidr, DeviceValue, FamilyConfig, StatusValue, config_flag, device_flag};
pub use counter::{Counter, counter_name};
pub use flow::{
    AffinityKey, AffinityValue, FlowKey, FlowValue, FragmentKey, FragmentValue, Tally, flow_action, flow_kind,
    flow_state,
};
pub use frontend::{
    FrontendKey, FrontendValue, SetRef, SourceRangeKey, algorithm, frontend_flag, frontend_kind, frontend_scope,
};
pub use names::{NAME_LEN, NameValue, REPORT_LEN, ReportValue, map_name};
pub use socket::{SocketKey, SocketValue, socket_kind};
pub use stats::StatsValue;

/// Version of all layouts in this module and of the meaning of their fields. Pinned maps carry it; an agent that finds
/// another version migrates or refuses, it never reads foreign bytes.
pub const ABI_VERSION: u32 = 2;

/// IP protocol numbers (RFC 9293, RFC 768, RFC 9260, RFC 792, RFC 4443).
pub mod proto {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}
