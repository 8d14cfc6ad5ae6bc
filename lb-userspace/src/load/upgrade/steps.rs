//! The steps of an upgrade, as tests stop it at them, and as errors name them.

use std::io;

use crate::faults;
use crate::load::LoadError;

/// A place at which a test may stop an upgrade.
pub(super) fn step(name: &'static str) -> Result<(), LoadError> {
    faults::point(name).map_err(|source| LoadError::Upgrade { step: name, source })
}

/// A step that the kernel refuses.
pub(super) fn failed(step: &'static str) -> impl Fn(io::Error) -> LoadError {
    move |source| LoadError::Upgrade { step, source }
}
