//! A node whose agent serves sockets: those of the threads in a cgroup of the lab's own.

use xtask::lab::expect::{Frontend, FrontendKind};
use xtask::lab::{
    Agent, AgentOptions, Cgroup, Cni, Lab, LabOptions, Manifests, Netns, Pod, ServiceSpec, plan, sluice_binary,
};

use crate::fixture::{FRONTENDS, Node, all};

/// A node that serves sockets. Fields drop in this order.
pub(crate) struct SocketNode {
    pub(crate) node: Node,
    pub(crate) cgroup: Cgroup,
}

impl SocketNode {
    /// The Service of the other tests in front of every Pod; a Pod `mv1` on macvlan beside the usual ones.
    pub(crate) fn start() -> Self {
        Self::with(&all(), &[])
    }

    /// The same with another Service and further arguments for the agent.
    pub(crate) fn with(service: &ServiceSpec, args: &[&str]) -> Self {
        let mut lab = Lab::start(LabOptions::default()).unwrap();
        lab.add_pod("mv1", Cni::Macvlan).unwrap();
        let cgroup = lab.cgroup().unwrap();
        let manifests = Manifests::of(&lab);
        manifests.service(service).unwrap();
        manifests.ready(&service.name, reachable(&lab)).unwrap();
        let path = cgroup.path().display().to_string();
        let options = AgentOptions::new(&sluice_binary().unwrap(), manifests.dir()).arg("--cgroup").arg(&path);
        let agent = Agent::start(&lab, args.iter().fold(options, |options, arg| options.arg(arg))).unwrap();
        Self { node: Node { agent, manifests, lab }, cgroup }
    }

    /// A namespace whose sockets are served.
    pub(crate) fn served(&self, ns: &Netns) -> Netns {
        ns.in_cgroup(&self.cgroup)
    }

    /// The node's own processes.
    pub(crate) fn host(&self) -> Netns {
        self.served(&self.node.lab.node1)
    }

    /// A Pod's processes.
    pub(crate) fn pod(&self, name: &str) -> Netns {
        self.served(&self.node.lab.pod(name).unwrap().ns)
    }

    /// The host, a Pod on the bridge and one on the routed CNI.
    pub(crate) fn clients(&self) -> [Netns; 3] {
        [self.host(), self.pod("br1"), self.pod("rt1")]
    }

    /// How many flows of sockets there are to this frontend.
    pub(crate) fn socket_flows(&self, frontend: std::net::SocketAddr) -> usize {
        let flows = self.node.agent.json(&["flows"]).unwrap();
        let of_socket = |row: &&serde_json::Value| row["via"] == "socket" && row["frontend"] == frontend.to_string();
        flows.as_array().into_iter().flatten().filter(of_socket).count()
    }
}

/// The Pods that the node and its Pods can reach at all: not the macvlan one.
pub(crate) fn reachable(lab: &Lab) -> impl Iterator<Item = &Pod> {
    lab.pods().iter().filter(|pod| pod.cni != Cni::Macvlan)
}

/// The frontends, and the loopback `NodePort` of host processes.
pub(crate) fn of_host() -> Vec<Frontend> {
    let loopback = plan::Dual { v4: std::net::Ipv4Addr::LOCALHOST, v6: std::net::Ipv6Addr::LOCALHOST };
    let local = Frontend { kind: FrontendKind::NodePort, ip: loopback, ports: [30080, 30053] };
    FRONTENDS.into_iter().chain([local]).collect()
}

#[test]
fn the_labs_cgroup_holds_what_asks_and_its_macvlan_pod_reaches_the_fabric() {
    let mut lab = Lab::start(LabOptions::default()).unwrap();
    lab.add_pod("mv1", Cni::Macvlan).unwrap();
    let cgroup = lab.cgroup().unwrap();
    let ns = lab.pod("mv1").unwrap().ns.in_cgroup(&cgroup);
    let own = || Ok(std::fs::read_to_string("/proc/thread-self/cgroup")?);
    let name = cgroup.path().file_name().unwrap().to_string_lossy().into_owned();
    assert!(ns.run(own).unwrap().contains(&name));
    assert!(!lab.client.run(own).unwrap().contains(&name));
    // A child process is where its parent's thread is, also across an exec.
    assert!(ns.command("cat", &["/proc/self/cgroup"]).unwrap().contains(&name));
    for target in ["remote1", "mv1"] {
        for (family, transport) in crate::fixture::each_way() {
            let dst = std::net::SocketAddr::new(lab.pod(target).unwrap().addr.of(family), transport.pod_port());
            let answer = ns.ask(transport, dst).unwrap_or_else(|err| panic!("mv1 -> {dst}: {err}"));
            assert_eq!(answer.pod, target);
        }
    }
    lab.remove_pod("mv1").unwrap();
    drop(ns);
    let path = cgroup.path().to_owned();
    drop(cgroup);
    assert!(!path.exists());
}
