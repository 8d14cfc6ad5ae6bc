//! The lab itself, without an agent: what plain routing must already do.

use std::net::SocketAddr;

use xtask::lab::probe::{Cause, Transport};
use xtask::lab::{Family, Lab, LabOptions, plan};

#[test]
fn every_client_reaches_every_pod_directly() {
    let lab = Lab::start(LabOptions::default()).unwrap();
    assert_all_reached(&lab);
}

#[test]
fn every_client_reaches_every_pod_without_checksum_offload() {
    let lab = Lab::start(LabOptions { tx_offload: false, ..LabOptions::default() }).unwrap();
    let features = lab.client.command("ethtool", &["-k", "eth0"]).unwrap();
    assert!(features.contains("tx-checksumming: off"), "{features}");
    assert_all_reached(&lab);
}

fn assert_all_reached(lab: &Lab) {
    let pods = lab.pods().iter().map(|pod| (&pod.ns, pod.addr));
    let clients: Vec<_> = pods.chain([(&lab.client, plan::CLIENT_ADDR)]).collect();
    for (client, own) in clients {
        for pod in lab.pods() {
            for family in Family::ALL {
                for transport in Transport::ALL {
                    let dst = SocketAddr::new(pod.addr.of(family), transport.pod_port());
                    let answer = client
                        .ask(transport, dst)
                        .unwrap_or_else(|failure| panic!("{} -> {dst} {}: {failure}", client.name(), transport.name()));
                    assert_eq!(answer.pod, pod.name);
                    assert_eq!(answer.client.ip(), own.of(family), "{} -> {dst}: source", client.name());
                }
            }
        }
    }
}

#[test]
fn a_closed_port_refuses_and_an_unserved_address_is_silent() {
    let mut lab = Lab::start(LabOptions::default()).unwrap();
    lab.pod_mut("br1").unwrap().stop_serving();
    for family in Family::ALL {
        for transport in Transport::ALL {
            let closed = SocketAddr::new(lab.pod("br1").unwrap().addr.of(family), transport.pod_port());
            let failure = lab.client.ask(transport, closed).unwrap_err();
            assert_eq!(failure.cause, Cause::Refused, "{closed}: {failure}");
            let nobody = SocketAddr::new(plan::cluster_ip(200).of(family), 80);
            let failure = lab.client.ask(transport, nobody).unwrap_err();
            assert_eq!(failure.cause, Cause::TimedOut, "{nobody}: {failure}");
        }
    }
}

#[test]
fn bulk_data_arrives_whole_both_ways() {
    let lab = Lab::start(LabOptions::default()).unwrap();
    let dst = SocketAddr::new(lab.pod("remote1").unwrap().addr.of(Family::V6), plan::HTTP_PORT);
    let mut connection = lab.client.connect(dst, 0, xtask::lab::probe::TIMEOUT).unwrap();
    connection.upload(64 << 20).unwrap();
    connection.download(64 << 20).unwrap();
    assert_eq!(connection.ask().unwrap().pod, "remote1");
}
