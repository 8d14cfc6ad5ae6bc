//! `ServiceCIDR`s as records: where the API server takes `ClusterIP`s from.

use k8s_openapi::api::networking::v1::ServiceCIDR;

use super::address::parse_net;
use super::record::ServiceCidrRecord;

impl From<ServiceCIDR> for ServiceCidrRecord {
    fn from(object: ServiceCIDR) -> Self {
        let cidrs = object.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
        Self {
            name: object.metadata.name.unwrap_or_default(),
            cidrs: cidrs.iter().filter_map(|cidr| parse_net(cidr)).collect(),
        }
    }
}
