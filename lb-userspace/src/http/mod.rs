//! HTTP for the agent's own answers: listening sockets, and a small server that answers by path, in gzip where that is accepted.

mod connections;
mod gzip;
pub mod listen;
pub mod server;
mod taken;

pub use taken::TakenPorts;
