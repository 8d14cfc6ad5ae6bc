//! Whole nodes in network namespaces, with real sockets.
#![expect(clippy::format_collect, reason = "texts of a few thousand lines, once a test")]
#![expect(clippy::many_single_char_names, reason = "octets and indices")]
#![expect(clippy::float_cmp, reason = "counters are whole numbers")]
#![expect(clippy::unchecked_time_subtraction, reason = "a time after midnight less one before it, plus a day")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed expectation should stop the test where it stands")]

mod affinity;
mod algorithms;
mod bad_input;
mod bulk;
mod busy;
mod check;
mod crash;
mod devices;
mod direct;
mod echo;
mod ejection;
mod endpoints;
mod fault_ground;
mod fault_scenarios;
mod fault_traffic;
mod faults;
mod fixture;
mod health;
mod host_ports;
mod hostile;
mod hostile_flood;
mod hostile_nat;
mod hostile_reset;
mod hostile_source;
mod kernel;
mod least;
mod load;
mod local;
mod matrix;
mod monitor;
mod monitor_flood;
mod monitoring;
mod named_faults;
mod own;
#[cfg(target_arch = "x86_64")]
mod privileges;
mod readme;
mod refusal;
mod rivals;
mod scale;
mod scale_views;
mod silence;
mod sockets;
mod sockets_agent;
mod sockets_dns;
mod sockets_odd;
mod sockets_reach;
mod sockets_speed;
mod sockets_udp;
mod takeover;
mod takeover_live;
mod trace;
mod traffic;
mod truth;
mod tunnel;
mod upgrade;
mod uplinks;
