//! Events applied to an inventory, above all those that look like something else than they are.

use std::net::Ipv4Addr;

use rtnetlink::packet_core::{NetlinkHeader, NetlinkMessage};

use super::*;

fn inner(message: RouteNetlinkMessage) -> NetlinkMessage<RouteNetlinkMessage> {
    NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message))
}

fn link(index: u32, name: &str, more: &[LinkAttribute]) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.attributes.push(LinkAttribute::IfName(name.into()));
    message.attributes.extend_from_slice(more);
    message
}

fn after(inventory: &mut Inventory, message: RouteNetlinkMessage) -> Change {
    let mut change = Change::default();
    apply(inventory, &mut change, inner(message));
    change
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_a_device_that_is_gone() {
    let mut inventory = Inventory::default();
    after(&mut inventory, RouteNetlinkMessage::NewLink(link(7, "veth0", &[LinkAttribute::Controller(3)])));
    assert_eq!(inventory.devices[&7].master, Some(3));
    let mut of_bridge = link(7, "veth0", &[]);
    of_bridge.header.interface_family = AddressFamily::Bridge;
    assert_eq!(after(&mut inventory, RouteNetlinkMessage::DelLink(of_bridge.clone())), Change::default());
    assert_eq!(after(&mut inventory, RouteNetlinkMessage::NewLink(of_bridge)), Change::default());
    assert_eq!(inventory.devices[&7].master, Some(3));
    assert!(after(&mut inventory, RouteNetlinkMessage::DelLink(link(7, "veth0", &[]))).devices);
    assert!(inventory.devices.is_empty());
}

#[test]
fn losing_one_end_of_a_pair_asks_for_a_new_listing() {
    let mut inventory = Inventory::default();
    after(&mut inventory, RouteNetlinkMessage::NewLink(link(7, "host", &[LinkAttribute::Link(8)])));
    after(&mut inventory, RouteNetlinkMessage::NewLink(link(8, "inside", &[LinkAttribute::Link(7)])));
    let elsewhere = [LinkAttribute::Link(8), LinkAttribute::LinkNetNsId(0)];
    after(&mut inventory, RouteNetlinkMessage::NewLink(link(9, "other", &elsewhere)));
    assert_eq!(inventory.devices[&9].peer, None, "an index of another namespace is not one of ours");
    assert!(after(&mut inventory, RouteNetlinkMessage::DelLink(link(8, "inside", &[]))).relist);
    assert!(!after(&mut inventory, RouteNetlinkMessage::DelLink(link(7, "host", &[]))).relist);
}

#[test]
fn lost_events_ask_for_a_new_listing() {
    let mut change = Change::default();
    let overrun = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::Overrun(Vec::new()));
    apply(&mut Inventory::default(), &mut change, overrun);
    assert!(change.relist);
}

#[test]
fn an_event_without_news_changes_nothing() {
    let mut inventory = Inventory::default();
    assert!(after(&mut inventory, RouteNetlinkMessage::NewLink(link(7, "eth0", &[]))).devices);
    assert!(!after(&mut inventory, RouteNetlinkMessage::NewLink(link(7, "eth0", &[LinkAttribute::Mtu(9000)]))).devices);
}

fn route(prefix: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.kind = RouteType::Unicast;
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.destination_prefix_length = prefix;
    route.attributes = attributes;
    route
}

#[test]
fn routes_are_condensed_to_what_they_say_about_devices() {
    let gateway = || RouteAttribute::Gateway(RouteAddress::Inet(Ipv4Addr::new(192, 0, 2, 1)));
    let mut routing = Routing::default();
    note_route(&mut routing, &route(0, vec![RouteAttribute::Oif(2), gateway(), RouteAttribute::Priority(100)]));
    note_route(&mut routing, &route(24, vec![RouteAttribute::Oif(3), gateway()]));
    note_route(&mut routing, &route(32, vec![RouteAttribute::Oif(4), gateway()]));
    note_route(&mut routing, &route(24, vec![RouteAttribute::Oif(5)]));
    let mut local = route(32, vec![RouteAttribute::Oif(6)]);
    local.header.kind = RouteType::Local;
    note_route(&mut routing, &local);
    assert_eq!(
        routing.defaults,
        [DefaultRoute {
            metric: 100,
            device: 2,
            v6: false,
            source: None,
            gateway: Some(IpAddr::from([192, 0, 2, 1])),
            main: true
        }]
    );
    assert_eq!(routing.gatewayed, BTreeSet::from([2, 3]), "a gateway towards a single host may be a Pod's");
    assert_eq!(routing.routed, BTreeSet::from([2, 3, 4, 5]));
}

#[test]
fn a_default_route_of_another_table_is_known_as_such() {
    let mut routing = Routing::default();
    let mut high = route(0, vec![RouteAttribute::Oif(2), RouteAttribute::Table(1_000)]);
    high.header.table = RouteHeader::RT_TABLE_UNSPEC;
    note_route(&mut routing, &high);
    let mut low = route(0, vec![RouteAttribute::Oif(3)]);
    low.header.table = 77;
    note_route(&mut routing, &low);
    note_route(&mut routing, &route(0, vec![RouteAttribute::Oif(4), RouteAttribute::Table(254)]));
    let main: Vec<_> = routing.defaults.iter().map(|route| (route.device, route.main)).collect();
    assert_eq!(main, [(2, false), (3, false), (4, true)]);
}

#[test]
fn the_own_end_of_a_point_to_point_address_counts() {
    let mut message = AddressMessage::default();
    message.header.prefix_len = 32;
    message.attributes = vec![
        AddressAttribute::Address(Ipv4Addr::new(10, 0, 0, 2).into()),
        AddressAttribute::Local(Ipv4Addr::new(10, 0, 0, 1).into()),
        AddressAttribute::Flags(AddressFlags::Permanent),
    ];
    let found = address(&message).unwrap();
    assert_eq!(found.ip, IpAddr::from([10, 0, 0, 1]));
    assert!(found.preferred && found.global);
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Tentative));
    assert!(!address(&message).unwrap().preferred);
}

#[test]
fn a_hardware_address_counts_only_where_frames_have_one() {
    let with = |kind, address: &[u8]| {
        let mut message = link(7, "dev", &[LinkAttribute::Address(address.to_vec())]);
        message.header.link_layer_type = kind;
        device(&message).unwrap().mac
    };
    assert_eq!(with(LinkLayerType::Ether, &[2, 0, 0, 0, 0, 1]), Some([2, 0, 0, 0, 0, 1]));
    assert_eq!(with(LinkLayerType::Ether, &[1, 2]), None);
    assert_eq!(with(LinkLayerType::Tunnel, &[192, 0, 2, 1]), None);
}
