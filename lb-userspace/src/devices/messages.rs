//! Messages of rtnetlink, read as facts about devices, addresses and routes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::NetlinkPayload;

use super::inventory::{DefaultRoute, Device, DeviceAddress, Inventory, Routing};
use crate::linux::netlink::Message;

/// What a batch of events asks for, besides what it already changed in the inventory.
#[expect(clippy::struct_excessive_bools, reason = "independent consequences of a batch of events")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Devices or addresses changed.
    pub devices: bool,
    /// A default route changed: list the routes again at once.
    pub default_routes: bool,
    /// Other routes changed: list them again when it is convenient.
    pub routes: bool,
    /// Events were lost or are not enough: list everything again.
    pub relist: bool,
    /// Devices that went, also those that came back under the same number.
    pub gone: BTreeSet<u32>,
    /// Devices of which something was heard.
    pub touched: BTreeSet<u32>,
}

/// Applies one event to the inventory.
pub(super) fn apply(inventory: &mut Inventory, change: &mut Change, message: Message) {
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
            if link.header.interface_family == AddressFamily::Unspec {
                change.touched.insert(link.header.index);
            }
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
            change.gone.insert(index);
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
pub(super) fn device(message: &LinkMessage) -> Option<Device> {
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
            LinkAttribute::Address(mac) if device.ethernet => device.mac = mac.as_slice().try_into().ok(),
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

/// An address with its state.
pub(super) fn address(message: &AddressMessage) -> Option<DeviceAddress> {
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

/// Notes what a route says about devices.
pub(super) fn note_route(routing: &mut Routing, route: &RouteMessage) {
    if route.header.kind != RouteType::Unicast || is_multicast(route) {
        return;
    }
    let mut devices = BTreeSet::new();
    let mut gateway = false;
    let mut router = None;
    let mut metric = 0;
    let mut source = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => {
                devices.insert(*index);
            }
            RouteAttribute::Gateway(address) => (gateway, router) = (true, ip(address)),
            RouteAttribute::Via(_) => gateway = true,
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
            let main = table(route) == u32::from(RouteHeader::RT_TABLE_MAIN);
            routing.defaults.push(DefaultRoute { metric, device, v6, source, gateway: router, main });
        }
        note_source(routing, (device, v6), source, gateway, length == 0);
        if gateway && !to_one_host {
            routing.gatewayed.insert(device);
        }
        // Each device has a route to its IPv6 link-local network; that says nothing.
        if !(v6 && is_link_local(route)) {
            routing.routed.insert(device);
        }
    }
}

/// Routes to networks that are right there have the source that the kernel gave them: nobody prescribed it.
fn note_source(routing: &mut Routing, of: (u32, bool), source: Option<IpAddr>, gateway: bool, default: bool) {
    match source {
        Some(source) if default => {
            routing.sources.insert(of, source);
        }
        Some(source) if gateway => {
            routing.sources.entry(of).or_insert(source);
        }
        _ => {}
    }
}

/// Numbers above 255 do not fit into the header.
fn table(route: &RouteMessage) -> u32 {
    let named = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    named.unwrap_or_else(|| route.header.table.into())
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
#[path = "messages_tests.rs"]
mod tests;
