//! One Service as the world has it: what it is made of, and what became of it. For the plan, and for who explains it.

use super::desired::{DesiredService, Family, NodeFacts, Refusal, ResolveSettings, ServiceName};
use super::endpoints::{Sourced, merge};
use super::record::{PortRecord, ServiceRecord, SliceRecord};
use super::resolve::resolve;
use super::topology::{Endpoint, SetRules, set_rules};

/// A Service, its slices, and what is made of them for the kernel.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Its name.
    pub name: &'a ServiceName,
    /// The Service; none: there are only slices.
    pub service: Option<&'a ServiceRecord>,
    /// Its slices, by name.
    pub slices: Vec<&'a SliceRecord>,
    /// What is known of the node.
    pub node: &'a NodeFacts,
    /// Settings of the resolver.
    pub settings: &'a ResolveSettings,
    /// What the kernel is to do.
    pub desired: DesiredService,
    /// What is not served, and why.
    pub refusals: Vec<Refusal>,
}

impl<'a> View<'a> {
    /// A Service as if it were the only one.
    pub(super) fn of(
        name: &'a ServiceName,
        service: Option<&'a ServiceRecord>,
        slices: &'a [SliceRecord],
        node: &'a NodeFacts,
        settings: &'a ResolveSettings,
    ) -> Self {
        let slices: Vec<&SliceRecord> = slices.iter().collect();
        let nothing = || DesiredService { name: name.clone(), ports: Vec::new(), health: None };
        let (desired, refusals) = match service {
            Some(service) => resolve(service, &slices, node, settings),
            None => (nothing(), slices.iter().flat_map(|slice| slice.refusals.iter().cloned()).collect()),
        };
        Self { name, service, slices, node, settings, desired, refusals }
    }

    /// The endpoints of one of its ports in a family.
    pub fn sourced(&self, port: &PortRecord, family: Family) -> Vec<Sourced<'a>> {
        merge(&self.slices, &port.name, port.protocol, family, &self.node.name)
    }

    /// The rules of the sets of one of its ports, which has these endpoints in the family.
    pub fn set_rules(
        &self,
        service: &ServiceRecord,
        port: &PortRecord,
        family: Family,
        endpoints: &[Endpoint<'_>],
    ) -> SetRules<'a> {
        let policy = service.policy(port, family, self.settings);
        set_rules(endpoints, policy, &self.node.name, self.node.zone.as_deref())
    }
}
