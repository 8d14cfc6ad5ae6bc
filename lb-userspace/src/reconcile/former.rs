//! What was known of the node and the cluster before this agent began: it goes on to hold until the source has said
//! better.

use std::borrow::Cow;

use ipnet::IpNet;

use crate::maps::PinnedFacts;
use crate::model::event::Kind;
use crate::model::record::NodeRecord;
use crate::model::world::World;

/// What the settings in the maps said at the start.
#[derive(Debug)]
pub(super) struct FormerFacts {
    node: NodeRecord,
    service_cidrs: Vec<IpNet>,
    /// The source is the API: what it has not said yet, or may not say, may be so all the same.
    kube: bool,
}

impl FormerFacts {
    pub(super) fn new(pinned: PinnedFacts, kube: bool) -> Self {
        let PinnedFacts { node: addresses, cluster: pod_cidrs, services: service_cidrs } = pinned;
        Self { node: NodeRecord { addresses, pod_cidrs, ..NodeRecord::default() }, service_cidrs, kube }
    }

    /// The node as the source has it, or had it last, or as it was before.
    pub(super) fn node<'a>(&'a self, world: &'a World) -> Option<&'a NodeRecord> {
        world.node().or_else(|| self.counts(world).then_some(&self.node))
    }

    /// Where `ClusterIP`s come from.
    pub(super) fn service_cidrs(&self, world: &World) -> Cow<'_, [IpNet]> {
        if world.has_listed(Kind::ServiceCidr) || !self.counts(world) {
            world.service_cidrs().into()
        } else {
            (&*self.service_cidrs).into()
        }
    }

    fn counts(&self, world: &World) -> bool {
        self.kube || !world.synced()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::{NodeFacts, ResolveSettings};
    use crate::model::event::{Object, SourceEvent};
    use crate::model::record::ServiceCidrRecord;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn former(kube: bool) -> FormerFacts {
        let node = vec!["192.0.2.1".parse().unwrap()];
        FormerFacts::new(PinnedFacts { node, cluster: nets(&["10.1.0.0/24"]), services: nets(&["10.96.0.0/16"]) }, kube)
    }

    fn world() -> World {
        World::new(NodeFacts { name: "n".into(), ..NodeFacts::default() }, ResolveSettings::default())
    }

    fn node(address: &str) -> Object {
        NodeRecord { name: "n".into(), addresses: vec![address.parse().unwrap()], ..NodeRecord::default() }.into()
    }

    fn address(former: &FormerFacts, world: &World) -> Option<String> {
        former.node(world).map(|node| node.addresses[0].to_string())
    }

    #[test]
    fn what_was_known_holds_until_the_api_has_said_better_and_what_that_said_when_it_is_gone() {
        let (former, mut world) = (former(true), world());
        assert_eq!(address(&former, &world).as_deref(), Some("192.0.2.1"));
        // It is not there, or cannot be read: no reason to move NodePorts.
        world.apply(SourceEvent::Replace(Kind::Node, Vec::new()));
        world.apply(SourceEvent::Synced);
        assert!(world.node_is_gone(true));
        assert_eq!(address(&former, &world).as_deref(), Some("192.0.2.1"));
        assert_eq!(former.node(&world).unwrap().pod_cidrs, nets(&["10.1.0.0/24"]));
        world.apply(SourceEvent::Apply(node("192.0.2.2")));
        assert!(!world.node_is_gone(true));
        assert_eq!(address(&former, &world).as_deref(), Some("192.0.2.2"));
        world.apply(SourceEvent::Replace(Kind::Node, Vec::new()));
        assert!(world.node_is_gone(false));
        assert_eq!(address(&former, &world).as_deref(), Some("192.0.2.2"));
    }

    #[test]
    fn former_ranges_of_cluster_ips_hold_until_those_of_the_cluster_were_listed() {
        let (former, mut world) = (former(true), world());
        assert_eq!(*former.service_cidrs(&world), nets(&["10.96.0.0/16"]));
        world.apply(SourceEvent::Synced);
        assert_eq!(*former.service_cidrs(&world), nets(&["10.96.0.0/16"]));
        let record = ServiceCidrRecord { name: "kubernetes".into(), cidrs: nets(&["10.97.0.0/16"]) };
        world.apply(SourceEvent::Replace(Kind::ServiceCidr, vec![record.into()]));
        assert_eq!(*former.service_cidrs(&world), nets(&["10.97.0.0/16"]));
        world.apply(SourceEvent::Replace(Kind::ServiceCidr, Vec::new()));
        assert!(former.service_cidrs(&world).is_empty());
    }

    #[test]
    fn manifests_say_all_there_is_once_they_are_read() {
        let (former, mut world) = (former(false), world());
        assert!(former.node(&world).is_some() && !former.service_cidrs(&world).is_empty());
        world.apply(SourceEvent::Synced);
        assert!(former.node(&world).is_none() && former.service_cidrs(&world).is_empty());
    }
}
