//! Why clients of service ports got nothing: reads `CAUSES`, and removes what is there of a service port that goes.

use std::path::Path;

use aya::maps::{HashMap, MapData};
use lb_common::abi::{CAUSES_OF_SERVICES, CauseKey, CauseValue, Counter, map_name};

use super::failure::TableFailure;
use super::pins::{fault, open, read_failure, removed};

/// One reason of one service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// Service id.
    pub service: u32,
    /// The reason.
    pub counter: Counter,
    /// Packets, and calls of sockets.
    pub count: u64,
    /// When last, in nanoseconds of `CLOCK_MONOTONIC`.
    pub last_ns: u64,
}

/// The map.
pub(super) struct Causes(HashMap<MapData, CauseKey, CauseValue>);

impl Causes {
    pub(super) fn open(dir: &Path) -> Result<Self, TableFailure> {
        Ok(Self(open(dir, map_name::CAUSES)?))
    }

    /// All that is there, by service port.
    pub(super) fn read(&self) -> Result<Vec<Cause>, TableFailure> {
        let mut causes = Vec::new();
        for entry in &self.0 {
            let (CauseKey { service, counter }, CauseValue { count, last_ns }) =
                entry.map_err(read_failure(map_name::CAUSES))?;
            // One of another version has no name here.
            let named = CAUSES_OF_SERVICES.iter().find(|known| known.index() == counter);
            causes.extend(named.map(|&counter| Cause { service, counter, count, last_ns }));
        }
        causes.sort_unstable();
        Ok(causes)
    }

    pub(super) fn remove(&mut self, service: u32) -> Result<(), TableFailure> {
        for counter in CAUSES_OF_SERVICES {
            let key = CauseKey { service, counter: counter.index() };
            fault(map_name::CAUSES)?;
            removed(map_name::CAUSES, self.0.remove(&key))?;
        }
        Ok(())
    }
}
