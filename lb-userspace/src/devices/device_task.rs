//! The task that keeps programs on the right devices while devices, addresses and routes change.

use std::collections::BTreeSet;
use std::time::Duration;

use glob::Pattern;
use lb_common::abi::map_name;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{self, Instant, MissedTickBehavior};

use super::apply::Applier;
use super::device_report::{AttachReport, DeviceReport, HookReport, Repairs};
use super::forwarding::ForwardingWatch;
use super::hook::{Hook, TcMethod};
use super::inventory::{Device, Inventory};
use super::links::Links;
use super::messages::Change;
use super::node_network::NodeNetwork;
use super::plan::{Plan, plan, programs_at_start, tc_programs};
use super::role::Role;
use super::role_decider::{LocalDevices, RoleRules};
use super::upkeep::{Told, Upkeep};
use super::warnings;
use super::watcher::DeviceWatcher;
use super::xdp_mode::XdpMode;
use crate::causes::with_causes;
use crate::linux::netlink::NetlinkError;
use crate::load::{Feature, LoadError, Loaded, MapSizeNote, ProgramFailure, Upgrade, open_map};

/// Other routes than default ones change often and matter little: they are listed again at most this often.
const ROUTES_DELAY: Duration = Duration::from_millis(500);
/// What failed is tried again after this.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// The node's settings are looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What is attached is looked at every so many times.
const LOOKS: u32 = 6;
/// A netlink socket that is gone is opened again after this.
const REOPEN_DELAY: Duration = Duration::from_millis(100);

/// Settings of this part, from the command line.
#[derive(Clone, Debug, Default)]
pub struct DeviceSettings {
    /// `--uplink`: names or patterns of the node's uplinks; empty: found by routes and addresses.
    pub uplinks: Vec<Pattern>,
    /// `--pod-device`: patterns of Pod devices; empty: found by their kind.
    pub pod_devices: Vec<Pattern>,
    /// Devices to leave alone, whatever they look like.
    pub ignored: Vec<Pattern>,
    /// Devices that count as local, where that decides which clients are local.
    pub local: Option<LocalDevices>,
    /// `--allow-foreign-sources`: devices whose packets may have any source.
    pub any_source: Vec<Pattern>,
    /// `--node-ip`.
    pub node_ips: Vec<std::net::IpAddr>,
    /// Where to use XDP.
    pub xdp: XdpMode,
    /// How to attach TC programs; `None`: tcx where the kernel has it.
    pub tc: Option<TcMethod>,
}

/// Why devices cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceTaskError {
    /// Nothing is heard of devices.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A program is not there that has no fallback.
    #[error(transparent)]
    Program(#[from] ProgramFailure),
}

/// Attaches programs and keeps them attached.
#[derive(Debug)]
pub struct DeviceTask {
    rules: RoleRules,
    xdp: XdpMode,
    features: Vec<Feature>,
    map_sizes: Vec<MapSizeNote>,
    applier: Applier,
    plan: Plan,
    routes_due: Option<Instant>,
    retry_due: Option<Instant>,
    relist_due: Option<Instant>,
    warnings: BTreeSet<String>,
    published: bool,
    /// Second stages that the kernel refused after the start.
    refused: Vec<ProgramFailure>,
    forwarding: ForwardingWatch,
    upkeep: Option<Box<dyn Upkeep>>,
    /// What there is to tell of that.
    told: Told,
    repairs: Repairs,
    looks: u32,
    /// Maps that change with this start.
    upgrade: Option<Upgrade>,
}

impl DeviceTask {
    /// Takes stock of what a former agent left attached.
    pub fn new(loaded: Loaded, settings: DeviceSettings) -> Result<Self, LoadError> {
        let by_kernel = if loaded.tcx { TcMethod::Tcx } else { TcMethod::Clsact };
        let directory = &loaded.directories.links;
        let links = Links::adopt(directory, settings.tc.unwrap_or(by_kernel))
            .map_err(|source| LoadError::Read { path: directory.clone(), source })?;
        let devices = open_map(&loaded.directories.maps.join(map_name::DEVICES))?;
        let DeviceSettings { uplinks, pod_devices: pods, ignored, local, any_source, node_ips, xdp, .. } = settings;
        Ok(Self {
            rules: RoleRules { uplinks, pods, ignored, local, any_source, node_ips },
            xdp,
            features: loaded.features,
            map_sizes: loaded.map_sizes,
            applier: Applier::new(loaded.programs, links, devices),
            plan: Plan::new(),
            routes_due: None,
            retry_due: None,
            relist_due: None,
            warnings: BTreeSet::new(),
            published: false,
            refused: Vec::new(),
            forwarding: ForwardingWatch::new(),
            upkeep: None,
            told: Told::default(),
            repairs: Repairs::default(),
            looks: 0,
            upgrade: loaded.upgrade,
        })
    }

    /// Keeps something else attached as well.
    #[must_use]
    pub fn with_upkeep(self, upkeep: Option<Box<dyn Upkeep>>) -> Self {
        Self { upkeep, looks: LOOKS, ..self }
    }

    /// Loads what is not loaded yet, attaches to the devices of the current network namespace and follows them. Returns
    /// only when a program is missing that has no fallback, or when netlink cannot be used at all; what is attached stays
    /// attached, also when this future is dropped. On a runtime of several threads other tasks go on while the verifier works.
    pub async fn run(
        mut self,
        network: watch::Sender<NodeNetwork>,
        report: watch::Sender<AttachReport>,
    ) -> Result<(), DeviceTaskError> {
        let mut watcher = DeviceWatcher::open()?;
        let mut inventory = watcher.list().await?;
        self.applier.take_over_entries(&inventory);
        if !inventory.has_ipv6() {
            self.applier.programs().postpone_v6();
        }
        let mut ticks = time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let former = std::mem::replace(&mut self.plan, plan(&inventory, &self.rules, self.xdp));
            self.tell_new_roles(&former, &inventory);
            // The node's addresses follow from the roles, before anything is attached.
            replace(&network, inventory.node_network(|index| self.role(index)), !self.published);
            aside(|| self.load())?;
            if self.applier.apply(&self.plan, &inventory).await {
                self.retry_due.get_or_insert_with(|| Instant::now() + RETRY_DELAY);
            }
            self.publish(&inventory, &report);
            aside(|| self.load_rest(&inventory, &report));
            aside(|| self.complete_upgrade());
            let change = loop {
                let change = tokio::select! {
                    change = watcher.next(&mut inventory) => change,
                    change = self.due() => Some(change),
                    _ = ticks.tick() => if self.look(&inventory) { Some(Change::default()) } else { continue },
                };
                break change;
            };
            let Some(change) = change else {
                tracing::warn!("netlink socket is gone, opening another one");
                tokio::time::sleep(REOPEN_DELAY).await;
                watcher = DeviceWatcher::open()?;
                self.relist(&watcher, &mut inventory).await;
                continue;
            };
            self.applier.forget(&change.gone);
            if !change.touched.is_empty() {
                let missing = self.applier.look(&inventory, Some(&change.touched));
                self.repairs.note(missing);
            }
            self.refresh(change, &watcher, &mut inventory).await;
        }
    }

    /// The programs without which the agent is of no use, and those that the plan asks for.
    fn load(&mut self) -> Result<(), ProgramFailure> {
        let programs = self.applier.programs();
        let needed = programs_at_start();
        programs.load(&[needed.clone(), tc_programs(&self.plan)].concat());
        needed.into_iter().try_for_each(|program| programs.ready(program))
    }

    /// What the start did not wait for.
    fn load_rest(&mut self, inventory: &Inventory, report: &watch::Sender<AttachReport>) {
        let refused = self.applier.programs().load_postponed();
        if !refused.is_empty() {
            self.refused = refused;
            self.publish(inventory, report);
        }
    }

    /// Looks around; whether there is something to do or to tell.
    fn look(&mut self, inventory: &Inventory) -> bool {
        let mut news = self.forwarding.look(inventory, &self.plan);
        self.looks += 1;
        if self.looks >= LOOKS {
            self.looks = 0;
            let mut missing = self.applier.look(inventory, None);
            if let Some(upkeep) = &mut self.upkeep {
                let (told, repaired) = upkeep.look(self.applier.programs());
                news |= told != self.told;
                self.told = told;
                missing.extend(repaired);
            }
            news |= self.repairs.note(missing);
        }
        news
    }

    /// The programs that look first are in their places: maps that are left of a former agent go.
    fn complete_upgrade(&mut self) {
        let Some(mut upgrade) = self.upgrade.take() else { return };
        if let Err(error) = upgrade.complete(self.applier.programs()) {
            tracing::warn!(error = with_causes(&error), "the upgrade of maps is tried again");
            self.upgrade = Some(upgrade);
            self.retry_due.get_or_insert_with(|| Instant::now() + RETRY_DELAY);
        }
    }

    /// Waits until something that was put off is due.
    async fn due(&mut self) -> Change {
        let next = [self.routes_due, self.retry_due, self.relist_due].into_iter().flatten().min();
        match next {
            Some(instant) => tokio::time::sleep_until(instant).await,
            None => std::future::pending().await,
        }
        let now = Instant::now();
        let passed = |due: &mut Option<Instant>| due.take_if(|instant| *instant <= now).is_some();
        let routes = passed(&mut self.routes_due);
        let retry = passed(&mut self.retry_due);
        let relist = passed(&mut self.relist_due);
        Change { devices: retry, default_routes: routes, relist, ..Change::default() }
    }

    async fn refresh(&mut self, change: Change, watcher: &DeviceWatcher, inventory: &mut Inventory) {
        if change.relist {
            self.relist(watcher, inventory).await;
        } else if change.default_routes {
            match watcher.routing().await {
                Ok(routing) => inventory.routing = routing,
                Err(error) => self.relist_later(&error),
            }
            self.routes_due = None;
        } else if change.routes && self.routes_due.is_none() {
            self.routes_due = Some(Instant::now() + ROUTES_DELAY);
        }
    }

    async fn relist(&mut self, watcher: &DeviceWatcher, inventory: &mut Inventory) {
        match watcher.list().await {
            Ok(fresh) => *inventory = fresh,
            Err(error) => self.relist_later(&error),
        }
    }

    fn relist_later(&mut self, error: &NetlinkError) {
        tracing::warn!(error = with_causes(error), "devices are listed again later");
        self.relist_due = Some(Instant::now() + RETRY_DELAY);
    }

    fn role(&self, index: u32) -> Role {
        self.plan.get(&index).map_or(Role::Ignored, |device| device.decision.role)
    }

    /// A device that exists on gets other programs: somebody changed routes or addresses, perhaps by mistake.
    fn tell_new_roles(&self, former: &Plan, inventory: &Inventory) {
        for (index, planned) in &self.plan {
            let (Some(before), Some(device)) = (former.get(index), inventory.devices.get(index)) else { continue };
            let (before, now) = (&before.decision, &planned.decision);
            if before.role != now.role {
                tracing::warn!(
                    device = device.name,
                    before = before.role.name(),
                    now = now.role.name(),
                    why = now.why,
                    "the role of a device has changed"
                );
            }
        }
    }

    fn publish(&mut self, inventory: &Inventory, report: &watch::Sender<AttachReport>) {
        let mut warnings = warnings::all(inventory, &self.plan, &self.rules);
        warnings.extend(self.forwarding.now().warnings());
        warnings.extend(self.told.warnings.iter().cloned());
        warnings.extend(self.refused.iter().map(|failure| format!("IPv6 is not served: {failure}")));
        let not_served = self.told.not_served.iter().map(|line| format!("not served: {line}"));
        let lines: BTreeSet<String> = warnings.iter().cloned().chain(not_served).collect();
        for line in lines.difference(&self.warnings) {
            tracing::warn!("{line}");
        }
        for line in self.warnings.difference(&lines) {
            tracing::info!("no longer: {line}");
        }
        self.warnings = lines;
        let fresh = AttachReport {
            devices: inventory.devices.values().map(|device| self.device_report(device)).collect(),
            devices_left_out: 0,
            features: self.features.iter().cloned().chain(self.applier.xdp_refusal()).collect(),
            map_sizes: self.map_sizes.clone(),
            not_served: self.told.not_served.clone(),
            warnings,
            forwarding: self.forwarding.now().clone(),
            repairs: self.repairs.clone(),
        };
        replace(report, fresh, !self.published);
        self.published = true;
    }

    fn device_report(&self, device: &Device) -> DeviceReport {
        let tc = self.applier.method().name();
        let hooks = [(Hook::Ingress, tc), (Hook::Egress, tc), (Hook::Xdp, "native")];
        let hooks = hooks
            .into_iter()
            .filter_map(|(hook, how)| {
                let program = self.applier.running(device.index, hook)?;
                Some(HookReport { hook: hook.name().into(), program: program.into(), how: how.into() })
            })
            .collect();
        let outcome = self.applier.outcome(device.index).cloned().unwrap_or_default();
        DeviceReport {
            index: device.index,
            name: device.name.clone(),
            kind: device.kind_name().to_owned(),
            role: self.role(device.index),
            why: self.plan.get(&device.index).map_or_else(String::new, |planned| planned.decision.why.clone()),
            hooks,
            notes: outcome.notes,
            errors: outcome.errors,
        }
    }
}

/// Does what takes long, aside from other tasks where the runtime has another thread for them.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread { work() } else { block_in_place(work) }
}

/// Sends a value when it differs from the last, and the very first one always.
fn replace<T: PartialEq>(sender: &watch::Sender<T>, fresh: T, first: bool) {
    sender.send_if_modified(|value| {
        let differs = *value != fresh;
        *value = fresh;
        differs || first
    });
}
