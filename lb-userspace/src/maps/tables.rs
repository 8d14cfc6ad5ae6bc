//! The seam between plan and maps: what the maps of one node can do, whatever they are made of.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::abi::{OutlierValue, StatusValue, rest};

use super::failure::TableFailure;
use super::filters::LiveFlows;
use crate::model::family::Family;
use crate::plan::{Existing, Limits, Op};

/// Settings of the data path for one family; the range of known `ClusterIP`s comes from the planner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilySettings {
    /// Bits of [`lb_common::abi::config_flag`].
    pub flags: u32,
    /// The node's own address.
    pub node: Option<IpAddr>,
    /// Prefixes of in-cluster clients; the first four count.
    pub cluster: Vec<IpNet>,
    /// Prefixes of which unallocated addresses are dropped; the first two count.
    pub services: Vec<IpNet>,
    /// First and last port of the source NAT range.
    pub snat_ports: (u16, u16),
    /// Cookie of the node's network namespace; 0: it is the machine's initial one.
    pub host_netns: u64,
    /// One of [`lb_common::abi::forward_mode`].
    pub forward: u32,
}

/// What the maps' settings say of the node and the cluster: what was known when they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedFacts {
    /// The node's own addresses, at most one a family.
    pub node: Vec<IpAddr>,
    /// Prefixes of in-cluster clients.
    pub cluster: Vec<IpNet>,
    /// Prefixes of which unallocated addresses are dropped.
    pub services: Vec<IpNet>,
}

/// The maps of one node. One writer.
pub trait Tables {
    /// Carries out one operation.
    fn apply(&mut self, op: &Op) -> Result<(), TableFailure>;
    /// Reads everything back.
    fn read(&self) -> Result<Existing, TableFailure>;
    /// How much the maps hold.
    fn limits(&self) -> Limits;
    /// Writes the settings of one family.
    fn configure(&mut self, family: Family, settings: &FamilySettings) -> Result<(), TableFailure>;
    /// Only these frontends and backends have flows: what is kept for others that are gone can go.
    fn settle(&mut self, live: &LiveFlows) -> Result<(), TableFailure>;
}

/// What programs and agent note in a backend's entry of how it behaves. The generation says which backend is meant; of
/// another one nothing is said or changed.
pub trait BackendMarks {
    /// Every backend that is marked as silent or as one that outlier ejection judges.
    fn marked(&self) -> Result<Vec<Marked>, TableFailure>;
    /// Changes whenever a program has marked a backend as silent, or has found that one is not any more.
    fn silence_signs(&self) -> Result<u64, TableFailure>;
    /// Whether it is marked as silent, and since when it was last tried, in the kernel's time.
    fn silent(&self, family: Family, id: u32, generation: u32) -> Result<Option<u16>, TableFailure>;
    /// Marks it as silent, or with 0 as not.
    fn set_silent(&mut self, family: Family, id: u32, generation: u32, silent: u16) -> Result<(), TableFailure>;
    /// How outlier ejection has it: one of [`lb_common::abi::rest`]. Unless that is `OFF`, connections are counted.
    fn set_rest(&mut self, family: Family, id: u32, generation: u32, rest: u16) -> Result<(), TableFailure>;
    /// What was counted for a backend that is judged: numbers since that began, clients since the last call.
    fn outcomes(&mut self, family: Family, id: u32, generation: u32) -> Result<OutlierValue, TableFailure>;
}

/// A backend that is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Address family.
    pub family: Family,
    /// Backend id.
    pub id: u32,
    /// The backend's generation.
    pub generation: u32,
    /// [`lb_common::abi::BackendValue::silent`].
    pub silent: u16,
    /// [`lb_common::abi::BackendValue::rest`].
    pub rest: u16,
}

/// What one of [`lb_common::abi::rest`] means, in a word; none: the backend is as any other.
pub const fn resting(rest: u16) -> Option<&'static str> {
    match rest {
        rest::OFF | rest::NONE => None,
        rest::EJECTED => Some("ejected"),
        _ => Some("probation"),
    }
}

impl Marked {
    /// How outlier ejection has it, in a word; none: as any other.
    pub const fn resting(&self) -> Option<&'static str> {
        resting(self.rest)
    }

    /// Why new connections pass it over, as text.
    pub fn words(&self) -> Vec<&'static str> {
        (self.silent != 0).then_some("silent").into_iter().chain(self.resting()).collect()
    }
}

/// The maps of one node with what the agent writes there about itself.
pub trait AgentTables: Tables + BackendMarks {
    /// The agent's state.
    fn status(&self) -> Result<StatusValue, TableFailure>;
    /// What the settings in the maps say, of both families.
    fn pinned_facts(&self) -> Result<PinnedFacts, TableFailure>;
    /// Changes the agent's state.
    fn update_status(&mut self, change: impl FnOnce(&mut StatusValue)) -> Result<(), TableFailure>;
    /// Writes the agent's report, JSON.
    fn set_report(&mut self, json: &str) -> Result<(), TableFailure>;
}
