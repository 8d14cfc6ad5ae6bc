//! The kernel's interfaces that the rest of the agent builds on. Knows nothing of Services, devices or maps.

pub mod mounts;
pub mod netns;
