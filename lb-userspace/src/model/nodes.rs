//! Nodes as records.

use k8s_openapi::api::core::v1::Node;

use super::address::{parse_ip, parse_net};
use super::record::NodeRecord;

const ZONE: &str = "topology.kubernetes.io/zone";
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

impl From<Node> for NodeRecord {
    fn from(node: Node) -> Self {
        let meta = node.metadata;
        let spec = node.spec.unwrap_or_default();
        let status = node.status.unwrap_or_default();
        Self {
            name: meta.name.unwrap_or_default(),
            zone: meta.labels.and_then(|mut labels| labels.remove(ZONE)).filter(|zone| !zone.is_empty()),
            addresses: status
                .addresses
                .unwrap_or_default()
                .iter()
                .filter(|a| matches!(a.type_.as_str(), "InternalIP" | "ExternalIP"))
                .filter_map(|a| parse_ip(&a.address))
                .collect(),
            pod_cidrs: match spec.pod_cidrs {
                Some(cidrs) if !cidrs.is_empty() => cidrs.iter().filter_map(|cidr| parse_net(cidr)).collect(),
                _ => spec.pod_cidr.iter().filter_map(|cidr| parse_net(cidr)).collect(),
            },
            leaving: meta.deletion_timestamp.is_some()
                || spec.taints.unwrap_or_default().iter().any(|taint| taint.key == AUTOSCALER_TAINT),
        }
    }
}
