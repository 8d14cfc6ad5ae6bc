//! What load balancers and kubelets ask: is this node's proxy well, and has a Service endpoints here.
//!
//! [`state`] knows, [`node`] answers `/healthz` and `/livez`, [`check_ports`] runs a small server for each
//! `healthCheckNodePort`. The answers are kube-proxy's, to the byte: cloud load balancers are built on them.

pub mod check_ports;
pub mod node;
pub mod state;

pub use check_ports::HealthCheckRegistry;
pub use state::ProxyHealth;
