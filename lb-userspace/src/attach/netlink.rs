//! Lists and follows devices, addresses and routes of the current network namespace over rtnetlink.
#![expect(unsafe_code, reason = "a raw system call")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt, TryStreamExt};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::AttachError;
use super::inventory::{DefaultRoute, Device, DeviceAddress, Inventory, Routing};

/// Receive buffer for events: a burst of this many bytes is survived without a new listing.
const EVENT_BUFFER: libc::c_int = 8 << 20;

/// What a batch of events asks for, besides what it already changed in the inventory.
#[expect(clippy::struct_excessive_bools, reason = "independent consequences of a batch of events")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Devices or addresses changed.
    pub devices: bool,
    /// A default route changed: list the routes again at once.
    pub default_routes: bool,
    /// Other routes changed: list them again when it is convenient.
    pub routes: bool,
    /// Events were lost or are not enough: list everything again.
    pub relist: bool,
}

type Events = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// A subscription to the events of a network namespace, and a second socket for listings.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    events: Events,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Netlink {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn failed<E>(what: &'static str) -> impl FnOnce(E) -> AttachError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| AttachError::Netlink { what, source: Box::new(source) }
}

impl Netlink {
    /// Subscribes. Events from now on are kept, so a listing made after this misses nothing.
    pub fn open() -> Result<Self, AttachError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (mut following, _, events) =
            rtnetlink::new_multicast_connection(&groups).map_err(failed("subscribe to device events"))?;
        enlarge_buffer(following.socket_mut().as_raw_fd());
        let (listing, handle, _) = rtnetlink::new_connection().map_err(failed("open a socket for listings"))?;
        Ok(Self { handle, events, tasks: [tokio::spawn(following), tokio::spawn(listing)] })
    }

    /// Lists everything.
    pub async fn list(&self) -> Result<Inventory, AttachError> {
        let mut inventory = Inventory::default();
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(failed("list devices"))? {
            if let Some(device) = device(&link) {
                inventory.devices.insert(device.index, device);
            }
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await.map_err(failed("list addresses"))? {
            if let Some(address) = address(&message) {
                inventory.upsert_address(message.header.index, address);
            }
        }
        inventory.routing = self.routing().await?;
        Ok(inventory)
    }

    /// Lists the routes of all tables, condensed as they arrive.
    pub async fn routing(&self) -> Result<Routing, AttachError> {
        let mut routing = Routing::default();
        let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().table_id(0).build();
        let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().table_id(0).build();
        for request in [v4, v6] {
            let mut routes = self.handle.route().get(request).execute();
            while let Some(route) = routes.try_next().await.map_err(failed("list routes"))? {
                note_route(&mut routing, &route);
            }
        }
        routing.defaults.sort_unstable();
        Ok(routing)
    }

    /// Waits for events, applies all that are there to the inventory and says what changed. `None`: the socket is
    /// gone, open another one.
    pub async fn next(&mut self, inventory: &mut Inventory) -> Option<Change> {
        let mut change = Change::default();
        let (first, _) = self.events.next().await?;
        apply(inventory, &mut change, first);
        while let Some(next) = self.events.next().now_or_never() {
            let (message, _) = next?;
            apply(inventory, &mut change, message);
        }
        Some(change)
    }
}

/// Best effort: without the privilege the default buffer stays, and lost events lead to a new listing.
fn enlarge_buffer(fd: libc::c_int) {
    let size = EVENT_BUFFER;
    // SAFETY: `fd` is an open socket for the duration of the call, the pointer and length are those of `size`.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4),
        )
    };
    if result != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "netlink event buffer keeps its default size");
    }
}

fn apply(inventory: &mut Inventory, change: &mut Change, message: NetlinkMessage<RouteNetlinkMessage>) {
    let inner = match message.payload {
        NetlinkPayload::InnerMessage(inner) => inner,
        NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_) => {
            change.relist = true;
            return;
        }
        _ => return,
    };
    match inner {
        RouteNetlinkMessage::NewLink(link) => {
            if let Some(device) = device(&link)
                && inventory.devices.get(&device.index) != Some(&device)
            {
                inventory.devices.insert(device.index, device);
                change.devices = true;
            }
        }
        // A bridge also announces a port that left it, as a deleted link of the bridge family: not the device's end.
        RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
            let index = link.header.index;
            // The other end of a pair that is split up by a move into a Pod is not always announced.
            change.relist |= inventory.devices.values().any(|device| device.peer == Some(index));
            inventory.remove_device(index);
            change.devices = true;
        }
        RouteNetlinkMessage::NewAddress(message) => {
            if let Some(address) = address(&message) {
                inventory.upsert_address(message.header.index, address);
                change.devices = true;
            }
        }
        RouteNetlinkMessage::DelAddress(message) => {
            if let Some(address) = address(&message) {
                inventory.remove_address(message.header.index, address.ip, address.prefix);
                change.devices = true;
            }
        }
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)
            if route.header.kind == RouteType::Unicast =>
        {
            change.default_routes |= route.header.destination_prefix_length == 0;
            change.routes = true;
        }
        _ => {}
    }
}

/// The facts about a device; `None` for messages about something else, such as bridge ports.
fn device(message: &LinkMessage) -> Option<Device> {
    let header = &message.header;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut device = Device {
        index: header.index,
        ethernet: header.link_layer_type == LinkLayerType::Ether,
        loopback: header.flags.contains(LinkFlags::Loopback),
        up: header.flags.contains(LinkFlags::Up),
        ..Device::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Controller(index) => device.master = Some(*index),
            LinkAttribute::Link(index) => device.peer = Some(*index),
            LinkAttribute::LinkNetNsId(_) => device.peer_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                device.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    if device.peer_elsewhere {
        device.peer = None;
    }
    Some(device)
}

fn address(message: &AddressMessage) -> Option<DeviceAddress> {
    let mut local = None;
    let mut plain = None;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point device `Address` is the other end's.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => plain = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let unfit = AddressFlags::Secondary | AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    Some(DeviceAddress {
        ip: local.or(plain)?,
        prefix: message.header.prefix_len,
        global: matches!(message.header.scope, AddressScope::Universe | AddressScope::Site | AddressScope::Other(_)),
        preferred: !flags.intersects(unfit),
    })
}

fn note_route(routing: &mut Routing, route: &RouteMessage) {
    if route.header.kind != RouteType::Unicast || is_multicast(route) {
        return;
    }
    let mut devices = BTreeSet::new();
    let mut gateway = false;
    let mut metric = 0;
    let mut source = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => {
                devices.insert(*index);
            }
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = true,
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    devices.insert(hop.interface_index);
                    gateway |=
                        hop.attributes.iter().any(|a| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)));
                }
            }
            _ => {}
        }
    }
    let v6 = route.header.address_family == AddressFamily::Inet6;
    let length = route.header.destination_prefix_length;
    let to_one_host = length == if v6 { 128 } else { 32 };
    for device in devices {
        if length == 0 {
            routing.defaults.push(DefaultRoute { metric, device, v6, source });
        }
        if gateway && !to_one_host {
            routing.gatewayed.insert(device);
        }
        // Each device has a route to its IPv6 link-local network; that says nothing.
        if !(v6 && is_link_local(route)) {
            routing.routed.insert(device);
        }
    }
}

fn destination(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    })
}

fn is_link_local(route: &RouteMessage) -> bool {
    matches!(destination(route), Some(IpAddr::V6(ip)) if ip.is_unicast_link_local())
}

fn is_multicast(route: &RouteMessage) -> bool {
    destination(route).is_some_and(|ip| ip.is_multicast())
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "netlink_tests.rs"]
mod tests;
