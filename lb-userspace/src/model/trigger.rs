//! Why EndpointSlices changed, and when: for the metric of how long a change takes.

use super::desired::ServiceName;
use super::family::Family;

/// What changed an EndpointSlice, such as a Pod that became ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The Service of the slice.
    pub service: ServiceName,
    /// The slice's family.
    pub family: Family,
    /// When: `endpoints.kubernetes.io/last-change-trigger-time`, nanoseconds since the epoch.
    pub at_ns: u64,
}
