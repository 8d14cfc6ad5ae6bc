//! Backends that behave oddly: those that fail far more often than their fellows rest for a while, and those that leave
//! connections unanswered are asked whether they are back.
//!
//! The programs in the kernel count and obey. `judge` decides who is to rest, without maps and clocks; `keeper` brings
//! it the numbers and carries out what it says. `silence` tells of silent backends, and `probe` asks them.

pub mod judge;
mod keeper;
mod probe;
mod silence;
#[cfg(test)]
mod tests;

pub use keeper::{Outliers, Totals};
pub use silence::SilenceWatch;

use crate::events::{Event, Regarding};
use crate::model::desired::ServiceName;

/// Something to tell of a Service.
fn told(service: &ServiceName, warning: bool, reason: &str, note: String) -> Event {
    let (kind, object) = service.object();
    let name = object.split_once('/').map_or(object.as_str(), |(_, name)| name);
    let regarding = Regarding::object(kind, &service.namespace, name);
    if warning {
        Event::warning(regarding, reason, "Serve", note)
    } else {
        Event::normal(regarding, reason, "Serve", note)
    }
}
