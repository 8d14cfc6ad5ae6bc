//! Kubernetes types as source objects.

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;

use super::{Kind, Object};

impl Object {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Node(_) => Kind::Node,
            Self::ServiceCidr(_) => Kind::ServiceCidr,
        }
    }

    /// Its namespace; empty for what has none.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Service(service) => &service.name.namespace,
            Self::EndpointSlice(slice) => &slice.namespace,
            Self::Node(_) | Self::ServiceCidr(_) => "",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Service(service) => &service.name.name,
            Self::EndpointSlice(slice) => &slice.name,
            Self::Node(node) => &node.name,
            Self::ServiceCidr(cidr) => &cidr.name,
        }
    }
}

impl From<Service> for Object {
    fn from(service: Service) -> Self {
        Self::Service(Box::new(service.into()))
    }
}

impl From<EndpointSlice> for Object {
    fn from(slice: EndpointSlice) -> Self {
        Self::EndpointSlice(Box::new(slice.into()))
    }
}

impl From<Node> for Object {
    fn from(node: Node) -> Self {
        Self::Node(Box::new(node.into()))
    }
}

impl From<ServiceCIDR> for Object {
    fn from(cidr: ServiceCIDR) -> Self {
        Self::ServiceCidr(Box::new(cidr.into()))
    }
}
