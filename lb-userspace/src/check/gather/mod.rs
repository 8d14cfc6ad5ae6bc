//! Gathers what the checks look at. Reads only: no map, no setting and no rule is changed.

mod hooks;
mod proc_files;
mod served;
mod tools;
mod ways;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use self::proc_files::ProcFiles;
pub use self::tools::{nft_rules, tool};
pub use self::ways::{Backend, ways};
use super::facts::{Clock, DeviceFacts, Facts, KubeProxy, Mounts};
use crate::devices::inventory::Inventory;
use crate::devices::plan::plan;
use crate::devices::watcher::DeviceWatcher;
use crate::devices::{Role, RoleRules, XdpMode};
use crate::linux::netlink::NetlinkError;
use crate::linux::{clock, kernel_version, mounts};

/// The initial cgroup namespace's file (`PROC_CGROUP_INIT_INO`, `linux/proc_ns.h`).
const FIRST_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";

/// What to look at.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where the pins are.
    pub pin_path: PathBuf,
    /// Source ports for source NAT, where no maps say it.
    pub snat_ports: (u16, u16),
    /// Role of each device and why, by an agent; none: as one without options would decide.
    pub roles: Option<BTreeMap<String, (Role, String)>>,
}

/// What is left of kube-proxy besides rules.
pub fn kube_proxy() -> KubeProxy {
    ProcFiles::below(Path::new("/proc")).kube_proxy()
}

/// Everything that can be seen on the node itself. What an agent knows is left to the caller.
pub async fn facts(ask: &Ask) -> Result<Facts, NetlinkError> {
    let watcher = DeviceWatcher::open()?;
    let inventory = watcher.list().await?;
    let proc = ProcFiles::below(Path::new("/proc"));
    let served::Served { frontends, backends, maps, snat_ports } = served::read(&ask.pin_path);
    let devices = devices(&inventory, &proc, ask);
    let uplinks =
        devices.iter().filter(|device| device.role == Role::Uplink).map(|device| device.name.clone()).collect();
    let (services, backends): (Vec<String>, Vec<Backend>) = backends.into_iter().unzip();
    let ways = ways(&backends, &uplinks, false).await?;
    let programs = hooks::programs(&inventory, &ask.pin_path).await;
    Ok(Facts {
        kernel: kernel_version::release(),
        mounts: mounts_of(&ask.pin_path),
        capabilities: proc.capabilities(),
        clock: Clock {
            now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            synchronised: clock::is_synchronised(),
        },
        sysctls: proc.sysctls(),
        devices,
        ways: services.into_iter().zip(ways).collect(),
        firewall: tools::firewall(),
        kube_proxy: proc.kube_proxy(),
        programs,
        listening: proc.listening(),
        frontends,
        snat_ports: snat_ports.unwrap_or(ask.snat_ports),
        maps,
        ..Facts::default()
    })
}

fn mounts_of(pin_path: &Path) -> Mounts {
    let there = pin_path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let on_bpffs = mounts::is_bpffs(there).unwrap_or(false);
    let is_empty = fs::read_dir(pin_path).map_or(true, |mut entries| entries.next().is_none());
    let namespace = fs::read_link("/proc/self/ns/cgroup").ok();
    Mounts {
        pin_path: pin_path.to_owned(),
        on_bpffs,
        in_the_way: !on_bpffs && !is_empty,
        cgroup2: mounts::cgroup2_mount(&mounts::table()),
        cgroup_namespace: namespace.is_some_and(|name| name != Path::new(FIRST_CGROUP_NAMESPACE)),
    }
}

fn devices(inventory: &Inventory, proc: &ProcFiles, ask: &Ask) -> Vec<DeviceFacts> {
    let planned = plan(inventory, &RoleRules::default(), XdpMode::Off);
    let role = |index: &u32, name: &str| {
        let by_agent = ask.roles.as_ref().and_then(|roles| roles.get(name).cloned());
        by_agent.or_else(|| planned.get(index).map(|planned| (planned.decision.role, planned.decision.why.clone())))
    };
    let devices = inventory.devices.values().map(|device| {
        let (role, why) = role(&device.index, &device.name).unwrap_or_default();
        let addresses = inventory.addresses.get(&device.index).into_iter().flatten();
        let main = |route: &&crate::devices::inventory::DefaultRoute| route.main && route.device == device.index;
        DeviceFacts {
            name: device.name.clone(),
            role,
            why,
            addresses: addresses.filter(|address| address.global).map(|address| address.ip).collect(),
            default_route: device.up && inventory.routing.defaults.iter().any(|route| main(&route)),
            port: inventory.switch_of(device).is_some(),
            ..proc.device(&device.name)
        }
    });
    devices.collect()
}
