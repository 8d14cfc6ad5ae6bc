//! Expectations beyond "reached and spread": affinity, Local policy, refusals, unallocated addresses.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use super::round;
use crate::lab::expect::{Client, FrontendKind};
use crate::lab::probe::{Cause, Transport};
use crate::lab::{Cni, Family, Lab, SERVICE_DNS, SERVICE_HTTP, plan};

/// A refusal must not let the client wait.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Long enough to tell silence from a refusal.
const PATIENCE: Duration = Duration::from_millis(400);

/// One expectation and what spoke against it.
pub(super) struct Check {
    pub(super) title: &'static str,
    pub(super) failures: Vec<String>,
}

/// All further checks, in the order in which they are shown.
pub(super) fn all(lab: &Lab, clients: &[Client<'_>]) -> Result<Vec<Check>> {
    Ok(vec![
        Check { title: "session affinity: 50 connections of a client, one Pod", failures: sticky(clients) },
        Check {
            title: "externalTrafficPolicy Local: from outside only Pods of this node, which see the client",
            failures: local_only(lab, clients),
        },
        Check {
            title: "no endpoints, or a port the ClusterIP does not have: refused within 100 ms",
            failures: refused(clients)?,
        },
        Check { title: "an address of the Service range that no Service has: silence", failures: silent(clients)? },
    ])
}

fn each_way() -> impl Iterator<Item = (Family, Transport)> {
    Family::ALL.into_iter().flat_map(|family| Transport::ALL.map(|transport| (family, transport)))
}

const fn service_port(transport: Transport) -> u16 {
    match transport {
        Transport::Tcp => SERVICE_HTTP,
        Transport::Udp => SERVICE_DNS,
    }
}

fn sticky(clients: &[Client<'_>]) -> Vec<String> {
    let mut failures = Vec::new();
    for client in clients {
        for (family, transport) in each_way() {
            let dst = SocketAddr::new(plan::cluster_ip(14).of(family), service_port(transport));
            match client.ns.ask_many(transport, dst, 50) {
                Ok(answers) => {
                    let pods: BTreeSet<_> = answers.into_iter().map(|answer| answer.pod).collect();
                    if pods.len() != 1 {
                        failures.push(format!("affinity: {} -> {dst} met {pods:?}", client.name));
                    }
                }
                Err(failure) => failures.push(format!("affinity: {} -> {dst}: {failure}", client.name)),
            }
        }
    }
    failures
}

fn local_only(lab: &Lab, clients: &[Client<'_>]) -> Vec<String> {
    let local: Vec<_> = lab.pods().iter().filter(|pod| pod.cni != Cni::Remote).map(|pod| pod.name.as_str()).collect();
    let mut failures = Vec::new();
    for client in clients.iter().filter(|client| client.external) {
        for (family, transport) in each_way() {
            let dst = SocketAddr::new(plan::lb_ip(15).of(family), service_port(transport));
            let cell = round::ask(lab, client, FrontendKind::LoadBalancer, dst, transport, 100, &local);
            failures.extend(cell.failures());
        }
    }
    failures
}

fn refused(clients: &[Client<'_>]) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    for client in clients {
        for (family, transport) in each_way() {
            let without_endpoints = (plan::cluster_ip(16).of(family), service_port(transport));
            let without_port = (plan::cluster_ip(10).of(family), 4444);
            for dst in [without_endpoints, without_port].map(SocketAddr::from) {
                let way = format!("{} -> {dst}/{}", client.name, transport.name());
                let asked = client.ns.run(|| Ok(transport.ask_once(dst, 0, PATIENCE)))?;
                match asked {
                    Ok(answer) => failures.push(format!("{way}: {} answered", answer.pod)),
                    Err(failure) if failure.cause == Cause::Refused && failure.took <= AT_ONCE => {}
                    Err(failure) => failures.push(format!("{way}: not refused at once: {failure}")),
                }
            }
        }
    }
    Ok(failures)
}

fn silent(clients: &[Client<'_>]) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    for client in clients {
        let dst = SocketAddr::new(plan::cluster_ip(250).of(Family::V4), SERVICE_HTTP);
        let result = client.ns.run(|| Ok(Transport::Tcp.ask_once(dst, 0, PATIENCE)))?;
        match result {
            Err(failure) if failure.cause == Cause::TimedOut => {}
            other => failures.push(format!("{} -> {dst}: {other:?} instead of silence", client.name)),
        }
    }
    Ok(failures)
}
