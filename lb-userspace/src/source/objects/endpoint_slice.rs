//! EndpointSlices as records.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointHints, EndpointPort, EndpointSlice};
use k8s_openapi::jiff::Timestamp;

use super::annotations;
use super::api_object::{ApiObject, Scope, Selector, Wait};
use super::fields::{namespace, parse_port, parse_protocol};
use crate::model::address::{parse_ip, unfit_as_endpoint};
use crate::model::desired::Family;
use crate::model::reason::Reason;
use crate::model::record::{EndpointRecord, Hints, Kind, SlicePort, SliceRecord};
use crate::model::refusals::Refusals;
use crate::model::weights::PodId;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

impl ApiObject for EndpointSlice {
    type Record = SliceRecord;
    const KIND: Kind = Kind::EndpointSlice;
    const IN_MANIFESTS: bool = true;
    const WAIT: Wait = Wait::Always;

    fn selector(_: &Scope<'_>) -> Option<Selector> {
        Some(Selector::Labels("!service.kubernetes.io/headless"))
    }
}

impl From<EndpointSlice> for SliceRecord {
    fn from(slice: EndpointSlice) -> Self {
        let meta = slice.metadata;
        let mut labels = meta.labels.unwrap_or_default();
        let namespace = namespace(meta.namespace);
        let name = meta.name.unwrap_or_default();
        let mut bad = Refusals::of("EndpointSlice", format!("{namespace}/{name}"));
        let service = labels.remove(SERVICE_NAME).unwrap_or_default();
        let family = match slice.address_type.as_str() {
            _ if labels.contains_key(HEADLESS) => None,
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            "FQDN" => None,
            other => {
                bad.note(Reason::BadAddressType, || format!("addressType is {other:?}: use IPv4 or IPv6"));
                None
            }
        };
        if service.is_empty() && family.is_some() {
            bad.note(Reason::NoServiceName, || {
                format!(
                    "the slice has no label {SERVICE_NAME}: set it to the Service's name, or its endpoints are not used"
                )
            });
        }
        let used = family.is_some() && !service.is_empty();
        let (ports, endpoints) = match family {
            Some(family) if used => (
                ports(slice.ports.as_deref().unwrap_or_default(), &mut bad),
                endpoints(slice.endpoints.unwrap_or_default(), family, &mut bad),
            ),
            _ => Default::default(),
        };
        let mut annotations = meta.annotations.unwrap_or_default();
        let weights = used.then(|| annotations::slice_weights(&annotations, &mut bad)).flatten();
        let triggered = annotations.remove(TRIGGER_TIME);
        Self {
            triggered_ns: triggered
                .and_then(|text| text.parse::<Timestamp>().ok())
                .and_then(|time| u64::try_from(time.as_nanosecond()).ok()),
            namespace: namespace.into(),
            name: name.into(),
            service: service.into(),
            family,
            ports,
            endpoints,
            weights,
            refusals: bad.into_rows().into(),
        }
    }
}

fn ports(ports: &[EndpointPort], bad: &mut Refusals) -> Box<[SlicePort]> {
    let mut records = Vec::with_capacity(ports.len());
    for port in ports {
        let name = port.name.as_deref().unwrap_or_default();
        // A port without a number means "all ports" to others; kube-proxy ignores it, 0 included.
        let Some(number) = port.port.filter(|number| *number != 0) else { continue };
        match (parse_port(number), parse_protocol(port.protocol.as_deref())) {
            (Some(port), Some(protocol)) => records.push(SlicePort { name: name.into(), protocol, port }),
            (None, _) => bad.note(Reason::BadPort, || format!("port {name:?} has number {number}: use 1 to 65535")),
            (_, None) => bad.note(Reason::UnknownProtocol, || {
                format!("port {name:?} has protocol {:?}: use TCP, UDP or SCTP", port.protocol.as_deref().unwrap_or(""))
            }),
        }
    }
    records.into()
}

fn endpoints(endpoints: Vec<ApiEndpoint>, family: Family, bad: &mut Refusals) -> Box<[EndpointRecord]> {
    let mut records = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        // Further addresses of one endpoint are of no defined use.
        let Some(text) = endpoint.addresses.first() else {
            bad.note(Reason::NoAddress, || "an endpoint has no address: give it one or remove it".to_owned());
            continue;
        };
        let Some(ip) = parse_ip(text) else {
            bad.note(Reason::BadAddress, || {
                format!("an endpoint has address {text:?}, which is no IP address: correct it")
            });
            continue;
        };
        if Family::of(&ip) != family {
            bad.note(Reason::WrongFamily, || {
                format!("endpoint {ip} is not of the slice's addressType: move it to a slice of that family")
            });
            continue;
        }
        if let Some(why) = unfit_as_endpoint(&ip) {
            bad.note(Reason::UnfitAddress, || {
                format!("endpoint {ip} is {why} and cannot be reached: use the Pod's address")
            });
            continue;
        }
        let conditions = endpoint.conditions.unwrap_or_default();
        records.push(EndpointRecord {
            ip,
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
            pod: pod(endpoint.target_ref),
            node: endpoint.node_name.map(Into::into),
            hints: endpoint.hints.and_then(hints),
        });
    }
    records.into()
}

fn pod(target: Option<ObjectReference>) -> PodId {
    let pod = target.filter(|target| target.kind.as_deref() == Some("Pod")).and_then(|target| target.name);
    pod.map_or_else(PodId::default, |name| PodId::of(&name))
}

fn hints(hints: EndpointHints) -> Option<Box<Hints>> {
    let nodes: Box<[Box<str>]> = hints.for_nodes.into_iter().flatten().map(|node| node.name.into()).collect();
    let zones: Box<[Box<str>]> = hints.for_zones.into_iter().flatten().map(|zone| zone.name.into()).collect();
    (!nodes.is_empty() || !zones.is_empty()).then(|| Box::new(Hints { nodes, zones }))
}
