//! Kubernetes objects for the tests, as JSON.

use serde_json::{Value, json};
use xtask::lab::plan::{DNS_PORT, HTTP_PORT, NODE1_ADDR};
use xtask::lab::{Family, Pod, SERVICE_DNS, SERVICE_HTTP, slice_object};

/// Where the tests' objects live.
pub(crate) const NAMESPACE: &str = "default";

/// A dual-stack Service with the ports `http` and `dns`; `spec` is laid over it, null takes a field away.
pub(crate) fn service(name: &str, spec: &Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "ipFamilyPolicy": "RequireDualStack",
            "ports": [
                {"name": "http", "protocol": "TCP", "port": SERVICE_HTTP, "targetPort": HTTP_PORT},
                {"name": "dns", "protocol": "UDP", "port": SERVICE_DNS, "targetPort": DNS_PORT},
            ],
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        if value.is_null() {
            service["spec"].as_object_mut().unwrap().remove(field);
        } else {
            service["spec"][field] = value.clone();
        }
    }
    service
}

/// A slice of a Service with the given endpoints.
pub(crate) fn slice(service: &str, family: Family, endpoints: &[Value]) -> Value {
    slice_object(NAMESPACE, service, family, endpoints)
}

/// A ready endpoint.
pub(crate) fn endpoint(address: &str, node: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": true, "serving": true}, "nodeName": node})
}

/// The slices of both families with these Pods, all ready.
pub(crate) fn pods<'a>(service: &str, pods: impl IntoIterator<Item = &'a Pod>) -> [Value; 2] {
    let pods: Vec<&Pod> = pods.into_iter().collect();
    Family::ALL.map(|family| {
        let endpoints: Vec<Value> =
            pods.iter().map(|pod| endpoint(&pod.addr.of(family).to_string(), pod.cni.node())).collect();
        slice(service, family, &endpoints)
    })
}

/// The Node under test.
pub(crate) fn node(name: &str, zone: &str) -> Value {
    let addresses = Family::ALL.map(|family| json!({"type": "InternalIP", "address": NODE1_ADDR.of(family)}));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {"addresses": addresses},
    })
}

/// Where the store has a Service's IPv4 slice.
pub(crate) fn slice_key(service: &str) -> String {
    format!("/registry/endpointslices/{NAMESPACE}/{service}-ipv4")
}

/// One of many single-stack Services with its slice and its allocated address, whole, by their keys in the store.
pub(crate) fn stored(number: u32) -> [(String, Value); 3] {
    let name = format!("s{number}");
    // Above the band that the allocator takes addresses from first, so that tests may still make Services.
    let ip = format!("10.96.{}.{}", 128 + number / 250, 1 + number % 250);
    let created = "2026-01-01T00:00:00Z";
    let uid = |kind: u32| format!("00000000-0000-4000-8{kind:03}-{number:012}");
    let mut service = service(
        &name,
        &json!({
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
        }),
    );
    service["metadata"]["uid"] = uid(1).into();
    service["metadata"]["creationTimestamp"] = created.into();
    service["status"] = json!({"loadBalancer": {}});
    let endpoint = endpoint(&format!("10.244.{}.{}", 3 + number / 250, 1 + number % 250), "node2");
    let mut slice = slice(&name, Family::V4, &[endpoint]);
    slice["metadata"]["uid"] = uid(2).into();
    slice["metadata"]["creationTimestamp"] = created.into();
    let address = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": ip,
            "uid": uid(3),
            "creationTimestamp": created,
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": NAMESPACE, "name": name}},
    });
    [
        (format!("/registry/ipaddresses/{ip}"), address),
        (format!("/registry/services/specs/{NAMESPACE}/{name}"), service),
        (slice_key(&name), slice),
    ]
}
