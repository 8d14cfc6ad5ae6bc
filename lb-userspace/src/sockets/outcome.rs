//! What became of the sockets whose backend was gone.

use super::error::DestroyError;
use super::namespaces::Survey;
use crate::maps::sockets::SocketRow as Victim;

/// Victims that could not be destroyed, for one reason.
#[derive(Debug)]
pub struct Failure {
    /// The victims. They may still be there.
    pub victims: Vec<Victim>,
    /// The reason.
    pub why: DestroyError,
}

/// What became of the victims.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Sockets connected to another backend.
    pub moved: usize,
    /// Sockets destroyed.
    pub destroyed: usize,
    /// Sockets that had been closed, or connected to something else, before.
    pub gone: usize,
    /// Victims that could not be destroyed.
    pub failed: Vec<Failure>,
    /// Victims whose network namespace was not found: it has ended, or this process does not see it.
    pub not_found: Vec<Victim>,
    /// What was seen when namespaces were looked for. `None`: all were known.
    pub survey: Option<Survey>,
    /// Times that a known namespace was entered. The own one need not be.
    pub entered: usize,
    /// Times that the kernel was asked to list sockets.
    pub listings: usize,
}
