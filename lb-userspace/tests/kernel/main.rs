//! The programs in the kernel, by test run: the vectors that the host runs too, through TC alone and with XDP in front
//! of it, and what the verifier says.
//!
//! | vector's hook | mode `tc` | mode `xdp` | mode `xdp_no_send` |
//! |---|---|---|---|
//! | `PodIngress` | `pod_ingress` | the same | the same |
//! | `PodEgress` | `pod_egress` | the same | the same |
//! | `UplinkEgress` | `uplink_egress` | the same | the same |
//! | `UplinkIngress` | `uplink_ingress` | `uplink_xdp` alone | `uplink_xdp`, then `uplink_ingress` |
//!
//! In mode `xdp` what XDP passes up unmarked goes through `uplink_ingress` too, which has to leave it alone, unless the
//! vector says that XDP hands over. Each vector says verdict and bytes, so host, TC and XDP are equal by being right.
//!
//! Not here, since a test run cannot make such packets: unfinished checksums (offloads) and devices without a link
//! header (`tunnel_ingress`, `tunnel_egress`).
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod alike;
mod differential;
mod namespace;
mod node;
mod programs;
mod random;
mod rig;
mod vectors;
