//! The task that keeps programs on the right devices while devices, addresses and routes change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_common::abi::{DeviceValue, device_flag};
use tokio::sync::watch;
use tokio::time::Instant;

use super::devices::{self, Decision, Role};
use super::inventory::{Device, Inventory};
use super::links::{Hook, TcMethod};
use super::loader::{POD_PROGRAMS, TUNNEL_PROGRAMS, UPLINK_PROGRAMS};
use super::netlink::{Change, Netlink};
use super::report::{AttachReport, DeviceReport, HookReport, NodeNetwork};
use super::{AttachError, Datapath, XdpMode, probe};
use crate::causes::with_causes;

/// Other routes than default ones change often and matter little: they are listed again at most this often.
const ROUTES_DELAY: Duration = Duration::from_millis(500);
/// What failed is tried again after this.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// What is known of one device besides its facts.
#[derive(Clone, Debug, Default)]
struct Outcome {
    errors: Vec<String>,
    notes: Vec<String>,
    /// Trying again may help.
    retry: bool,
}

impl Datapath {
    /// Attaches to the devices of the current network namespace and follows them. Returns only when netlink cannot be
    /// used at all; what is attached stays attached, also when this future is dropped.
    pub async fn run(
        mut self,
        network: watch::Sender<NodeNetwork>,
        report: watch::Sender<AttachReport>,
    ) -> Result<(), AttachError> {
        let mut netlink = Netlink::open()?;
        let mut inventory = netlink.list().await?;
        let mut state = Follow { written: self.take_over_entries(&inventory), ..Follow::default() };
        loop {
            state.decide(&self, &inventory, &network);
            state.converge(&mut self, &inventory).await;
            state.report(&self, &inventory, &report);
            let change = tokio::select! {
                change = netlink.next(&mut inventory) => change,
                change = state.due() => Some(change),
            };
            let Some(change) = change else {
                tracing::warn!("netlink socket is gone, opening another one");
                tokio::time::sleep(Duration::from_millis(100)).await;
                netlink = Netlink::open()?;
                state.relist(&netlink, &mut inventory).await;
                continue;
            };
            state.refresh(change, &netlink, &mut inventory).await;
        }
    }

    /// The entries of a former agent: those of vanished devices are removed, the others say where filters may be.
    fn take_over_entries(&mut self, inventory: &Inventory) -> BTreeMap<u32, DeviceValue> {
        let found: Vec<(u32, DeviceValue)> = self.devices.iter().filter_map(Result::ok).collect();
        let mut kept = BTreeMap::new();
        for (index, value) in found {
            if let Some(device) = inventory.devices.get(&index) {
                self.links.adopt_filters(device);
                kept.insert(index, value);
            } else {
                self.forget_device_value(index);
            }
        }
        kept
    }

    fn forget_device_value(&mut self, index: u32) {
        if let Err(error) = self.devices.remove(&index) {
            tracing::debug!(index, %error, "device had no entry");
        }
    }
}

#[derive(Debug, Default)]
struct Follow {
    roles: BTreeMap<u32, Decision>,
    outcomes: BTreeMap<u32, Outcome>,
    written: BTreeMap<u32, DeviceValue>,
    /// Devices on which native XDP was tried in vain, with the reason.
    without_xdp: BTreeMap<u32, String>,
    routes_due: Option<Instant>,
    retry_due: Option<Instant>,
    relist_due: Option<Instant>,
    warnings: BTreeSet<String>,
    published: bool,
}

impl Follow {
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
        Change { devices: retry, default_routes: routes, routes: false, relist }
    }

    async fn refresh(&mut self, change: Change, netlink: &Netlink, inventory: &mut Inventory) {
        if change.relist {
            self.relist(netlink, inventory).await;
        } else if change.default_routes {
            match netlink.routing().await {
                Ok(routing) => inventory.routing = routing,
                Err(error) => self.relist_later(&error),
            }
            self.routes_due = None;
        } else if change.routes && self.routes_due.is_none() {
            self.routes_due = Some(Instant::now() + ROUTES_DELAY);
        }
    }

    async fn relist(&mut self, netlink: &Netlink, inventory: &mut Inventory) {
        match netlink.list().await {
            Ok(fresh) => *inventory = fresh,
            Err(error) => self.relist_later(&error),
        }
    }

    fn relist_later(&mut self, error: &AttachError) {
        tracing::warn!(error = with_causes(error), "devices are listed again later");
        self.relist_due = Some(Instant::now() + RETRY_DELAY);
    }

    /// Gives each device its role. The node's addresses follow from that, before anything is attached.
    fn decide(&mut self, datapath: &Datapath, inventory: &Inventory, network: &watch::Sender<NodeNetwork>) {
        self.roles = devices::decide(inventory, &datapath.rules);
        replace(network, inventory.node_network(|index| self.role(index)), !self.published);
    }

    /// Brings hooks and `DEVICES` in line with the roles.
    async fn converge(&mut self, datapath: &mut Datapath, inventory: &Inventory) {
        datapath.links.retain(|index| inventory.devices.contains_key(&index));
        self.without_xdp.retain(|index, _| inventory.devices.contains_key(index));
        self.outcomes.retain(|index, _| inventory.devices.contains_key(index));
        for device in inventory.devices.values() {
            let role = self.role(device.index);
            let outcome = match role {
                Role::Ignored => {
                    for hook in [Hook::Xdp, Hook::Ingress, Hook::Egress] {
                        datapath.links.remove(device.index, hook);
                    }
                    Outcome::default()
                }
                Role::Pod | Role::Uplink => self.attach(datapath, inventory, device, role),
            };
            if outcome.retry && self.retry_due.is_none() {
                self.retry_due = Some(Instant::now() + RETRY_DELAY);
            }
            self.outcomes.insert(device.index, outcome);
            // The kernel waits for a grace period in each new attachment, some 10 ms: let other tasks run.
            tokio::task::yield_now().await;
        }
        let gone: Vec<u32> = self.written.keys().copied().filter(|index| self.role(*index) == Role::Ignored).collect();
        for index in gone {
            self.written.remove(&index);
            datapath.forget_device_value(index);
        }
    }

    fn role(&self, index: u32) -> Role {
        self.roles.get(&index).map_or(Role::Ignored, |decision| decision.role)
    }

    fn attach(&mut self, datapath: &mut Datapath, inventory: &Inventory, device: &Device, role: Role) -> Outcome {
        let mut outcome = Outcome::default();
        let [ingress, egress] = match role {
            Role::Pod => POD_PROGRAMS,
            _ if device.ethernet => UPLINK_PROGRAMS,
            _ => TUNNEL_PROGRAMS,
        };
        // The programs look the device up: its entry comes first. Egress comes before ingress: a request is not
        // translated while its reply would not be.
        self.write_entry(datapath, inventory, device, role, &mut outcome);
        for (hook, program) in [(Hook::Egress, egress), (Hook::Ingress, ingress)] {
            let before = datapath.links.running(device.index, hook);
            match datapath.links.ensure(&mut datapath.object, device, hook, program) {
                Ok(()) if before != Some(program) => {
                    tracing::info!(device = device.name, hook = hook.name(), program, "attached");
                }
                Ok(()) => {}
                Err(error) => {
                    let error = error.to_string();
                    if !self.outcomes.get(&device.index).is_some_and(|last| last.errors.contains(&error)) {
                        tracing::warn!(device = device.name, error, "not attached");
                    }
                    outcome.retry = true;
                    outcome.errors.push(error);
                }
            }
        }
        if role == Role::Uplink {
            self.attach_xdp(datapath, device, &mut outcome);
            // Now it is known whether XDP may redirect into the device.
            self.write_entry(datapath, inventory, device, role, &mut outcome);
        } else {
            datapath.links.remove(device.index, Hook::Xdp);
        }
        if devices::is_local(inventory, device, &datapath.rules) {
            outcome.notes.push("its clients count as local (--detect-local)".into());
        }
        if !device.ethernet {
            outcome.notes.push("packets have no Ethernet header".into());
        }
        outcome
    }

    fn attach_xdp(&mut self, datapath: &mut Datapath, device: &Device, outcome: &mut Outcome) {
        if let Err(why) = devices::xdp_wanted(datapath.xdp, device) {
            outcome.notes.push(why);
            datapath.links.remove(device.index, Hook::Xdp);
            return;
        }
        let forced = datapath.xdp == XdpMode::Native;
        if let Some(why) = self.without_xdp.get(&device.index) {
            if forced { &mut outcome.errors } else { &mut outcome.notes }.push(why.clone());
            return;
        }
        let before = datapath.links.running(device.index, Hook::Xdp);
        let program = datapath.xdp_program;
        match datapath.links.ensure(&mut datapath.object, device, Hook::Xdp, program) {
            Ok(()) if before.is_none() => {
                tracing::info!(device = device.name, hook = "xdp", program, "attached");
            }
            Ok(()) => {}
            Err(error) => {
                let why = format!("native XDP is not used, TC does its work: {error}");
                tracing::info!(device = device.name, "{why}");
                self.without_xdp.insert(device.index, why.clone());
                if forced { &mut outcome.errors } else { &mut outcome.notes }.push(why);
            }
        }
    }

    fn write_entry(
        &mut self,
        datapath: &mut Datapath,
        inventory: &Inventory,
        device: &Device,
        role: Role,
        outcome: &mut Outcome,
    ) {
        let mut value = inventory.device_value(device.index);
        value.flags |= if role == Role::Pod { device_flag::POD } else { device_flag::UPLINK };
        // A veth takes XDP frames only if its peer, out of our sight, runs XDP or GRO: there TC does the sending.
        if !device.is(&["veth"]) && datapath.links.running(device.index, Hook::Xdp).is_some() {
            value.flags |= device_flag::XDP_TARGET;
        }
        if devices::is_local(inventory, device, &datapath.rules) {
            value.flags |= device_flag::LOCAL;
        }
        if self.written.get(&device.index) == Some(&value) {
            return;
        }
        match datapath.devices.insert(device.index, value, 0) {
            Ok(()) => {
                self.written.insert(device.index, value);
            }
            Err(error) => {
                let message = format!("no entry in DEVICES: {error}");
                tracing::warn!(device = device.name, "{message}");
                outcome.retry = true;
                outcome.errors.push(message);
            }
        }
    }

    fn report(&mut self, datapath: &Datapath, inventory: &Inventory, report: &watch::Sender<AttachReport>) {
        let mut warnings = missing_uplinks(datapath, inventory, &self.roles);
        let local = |device| devices::is_local(inventory, device, &datapath.rules);
        if datapath.rules.local.is_some() && !inventory.devices.values().any(local) {
            warnings.push("--detect-local: no such device yet, every client counts as outside of the cluster".into());
        }
        warnings.extend(probe::sysctl_warnings());
        for warning in &warnings {
            if self.warnings.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
        self.warnings.retain(|warning| warnings.contains(warning));
        let fresh = AttachReport {
            devices: inventory.devices.values().map(|device| self.device_report(datapath, device)).collect(),
            devices_left_out: 0,
            features: datapath.features.clone(),
            map_sizes: datapath.map_sizes.clone(),
            sockets: datapath.sockets.clone(),
            not_served: datapath.sockets.not_served().into_iter().collect(),
            warnings,
        };
        replace(report, fresh, !self.published);
        self.published = true;
    }

    fn device_report(&self, datapath: &Datapath, device: &Device) -> DeviceReport {
        let tc = match datapath.links.method() {
            TcMethod::Tcx => "tcx",
            TcMethod::Clsact => "clsact",
        };
        let hooks = [(Hook::Ingress, tc), (Hook::Egress, tc), (Hook::Xdp, "native")];
        let hooks = hooks
            .into_iter()
            .filter_map(|(hook, how)| {
                let program = datapath.links.running(device.index, hook)?;
                Some(HookReport { hook: hook.name().into(), program: program.into(), how: how.into() })
            })
            .collect();
        let outcome = self.outcomes.get(&device.index).cloned().unwrap_or_default();
        DeviceReport {
            index: device.index,
            name: device.name.clone(),
            kind: device.kind_name().to_owned(),
            role: self.role(device.index),
            why: self.roles.get(&device.index).map_or_else(String::new, |decision| decision.why.clone()),
            hooks,
            notes: outcome.notes,
            errors: outcome.errors,
        }
    }
}

/// Sends a value when it differs from the last, and the very first one always.
fn replace<T: PartialEq>(sender: &watch::Sender<T>, fresh: T, first: bool) {
    sender.send_if_modified(|value| {
        let differs = *value != fresh;
        *value = fresh;
        differs || first
    });
}

fn missing_uplinks(datapath: &Datapath, inventory: &Inventory, roles: &BTreeMap<u32, Decision>) -> Vec<String> {
    let mut warnings: Vec<String> = datapath
        .rules
        .uplinks
        .iter()
        .filter(|pattern| !inventory.devices.values().any(|device| pattern.matches(&device.name)))
        .map(|pattern| format!("--uplink {pattern}: no such device yet"))
        .collect();
    if datapath.rules.uplinks.is_empty() && !roles.values().any(|decision| decision.role == Role::Uplink) {
        warnings.push("no uplink found: clients outside of the node are not served; name one with --uplink".into());
    }
    warnings
}
