//! Nodes as records.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, NodeAddress};

use super::api_object::{ApiObject, Scope, Selector, Wait};
use crate::model::address::{parse_ip, parse_net};
use crate::model::record::{Kind, NodeRecord};

const ZONE: &str = "topology.kubernetes.io/zone";
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// Internal addresses first, as in kube-proxy, whatever their order in the object.
fn addresses(given: &[NodeAddress]) -> Vec<IpAddr> {
    let of_type = |wanted: &'static str| given.iter().filter(move |address| address.type_ == wanted);
    of_type("InternalIP").chain(of_type("ExternalIP")).filter_map(|address| parse_ip(&address.address)).collect()
}

impl ApiObject for Node {
    type Record = NodeRecord;
    const KIND: Kind = Kind::Node;
    const IN_MANIFESTS: bool = true;
    const WAIT: Wait = Wait::Briefly;

    fn selector(scope: &Scope<'_>) -> Option<Selector> {
        Some(Selector::Fields(format!("metadata.name={}", scope.node_name)))
    }
}

impl From<Node> for NodeRecord {
    fn from(node: Node) -> Self {
        let meta = node.metadata;
        let spec = node.spec.unwrap_or_default();
        let status = node.status.unwrap_or_default();
        Self {
            name: meta.name.unwrap_or_default(),
            zone: meta.labels.and_then(|mut labels| labels.remove(ZONE)).filter(|zone| !zone.is_empty()),
            addresses: addresses(&status.addresses.unwrap_or_default()),
            pod_cidrs: match spec.pod_cidrs {
                Some(cidrs) if !cidrs.is_empty() => cidrs.iter().filter_map(|cidr| parse_net(cidr)).collect(),
                _ => spec.pod_cidr.iter().filter_map(|cidr| parse_net(cidr)).collect(),
            },
            leaving: meta.deletion_timestamp.is_some()
                || spec.taints.unwrap_or_default().iter().any(|taint| taint.key == AUTOSCALER_TAINT),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::NodeStatus;

    use super::*;

    #[test]
    fn internal_addresses_come_before_external_ones() {
        let given = [("ExternalIP", "203.0.113.1"), ("Hostname", "n"), ("InternalIP", "192.0.2.1")];
        let addresses = given.map(|(type_, address)| NodeAddress { address: address.into(), type_: type_.into() });
        let status = NodeStatus { addresses: Some(addresses.to_vec()), ..NodeStatus::default() };
        let record = NodeRecord::from(Node { status: Some(status), ..Node::default() });
        assert_eq!(record.addresses, ["192.0.2.1", "203.0.113.1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }
}
