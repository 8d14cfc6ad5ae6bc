//! The Kubernetes API as a server that may be away: a client that tries several in turn, and whether one answers. Knows
//! no objects.

pub mod backoff;
pub mod client;
pub mod connection;

pub use client::{ClientError, ClientSettings, connect, failover_client};
pub use connection::{Connection, Observer, RequestLog};
