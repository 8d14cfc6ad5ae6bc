//! The node's name among those that a source's objects have.

use std::collections::BTreeSet;

use super::facts::Names;
use crate::model::event::{Kind, Object, SourceEvent};
use crate::model::record::{NodeRecord, SliceRecord};

/// Other names that are kept, besides those that may be meant.
const OTHERS: usize = 64;

/// Names that mean the same node: in another case, or with and without the domain.
pub(super) fn is_alike(a: &str, b: &str) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    short(a) == short(b)
}

impl Names {
    /// Nothing is known yet but the own name.
    pub fn of(own: &str) -> Self {
        Self { own: own.to_owned(), ..Self::default() }
    }

    /// Takes what a source says. `own_node_only`: it is asked for the own Node object and no other.
    pub fn take(&mut self, events: &[SourceEvent], own_node_only: bool) {
        for event in events {
            match event {
                SourceEvent::Replace(kind, objects) => {
                    if *kind == Kind::Node {
                        self.object = (own_node_only || !objects.is_empty()).then_some(false);
                    }
                    for object in objects {
                        self.object(object);
                    }
                }
                SourceEvent::Apply(object) => self.object(object),
                SourceEvent::Delete { kind: Kind::Node, name, .. } if *name == self.own => self.object = Some(false),
                _ => {}
            }
        }
    }

    fn object(&mut self, object: &Object) {
        match object {
            Object::Node(node) => self.node(node),
            Object::EndpointSlice(slice) => self.slice(slice),
            _ => {}
        }
    }

    fn node(&mut self, node: &NodeRecord) {
        if node.name == self.own {
            self.object = Some(true);
        } else {
            self.other(&node.name);
        }
    }

    fn slice(&mut self, slice: &SliceRecord) {
        let mut last = None;
        for endpoint in &slice.endpoints {
            match endpoint.node.as_deref() {
                None => self.nowhere = true,
                Some(node) if node == self.own => self.here = true,
                // Endpoints of one node often follow each other.
                Some(node) if last != Some(node) => {
                    self.other(node);
                    last = Some(node);
                }
                Some(_) => {}
            }
        }
    }

    fn other(&mut self, name: &str) {
        let others: &mut BTreeSet<String> = &mut self.others;
        if !others.contains(name) && (others.len() < OTHERS || is_alike(name, &self.own)) {
            others.insert(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::manifests;

    fn names(own_node_only: bool, text: &str) -> Names {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), text).unwrap();
        let mut names = Names::of("n1");
        names.take(&manifests::read(dir.path()).unwrap(), own_node_only);
        names
    }

    const SLICE: &str = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a, labels: {kubernetes.io/service-name: w}}, addressType: IPv4, \
                         endpoints: [{addresses: [10.0.0.1], nodeName: NODE}, {addresses: [10.0.0.2]}]}\n---\n";
    const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: NODE}}\n";

    #[test]
    fn nodes_of_endpoints_and_node_objects_are_compared_with_the_own_name() {
        let here = names(false, &SLICE.replace("NODE", "n1"));
        assert_eq!((here.here, here.nowhere, here.object, here.others.len()), (true, true, None, 0));
        let there = names(false, &[SLICE.replace("NODE", "N1.example"), NODE.replace("NODE", "n2")].concat());
        assert_eq!((there.here, there.object), (false, Some(false)));
        assert_eq!(there.others.iter().map(String::as_str).collect::<Vec<_>>(), ["N1.example", "n2"]);
        assert_eq!(names(false, &NODE.replace("NODE", "n1")).object, Some(true));
        assert_eq!(names(true, "").object, Some(false), "the API has no such Node");
    }
}
