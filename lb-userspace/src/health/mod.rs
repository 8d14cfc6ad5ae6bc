//! What load balancers and kubelets ask: is this node's proxy well, and has a Service endpoints here.
//!
//! [`state`] knows, [`node`] answers `/healthz`, `/livez` and `/readyz`, [`check_ports`] runs a small server for each
//! `healthCheckNodePort`. The answers that kube-proxy gives as well are its own, to
//! the byte: cloud load balancers are built on them.

pub mod check_ports;
pub mod node;
pub mod state;

pub use check_ports::HealthCheckRegistry;
pub use state::ProxyHealth;
