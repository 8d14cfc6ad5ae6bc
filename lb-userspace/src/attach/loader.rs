//! Loads the BPF object: pinned maps are reused or created, the ABI is checked, programs are handed to the verifier.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use aya::maps::{Array, HashMap, Map, MapData, MapInfo};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use lb_common::abi::{ABI_VERSION, DeviceValue, StatusValue, map_name};

use super::bpffs::{self, PinDirectories};
use super::devices::RoleRules;
use super::layouts::{self, Layout};
use super::links::Links;
use super::report::{Feature, MapSizeNote};
use super::{AttachError, AttachSettings, SocketReport, XdpMode, probe, ticks};

/// Programs for devices with Pods behind them: ingress, egress.
pub const POD_PROGRAMS: [&str; 2] = ["pod_ingress", "pod_egress"];
/// Programs for uplinks: ingress, egress.
pub const UPLINK_PROGRAMS: [&str; 2] = ["uplink_ingress", "uplink_egress"];
/// Programs for uplinks without a link header (tun, WireGuard, IPIP): ingress, egress.
pub const TUNNEL_PROGRAMS: [&str; 2] = ["tunnel_ingress", "tunnel_egress"];
/// All programs that TC runs.
const TC_PROGRAMS: [[&str; 2]; 3] = [POD_PROGRAMS, UPLINK_PROGRAMS, TUNNEL_PROGRAMS];
/// The XDP program for uplinks.
pub const XDP_PROGRAM: &str = "uplink_xdp";
/// The same without `BPF_F_XDP_HAS_FRAGS`, which kernels before 5.18 do not know.
pub const XDP_LINEAR_PROGRAM: &str = "uplink_xdp_linear";

/// The loaded programs and maps; [`Datapath::run`] attaches them.
#[derive(Debug)]
pub struct Datapath {
    pub(super) object: Ebpf,
    pub(super) devices: HashMap<MapData, u32, DeviceValue>,
    pub(super) links: Links,
    pub(super) rules: RoleRules,
    pub(super) xdp: XdpMode,
    pub(super) xdp_program: &'static str,
    pub(super) features: Vec<Feature>,
    pub(super) map_sizes: Vec<MapSizeNote>,
    pub(super) sockets: SocketReport,
    directories: PinDirectories,
    ticks_per_second: Option<u32>,
}

impl Datapath {
    /// Loads everything, attaches nothing. `object` is the ELF file's content, aligned to 4 bytes.
    pub fn load(settings: &AttachSettings, object: &[u8]) -> Result<Self, AttachError> {
        let found = probe::probe()?;
        lift_memory_limit();
        let directories = bpffs::ensure(&settings.pin_path)?;
        check_abi(&directories)?;
        let map_sizes = check_pinned_maps(&directories, settings)?;
        // `STATUS` says whose the others are: an agent that is killed in between leaves nothing that its successor refuses.
        layouts::create_missing(&directories.maps, &settings.sizes)?;
        let mut object = load_object(&directories, settings, &map_sizes, object)?;
        if let Some(layout) = layouts::all().iter().find(|layout| !directories.maps.join(layout.name).exists()) {
            return Err(AttachError::MissingMap { name: layout.name });
        }
        claim_abi(&directories)?;
        let mut features = found.features;
        features.push(bpffs_feature(&directories));
        let (xdp, xdp_program) = load_programs(&mut object, settings.xdp, &mut features)?;
        let devices = open_map(&directories.maps.join(map_name::DEVICES))?;
        let links = Links::adopt(&directories.links, settings.tc.unwrap_or(found.tc))
            .map_err(|source| AttachError::Read { path: directories.links.clone(), source })?;
        let mut sockets = SocketReport::plan(&settings.sockets);
        sockets.attach(&mut object, &directories.root.join("sockets"), &settings.sockets);
        if !probe::can_refuse_sockets() {
            sockets.notes.push(
                "sockets are not refused, their packets are: the node's own meet silence (needs Linux 5.18)".into(),
            );
        }
        let ticks_per_second = ticks::per_second(&mut object);
        let rules = RoleRules {
            uplinks: settings.uplinks.clone(),
            pods: settings.pod_devices.clone(),
            ignored: settings.ignored.clone(),
            local: settings.local.clone(),
        };
        Ok(Self {
            object,
            devices,
            links,
            rules,
            xdp,
            xdp_program,
            features,
            map_sizes,
            sockets,
            directories,
            ticks_per_second,
        })
    }

    /// Where maps and links are pinned.
    pub fn directories(&self) -> &PinDirectories {
        &self.directories
    }

    /// What is done about sockets.
    pub fn sockets(&self) -> &SocketReport {
        &self.sockets
    }

    /// Ticks per second of the kernel's jiffies, where they could be found out.
    pub fn ticks_per_second(&self) -> Option<u32> {
        self.ticks_per_second
    }
}

/// Needed before kernel 5.11 only, and may be refused.
fn lift_memory_limit() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        if probe::counts_maps_as_locked_memory() {
            tracing::warn!(%error, "before Linux 5.11 maps need locked memory, whose limit stays (CAP_SYS_RESOURCE)");
        } else {
            tracing::debug!(%error, "memlock limit stays as it is");
        }
    }
}

fn map_error(name: &str) -> impl FnOnce(aya::maps::MapError) -> AttachError {
    let name = name.to_owned();
    move |source| AttachError::Map { name, source }
}

fn open_map<T>(path: &Path) -> Result<T, AttachError>
where
    T: TryFrom<Map, Error = aya::maps::MapError>,
{
    let name = path.display().to_string();
    MapData::from_pin(path).and_then(Map::from_map_data).and_then(T::try_from).map_err(map_error(&name))
}

fn open_status(directories: &PinDirectories) -> Result<Array<MapData, StatusValue>, AttachError> {
    open_map(&directories.maps.join(map_name::STATUS))
}

/// Pins of another ABI version are not touched. All maps count as foreign when some are there but `STATUS` is not.
fn check_abi(directories: &PinDirectories) -> Result<(), AttachError> {
    let pinned = layouts::all().iter().any(|layout| directories.maps.join(layout.name).exists());
    if !pinned {
        return Ok(());
    }
    let foreign = |found| AttachError::ForeignAbi { path: directories.root.clone(), found, ours: ABI_VERSION };
    if !directories.maps.join(map_name::STATUS).exists() {
        return Err(foreign(0));
    }
    let info = MapInfo::from_pin(directories.maps.join(map_name::STATUS)).map_err(map_error(map_name::STATUS))?;
    if usize::try_from(info.value_size()).ok() != Some(size_of::<StatusValue>()) {
        return Err(foreign(0));
    }
    let status = open_status(directories)?.get(&0, 0).map_err(map_error(map_name::STATUS))?;
    // Zero: an agent made the maps and ended before it wrote anything.
    if status.abi == 0 || status.abi == ABI_VERSION { Ok(()) } else { Err(foreign(status.abi)) }
}

fn claim_abi(directories: &PinDirectories) -> Result<(), AttachError> {
    let mut map = open_status(directories)?;
    let mut status = map.get(&0, 0).map_err(map_error(map_name::STATUS))?;
    if status.abi == 0 {
        status.abi = ABI_VERSION;
        map.set(0, status, 0).map_err(map_error(map_name::STATUS))?;
    }
    Ok(())
}

/// Pinned maps must have our layout; their capacity stays, and is noted where another one was asked for.
fn check_pinned_maps(directories: &PinDirectories, settings: &AttachSettings) -> Result<Vec<MapSizeNote>, AttachError> {
    let mut notes = Vec::new();
    for layout in layouts::all() {
        let path = directories.maps.join(layout.name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(map_error(layout.name))?;
        let found = Layout { name: layout.name, key: info.key_size(), value: info.value_size() };
        if found != layout {
            return Err(AttachError::ForeignMap { path, found: found.to_string(), needed: layout.to_string() });
        }
        if let Some(wanted) = settings.sizes.of(layout.name)
            && wanted != info.max_entries()
        {
            let (map, actual) = (layout.name.to_owned(), info.max_entries());
            tracing::warn!(map, wanted, actual, "pinned map keeps its size; remove the pins to change it");
            notes.push(MapSizeNote { map, wanted, actual });
        }
    }
    Ok(notes)
}

fn load_object(
    directories: &PinDirectories,
    settings: &AttachSettings,
    notes: &[MapSizeNote],
    object: &[u8],
) -> Result<Ebpf, AttachError> {
    let mut loader = EbpfLoader::new();
    // A trace of every instruction makes a refusal take minutes: only for those who look for it.
    loader.verifier_log_level(if tracing::enabled!(tracing::Level::DEBUG) {
        VerifierLogLevel::DEBUG | VerifierLogLevel::STATS
    } else {
        VerifierLogLevel::STATS
    });
    for layout in layouts::all() {
        loader.map_pin_path(layout.name, directories.maps.join(layout.name));
        let actual = notes.iter().find(|note| note.map == layout.name).map(|note| note.actual);
        if let Some(size) = actual.or_else(|| settings.sizes.of(layout.name)) {
            loader.map_max_entries(layout.name, size);
        }
    }
    let refuses = u8::from(probe::can_refuse_sockets());
    loader.override_global("SET_RETVAL", &refuses, true);
    loader.load(object).map_err(|error| AttachError::Object { source: Box::new(error) })
}

fn bpffs_feature(directories: &PinDirectories) -> Feature {
    let used = match &directories.mounted {
        Some(path) => format!("mounted at {} by this agent", path.display()),
        None => directories.root.display().to_string(),
    };
    Feature { name: "bpffs".into(), found: directories.mounted.is_none(), used }
}

/// Loads all programs. XDP that the kernel refuses is done without, unless it was asked for.
fn load_programs(
    object: &mut Ebpf,
    xdp: XdpMode,
    features: &mut Vec<Feature>,
) -> Result<(XdpMode, &'static str), AttachError> {
    let mut loaded = verify_side_by_side(object, xdp != XdpMode::Off);
    let mut take = |name| loaded.remove(name).ok_or(AttachError::MissingProgram { name });
    for name in TC_PROGRAMS.into_iter().flatten() {
        take(name)?.map_err(|error| refused(name, &error))?;
    }
    if xdp == XdpMode::Off {
        return Ok((xdp, XDP_PROGRAM));
    }
    let found = take(XDP_PROGRAM)?.map(|()| XDP_PROGRAM).or_else(|error| load_linear_xdp(object, error));
    match found {
        Ok(name) => {
            let whole = name == XDP_PROGRAM;
            let used = if whole { "frames in fragments too" } else { "no frames in fragments (needs 5.18)" };
            features.push(Feature { name: "xdp_frags".into(), found: whole, used: used.into() });
            Ok((xdp, name))
        }
        Err(error) if xdp == XdpMode::Auto => {
            let error = refused(XDP_PROGRAM, &error);
            tracing::warn!(%error, "XDP is not used");
            features.push(Feature { name: "uplink_xdp".into(), found: false, used: format!("TC on uplinks: {error}") });
            Ok((XdpMode::Off, XDP_PROGRAM))
        }
        Err(error) => Err(refused(XDP_PROGRAM, &error)),
    }
}

/// The XDP program without its flag, where that is what the kernel refused: then the verifier had no look at it.
fn load_linear_xdp(object: &mut Ebpf, error: ProgramError) -> Result<&'static str, ProgramError> {
    let by_flag = matches!(&error, ProgramError::LoadError { io_error, verifier_log }
        if io_error.kind() == std::io::ErrorKind::InvalidInput && verifier_log.to_string().trim().is_empty());
    match object.program_mut(XDP_LINEAR_PROGRAM) {
        Some(Program::Xdp(program)) if by_flag => patiently(|| program.load()).map(|()| XDP_LINEAR_PROGRAM),
        _ => Err(error),
    }
}

/// Hands the programs to the verifier, each on a thread of its own: that is most of the time which an agent takes to
/// start. Programs that the object lacks, or has as another type, are absent from the answer.
fn verify_side_by_side(object: &mut Ebpf, with_xdp: bool) -> BTreeMap<&'static str, Result<(), ProgramError>> {
    let wanted: Vec<&'static str> = TC_PROGRAMS.into_iter().flatten().chain(with_xdp.then_some(XDP_PROGRAM)).collect();
    thread::scope(|scope| {
        let mut verifying = Vec::with_capacity(wanted.len());
        for (found, program) in object.programs_mut() {
            let Some(name) = wanted.iter().copied().find(|name| *name == found) else { continue };
            let load = move || match program {
                Program::SchedClassifier(program) if name != XDP_PROGRAM => Some(patiently(|| program.load())),
                Program::Xdp(program) if name == XDP_PROGRAM => Some(patiently(|| program.load())),
                _ => None,
            };
            verifying.push((name, scope.spawn(load)));
        }
        verifying.into_iter().filter_map(|(name, load)| Some((name, load.join().ok()??))).collect()
    })
}

/// Times that a load is tried when the kernel says to try again.
const LOADS: u32 = 5;

/// Loads again where the verifier gave up over a pending signal (EAGAIN), as it does now and then on a busy machine.
pub(super) fn patiently(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 1..LOADS {
        match load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
    load()
}

/// Lines of the verifier's log that are worth a look: the refusal is at the end.
const LOG_LINES: usize = 24;
/// How the verifier's statistics begin.
const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];

fn refused(name: &'static str, error: &ProgramError) -> AttachError {
    let reason = match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
                tracing::error!(program = name, "verifier: {line}");
            }
            // The last lines are statistics, the one before them says what is wrong.
            let verdict = lines.iter().rev().find(|line| {
                !line.trim().is_empty() && !STATISTICS.iter().any(|statistic| line.starts_with(statistic))
            });
            format!("{io_error}: {}", verdict.unwrap_or(&"no verifier log"))
        }
        other => other.to_string(),
    };
    AttachError::Refused { name, reason }
}
