//! `ServiceCIDR`s as records: where the API server takes `ClusterIP`s from.

use k8s_openapi::api::networking::v1::ServiceCIDR;

use super::api_object::{ApiObject, Scope, Selector, Wait};
use crate::model::address::parse_net;
use crate::model::record::{Kind, ServiceCidrRecord};

impl ApiObject for ServiceCIDR {
    type Record = ServiceCidrRecord;
    const KIND: Kind = Kind::ServiceCidr;
    const IN_MANIFESTS: bool = false;
    const WAIT: Wait = Wait::Never { instead: "give --service-cidr instead" };

    fn selector(scope: &Scope<'_>) -> Option<Selector> {
        scope.service_cidrs.then_some(Selector::All)
    }
}

impl From<ServiceCIDR> for ServiceCidrRecord {
    fn from(object: ServiceCIDR) -> Self {
        let cidrs = object.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
        Self {
            name: object.metadata.name.unwrap_or_default(),
            cidrs: cidrs.iter().filter_map(|cidr| parse_net(cidr)).collect(),
        }
    }
}
