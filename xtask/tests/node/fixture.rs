//! A lab with an agent and one Service that has every kind of frontend.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use xtask::lab::expect::{Client, Frontend, FrontendKind};
use xtask::lab::probe::Transport;
use xtask::lab::{
    Agent, AgentOptions, Family, Lab, LabOptions, Manifests, SERVICE_DNS, SERVICE_HTTP, ServiceSpec, plan,
    sluice_binary,
};

/// Name of the Service.
pub(crate) const ALL: &str = "all";

/// A node that serves. Fields drop in this order: the agent first.
pub(crate) struct Node {
    pub(crate) agent: Agent,
    pub(crate) manifests: Manifests,
    pub(crate) lab: Lab,
}

impl Node {
    /// The Service [`all`] in front of every Pod.
    pub(crate) fn start() -> Self {
        Self::with(LabOptions::default(), &all(), &[])
    }

    /// The same over XDP on the uplink.
    pub(crate) fn start_with_xdp() -> Self {
        let options = LabOptions { tx_offload: false, ..LabOptions::default() };
        Self::with(options, &all(), &["--xdp", "native"])
    }

    /// One Service in front of every Pod.
    pub(crate) fn with(options: LabOptions, service: &ServiceSpec, args: &[&str]) -> Self {
        let lab = Lab::start(options).unwrap();
        let manifests = Manifests::of(&lab);
        manifests.service(service).unwrap();
        manifests.ready(&service.name, lab.pods()).unwrap();
        let options = AgentOptions::new(&sluice_binary().unwrap(), manifests.dir());
        let agent = Agent::start(&lab, args.iter().fold(options, |options, arg| options.arg(arg))).unwrap();
        Self { agent, manifests, lab }
    }

    /// A Pod on the bridge, one on the routed CNI, and the client outside.
    pub(crate) fn clients(&self) -> [Client<'_>; 3] {
        Client::each_sort(&self.lab).unwrap()
    }

    /// Changes the manifests and waits until the agent has written a change into the kernel.
    pub(crate) fn change(&self, change: impl FnOnce(&Manifests)) {
        let updated = || self.agent.json(&["status"]).unwrap()["agent"]["updated_ns"].as_u64();
        let before = updated();
        change(&self.manifests);
        let deadline = Instant::now() + Duration::from_secs(5);
        while updated() == before {
            assert!(Instant::now() < deadline, "the agent wrote nothing within 5 s");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A Service with every kind of frontend.
pub(crate) fn all() -> ServiceSpec {
    ServiceSpec {
        node_ports: Some([30080, 30053]),
        load_balancer: Some(plan::lb_ip(10)),
        external_ips: Some(plan::external_ip(10)),
        ..ServiceSpec::new(ALL, plan::cluster_ip(10))
    }
}

/// The frontends of [`all`].
pub(crate) const FRONTENDS: [Frontend; 4] = [
    CLUSTER_IP,
    Frontend { kind: FrontendKind::NodePort, ip: plan::NODE1_ADDR, ports: [30080, 30053] },
    Frontend { kind: FrontendKind::LoadBalancer, ip: plan::lb_ip(10), ports: [SERVICE_HTTP, SERVICE_DNS] },
    Frontend { kind: FrontendKind::ExternalIp, ip: plan::external_ip(10), ports: [SERVICE_HTTP, SERVICE_DNS] },
];

/// The `ClusterIP` of [`all`].
pub(crate) const CLUSTER_IP: Frontend =
    Frontend { kind: FrontendKind::ClusterIp, ip: plan::cluster_ip(10), ports: [SERVICE_HTTP, SERVICE_DNS] };

/// Each family with each transport.
pub(crate) fn each_way() -> impl Iterator<Item = (Family, Transport)> {
    Family::ALL.into_iter().flat_map(|family| Transport::ALL.map(|transport| (family, transport)))
}

/// Each address and port of a frontend.
pub(crate) fn addresses(frontend: &Frontend) -> impl Iterator<Item = (Transport, SocketAddr)> {
    each_way().map(|(family, transport)| (transport, frontend.at(family, transport)))
}
