//! What the resolver and the data path must know of the node, from its network, its Node object and the settings.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::abi::config_flag;

use crate::config::forward::ForwardMode;
use crate::config::values::NodePortAddress;
use crate::devices::NodeNetwork;
use crate::maps::FamilySettings;
use crate::model::desired::{NodeFacts, ResolveSettings};
use crate::model::family::{Family, PerFamily};
use crate::model::record::NodeRecord;
use crate::sockets::SocketReport;

/// What the maps have to say of the socket hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFacts {
    /// They are in place: the node's processes are served, also on loopback addresses.
    pub attached: bool,
    /// For the node's own network namespace alone.
    pub host_only: bool,
    /// Some namespaces may have opted out.
    pub opt_out: bool,
    /// Cookie of the node's network namespace; 0: it is the machine's initial one.
    pub host_netns: u64,
}

/// Settings from the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub struct ReconcileSettings {
    /// `--node-name`.
    pub node_name: String,
    /// Settings of the resolver.
    pub resolve: ResolveSettings,
    /// `--node-ip`: the node's primary addresses, where they are not those of its Node object.
    pub node_ips: Vec<IpAddr>,
    /// `--node-port-addresses`: where `NodePort`s are served; empty: on the primary addresses.
    pub node_port_addresses: Vec<NodePortAddress>,
    /// `--cluster-cidr`: where in-cluster clients are.
    pub cluster_cidrs: Vec<IpNet>,
    /// `--detect-local node-cidr`: they are in the Pod ranges of the Node object instead.
    pub node_cidrs: bool,
    /// `--detect-local bridge-interface` or `interface-name-prefix`: they are recognised by their device instead.
    pub local_devices: bool,
    /// `--service-cidr`: where unallocated addresses are dropped; empty: where the cluster takes `ClusterIP`s from.
    pub service_cidrs: Vec<IpNet>,
    /// `--snat-ports`.
    pub snat_ports: (u16, u16),
    /// `--masquerade-all`.
    pub masquerade_all: bool,
    /// `--takeover`: leave TCP without a flow to the stack.
    pub takeover: bool,
    /// `--no-syn-retry`: a SYN that is sent again without an answer stays with its backend.
    pub no_syn_retry: bool,
    /// `--no-echo`: ICMP echo requests for Services are not answered.
    pub no_echo: bool,
    /// `--no-silence-detection`: backends that leave connections unanswered get new ones nevertheless.
    pub no_silence_detection: bool,
    /// `--forward`: how packets of Services reach local Pods.
    pub forward: ForwardMode,
    /// Socket hooks.
    pub sockets: SocketFacts,
    /// The same for people.
    pub socket_report: SocketReport,
}

/// What the source says beside Services and EndpointSlices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// This node's Node object.
    pub node: Option<&'a NodeRecord>,
    /// Where the cluster takes `ClusterIP`s from.
    pub service_cidrs: &'a [IpNet],
    /// The maps hold Services: an address that they do not have is one that no Service has.
    pub services_known: bool,
}

impl ReconcileSettings {
    /// The node's primary addresses: as given, else those of its Node object, both only if the node really has them; else
    /// those of its default route.
    fn primary(&self, network: &NodeNetwork, node: Option<&NodeRecord>) -> PerFamily<Option<IpAddr>> {
        let named = |family| {
            let addresses = self.node_ips.iter().chain(node.into_iter().flat_map(|node| &node.addresses));
            addresses.copied().find(|ip| Family::of(ip) == family && network.addresses.contains(ip))
        };
        PerFamily {
            v4: named(Family::V4).or(network.primary_v4.map(IpAddr::V4)),
            v6: named(Family::V6).or(network.primary_v6.map(IpAddr::V6)),
        }
    }

    /// Where health checks are answered: where `NodePort`s are served, and on loopback where that was asked for by name.
    pub fn health_addresses(&self, facts: &NodeFacts) -> Vec<IpAddr> {
        let mut addresses = facts.node_port_addresses.clone();
        let asked = |family: &Family| self.node_port_addresses.iter().any(|given| given.has_loopback(*family));
        addresses.extend(Family::ALL.iter().filter(|family| asked(family)).map(|family| family.loopback()));
        addresses
    }

    /// What the resolver must know.
    pub fn node_facts(&self, network: &NodeNetwork, node: Option<&NodeRecord>) -> NodeFacts {
        let primary = self.primary(network, node);
        let serves = |ip: &IpAddr| {
            self.node_port_addresses.iter().any(|addresses| match addresses {
                NodePortAddress::Primary => primary[Family::of(ip)] == Some(*ip),
                NodePortAddress::Loopback => false,
                NodePortAddress::All => true,
                NodePortAddress::Inside(net) => net.contains(ip),
            })
        };
        let node_port_addresses = if self.node_port_addresses.is_empty() {
            [primary.v4, primary.v6].into_iter().flatten().collect()
        } else {
            network.addresses.iter().filter(|ip| serves(ip)).copied().collect()
        };
        NodeFacts {
            name: self.node_name.clone(),
            zone: None,
            addresses: network.addresses.clone(),
            held: network.held.clone(),
            node_port_addresses,
            loopback_node_ports: self.sockets.attached,
        }
    }

    /// Where addresses that no Service has are dropped.
    fn service_ranges<'a>(&'a self, around: &Surroundings<'a>) -> &'a [IpNet] {
        if !around.services_known {
            &[]
        } else if self.service_cidrs.is_empty() {
            around.service_cidrs
        } else {
            &self.service_cidrs
        }
    }

    /// What the data path must know, per family.
    pub fn family_settings(&self, network: &NodeNetwork, around: &Surroundings<'_>) -> PerFamily<FamilySettings> {
        let primary = self.primary(network, around.node);
        PerFamily::from_fn(|family| {
            let of_family = |nets: &[IpNet]| -> Vec<IpNet> {
                nets.iter().filter(|net| Family::of(&net.addr()) == family).copied().collect()
            };
            let cluster = if self.local_devices {
                Vec::new()
            } else if self.node_cidrs {
                of_family(around.node.map_or(&[], |node| &node.pod_cidrs))
            } else {
                of_family(&self.cluster_cidrs)
            };
            let flags = [
                (!cluster.is_empty(), config_flag::DETECT_LOCAL),
                (self.local_devices, config_flag::LOCAL_DEVICES),
                (self.takeover, config_flag::TAKEOVER),
                (self.no_syn_retry, config_flag::NO_RETRY),
                (self.no_echo, config_flag::NO_ECHO),
                (self.no_silence_detection, config_flag::NO_SILENCE),
                (self.masquerade_all, config_flag::MASQUERADE_ALL),
                (self.sockets.host_only, config_flag::SOCKETS_HOST_ONLY),
                (self.sockets.opt_out, config_flag::SOCKETS_OPT_OUT),
            ];
            FamilySettings {
                flags: flags.into_iter().filter_map(|(is, bit)| is.then_some(bit)).fold(0, |all, bit| all | bit),
                node: primary[family],
                cluster,
                services: without(of_family(self.service_ranges(around)), &network.held),
                snat_ports: self.snat_ports,
                host_netns: self.sockets.host_netns,
                forward: self.forward.value(),
            }
        })
    }
}

/// Ranges without single addresses: nothing is dropped on its way to what answers there.
fn without(mut nets: Vec<IpNet>, addresses: &[IpAddr]) -> Vec<IpNet> {
    for address in addresses {
        while let Some(at) = nets.iter().position(|net| net.contains(address)) {
            let net = nets.swap_remove(at);
            // Down to the address alone, which stays away.
            if let Ok(halves) = net.subnets(net.prefix_len() + 1) {
                nets.extend(halves);
            }
        }
    }
    nets.sort_unstable();
    nets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> NodeNetwork {
        NodeNetwork {
            addresses: ["192.0.2.1", "198.51.100.1", "2001:db8::1"].map(|ip| ip.parse().unwrap()).to_vec(),
            held: Vec::new(),
            primary_v4: Some("198.51.100.1".parse().unwrap()),
            primary_v6: None,
        }
    }

    fn at(node: &NodeRecord) -> Surroundings<'_> {
        Surroundings { node: Some(node), ..Surroundings::default() }
    }

    #[test]
    fn the_service_range_is_the_given_one_or_the_clusters_and_counts_when_services_are_known() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let announced = nets(&["10.96.0.0/16", "fd00:96::/112"]);
        let of = |given: &[&str], services_known| {
            let settings = ReconcileSettings { service_cidrs: nets(given), ..ReconcileSettings::default() };
            let around = Surroundings { service_cidrs: &announced, services_known, node: None };
            {
                let PerFamily { v4, v6 } = settings.family_settings(&network(), &around);
                [v4.services, v6.services]
            }
        };
        assert_eq!(of(&[], true), [nets(&["10.96.0.0/16"]), nets(&["fd00:96::/112"])]);
        assert_eq!(of(&["10.97.0.0/16"], true), [nets(&["10.97.0.0/16"]), nets(&[])]);
        assert_eq!((of(&[], false), of(&["10.97.0.0/16"], false)), Default::default());
    }

    #[test]
    fn addresses_that_the_node_answers_are_cut_out_of_the_ranges_of_cluster_ips() {
        let nets = |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let cut = |held: &str| without(nets(&["10.96.0.0/29", "fd00::/127"]), &[held.parse().unwrap()]);
        assert_eq!(cut("10.96.0.2"), nets(&["10.96.0.0/31", "10.96.0.3/32", "10.96.0.4/30", "fd00::/127"]));
        assert_eq!(cut("fd00::1"), nets(&["10.96.0.0/29", "fd00::/128"]));
        assert_eq!(cut("192.0.2.1"), nets(&["10.96.0.0/29", "fd00::/127"]));
    }

    #[test]
    fn node_ports_are_on_primary_addresses_unless_told_otherwise() {
        let mut settings = ReconcileSettings::default();
        let ports = |settings: &ReconcileSettings| settings.node_facts(&network(), None).node_port_addresses;
        assert_eq!(ports(&settings), ["198.51.100.1".parse::<IpAddr>().unwrap()]);
        settings.node_port_addresses = vec!["192.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()];
        assert_eq!(ports(&settings), [network().addresses[0], network().addresses[2]]);
        settings.node_port_addresses = vec!["primary".parse().unwrap(), "::/0".parse().unwrap()];
        assert_eq!(ports(&settings), [network().addresses[1], network().addresses[2]]);
        settings.node_port_addresses = vec![NodePortAddress::All];
        assert_eq!(ports(&settings), network().addresses);
    }

    #[test]
    fn health_checks_are_on_loopback_where_that_was_asked_for() {
        let health = |given: &[&str]| {
            let node_port_addresses = given.iter().map(|text| text.parse().unwrap()).collect();
            let settings = ReconcileSettings { node_port_addresses, ..ReconcileSettings::default() };
            let addresses = settings.health_addresses(&settings.node_facts(&network(), None));
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(health(&["primary"]), ["198.51.100.1"]);
        assert_eq!(health(&["localhost"]), ["127.0.0.1", "::1"]);
        assert_eq!(health(&["192.0.2.0/24", "localhost"]), ["192.0.2.1", "127.0.0.1", "::1"]);
        assert_eq!(health(&["all"]).len(), network().addresses.len() + 2);
    }

    #[test]
    fn a_given_node_address_is_the_primary_one_if_the_node_has_it() {
        let node = NodeRecord { addresses: vec!["198.51.100.1".parse().unwrap()], ..NodeRecord::default() };
        let v4 = |ip: &str| {
            let settings = ReconcileSettings { node_ips: vec![ip.parse().unwrap()], ..ReconcileSettings::default() };
            settings.node_facts(&network(), Some(&node)).node_port_addresses[0].to_string()
        };
        assert_eq!((&*v4("192.0.2.1"), &*v4("203.0.113.1")), ("192.0.2.1", "198.51.100.1"));
    }

    #[test]
    fn an_address_of_the_node_object_counts_only_if_the_node_has_it() {
        let node = |ip: &str| NodeRecord { addresses: vec![ip.parse().unwrap()], ..NodeRecord::default() };
        let settings = ReconcileSettings::default();
        let v4 = |ip| settings.family_settings(&network(), &at(&node(ip))).v4.node;
        assert_eq!(v4("192.0.2.1"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(v4("203.0.113.1"), Some("198.51.100.1".parse().unwrap()));
    }

    #[test]
    fn detect_local_is_on_only_for_families_with_a_cluster_prefix() {
        let settings =
            ReconcileSettings { cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()], ..Default::default() };
        let PerFamily { v4, v6 } = settings.family_settings(&network(), &Surroundings::default());
        assert_eq!((v4.flags, v6.flags), (config_flag::DETECT_LOCAL, 0));
        assert!(v6.cluster.is_empty());
        let node = NodeRecord { pod_cidrs: vec!["fd00:1::/64".parse().unwrap()], ..NodeRecord::default() };
        // The node's own ranges count alone, as in kube-proxy.
        let settings = ReconcileSettings { node_cidrs: true, ..settings };
        let PerFamily { v4, v6 } = settings.family_settings(&network(), &at(&node));
        assert_eq!((v4.flags, v6.flags), (0, config_flag::DETECT_LOCAL));
        assert_eq!(v6.cluster, node.pod_cidrs);
    }

    #[test]
    fn devices_stand_in_for_prefixes_in_both_families() {
        let settings = ReconcileSettings {
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            node_cidrs: true,
            local_devices: true,
            ..Default::default()
        };
        let node = NodeRecord { pod_cidrs: vec!["fd00:1::/64".parse().unwrap()], ..NodeRecord::default() };
        for (_, family) in settings.family_settings(&network(), &at(&node)).iter() {
            assert_eq!((family.flags, family.cluster.len()), (config_flag::LOCAL_DEVICES, 0));
        }
    }
}
