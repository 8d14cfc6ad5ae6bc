//! Names for people: `NAMES` maps service ids to what they stand for, `REPORT` is the agent's last report as JSON.
//! Neither is read by the data path; both let the command line answer while the agent is down.

/// Room for `namespace/name:port/protocol`, each part at most 63 bytes.
pub const NAME_LEN: usize = 208;

/// A service id's name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameValue {
    /// Bytes used.
    pub len: u32,
    /// Address family: 4 or 6.
    pub family: u32,
    /// `namespace/name:port/PROTOCOL`, UTF-8.
    pub name: [u8; NAME_LEN],
}

/// Room for the report.
pub const REPORT_LEN: usize = 65_528;

/// The agent's report (devices, features, refused objects) as JSON.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportValue {
    /// Bytes used.
    pub len: u32,
    /// Always 0.
    pub pad: u32,
    /// UTF-8 JSON.
    pub json: [u8; REPORT_LEN],
}

/// Names of all maps, as pinned; at most 15 bytes each.
pub mod map_name {
    /// Per family: established flows.
    pub const FLOWS: [&str; 2] = ["FLOWS4", "FLOWS6"];
    /// Per family: flows without a reply yet.
    pub const EMBRYOS: [&str; 2] = ["EMBRYO4", "EMBRYO6"];
    /// Per family: frontends.
    pub const FRONTENDS: [&str; 2] = ["FRONTENDS4", "FRONTENDS6"];
    /// Per family: slots.
    pub const SLOTS: [&str; 2] = ["SLOTS4", "SLOTS6"];
    /// Per family: backends.
    pub const BACKENDS: [&str; 2] = ["BACKENDS4", "BACKENDS6"];
    /// Per family: affinity.
    pub const AFFINITY: [&str; 2] = ["AFFINITY4", "AFFINITY6"];
    /// Per family: fragments.
    pub const FRAGMENTS: [&str; 2] = ["FRAGS4", "FRAGS6"];
    /// Per family: source ranges.
    pub const RANGES: [&str; 2] = ["RANGES4", "RANGES6"];
    /// Per family: sockets that were led to a backend.
    pub const SOCKETS: [&str; 2] = ["SOCKETS4", "SOCKETS6"];
    /// Network namespaces that opted out of the socket hooks.
    pub const OPT_OUT: &str = "OPT_OUT";
    /// Per family: settings.
    pub const CONFIG: [&str; 2] = ["CONFIG4", "CONFIG6"];
    /// Per family: traffic by backend, per CPU.
    pub const STATS: [&str; 2] = ["STATS4", "STATS6"];
    /// Traffic of backends that are gone, by service id.
    pub const TOTALS: &str = "TOTALS";
    /// Devices.
    pub const DEVICES: &str = "DEVICES";
    /// Counters, per CPU.
    pub const COUNTERS: &str = "COUNTERS";
    /// Agent's state.
    pub const STATUS: &str = "STATUS";
    /// Service names.
    pub const NAMES: &str = "NAMES";
    /// Agent's report.
    pub const REPORT: &str = "REPORT";
}
