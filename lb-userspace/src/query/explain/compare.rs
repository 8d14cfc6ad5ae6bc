//! Where the kernel's maps are not what the model makes of a Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_common::abi::{SetRef, frontend_kind};

use super::target::Target;
use crate::model::desired::{DesiredPort, Family};
use crate::model::world::World;
use crate::plan::{Existing, Vip};

/// What differs, for the Services that the target concerns; a line each.
pub fn differences(world: &World, target: &Target, existing: &Existing) -> Vec<String> {
    let maps = Maps::new(existing);
    let mut lines = Vec::new();
    for view in world.views(|name, service, node| target.concerns(name, service, node)) {
        for port in &view.desired.ports {
            maps.compare(port, &mut lines);
        }
        let wanted: BTreeSet<(String, Family)> =
            view.desired.ports.iter().map(|port| (port.id.to_string(), port.id.family)).collect();
        let prefix = format!("{}:", view.name);
        let stale = existing
            .names
            .iter()
            .filter(|(_, family, name)| name.starts_with(&prefix) && !wanted.contains(&(name.clone(), *family)));
        lines
            .extend(stale.map(|(_, family, name)| {
                format!("{name} ({}) is in the maps and should not be served", family.name())
            }));
    }
    lines
}

/// The maps, to be looked up in.
struct Maps<'a> {
    existing: &'a Existing,
    addresses: BTreeMap<(Family, u32), SocketAddr>,
    sets: BTreeMap<(Family, u32, u32), &'a [u32]>,
}

impl<'a> Maps<'a> {
    fn new(existing: &'a Existing) -> Self {
        Self {
            existing,
            addresses: existing.backends.iter().map(|(family, id, entry)| ((*family, *id), entry.addr)).collect(),
            sets: existing.sets.iter().map(|(family, set, ids)| ((*family, set.base, set.count), &**ids)).collect(),
        }
    }

    fn compare(&self, port: &DesiredPort, lines: &mut Vec<String>) {
        let (id, family) = (&port.id, port.id.family);
        let name = id.to_string();
        let known = self.existing.names.iter().find(|(_, of, known)| *of == family && *known == name);
        let Some((service, ..)) = known else {
            lines.push(format!("{id} ({}) is not in the maps", family.name()));
            return;
        };
        for frontend in &port.frontends {
            let addr = frontend.addr;
            let vip = Vip { addr: addr.ip(), port: addr.port(), proto: id.protocol.number() };
            let entry = self.existing.frontends.iter().find(|(known, _)| *known == vip);
            let Some((_, value)) = entry.filter(|(_, value)| value.service == *service) else {
                lines.push(format!("frontend {addr}/{} of {id} is not in the maps", id.protocol.name()));
                continue;
            };
            for (who, kind, set) in
                [("inside", frontend.internal, value.internal), ("outside", frontend.external, value.external)]
            {
                let (wanted, found): (BTreeSet<_>, _) = (port.members(kind).collect(), self.members(family, set));
                let list =
                    |set: &BTreeSet<SocketAddr>| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                if wanted != found {
                    let (wanted, found) = (list(&wanted), list(&found));
                    lines.push(format!(
                        "frontend {addr}/{}: clients {who} should get [{wanted}], the maps have [{found}]",
                        id.protocol.name()
                    ));
                }
            }
        }
        let wanted: BTreeSet<SocketAddr> = port.frontends.iter().map(|frontend| frontend.addr).collect();
        let extra = self.existing.frontends.iter().filter(|(vip, value)| {
            value.service == *service
                && vip.family() == family
                && !frontend_kind::is_of_address(value.kind)
                && value.kind != frontend_kind::NODE_PORT
                && !wanted.contains(&SocketAddr::new(vip.addr, vip.port))
        });
        lines.extend(extra.map(|(vip, _)| {
            format!("frontend {} of {id} is in the maps and should not be", SocketAddr::new(vip.addr, vip.port))
        }));
    }

    fn members(&self, family: Family, set: SetRef) -> BTreeSet<SocketAddr> {
        let ids = self.sets.get(&(family, set.base, set.count)).copied().unwrap_or_default();
        ids.iter().filter_map(|id| self.addresses.get(&(family, *id)).copied()).collect()
    }
}
