//! What the pinned maps serve, and how full they are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use lb_common::abi::table::{Kind, Table};
use lb_common::abi::{backend_flag, frontend_kind, proto, tables};

use super::ways::Backend;
use crate::check::facts::{Front, MapFill};
use crate::maps::kernel::KernelTables;
use crate::maps::{Tables, observe};

/// Backends whose routes are looked at.
const BACKENDS: usize = 2000;

/// What the maps hold. Nothing where no agent has run, or one of another version.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) frontends: Vec<Front>,
    /// With the service port of each.
    pub(super) backends: Vec<(String, Backend)>,
    pub(super) maps: Vec<MapFill>,
    /// Source ports for source NAT.
    pub(super) snat_ports: Option<(u16, u16)>,
}

/// Reads the maps below these pins.
pub(super) fn read(pin_path: &Path) -> Served {
    let fills = observe::fills(pin_path).unwrap_or_default();
    let maps = fills.iter().map(|fill| {
        let table = tables::of_map(fill.map);
        MapFill {
            map: fill.map.to_owned(),
            used: fill.used,
            capacity: fill.capacity,
            setting: table.and_then(Table::setting),
            evicts: table.is_some_and(|table| table.kind == Kind::LruHash),
        }
    });
    let mut served =
        Served { maps: maps.collect(), snat_ports: observe::snat_ports(pin_path).ok().flatten(), ..Served::default() };
    let Ok(existing) = KernelTables::open(pin_path).and_then(|tables| tables.read()) else { return served };
    let names: HashMap<u32, &str> = existing.names.iter().map(|(id, _, name)| (*id, name.as_str())).collect();
    let name = |service: u32| names.get(&service).map_or_else(String::new, |name| (*name).to_owned());
    let services = existing.frontends.iter().filter(|(_, value)| !frontend_kind::is_of_address(value.kind));
    served.frontends.extend(services.map(|(vip, value)| Front {
        addr: SocketAddr::new(vip.addr, vip.port),
        protocol: vip.proto,
        node_port: value.kind == frontend_kind::NODE_PORT,
        cluster_ip: value.kind == frontend_kind::CLUSTER_IP,
        service: name(value.service),
    }));
    let used = backend_flag::IN_CLUSTER | backend_flag::IN_LOCAL;
    let members = existing.backends.iter().filter(|(_, _, entry)| entry.flags & used != 0);
    served.backends.extend(members.take(BACKENDS).map(|(_, _, entry)| {
        let service = name(entry.service);
        let protocol = if service.ends_with("/TCP") { proto::TCP } else { proto::UDP };
        let local = entry.flags & backend_flag::LOCAL != 0;
        (service, Backend { addr: entry.addr, protocol, local })
    }));
    served
}
