//! A scripted life of forty Services that touches each field: after each step the maps are what the literal rules say,
//! and packets agree with the maps.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use xtask::lab::expect::Client;
use xtask::lab::plan::HTTP_PORT;
use xtask::lab::probe::{Cause, Transport};

use crate::cases;
use crate::fixture::Node;

/// Silence is what some rules ask for: a lab answers in a fraction of this.
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn forty_services_live_by_the_rules() {
    let node = Node::start();
    let mut cases = cases::of_services(&node.lab);
    cases.extend(cases::of_addresses(&node.lab));
    cases.extend(cases::of_endpoints(&node.lab));
    assert!(cases.len() >= 40, "{}", cases.len());
    for step in 0..2 {
        for case in &cases {
            for object in &case.steps[step] {
                node.api.apply(object);
            }
            eprintln!("{} {step}: {} ms", case.name, node.converge().as_millis());
        }
        packets_agree(&node);
    }
    for service in node.api.list("Service") {
        if service["metadata"]["name"] != "kubernetes" {
            node.api.delete(&with_kind(service, "Service"));
        }
    }
    node.converge();
    for slice in node.api.list("EndpointSlice") {
        if slice["metadata"]["name"] != "kubernetes" {
            node.api.delete(&with_kind(slice, "EndpointSlice"));
        }
    }
    node.converge();
    let left: Vec<_> = node.served().into_keys().collect();
    assert!(left.iter().all(|key| key.starts_with("default/kubernetes:")), "{left:?}");
    assert_eq!(node.agent.json(&["backends"]).unwrap().as_array().unwrap().len(), 1);
}

/// Lists leave the kind out.
fn with_kind(mut object: Value, kind: &str) -> Value {
    object["kind"] = kind.into();
    object
}

/// Asks every TCP frontend that leads to Pods' servers, from a Pod and from outside.
fn packets_agree(node: &Node) {
    let [_, pod, outside] = node.clients();
    let (mut asked, mut refused, mut dropped) = (0, 0, 0);
    for (name, row) in node.served() {
        let to_servers = |set: &Value| texts(set).all(|to| to.ends_with(&format!(":{HTTP_PORT}")));
        if !name.contains("/TCP ") || name.starts_with("default/kubernetes:") {
            continue;
        }
        for (frontend, value) in row["frontends"].as_object().unwrap() {
            let parts: Vec<&str> = frontend.split(' ').collect();
            let dst = SocketAddr::new(parts[1].parse().unwrap(), parts[2].parse().unwrap());
            if dst.ip().is_loopback() {
                // For the node's own sockets, which are the node layer's matter.
                continue;
            }
            for (client, side) in [(&pod, "internal"), (&outside, "external")] {
                if !to_servers(&value[side]) || (parts[0] == "ClusterIP" && side == "external") {
                    continue;
                }
                asked += 1;
                let what = format!("{name} {frontend} from {}: {value}", client.name);
                let flag = |flag: &str| texts(&value["flags"]).any(|each| each == flag);
                let denied = flag("source-ranges") && !allowed(client, dst.ip(), &row["ranges"]);
                let empty = texts(&value[side]).next().is_none();
                let answer = client.ns.run(|| Ok(Transport::Tcp.ask_once(dst, 0, SILENCE))).unwrap();
                if denied || (empty && flag(&format!("{side}-empty-drops"))) {
                    dropped += 1;
                    assert_eq!(answer.unwrap_err().cause, Cause::TimedOut, "{what}");
                } else if empty {
                    refused += 1;
                    assert_eq!(answer.unwrap_err().cause, Cause::Refused, "{what}");
                } else {
                    let answer = answer.unwrap_or_else(|failure| panic!("{what}: {failure}"));
                    let addr = node.lab.pod(&answer.pod).unwrap().addr;
                    let members: BTreeSet<SocketAddr> = texts(&value[side]).map(|to| to.parse().unwrap()).collect();
                    assert!(members.iter().any(|member| addr.contains(member.ip())), "{} answered {what}", answer.pod);
                }
            }
        }
    }
    assert!(asked > 60 && refused > 0 && dropped > 0, "{asked} asked, {refused} refused, {dropped} dropped");
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap())
}

/// Whether the client's address of that family is in one of the ranges; those of the tests are written out.
fn allowed(client: &Client<'_>, to: IpAddr, ranges: &Value) -> bool {
    texts(ranges).any(|range| match (range, to) {
        ("10.90.0.0/24", IpAddr::V4(_)) => client.addr.v4.octets()[..3] == [10, 90, 0],
        ("fd90::/64", IpAddr::V6(_)) => client.addr.v6.segments()[..4] == [0xfd90, 0, 0, 0],
        ("192.0.2.0/24" | "2001:db8::/32", _) => false,
        _ => panic!("{range} for {to}"),
    })
}
