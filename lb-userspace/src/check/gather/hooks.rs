//! Which programs are at the hooks that Sluice uses, and whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use aya::maps::{MapInfo, loaded_maps};
use aya::programs::loaded_programs;
use futures::TryStreamExt;
use lb_common::abi::map_name;
use netlink_packet_route::link::{LinkAttribute, LinkXdp};
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption};

use crate::check::facts::{HookProgram, Owner, Programs};
use crate::devices::inventory::Inventory;
use crate::linux::bpf_link::{self, TCX_EGRESS, TCX_INGRESS};
use crate::linux::mounts;

/// Hooks of cgroups that translate (`BPF_CGROUP_INET4_CONNECT` and its likes, linux/bpf.h).
const CGROUP_HOOKS: [(&str, u32); 4] = [("connect4", 10), ("connect6", 11), ("sendmsg4", 14), ("sendmsg6", 15)];

/// What the kernel has loaded.
struct Loaded {
    /// Name and maps of each program.
    programs: BTreeMap<u32, (String, Vec<u32>)>,
    /// Maps below these pins.
    own: BTreeSet<u32>,
    /// Maps that only a Sluice has.
    of_a_sluice: BTreeSet<u32>,
}

impl Loaded {
    fn list(pin_path: &Path) -> Result<Self, String> {
        let mut programs = BTreeMap::new();
        for info in loaded_programs() {
            let info = info.map_err(|error| error.to_string())?;
            let maps = info.map_ids().ok().flatten().unwrap_or_default();
            programs.insert(info.id(), (info.name_as_str().unwrap_or_default().to_owned(), maps));
        }
        let [v4, v6] = map_name::FRONTENDS;
        let names = [v4, v6, map_name::FLOWS[0], map_name::FLOWS[1], map_name::CONFIG[0], map_name::CONFIG[1]];
        let own = names.iter().filter_map(|name| MapInfo::from_pin(pin_path.join("maps").join(name)).ok());
        let own = own.map(|info| info.id()).collect();
        let is_sluices = |info: &MapInfo| info.name_as_str().is_some_and(|name| names.contains(&name));
        let of_a_sluice = loaded_maps().flatten().filter(is_sluices).map(|info| info.id()).collect();
        Ok(Self { programs, own, of_a_sluice })
    }

    fn program(&self, hook: String, id: u32) -> HookProgram {
        let (name, maps) = self.programs.get(&id).cloned().unwrap_or_default();
        let owner = if maps.iter().any(|map| self.own.contains(map)) {
            Owner::Own
        } else if maps.iter().any(|map| self.of_a_sluice.contains(map)) {
            Owner::OtherSluice
        } else {
            Owner::Foreign
        };
        HookProgram { hook, id, name, owner }
    }
}

/// All of them, in the order in which they run.
pub(super) async fn programs(inventory: &Inventory, pin_path: &Path) -> Programs {
    let loaded = match Loaded::list(pin_path) {
        Ok(loaded) => loaded,
        Err(why) => return Programs { at_hooks: Vec::new(), failed: Some(why) },
    };
    let mut at_hooks = Vec::new();
    for device in inventory.devices.values() {
        for (hook, attach_type) in [("ingress", TCX_INGRESS), ("egress", TCX_EGRESS)] {
            // Kernels before 6.6 have no such hooks.
            let links = bpf_link::links_at(device.index, attach_type).unwrap_or_default();
            at_hooks.extend(links.iter().map(|(_, id)| loaded.program(format!("{} {hook}", device.name), *id)));
        }
    }
    // Filters run behind tcx links.
    for (index, hook, id) in by_netlink(inventory).await {
        if let Some(device) = inventory.devices.get(&index) {
            at_hooks.push(loaded.program(format!("{} {hook}", device.name), id));
        }
    }
    if let Some(cgroup) = mounts::cgroup2_mount(&mounts::table()).and_then(|path| File::open(path).ok()) {
        for (hook, attach_type) in CGROUP_HOOKS {
            let programs = bpf_link::programs_at_cgroup(&cgroup, attach_type).unwrap_or_default();
            at_hooks.extend(programs.iter().map(|id| loaded.program(format!("cgroup {hook}"), *id)));
        }
    }
    Programs { at_hooks, failed: None }
}

/// Device, hook and program of XDP and of filters on a clsact qdisc. Nothing where they cannot be listed.
async fn by_netlink(inventory: &Inventory) -> Vec<(u32, &'static str, u32)> {
    let Ok((connection, handle, _)) = rtnetlink::new_connection() else { return Vec::new() };
    let following = tokio::spawn(connection);
    let mut found = Vec::new();
    let mut links = handle.link().get().execute();
    while let Ok(Some(link)) = links.try_next().await {
        for attribute in &link.attributes {
            let LinkAttribute::Xdp(parts) = attribute else { continue };
            let id = parts.iter().find_map(|part| if let LinkXdp::ProgId(id) = part { Some(*id) } else { None });
            found.extend(id.filter(|id| *id != 0).map(|id| (link.header.index, "xdp", id)));
        }
    }
    for index in inventory.devices.keys() {
        let Ok(signed) = i32::try_from(*index) else { continue };
        let filters = || handle.traffic_filter(signed).get();
        for (hook, request) in [("ingress", filters().ingress()), ("egress", filters().egress())] {
            let mut filters = request.execute();
            while let Ok(Some(filter)) = filters.try_next().await {
                found.extend(program_of(&filter).map(|id| (*index, hook, id)));
            }
        }
    }
    following.abort();
    found
}

fn program_of(filter: &TcMessage) -> Option<u32> {
    filter.attributes.iter().find_map(|attribute| {
        let TcAttribute::Options(options) = attribute else { return None };
        options.iter().find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
            _ => None,
        })
    })
}
