//! The store of all objects: takes events of a source, gives the Services whose desired state changed.

use super::desired::{Change, NodeFacts, Refusal, ResolveSettings};
use super::record::NodeRecord;
use crate::source::SourceEvent;

/// All objects, and which Services are to be resolved again.
#[derive(Debug)]
pub struct World {
    synced: bool,
}

impl World {
    /// An empty world as seen from this node.
    pub fn new(_node: NodeFacts, _settings: ResolveSettings) -> Self {
        Self { synced: false }
    }

    /// Takes one event. Cheap: nothing is resolved before [`World::take_changes`].
    pub fn apply(&mut self, event: SourceEvent) {
        if matches!(event, SourceEvent::Synced) {
            self.synced = true;
        }
    }

    /// The node's own facts are now these. A `zone` of none is taken from the Node object, when there is one.
    pub fn set_node(&mut self, _node: NodeFacts) {}

    /// The Services whose desired state differs from what was given last. Empty before [`World::synced`].
    pub fn take_changes(&mut self) -> Vec<Change> {
        Vec::new()
    }

    /// Everything that is not served, and why.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        std::iter::empty()
    }

    /// Whether every kind of object was listed at least once. Never becomes false again.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// This node's Node object, when the source has one.
    pub fn node(&self) -> Option<&NodeRecord> {
        None
    }
}
