//! Names for people: `NAMES` maps service ids to what they stand for, `REPORT` is the agent's last report as JSON.
//! Neither is read by the data path; both let the command line answer while the agent is down.

use super::plain::plain;

/// Room for `namespace/name:port/protocol`, each part at most 63 bytes.
pub const NAME_LEN: usize = 200;

plain! {
    /// A service id's name.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct NameValue {
        /// Bytes used.
        pub len: u32,
        /// Address family: 4 or 6.
        pub family: u32,
        /// `namespace/name:port/PROTOCOL`, UTF-8.
        pub name: [u8; NAME_LEN],
        /// When it was first written, nanoseconds since the epoch; 0: not known. Earlier versions have the end of the name
        /// here, which was always 0.
        pub since_ns: u64,
    }
}

/// Room for the report.
pub const REPORT_LEN: usize = 65_528;

plain! {
    /// The agent's report (devices, features, refused objects) as JSON.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ReportValue {
        /// Bytes used.
        pub len: u32,
        /// Always 0.
        pub pad: u32,
        /// UTF-8 JSON.
        pub json: [u8; REPORT_LEN],
    }
}
