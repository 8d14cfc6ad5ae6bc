//! Lists and follows devices, addresses and routes of the current network namespace.

use futures::TryStreamExt;
use rtnetlink::{MulticastGroup, RouteMessageBuilder};

use super::inventory::{Inventory, Routing};
use super::messages::{Change, address, apply, device, note_route};
use crate::linux::netlink::{Netlink, NetlinkError, failed};

/// A subscription to what changes in a network namespace.
#[derive(Debug)]
pub struct DeviceWatcher(Netlink);

impl DeviceWatcher {
    /// Subscribes. Events from now on are kept, so a listing made after this misses nothing.
    pub fn open() -> Result<Self, NetlinkError> {
        Netlink::subscribe(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])
        .map(Self)
    }

    /// Lists everything.
    pub async fn list(&self) -> Result<Inventory, NetlinkError> {
        let mut inventory = Inventory::default();
        let mut links = self.0.handle().link().get().execute();
        while let Some(link) = links.try_next().await.map_err(failed("list devices"))? {
            if let Some(device) = device(&link) {
                inventory.devices.insert(device.index, device);
            }
        }
        let mut addresses = self.0.handle().address().get().execute();
        while let Some(message) = addresses.try_next().await.map_err(failed("list addresses"))? {
            if let Some(address) = address(&message) {
                inventory.upsert_address(message.header.index, address);
            }
        }
        inventory.routing = self.routing().await?;
        Ok(inventory)
    }

    /// Lists the routes of all tables, condensed as they arrive.
    pub async fn routing(&self) -> Result<Routing, NetlinkError> {
        let mut routing = Routing::default();
        let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().table_id(0).build();
        let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().table_id(0).build();
        for request in [v4, v6] {
            let mut routes = self.0.handle().route().get(request).execute();
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
        self.0.next(|message| apply(inventory, &mut change, message)).await?;
        Some(change)
    }
}
