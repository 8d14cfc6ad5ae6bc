//! The parts of Kubernetes objects that matter to Sluice, parsed once and kept small: what the world stores.
//!
//! Addresses and ports are parsed where a record is made, in `source`; what could not be parsed is left out and kept as
//! a [`Refusal`], so that the rest of the object is served.

use std::net::IpAddr;

use ipnet::IpNet;

use super::algorithm::{Algorithm, TableSize};
use super::desired::{Family, Protocol, Refusal, ServiceName};
use super::ejection::Ejection;
use super::weights::{PodId, Weights};

/// What every record says of its object.
pub trait Record {
    /// `metadata.namespace`; empty for a kind without namespaces.
    fn namespace(&self) -> &str;
    /// `metadata.name`.
    fn name(&self) -> &str;
}

/// A store of all objects, with the part that keeps one kind.
pub trait Keeps<R: Record> {
    /// The object is there, or changed.
    fn put(&mut self, record: Box<R>);
    /// The object is gone.
    fn remove(&mut self, name: &ServiceName);
    /// The names of all objects of the kind.
    fn names(&self) -> Vec<ServiceName>;
}

/// The list of kinds. Whatever depends on the kind alone follows from it; a store must keep each of them.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident($record:ty): $name:literal;)*) => {
        /// Kinds of objects that Sluice reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Name as in the API.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Removes an object of this kind from a store.
            pub fn remove_from<S: $(Keeps<$record> +)*>(self, store: &mut S, name: &ServiceName) {
                match self {
                    $(Self::$kind => Keeps::<$record>::remove(store, name),)*
                }
            }

            /// The names of all objects of this kind in a store.
            pub fn names_in<S: $(Keeps<$record> +)*>(self, store: &S) -> Vec<ServiceName> {
                match self {
                    $(Self::$kind => Keeps::<$record>::names(store),)*
                }
            }
        }

        /// An object, trimmed to what matters.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Object {
            $($(#[$doc])* $kind(Box<$record>),)*
        }

        impl Object {
            /// Its kind.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Its namespace; empty for a kind without namespaces.
            pub fn namespace(&self) -> &str {
                match self {
                    $(Self::$kind(record) => record.namespace(),)*
                }
            }

            /// Its name.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$kind(record) => record.name(),)*
                }
            }

            /// Puts it into a store.
            pub fn put_into<S: $(Keeps<$record> +)*>(self, store: &mut S) {
                match self {
                    $(Self::$kind(record) => Keeps::<$record>::put(store, record),)*
                }
            }
        }

        $(impl From<$record> for Object {
            fn from(record: $record) -> Self {
                Self::$kind(Box::new(record))
            }
        })*
    };
}

kinds! {
    /// `v1 Service`.
    Service(ServiceRecord): "Service";
    /// `discovery.k8s.io/v1 EndpointSlice`.
    EndpointSlice(SliceRecord): "EndpointSlice";
    /// `v1 Node`.
    Node(NodeRecord): "Node";
    /// `v1 Pod`.
    Pod(PodRecord): "Pod";
    /// `networking.k8s.io/v1 ServiceCIDR`.
    ServiceCidr(ServiceCidrRecord): "ServiceCIDR";
}

/// A `v1 Service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Identity.
    pub name: ServiceName,
    /// `creationTimestamp`, seconds since the epoch. Unknown counts as youngest.
    pub created: Option<i64>,
    /// Why the Service does not belong to Sluice, if so.
    pub skip: Option<Skip>,
    /// `spec.clusterIPs`, at most one a family.
    pub cluster_ips: Box<[IpAddr]>,
    /// `spec.externalIPs`.
    pub external_ips: Box<[IpAddr]>,
    /// `status.loadBalancer.ingress[].ip` with `ipMode` VIP.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: Box<[IpNet]>,
    /// Source ranges were given but none could be read: LB addresses stay closed.
    pub source_ranges_unreadable: bool,
    /// `spec.ports`.
    pub ports: Box<[PortRecord]>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `sessionAffinity: ClientIP` timeout in seconds; 0: none.
    pub affinity_secs: u32,
    /// What annotations say of how its connections are spread; none: nothing.
    pub spread: Option<Box<Spread>>,
    /// `healthCheckNodePort` where it has a meaning: a load balancer with `externalTrafficPolicy: Local`; 0: none.
    pub health_node_port: u16,
    /// Of a Pod that goes for a Service: its addresses, one a family. Its ports are host ports.
    pub pod_ips: Box<[IpAddr]>,
    /// What is wrong with the object itself.
    pub refusals: Box<[Refusal]>,
}

impl ServiceRecord {
    /// A Service of which nothing is known yet.
    pub fn empty(name: ServiceName) -> Self {
        Self {
            name,
            created: None,
            skip: None,
            cluster_ips: Box::default(),
            external_ips: Box::default(),
            load_balancer_ips: Box::default(),
            source_ranges: Box::default(),
            source_ranges_unreadable: false,
            ports: Box::default(),
            internal_local: false,
            external_local: false,
            affinity_secs: 0,
            spread: None,
            health_node_port: 0,
            pod_ips: Box::default(),
            refusals: Box::default(),
        }
    }
}

impl Record for ServiceRecord {
    fn namespace(&self) -> &str {
        &self.name.namespace
    }

    fn name(&self) -> &str {
        &self.name.name
    }
}

/// How a Service wants its connections spread over its backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Annotation `algorithm`; none: the default.
    pub algorithm: Option<Algorithm>,
    /// It says that there are weights.
    pub weighted: bool,
    /// Annotation `maglev-table-size`; none: the default.
    pub table_size: Option<TableSize>,
    /// Annotation `weights`.
    pub weights: Option<Weights>,
    /// Annotation `outlier-ejection`; none: the default.
    pub ejection: Option<Ejection>,
}

/// Why a Service is not served at all, without anything being wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// `type: ExternalName`.
    ExternalName,
    /// No `clusterIP`, or `None`.
    Headless,
    /// Label `service.kubernetes.io/service-proxy-name`.
    OtherProxy,
}

/// One of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRecord {
    /// Empty for an only, unnamed port.
    pub name: Box<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Service port, never 0.
    pub port: u16,
    /// `nodePort`; 0: none.
    pub node_port: u16,
    /// Of a host port: the one address of the node on which it is served, or all of its family where it is unspecified; none: all.
    pub host_ip: Option<IpAddr>,
}

/// A `discovery.k8s.io/v1 EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRecord {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// Label `kubernetes.io/service-name`; empty: belongs to no Service.
    pub service: Box<str>,
    /// `addressType`; none for FQDN slices and for those marked as headless, which are not used.
    pub family: Option<Family>,
    /// `ports` with a number.
    pub ports: Box<[SlicePort]>,
    /// `endpoints`.
    pub endpoints: Box<[EndpointRecord]>,
    /// Annotation `weights`.
    pub weights: Option<Box<Weights>>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`, nanoseconds since the epoch.
    pub triggered_ns: Option<u64>,
    /// What is wrong with the object itself.
    pub refusals: Box<[Refusal]>,
}

impl Record for SliceRecord {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// One of an EndpointSlice's `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Name, to be equal to the Service port's.
    pub name: Box<str>,
    /// Protocol, to be equal to the Service port's.
    pub protocol: Protocol,
    /// Target port, never 0.
    pub port: u16,
}

/// One of an EndpointSlice's `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRecord {
    /// `addresses[0]`.
    pub ip: IpAddr,
    /// `conditions.ready`, nil as true.
    pub ready: bool,
    /// `conditions.serving`, nil as true.
    pub serving: bool,
    /// `conditions.terminating`, nil as false.
    pub terminating: bool,
    /// `targetRef`, if it is a Pod.
    pub pod: PodId,
    /// `nodeName`.
    pub node: Option<Box<str>>,
    /// `hints`.
    pub hints: Option<Box<Hints>>,
}

/// An endpoint's topology hints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `forNodes`.
    pub nodes: Box<[Box<str>]>,
    /// `forZones`.
    pub zones: Box<[Box<str>]>,
}

/// A `networking.k8s.io/v1 ServiceCIDR`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceCidrRecord {
    /// `metadata.name`.
    pub name: String,
    /// `spec.cidrs`.
    pub cidrs: Vec<IpNet>,
}

impl Record for ServiceCidrRecord {
    fn namespace(&self) -> &'static str {
        ""
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A `v1 Pod`, as far as its host ports go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRecord {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `creationTimestamp`, seconds since the epoch. Unknown counts as youngest.
    pub created: Option<i64>,
    /// `spec.nodeName`.
    pub node: Option<Box<str>>,
    /// `status.podIPs`, at most one a family; none without host ports.
    pub ips: Box<[IpAddr]>,
    /// Host ports of all of its containers, each once; none in the node's own network.
    pub ports: Box<[HostPort]>,
    /// What is wrong with the object itself.
    pub refusals: Box<[Refusal]>,
}

/// One of a container's `ports` with a `hostPort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Protocol.
    pub protocol: Protocol,
    /// `hostPort`, never 0.
    pub host_port: u16,
    /// `hostIP`.
    pub host_ip: Option<IpAddr>,
    /// `containerPort`, never 0.
    pub pod_port: u16,
}

impl Record for PodRecord {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A `v1 Node`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRecord {
    /// `metadata.name`.
    pub name: String,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// `status.addresses` of type `InternalIP`, then those of type `ExternalIP`.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// `deletionTimestamp` is set, or the autoscaler's taint `ToBeDeletedByClusterAutoscaler` is there.
    pub leaving: bool,
}

impl Record for NodeRecord {
    fn namespace(&self) -> &'static str {
        ""
    }

    fn name(&self) -> &str {
        &self.name
    }
}
