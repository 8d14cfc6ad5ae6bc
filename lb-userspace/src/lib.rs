//! x
pub mod attach;
