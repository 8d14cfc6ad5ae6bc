//! The loaded programs on real devices: every test is a node in namespaces that go with its thread, pins included.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{SchedClassifier, TcAttachType};
use lb_common::abi::{ABI_VERSION, StatusValue, tables};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sluice::devices::plan::programs_at_start;
use sluice::devices::{
    AttachReport, DeviceReport, DeviceSettings, DeviceTask, DeviceTaskError, NodeNetwork, Role, TcMethod, XdpMode,
};
use sluice::load::{LoadError, LoadSettings, Loaded, MapSizes};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[path = "attach/foreign.rs"]
mod foreign;
#[path = "attach/repair.rs"]
mod repair;
#[path = "attach/start.rs"]
mod start;
#[path = "attach/upgrade.rs"]
mod upgrade;

const PATIENCE: Duration = Duration::from_secs(5);

fn object() -> Vec<u8> {
    let path = std::env::var_os("SLUICE_BPF_OBJECT")
        .or_else(|| option_env!("SLUICE_BPF_OBJECT").map(Into::into))
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/sluice-bpf.o"), PathBuf::from);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; run `cargo xtask build` first", path.display()))
}

/// Runs a test as a node: own network and mount namespace, a private BPF file system, a runtime on one thread.
fn on_a_node<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F + Send) {
    std::thread::scope(|scope| {
        let body = || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            ip("link set lo up");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test(PathBuf::from("/mnt/sluice")));
        };
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A network namespace kept by a process, to hold the other ends of veth pairs.
struct Neighbour(Child);

impl Neighbour {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec sleep 300"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        Self(child)
    }

    /// A veth pair of which this end is `name`.
    fn pair(&self, name: &str) {
        ip(&format!("link add {name} type veth peer name {name}p netns {}", self.0.id()));
        ip(&format!("link set {name} up"));
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[derive(Clone)]
struct Settings {
    load: LoadSettings,
    devices: DeviceSettings,
}

fn settings(pins: &Path) -> Settings {
    let load = LoadSettings { pin_path: pins.to_owned(), sizes: MapSizes::for_memory(0) };
    Settings { load, devices: DeviceSettings::default() }
}

fn with_devices(pins: &Path, devices: DeviceSettings) -> Settings {
    Settings { devices, ..settings(pins) }
}

fn load(settings: &Settings) -> Result<Loaded, LoadError> {
    Loaded::load(&settings.load, &object(), &programs_at_start())
}

struct Agent {
    task: JoinHandle<Result<(), DeviceTaskError>>,
    network: watch::Receiver<NodeNetwork>,
    report: watch::Receiver<AttachReport>,
}

impl Agent {
    fn start(settings: &Settings) -> Self {
        let task = DeviceTask::new(load(settings).unwrap(), settings.devices.clone()).unwrap();
        let (network_sender, network) = watch::channel(NodeNetwork::default());
        let (report_sender, report) = watch::channel(AttachReport::default());
        Self { task: tokio::spawn(task.run(network_sender, report_sender)), network, report }
    }

    async fn report_where(&mut self, what: &str, holds: impl Fn(&AttachReport) -> bool) -> AttachReport {
        let found = tokio::time::timeout(PATIENCE, self.report.wait_for(|report| holds(report))).await;
        let found = found.map(|report| report.unwrap().clone());
        found.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}: {:#?}", self.report.borrow()))
    }

    /// Waits until a device has its programs.
    async fn served(&mut self, name: &str, role: Role) -> DeviceReport {
        let report = self
            .report_where(&format!("{name} as {role:?}"), |report| {
                device(report, name).is_some_and(|d| d.role == role && d.hooks.len() >= 2)
            })
            .await;
        device(&report, name).unwrap().clone()
    }

    async fn stop(self) {
        self.task.abort();
        self.task.await.ok();
    }
}

fn device<'r>(report: &'r AttachReport, name: &str) -> Option<&'r DeviceReport> {
    report.devices.iter().find(|d| d.name == name)
}

fn programs(device: &DeviceReport) -> Vec<&str> {
    device.hooks.iter().map(|hook| &*hook.program).collect()
}

/// Names of the programs that the kernel runs at a device's TC hooks.
fn kernel_programs(name: &str) -> Vec<(u32, String)> {
    [TcAttachType::Ingress, TcAttachType::Egress]
        .into_iter()
        .flat_map(|hook| SchedClassifier::query_tcx(name, hook).unwrap().1)
        .map(|info| (info.id(), info.name_as_str().unwrap_or_default().to_owned()))
        .collect()
}

fn pins(pin_path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(pin_path.join("links")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn link_id(pin: &Path) -> u32 {
    FdLink::from(PinnedLink::from_pin(pin).unwrap()).info().unwrap().id()
}

fn status_map(pin_path: &Path) -> Array<MapData, StatusValue> {
    let data = MapData::from_pin(pin_path.join("maps/STATUS")).unwrap();
    Map::from_map_data(data).unwrap().try_into().unwrap()
}

#[test]
fn devices_are_served_by_their_role_as_they_come_and_go() {
    on_a_node(|pin_path| async move {
        let (outside, pod) = (Neighbour::new(), Neighbour::new());
        outside.pair("eth0");
        ip("addr add 192.0.2.2/24 dev eth0");
        ip("route add default via 192.0.2.1");
        ip("link add cni0 type bridge");
        pod.pair("veth0");
        ip("link set veth0 master cni0");

        let mut agent = Agent::start(&settings(&pin_path));
        let uplink = agent.served("eth0", Role::Uplink).await;
        assert_eq!(programs(&uplink), ["uplink_ingress", "uplink_egress"]);
        assert_eq!(uplink.why, "default route");
        let port = agent.served("veth0", Role::Pod).await;
        assert_eq!(programs(&port), ["pod_ingress", "pod_egress"]);
        assert_eq!(kernel_programs("veth0").len(), 2);
        assert!(kernel_programs("cni0").is_empty() && kernel_programs("lo").is_empty());
        assert_eq!(agent.network.borrow().primary_v4, Some("192.0.2.2".parse().unwrap()));

        let begin = Instant::now();
        pod.pair("cali.7");
        agent.served("cali.7", Role::Pod).await;
        println!("a new Pod device is served after {:?}", begin.elapsed());
        assert_eq!(pins(&pin_path).iter().filter(|name| name.starts_with("cali:7:")).count(), 2);

        ip("link del cali.7");
        agent.report_where("cali.7 forgotten", |report| device(report, "cali.7").is_none()).await;
        assert_eq!(pins(&pin_path), ["eth0:egress", "eth0:ingress", "veth0:egress", "veth0:ingress"]);
        agent.stop().await;
    });
}

#[test]
fn an_end_that_moves_into_a_pod_leaves_a_pod_device_behind() {
    on_a_node(|pin_path| async move {
        let pod = Neighbour::new();
        let mut agent = Agent::start(&settings(&pin_path));
        ip("link add host1 type veth peer name inside1");
        let both_here = |report: &AttachReport| device(report, "host1").is_some_and(|d| d.role == Role::Ignored);
        agent.report_where("both ends here", both_here).await;
        ip(&format!("link set inside1 netns {}", pod.0.id()));
        agent.served("host1", Role::Pod).await;
        assert!(device(&agent.report.borrow(), "inside1").is_none());
        agent.stop().await;
    });
}

#[test]
fn programs_stay_without_the_agent_and_the_next_one_updates_the_same_links() {
    on_a_node(|pin_path| async move {
        let pod = Neighbour::new();
        pod.pair("veth0");
        pod.pair("veth1");
        let settings = settings(&pin_path);
        let mut agent = Agent::start(&settings);
        agent.served("veth0", Role::Pod).await;
        agent.served("veth1", Role::Pod).await;
        agent.stop().await;

        let before = kernel_programs("veth0");
        assert_eq!(before.len(), 2, "programs stay without an agent");
        let pin = pin_path.join("links/veth0:ingress");
        let id = link_id(&pin);
        ip("link del veth1");

        let mut agent = Agent::start(&settings);
        agent.served("veth0", Role::Pod).await;
        let after = kernel_programs("veth0");
        assert_eq!(link_id(&pin), id, "the same link");
        assert_eq!(after.len(), 2);
        assert!(before.iter().all(|(id, _)| after.iter().all(|(other, _)| other != id)), "other programs");
        assert_eq!(pins(&pin_path), ["veth0:egress", "veth0:ingress"], "the vanished device's pins are gone");
        agent.stop().await;
    });
}

#[test]
fn a_device_that_changes_its_role_or_name_keeps_its_links() {
    on_a_node(|pin_path| async move {
        let outside = Neighbour::new();
        outside.pair("eth5");
        ip("addr add 192.0.2.2/24 dev eth5");
        let mut agent = Agent::start(&settings(&pin_path));
        agent.served("eth5", Role::Pod).await;
        let id = link_id(&pin_path.join("links/eth5:ingress"));

        ip("route add default via 192.0.2.1 dev eth5");
        let uplink = agent.served("eth5", Role::Uplink).await;
        assert_eq!(programs(&uplink), ["uplink_ingress", "uplink_egress"]);
        assert_eq!(link_id(&pin_path.join("links/eth5:ingress")), id);

        ip("link set eth5 down");
        ip("link set eth5 name wan");
        agent.report_where("wan", |report| device(report, "wan").is_some()).await;
        assert_eq!(link_id(&pin_path.join("links/wan:ingress")), id);
        agent.stop().await;
    });
}

#[test]
fn clsact_filters_do_the_same_where_there_is_no_tcx() {
    on_a_node(|pin_path| async move {
        let pod = Neighbour::new();
        pod.pair("veth0");
        let settings =
            with_devices(&pin_path, DeviceSettings { tc: Some(TcMethod::Clsact), ..DeviceSettings::default() });
        let filters = || {
            let output = Command::new("tc").args(["filter", "show", "dev", "veth0", "ingress"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.contains("pod_ingress")).count()
        };
        for round in ["first agent", "second agent"] {
            let mut agent = Agent::start(&settings);
            let veth = agent.served("veth0", Role::Pod).await;
            assert!(veth.hooks.iter().all(|hook| hook.how == "clsact"), "{round}");
            agent.stop().await;
            assert_eq!(filters(), 1, "{round}: one filter, which stays without the agent");
        }
        let ignored = vec![glob::Pattern::new("veth*").unwrap()];
        let mut agent = Agent::start(&with_devices(&pin_path, DeviceSettings { ignored, ..settings.devices.clone() }));
        agent.report_where("veth0 ignored", |r| device(r, "veth0").is_some_and(|d| d.role == Role::Ignored)).await;
        assert_eq!(filters(), 0, "filters of a former agent are removed from a device that is ignored now");
        agent.stop().await;
    });
}

#[test]
fn xdp_is_native_when_forced_and_veth_is_left_to_tc_otherwise() {
    on_a_node(|pin_path| async move {
        let outside = Neighbour::new();
        outside.pair("eth0");
        let uplinks = vec![glob::Pattern::new("eth0").unwrap()];
        let automatic = DeviceSettings { uplinks, ..DeviceSettings::default() };
        let forced = DeviceSettings { xdp: XdpMode::Native, ..automatic.clone() };
        for (devices, expected) in [(&automatic, false), (&forced, true), (&automatic, false)] {
            let mut agent = Agent::start(&with_devices(&pin_path, devices.clone()));
            let uplink = agent.served("eth0", Role::Uplink).await;
            assert_eq!(uplink.hooks.iter().any(|hook| hook.how == "native"), expected, "{uplink:?}");
            assert_eq!(uplink.notes.iter().any(|note| note.contains("partial checksums")), !expected);
            assert_eq!(pins(&pin_path).contains(&"eth0:xdp".to_owned()), expected);
            agent.stop().await;
        }
    });
}

#[test]
fn named_devices_that_are_not_there_yet_are_a_warning_until_they_come() {
    on_a_node(|pin_path| async move {
        let uplinks = vec![glob::Pattern::new("eth9").unwrap()];
        let mut agent = Agent::start(&with_devices(&pin_path, DeviceSettings { uplinks, ..DeviceSettings::default() }));
        let warns = |report: &AttachReport| report.warnings.iter().any(|w| w.contains("--uplink eth9: no such device"));
        agent.report_where("warning", warns).await;
        let outside = Neighbour::new();
        outside.pair("eth9");
        agent.served("eth9", Role::Uplink).await;
        assert!(!warns(&agent.report.borrow()));
        agent.stop().await;
    });
}

#[test]
fn pinned_maps_are_kept_with_their_content_and_size() {
    on_a_node(|pin_path| async move {
        drop(load(&settings(&pin_path)).unwrap());
        let mut status = status_map(&pin_path).get(&0, 0).unwrap();
        assert_eq!(status.abi, ABI_VERSION);
        status.next_generation = 77;
        status_map(&pin_path).set(0, status, 0).unwrap();

        let mut larger = settings(&pin_path);
        let flows = larger.load.sizes.of("FLOWS4").unwrap();
        larger.load.sizes.set(&tables::FLOWS, 2 * flows);
        let agent_report = {
            let mut agent = Agent::start(&larger);
            let report = agent.report_where("first report", |report| !report.features.is_empty()).await;
            agent.stop().await;
            report
        };
        assert_eq!(status_map(&pin_path).get(&0, 0).unwrap().next_generation, 77);
        let note = agent_report.map_sizes.iter().find(|note| note.map == "FLOWS4").unwrap();
        assert_eq!((note.actual, note.wanted), (flows, 2 * flows));
    });
}

#[test]
fn pins_of_another_abi_are_refused_and_left_untouched() {
    on_a_node(|pin_path| async move {
        drop(load(&settings(&pin_path)).unwrap());
        let mut status = status_map(&pin_path).get(&0, 0).unwrap();
        status.abi = ABI_VERSION + 1;
        status_map(&pin_path).set(0, status, 0).unwrap();
        let error = load(&settings(&pin_path)).unwrap_err();
        assert!(matches!(error, LoadError::ForeignAbi { found, .. } if found == ABI_VERSION + 1), "{error}");
        assert_eq!(status_map(&pin_path).get(&0, 0).unwrap().abi, ABI_VERSION + 1);
    });
}

#[test]
fn a_bpf_file_system_is_mounted_where_there_is_none_but_never_over_files() {
    on_a_node(|pin_path| async move {
        std::fs::create_dir_all(&pin_path).unwrap();
        std::fs::write(pin_path.join("precious"), "x").unwrap();
        let error = load(&settings(&pin_path)).unwrap_err();
        assert!(matches!(error, LoadError::PinPathInUse { .. }), "{error}");
        std::fs::remove_file(pin_path.join("precious")).unwrap();
        let loaded = load(&settings(&pin_path)).unwrap();
        assert_eq!(loaded.directories.mounted.as_deref(), Some(pin_path.as_path()));
        let below = pin_path.join("second");
        let loaded = load(&settings(&below)).unwrap();
        assert_eq!(loaded.directories.mounted, None, "a second agent below the same mount");
    });
}

#[test]
fn the_kernels_tick_rate_is_found_out() {
    on_a_node(|pin_path| async move {
        let loaded = load(&settings(&pin_path)).unwrap();
        let rate = loaded.ticks_per_second.expect("the object has the program ticks");
        assert!([100, 250, 300, 1000].contains(&rate), "{rate}");
    });
}
