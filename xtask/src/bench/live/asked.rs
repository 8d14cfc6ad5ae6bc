//! Addresses and ports of the two Services that the bench asks.

use std::net::Ipv4Addr;

/// The `ClusterIP` of the Service in front of the node's own Pod.
pub(super) const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The same in front of the other node's Pod.
pub(super) const REMOTE_CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
/// Service ports: echo over TCP, echo over UDP, and the one that takes all.
pub(super) const SERVICE_PORTS: [u16; 3] = [80, 81, 82];
/// The local Service's `NodePort`s.
pub(super) const NODE_PORTS: [u16; 3] = [30_080, 30_081, 30_082];
/// The remote Service's `NodePort`s.
pub(super) const REMOTE_NODE_PORTS: [u16; 3] = [30_090, 30_091, 30_092];
