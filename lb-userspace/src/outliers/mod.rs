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

use crate::causes::with_causes;
use crate::events::{Event, Regarding};
use crate::maps::TableFailure;
use crate::model::desired::ServiceName;
use crate::model::family::Family;

/// A backend: family, id, generation.
type Key = (Family, u32, u32);

/// What there is to tell; where nobody could look, that is said. The next look comes in any case.
fn looked(events: Result<Vec<Event>, TableFailure>, failed: &str) -> Vec<Event> {
    events.unwrap_or_else(|failure| {
        tracing::warn!(error = with_causes(&failure), "{failed}, trying again");
        Vec::new()
    })
}

/// Something to tell of a Service.
fn told(service: &ServiceName, warning: bool, reason: &str, note: String) -> Event {
    let (kind, name) = service.pod().map_or(("Service", service.name.as_str()), |pod| ("Pod", pod));
    let regarding = Regarding::object(kind, &service.namespace, name);
    if warning {
        Event::warning(regarding, reason, "Serve", note)
    } else {
        Event::normal(regarding, reason, "Serve", note)
    }
}
