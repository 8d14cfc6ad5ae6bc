//! What health check ports answer, now and after they should have gone.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use xtask::lab::plan::NODE1_ADDR;
use xtask::lab::{Family, Netns};

use super::sides::{Sides, Who};

/// Every health check port that was ever seen.
#[derive(Default)]
pub(crate) struct HealthPorts(BTreeSet<u16>);

impl HealthPorts {
    /// Asks all of them on both sides, in both families, and tells of differences.
    pub(crate) fn compare(&mut self, sides: &Sides, services: &[Value]) -> Vec<String> {
        let ports = services.iter().filter_map(|service| service["spec"]["healthCheckNodePort"].as_u64());
        self.0.extend(ports.filter_map(|port| u16::try_from(port).ok()).filter(|port| *port != 0));
        // The API server gives a port that was freed to others as well.
        let others = services.iter().flat_map(|service| service["spec"]["ports"].as_array().into_iter().flatten());
        let others: Vec<u64> = others.filter_map(|port| port["nodePort"].as_u64()).collect();
        self.0.retain(|port| !others.contains(&u64::from(*port)));
        let ([theirs, ours], _) = sides.client(Who::Outside);
        let mut told = Vec::new();
        for port in &self.0 {
            for family in Family::ALL {
                let dst = SocketAddr::new(NODE1_ADDR.of(family), *port);
                let ask = || (answer(&theirs, dst), answer(&ours, dst));
                let (mut kube_proxy, mut sluice) = ask();
                if kube_proxy != sluice {
                    // They open and close these apart from their rules.
                    std::thread::sleep(Duration::from_millis(500));
                    (kube_proxy, sluice) = ask();
                }
                if kube_proxy != sluice && !is_of_the_other_family(services, *port, family) {
                    told.push(format!(
                        "  health check port {dst}\n    kube-proxy {kube_proxy:?}\n    sluice     {sluice:?}\n"
                    ));
                }
            }
        }
        told
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// Whether a port is that of a Service without this family: kube-proxy answers for it on addresses of the other one alone,
/// Sluice on both, since whoever asks has one of the node's addresses and knows nothing of the Service's.
fn is_of_the_other_family(services: &[Value], port: u16, family: Family) -> bool {
    let own = services.iter().find(|service| service["spec"]["healthCheckNodePort"].as_u64() == Some(u64::from(port)));
    own.and_then(|service| service["spec"]["ipFamilies"].as_array())
        .is_some_and(|families| families.iter().all(|name| name.as_str() != Some(family.name())))
}

/// The status line, the headers but for the date, and the body.
fn answer(ns: &Netns, dst: SocketAddr) -> Vec<String> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&dst, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /x HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    match ns.run(|| Ok(exchange())).unwrap() {
        Err(error) => vec![error.kind().to_string()],
        Ok(text) => {
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
            let lines = head.split("\r\n").map(str::to_ascii_lowercase);
            let mut lines: Vec<String> = lines.filter(|line| !line.starts_with("date:")).collect();
            lines.sort();
            lines.push(body.to_owned());
            lines
        }
    }
}
