//! kube-proxy's rules, as its nftables mode lays them out, loaded into a node by the bench itself.
//!
//! Names, hooks, priorities and the order of look-ups are kube-proxy's (`pkg/proxy/nftables/proxier.go`, 1.33); the
//! table of IPv6, source ranges and session affinity are left out, as nothing here uses them.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;

use super::asked::{CLUSTER_IP, NODE_PORTS, REMOTE_CLUSTER_IP, REMOTE_NODE_PORTS, SERVICE_PORTS};
use super::island::{LOCAL, NODE, REMOTE};
use super::server::{SINK, TCP_ECHO, UDP_ECHO};
use crate::bench::services::{self, ENDPOINTS, SERVICE_CIDR};
use crate::lab::Netns;
use crate::lab::plan::CLUSTER_CIDRS;

/// Services in one transaction: the kernel takes no message without an end.
const AT_ONCE: u32 = 500;

const BASE: &str = "
table ip kube-proxy {
    set cluster-ips { type ipv4_addr; }
    set nodeport-ips { type ipv4_addr; elements = { NODE }; }
    map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
    map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
    map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
    map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
    map service-nodeports { type inet_proto . inet_service : verdict; }

    chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
    chain masquerading {
        meta mark and 0x4000 == 0 return
        meta mark set meta mark xor 0x4000
        masquerade fully-random
    }
    chain services {
        ip daddr . meta l4proto . th dport vmap @service-ips
        ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
    }
    chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
    chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
    chain nodeport-endpoints-check { ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }
    chain cluster-ips-check {
        ip daddr @cluster-ips reject
        ip daddr SERVICE_CIDR drop
    }

    chain filter-prerouting-pre-dnat {
        type filter hook prerouting priority -110;
        ct state new jump firewall-check
    }
    chain filter-output-pre-dnat {
        type filter hook output priority -110;
        ct state new jump firewall-check
    }
    chain filter-input {
        type filter hook input priority 0;
        ct state new jump nodeport-endpoints-check
        ct state new jump service-endpoints-check
    }
    chain filter-forward {
        type filter hook forward priority 0;
        ct state new jump service-endpoints-check
        ct state new jump cluster-ips-check
    }
    chain filter-output {
        type filter hook output priority 0;
        ct state new jump service-endpoints-check
        ct state new jump cluster-ips-check
    }
    chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
    chain nat-output { type nat hook output priority -100; jump services; }
    chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }
}
";

/// A service port.
pub(super) struct ServicePort<'a> {
    /// Namespace and name of its Service.
    pub(super) service: &'a str,
    /// Its name.
    pub(super) name: &'a str,
    /// The `ClusterIP`.
    pub(super) ip: Ipv4Addr,
    /// In lower case.
    pub(super) protocol: &'a str,
    /// The port at the `ClusterIP`.
    pub(super) port: u16,
    /// The port at the node.
    pub(super) node_port: Option<u16>,
    /// The endpoints' port.
    pub(super) target: u16,
    /// The endpoints.
    pub(super) endpoints: &'a [Ipv4Addr],
}

/// Loads the measured Services and so many others into a node. `dir` is for a file on the way.
pub(super) fn load(node: &Netns, dir: &Path, others: u32) -> Result<()> {
    let base = BASE.replace("NODE", &NODE.to_string()).replace("SERVICE_CIDR", SERVICE_CIDR);
    apply(node, dir, &(base + &transaction(&measured())))?;
    for first in (0..others).step_by(AT_ONCE as usize) {
        let mut text = String::new();
        for n in first..(first + AT_ONCE).min(others) {
            let endpoints: Vec<_> = (0..ENDPOINTS).map(|k| services::endpoint(n, k)).collect();
            let (service, ip) = (format!("many/svc-{n}"), services::cluster_ip(n));
            let (protocol, port, target) = ("tcp", 80, TCP_ECHO);
            let (service, endpoints) = (service.as_str(), endpoints.as_slice());
            text += &transaction(&[ServicePort {
                service,
                name: "http",
                ip,
                protocol,
                port,
                node_port: None,
                target,
                endpoints,
            }]);
        }
        apply(node, dir, &text)?;
    }
    Ok(())
}

/// Adds service ports to those of [`load`].
pub(super) fn add(node: &Netns, dir: &Path, ports: &[ServicePort<'_>]) -> Result<()> {
    apply(node, dir, &transaction(ports))
}

fn apply(node: &Netns, dir: &Path, text: &str) -> Result<()> {
    let path = dir.join("rules.nft");
    fs::write(&path, text)?;
    node.command("nft", &["-f", &path.to_string_lossy()]).map(drop)
}

fn measured() -> Vec<ServicePort<'static>> {
    let ports = [("tcp", "tcp", TCP_ECHO), ("udp", "udp", UDP_ECHO), ("sink", "tcp", SINK)];
    let services = [
        ("bench/local", CLUSTER_IP, NODE_PORTS, &LOCAL),
        ("bench/remote", REMOTE_CLUSTER_IP, REMOTE_NODE_PORTS, &REMOTE),
    ];
    let mut all = Vec::new();
    for (service, ip, node_ports, endpoints) in services {
        for ((name, protocol, target), (port, node_port)) in
            ports.into_iter().zip(SERVICE_PORTS.into_iter().zip(node_ports))
        {
            all.push(ServicePort { service, name, ip, protocol, port, node_port: Some(node_port), target, endpoints });
        }
    }
    all
}

/// The lines that add service ports: chains first, then what jumps there.
fn transaction(ports: &[ServicePort<'_>]) -> String {
    let mut text = String::new();
    for port in ports {
        port.write(&mut text);
    }
    text
}

impl ServicePort<'_> {
    /// kube-proxy puts a hash in front of such names, which costs the kernel nothing when a packet passes.
    fn chain(&self, kind: &str) -> String {
        let Self { service, name, protocol, .. } = self;
        format!("{kind}-{service}/{protocol}/{name}")
    }

    fn endpoint_chain(&self, endpoint: Ipv4Addr) -> String {
        format!("{}__{endpoint}/{}", self.chain("endpoint"), self.target)
    }

    fn write(&self, text: &mut String) {
        let Self { ip, protocol, port, target, endpoints, .. } = self;
        let (service, external) = (self.chain("service"), self.chain("external"));
        let pods = CLUSTER_CIDRS[0];
        let mut line = |line: String| {
            let _never_fails = writeln!(text, "add {line}");
        };
        for endpoint in *endpoints {
            let chain = self.endpoint_chain(*endpoint);
            line(format!("chain ip kube-proxy {chain}"));
            line(format!("rule ip kube-proxy {chain} ip saddr {endpoint} jump mark-for-masquerade"));
            line(format!("rule ip kube-proxy {chain} meta l4proto {protocol} dnat to {endpoint}:{target}"));
        }
        let in_turn: Vec<_> =
            endpoints.iter().enumerate().map(|(at, ip)| format!("{at} : goto {}", self.endpoint_chain(*ip))).collect();
        let to_cluster_ip = format!("ip daddr {ip} {protocol} dport {port}");
        line(format!("chain ip kube-proxy {service}"));
        line(format!("rule ip kube-proxy {service} {to_cluster_ip} ip saddr != {pods} jump mark-for-masquerade"));
        let (count, choice) = (endpoints.len(), in_turn.join(", "));
        line(format!("rule ip kube-proxy {service} numgen random mod {count} vmap {{ {choice} }}"));
        line(format!("element ip kube-proxy cluster-ips {{ {ip} }}"));
        line(format!("element ip kube-proxy service-ips {{ {ip} . {protocol} . {port} : goto {service} }}"));
        if let Some(node_port) = self.node_port {
            line(format!("chain ip kube-proxy {external}"));
            line(format!("rule ip kube-proxy {external} jump mark-for-masquerade"));
            line(format!("rule ip kube-proxy {external} goto {service}"));
            line(format!("element ip kube-proxy service-nodeports {{ {protocol} . {node_port} : goto {external} }}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_port_has_a_chain_for_each_endpoint_and_an_element_that_leads_there() {
        let endpoints = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let ip = Ipv4Addr::new(10, 96, 0, 1);
        let (service, name, protocol) = ("ns/svc", "http", "tcp");
        let port = ServicePort {
            service,
            name,
            ip,
            protocol,
            port: 80,
            node_port: Some(30_000),
            target: 8080,
            endpoints: &endpoints,
        };
        let text = transaction(&[port]);
        assert!(text.contains(
            "rule ip kube-proxy endpoint-ns/svc/tcp/http__10.0.0.2/8080 meta l4proto tcp dnat to 10.0.0.2:8080\n"
        ));
        assert!(text.contains("numgen random mod 2 vmap { 0 : goto endpoint-ns/svc/tcp/http__10.0.0.1/8080, 1 : goto"));
        assert!(text.contains("service-ips { 10.96.0.1 . tcp . 80 : goto service-ns/svc/tcp/http }\n"));
        assert!(text.contains("service-nodeports { tcp . 30000 : goto external-ns/svc/tcp/http }\n"));
    }
}
