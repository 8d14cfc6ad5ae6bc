//! The frontends that a Service's record asks for.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::desired::{Family, Frontend, FrontendKind, NodeFacts, ResolveSettings, SetKind};
use super::record::{PortRecord, ServiceRecord};
use super::topology::Policy;

impl ServiceRecord {
    /// Whether a port of this family can be reached from outside the cluster by design.
    pub fn externally_accessible(&self, port: &PortRecord, family: Family, settings: &ResolveSettings) -> bool {
        let has = |ips: &[IpAddr]| ips.iter().any(|ip| Family::of(ip) == family);
        port.node_port != 0
            || has(&self.load_balancer_ips)
            || (settings.external_ips.served() && has(&self.external_ips))
    }

    /// The settings that decide about the sets of a port in a family.
    pub fn policy(&self, port: &PortRecord, family: Family, settings: &ResolveSettings) -> Policy {
        Policy {
            internal_local: self.internal_local,
            external_local: self.external_local,
            externally_accessible: self.externally_accessible(port, family, settings),
        }
    }

    /// The ranges from which load balancer addresses of this family may be reached; empty: from anywhere.
    pub fn ranges(&self, family: Family) -> Vec<IpNet> {
        let of_family = |net: &&IpNet| Family::of(&net.addr()) == family;
        let ranges: Vec<IpNet> = self.source_ranges.iter().filter(of_family).copied().collect();
        if ranges.iter().any(|net| net.prefix_len() == 0) { Vec::new() } else { ranges }
    }

    /// The frontends that a port asks for in a family, in a stable order. Another Service may have a better claim.
    pub fn frontends(
        &self,
        port: &PortRecord,
        family: Family,
        node: &NodeFacts,
        settings: &ResolveSettings,
    ) -> Vec<Frontend> {
        if !self.pod_ips.is_empty() {
            return self.host_ports(port, family, node, settings);
        }
        let of = |ips: &[IpAddr], kind, number| {
            let of_family = ips.iter().filter(|ip| Family::of(ip) == family);
            of_family.map(|ip| (SocketAddr::new(*ip, number), kind)).collect::<Vec<_>>()
        };
        let cluster = of(&self.cluster_ips, FrontendKind::ClusterIp, port.port);
        if cluster.is_empty() {
            // A Service without a ClusterIP of a family is not in that family at all.
            return Vec::new();
        }
        let mut wanted = cluster;
        wanted.retain(|(addr, _)| !node.held.contains(&addr.ip()));
        if !self.source_ranges_unreadable {
            wanted.extend(of(&self.load_balancer_ips, FrontendKind::LoadBalancer, port.port));
        }
        if settings.external_ips.served() {
            wanted.extend(of(&self.external_ips, FrontendKind::ExternalIp, port.port));
        }
        if port.node_port != 0 {
            wanted.extend(of(&node.node_port_addresses, FrontendKind::NodePort, port.node_port));
            if node.loopback_node_ports {
                wanted.extend(of(&[family.loopback()], FrontendKind::NodePort, port.node_port));
            }
        }
        let internal_set = if self.internal_local { SetKind::Local } else { SetKind::Cluster };
        let external_set = if self.external_local { SetKind::Local } else { SetKind::Cluster };
        // One address in two fields, such as an external IP that is also the load balancer's: the first field counts.
        let mut seen = Vec::with_capacity(wanted.len());
        wanted.retain(|(addr, _)| {
            !seen.contains(addr) && {
                seen.push(*addr);
                true
            }
        });
        let limited = !self.ranges(family).is_empty();
        wanted
            .into_iter()
            .map(|(addr, kind)| match kind {
                FrontendKind::ClusterIp => Frontend {
                    addr,
                    kind,
                    internal: internal_set,
                    external: internal_set,
                    source_ranges: false,
                    node_address: false,
                },
                // Clients inside the cluster are short-circuited past externalTrafficPolicy.
                _ => Frontend {
                    addr,
                    kind,
                    internal: SetKind::Cluster,
                    external: external_set,
                    source_ranges: limited && kind == FrontendKind::LoadBalancer,
                    node_address: kind != FrontendKind::NodePort && node.addresses.contains(&addr.ip()),
                },
            })
            .collect()
    }

    /// A Pod's host port in a family of the Pod: on the node's addresses, and on loopback for its own processes.
    fn host_ports(
        &self,
        port: &PortRecord,
        family: Family,
        node: &NodeFacts,
        settings: &ResolveSettings,
    ) -> Vec<Frontend> {
        let is_of_pod = self.pod_ips.iter().any(|ip| Family::of(ip) == family);
        if !settings.host_ports || !is_of_pod {
            return Vec::new();
        }
        let loopback = node.loopback_node_ports.then(|| family.loopback());
        let own = node.addresses.iter().copied().filter(|ip| Family::of(ip) == family).chain(loopback);
        let wanted = own.filter(|own| match port.host_ip {
            None => true,
            Some(ip) if ip.is_unspecified() => Family::of(&ip) == family,
            Some(ip) => ip == *own,
        });
        let frontend = |ip| Frontend {
            addr: SocketAddr::new(ip, port.port),
            kind: FrontendKind::NodePort,
            internal: SetKind::Cluster,
            external: SetKind::Cluster,
            source_ranges: false,
            node_address: false,
        };
        wanted.map(frontend).collect()
    }
}
