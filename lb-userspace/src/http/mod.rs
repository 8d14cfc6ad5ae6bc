//! HTTP for the agent's own answers: listening sockets, and a small server that answers by path.

mod connections;
pub mod listen;
pub mod server;
mod taken;

pub use taken::TakenPorts;
