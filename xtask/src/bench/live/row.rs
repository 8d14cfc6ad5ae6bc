//! The rows: who asks whom, on which kind of node, and which row each one is compared with.

use super::asked::{CLUSTER_IP, NODE_PORTS, REMOTE_CLUSTER_IP, REMOTE_NODE_PORTS, SERVICE_PORTS};
use super::client::{Target, Workload};
use super::island::{LOCAL, NODE, REMOTE};
use super::kind::Kind;
use super::server::{SINK, TCP_ECHO, UDP_ECHO};

/// Where the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A Pod of the node.
    Pod,
    /// The same, in the cgroup whose sockets the agent serves.
    ServedPod,
    /// Outside of the cluster.
    Outside,
}

/// Which Pod answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// The node's.
    Local,
    /// The other node's.
    Remote,
}

/// What a row is measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Sockets: every workload but one.
    Sockets,
    /// Small frames of flows that were answered before.
    Answered,
    /// Small frames of flows that never are.
    Unanswered,
}

/// How the client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    ClusterIp,
    NodePort,
}

/// One line of the report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// As on the command line.
    pub(super) id: &'static str,
    /// For people.
    pub(super) title: &'static str,
    /// Kind of node.
    pub(super) kind: Kind,
    /// Where the client is.
    pub(super) from: Source,
    /// Which Pod answers.
    pub(super) to: Backend,
    way: Way,
    /// What it is measured with.
    pub(super) stream: Stream,
    /// The row that its figures are divided by.
    pub(super) base: &'static str,
}

impl Row {
    const fn new(id: &'static str, title: &'static str, kind: Kind, from: Source, to: Backend, way: Way) -> Self {
        let base = match (from, to) {
            (Source::Pod | Source::ServedPod, _) => "direct",
            (Source::Outside, Backend::Local) => "outside-direct",
            (Source::Outside, Backend::Remote) => "remote-direct",
        };
        Self { id, title, kind, from, to, way, stream: Stream::Sockets, base }
    }

    /// Small frames from a Pod of a third node to the node's Pod.
    const fn frames(id: &'static str, title: &'static str, kind: Kind, stream: Stream, way: Way) -> Self {
        let (from, to) = (Source::Outside, Backend::Local);
        Self { id, title, kind, from, to, way, stream, base: "frames-direct" }
    }

    /// Whether a workload is for rows of this kind.
    pub(super) fn fits(&self, workload: Workload) -> bool {
        (workload == Workload::Frames) == (self.stream != Stream::Sockets)
    }

    /// Whether others are divided by it.
    pub(super) fn is_base(&self) -> bool {
        self.id == self.base
    }

    /// Where the client sends.
    pub(super) fn target(&self) -> Target {
        let at = |addresses, [tcp, udp, sink]: [u16; 3]| Target { addresses, tcp, udp, sink };
        match (self.way, self.to) {
            (Way::Direct, Backend::Local) => at(&LOCAL, [TCP_ECHO, UDP_ECHO, SINK]),
            (Way::Direct, Backend::Remote) => at(&REMOTE, [TCP_ECHO, UDP_ECHO, SINK]),
            (Way::ClusterIp, Backend::Local) => at(&[CLUSTER_IP], SERVICE_PORTS),
            (Way::ClusterIp, Backend::Remote) => at(&[REMOTE_CLUSTER_IP], SERVICE_PORTS),
            (Way::NodePort, Backend::Local) => at(&[NODE], NODE_PORTS),
            (Way::NodePort, Backend::Remote) => at(&[NODE], REMOTE_NODE_PORTS),
        }
    }
}

/// All rows, in the order of the report.
pub(super) const ALL: [Row; 32] = {
    use Backend::{Local, Remote};
    use Kind::{Against, Empty, NftFew, NftMany, Plain, Redirect, Sluice, Xdp};
    use Source::{Outside, Pod, ServedPod};
    use Stream::{Answered, Unanswered};
    use Way::{ClusterIp, Direct, NodePort};
    [
        Row::new("direct", "Pod to Pod, no proxy", Plain, Pod, Local, Direct),
        Row::new("empty", "Pod to Pod, an empty program on each TC hook", Empty, Pod, Local, Direct),
        Row::new("tax", "Pod to Pod on a node with Sluice", Sluice, Pod, Local, Direct),
        Row::new("tax-redirect", "Pod to Pod on a node with Sluice, redirect", Redirect, Pod, Local, Direct),
        Row::new("tax-against", "Pod to Pod, the agent to judge by", Against, Pod, Local, Direct),
        Row::new("clusterip", "ClusterIP, packets", Sluice, Pod, Local, ClusterIp),
        Row::new("clusterip-redirect", "ClusterIP, packets, redirect", Redirect, Pod, Local, ClusterIp),
        Row::new("clusterip-against", "ClusterIP, packets, the agent to judge by", Against, Pod, Local, ClusterIp),
        Row::new("sockets", "ClusterIP, sockets", Sluice, ServedPod, Local, ClusterIp),
        Row::new("sockets-against", "ClusterIP, sockets, the agent to judge by", Against, ServedPod, Local, ClusterIp),
        Row::new("nft-few", "ClusterIP, kube-proxy's nftables, 10 Services", NftFew, Pod, Local, ClusterIp),
        Row::new("nft-many", "ClusterIP, kube-proxy's nftables, all Services", NftMany, Pod, Local, ClusterIp),
        Row::new("outside-direct", "outside to Pod, no proxy", Plain, Outside, Local, Direct),
        Row::new("outside-nodeport", "NodePort to a Pod of the node", Sluice, Outside, Local, NodePort),
        Row::new("remote-direct", "outside to a Pod of another node, no proxy", Plain, Outside, Remote, Direct),
        Row::new("remote-nodeport", "NodePort to a Pod of another node", Sluice, Outside, Remote, NodePort),
        Row::new("remote-redirect", "NodePort to a Pod of another node, redirect", Redirect, Outside, Remote, NodePort),
        Row::new("remote-nft", "NodePort to a Pod of another node, kube-proxy's", NftFew, Outside, Remote, NodePort),
        Row::frames("frames-direct", "plain routing to a Pod", Plain, Answered, Direct),
        Row::frames("frames-empty", "an empty program on each TC hook", Empty, Answered, Direct),
        Row::frames("frames-tax", "to a Pod on a node with Sluice", Sluice, Answered, Direct),
        Row::frames("frames-tax-redirect", "to a Pod on a node with Sluice, redirect", Redirect, Answered, Direct),
        Row::frames("frames-tax-xdp", "to a Pod on a node with Sluice, XDP", Xdp, Answered, Direct),
        Row::frames("frames-tax-against", "to a Pod, the agent to judge by", Against, Answered, Direct),
        Row::frames("frames-clusterip", "ClusterIP, answered flows", Sluice, Answered, ClusterIp),
        Row::frames("frames-clusterip-redirect", "ClusterIP, answered flows, redirect", Redirect, Answered, ClusterIp),
        Row::frames("frames-clusterip-xdp", "ClusterIP, answered flows, XDP", Xdp, Answered, ClusterIp),
        Row::frames(
            "frames-clusterip-against",
            "ClusterIP, answered, the agent to judge by",
            Against,
            Answered,
            ClusterIp,
        ),
        Row::frames("frames-oneway", "ClusterIP, never answered", Sluice, Unanswered, ClusterIp),
        Row::frames("frames-oneway-redirect", "ClusterIP, never answered, redirect", Redirect, Unanswered, ClusterIp),
        Row::frames("frames-nft", "ClusterIP, answered flows, kube-proxy's nftables", NftFew, Answered, ClusterIp),
        Row::frames(
            "frames-nft-oneway",
            "ClusterIP, never answered, kube-proxy's nftables",
            NftFew,
            Unanswered,
            ClusterIp,
        ),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_compared_with_a_row_of_a_plain_node_on_the_same_way() {
        for row in ALL {
            let base = ALL.iter().find(|other| other.id == row.base).unwrap();
            assert!(base.is_base() && base.kind == Kind::Plain && base.way == Way::Direct, "{}", row.id);
            assert_eq!((base.to, base.from == Source::Outside), (row.to, row.from == Source::Outside), "{}", row.id);
        }
    }

    #[test]
    fn ids_are_unique() {
        for row in ALL {
            assert_eq!(ALL.iter().filter(|other| other.id == row.id).count(), 1, "{}", row.id);
        }
    }
}
