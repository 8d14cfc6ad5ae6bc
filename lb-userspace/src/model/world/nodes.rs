//! What concerns the node and the cluster: the own Node object, and where `ClusterIP`s come from.

use super::World;
use crate::model::desired::ServiceName;
use crate::model::record::{Keeps, NodeRecord, ServiceCidrRecord};

fn without_namespace(name: &str) -> ServiceName {
    ServiceName { namespace: String::new(), name: name.to_owned() }
}

impl Keeps<NodeRecord> for World {
    fn put(&mut self, node: Box<NodeRecord>) {
        if node.name == self.given.name {
            self.node_object = Some(*node);
            self.node_gone = false;
            self.refresh_node();
        }
    }

    fn remove(&mut self, name: &ServiceName) {
        if name.name == self.given.name {
            self.node_gone = self.node_object.is_some();
            self.refresh_node();
        }
    }

    fn names(&self) -> Vec<ServiceName> {
        self.node_object.iter().filter(|_| !self.node_gone).map(|node| without_namespace(&node.name)).collect()
    }
}

impl Keeps<ServiceCidrRecord> for World {
    fn put(&mut self, cidr: Box<ServiceCidrRecord>) {
        let ServiceCidrRecord { name, cidrs } = *cidr;
        self.service_cidrs.insert(name, cidrs);
    }

    fn remove(&mut self, name: &ServiceName) {
        self.service_cidrs.remove(&name.name);
    }

    fn names(&self) -> Vec<ServiceName> {
        self.service_cidrs.keys().map(|name| without_namespace(name)).collect()
    }
}
