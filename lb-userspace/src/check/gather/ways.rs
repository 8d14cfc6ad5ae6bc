//! Where the routing table leads for each backend, and what answers there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use futures::TryStreamExt;
use lb_common::abi::proto;
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::check::facts::{Leads, Probed, Way};
use crate::linux::netlink::{NetlinkError, failed};

/// How long a backend has to take a connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// Backends that are asked at once.
const AT_ONCE: usize = 32;

/// A backend to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// Address and port.
    pub addr: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// The endpoint is said to be on this node.
    pub local: bool,
}

/// What the kernel knows of its network.
struct Network {
    /// Name, and whether it runs, by index.
    devices: BTreeMap<u32, (String, bool)>,
    /// Addresses for which nobody answers, by device.
    unanswered: BTreeSet<(u32, IpAddr)>,
}

/// The ways to backends, in their order. `uplinks`: names of the uplinks. Packets are sent only with `probe`: a TCP
/// connection to each backend, closed at once.
pub async fn ways(backends: &[Backend], uplinks: &BTreeSet<String>, probe: bool) -> Result<Vec<Way>, NetlinkError> {
    // First, so that neighbours are asked for and their answers are known.
    let probed = if probe { probes(backends) } else { vec![None; backends.len()] };
    let (connection, handle, _) = rtnetlink::new_connection().map_err(failed("open a socket"))?;
    let following = tokio::spawn(connection);
    let network = network(&handle, probe).await?;
    let mut ways = Vec::with_capacity(backends.len());
    for (backend, probed) in backends.iter().zip(probed) {
        let route = route(&handle, backend.addr.ip(), &network, uplinks).await;
        let Backend { addr, protocol, local } = *backend;
        ways.push(Way { backend: addr, protocol, local, route, probed });
    }
    following.abort();
    Ok(ways)
}

async fn network(handle: &Handle, probed: bool) -> Result<Network, NetlinkError> {
    let mut devices = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.map_err(failed("list devices"))? {
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
        let running = link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
        devices.insert(link.header.index, (name.unwrap_or_default(), running));
    }
    let mut unanswered = BTreeSet::new();
    let mut neighbours = handle.neighbours().get().execute();
    while let Some(neighbour) = neighbours.try_next().await.map_err(failed("list neighbours"))? {
        let state = neighbour.header.state;
        // After a probe nobody can be waiting any more.
        if state != NeighbourState::Failed && !(probed && state == NeighbourState::Incomplete) {
            continue;
        }
        for attribute in &neighbour.attributes {
            let ip = match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => IpAddr::V4(*ip),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => IpAddr::V6(*ip),
                _ => continue,
            };
            unanswered.insert((neighbour.header.ifindex, ip));
        }
    }
    Ok(Network { devices, unanswered })
}

async fn route(handle: &Handle, to: IpAddr, network: &Network, uplinks: &BTreeSet<String>) -> Result<Leads, String> {
    let request = match to {
        IpAddr::V4(ip) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, 32).build(),
        IpAddr::V6(ip) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, 128).build(),
    };
    let mut answers = handle.route().get(request).execute();
    let answer = answers.try_next().await.map_err(|error| match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().to_string(),
        other => other.to_string(),
    })?;
    let answer = answer.ok_or("the kernel gives none")?;
    let own = answer.header.kind == RouteType::Local;
    if !own && answer.header.kind != RouteType::Unicast {
        return Err(format!("it is {:?}", answer.header.kind));
    }
    let mut leads = Leads { own, ..Leads::default() };
    let mut device = 0;
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => leads.next = Some((*ip).into()),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => leads.next = Some((*ip).into()),
            _ => {}
        }
    }
    let (name, running) = network.devices.get(&device).cloned().unwrap_or_default();
    leads.unanswered = network.unanswered.contains(&(device, leads.next.unwrap_or(to)));
    Ok(Leads { uplink: uplinks.contains(&name), device: name, running, ..leads })
}

/// What comes of a connection to each, several at once. Only TCP can be asked without consequences.
fn probes(backends: &[Backend]) -> Vec<Option<Probed>> {
    let mut results = Vec::with_capacity(backends.len());
    for some in backends.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let asking: Vec<_> = some
                .iter()
                .map(|backend| scope.spawn(|| (backend.protocol == proto::TCP).then(|| probe(backend.addr))))
                .collect();
            results.extend(asking.into_iter().map(|asked| asked.join().ok().flatten()));
        });
    }
    results
}

fn probe(backend: SocketAddr) -> Probed {
    match TcpStream::connect_timeout(&backend, PATIENCE) {
        Ok(_) => Probed::Taken,
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Probed::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Probed::Unanswered,
            _ => Probed::Unreachable(error.to_string()),
        },
    }
}
