//! The seam between plan and maps: what the maps of one node can do, whatever they are made of.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::abi::StatusValue;

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

/// The maps of one node with what the agent writes there about itself.
pub trait AgentTables: Tables {
    /// The agent's state.
    fn status(&self) -> Result<StatusValue, TableFailure>;
    /// What the settings in the maps say, of both families.
    fn pinned_facts(&self) -> Result<PinnedFacts, TableFailure>;
    /// Changes the agent's state.
    fn update_status(&mut self, change: impl FnOnce(&mut StatusValue)) -> Result<(), TableFailure>;
    /// Writes the agent's report, JSON.
    fn set_report(&mut self, json: &str) -> Result<(), TableFailure>;
}
