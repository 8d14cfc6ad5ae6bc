//! x
pub mod desired;
