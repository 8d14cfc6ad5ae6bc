//! Gets the BPF object into the kernel: probes it, finds a place for pins, creates or reuses the pinned maps, hands
//! programs to the verifier. Attaches nothing.

mod error;
pub mod features;
mod layouts;
mod map_pins;
pub mod pins;
pub mod programs;
mod retry;
pub mod sizes;
pub mod socket_pins;
pub mod stages;
mod ticks;
pub mod upgrade;
pub mod writer_lock;

use std::path::{Path, PathBuf};

use aya::maps::MapError;
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};

pub use self::error::LoadError;
pub use self::features::Feature;
pub use self::map_pins::{MapSizeNote, open_map};
pub use self::pins::PinDirectories;
pub use self::programs::{ProgramFailure, Programs};
pub use self::sizes::MapSizes;
use self::ticks::TickMeasurement;
pub use self::upgrade::Upgrade;
use self::upgrade::{Plan, Standing};
use self::writer_lock::Candidate;
use crate::causes::with_causes;
use crate::faults;
use crate::linux::kernel_version;

/// Settings of this part, from the command line.
#[derive(Clone, Debug, Default)]
pub struct LoadSettings {
    /// Directory of the pins; `maps`, `links` and `sockets` are made below it.
    pub pin_path: PathBuf,
    /// Capacity of the maps. [`Loaded::load`] leaves those that are pinned as they are.
    pub sizes: MapSizes,
}

/// The object in the kernel.
#[derive(Debug)]
pub struct Loaded {
    /// Its programs.
    pub programs: Programs,
    /// Where maps and links are pinned.
    pub directories: PinDirectories,
    /// What the kernel offers and what is used because of it.
    pub features: Vec<Feature>,
    /// The kernel has tcx links.
    pub tcx: bool,
    /// Maps whose pinned capacity differs from the wanted one.
    pub map_sizes: Vec<MapSizeNote>,
    /// Ticks per second of the kernel's jiffies, where they could be found out.
    pub ticks_per_second: Option<u32>,
    /// Maps change: this is completed when the programs that look first are in their places.
    pub upgrade: Option<Upgrade>,
}

impl Loaded {
    /// Loads maps and these programs; others are loaded when they are needed. `object` is the ELF file's content,
    /// aligned to 4 bytes. Only what has no fallback is an error: which program is missing, the caller finds out by
    /// [`Programs::ready`].
    pub fn load(settings: &LoadSettings, object: &[u8], programs: &[&'static str]) -> Result<Self, LoadError> {
        Ok(Self::load_in_turn(settings, object, false, |_| Ok(()), |()| programs.to_vec())?.0)
    }

    /// The same for an agent beside which others may run: nothing is pinned before it is this one's turn to start. Maps whose
    /// size or layout is to be another one are made anew; they take the place of the former ones with [`Loaded::switch`].
    pub fn load_as_candidate(
        settings: &LoadSettings,
        object: &[u8],
        programs: impl FnOnce(&Candidate) -> Vec<&'static str>,
    ) -> Result<(Self, Candidate), LoadError> {
        let stand =
            |path: &Path| Candidate::stand(path).map_err(|source| LoadError::Lock { path: path.to_owned(), source });
        Self::load_in_turn(settings, object, true, stand, programs)
    }

    fn load_in_turn<T>(
        settings: &LoadSettings,
        object: &[u8],
        may_change: bool,
        turn: impl FnOnce(&Path) -> Result<T, LoadError>,
        programs: impl FnOnce(&T) -> Vec<&'static str>,
    ) -> Result<(Self, T), LoadError> {
        let found = features::probe()?;
        lift_memory_limit();
        let directories = pins::ensure(&settings.pin_path)?;
        let turn = turn(&directories.root)?;
        let standing = upgrade::recover(&directories.root)?;
        pins::ensure_maps(&directories)?;
        map_pins::check_abi(&directories)?;
        let names = programs(&turn);
        let plan = upgrade::plan(&directories, &settings.sizes, standing, may_change)?;
        let mut loading = Loading { settings, object, names: &names };
        let (plan, programs, measurement) = match loading.programs(plan) {
            Err(error)
                if may_change && standing == Standing::Settled && directories.root.join(upgrade::NEXT).exists() =>
            {
                tracing::warn!(error = with_causes(&error), "maps keep their sizes: no upgrade is possible");
                upgrade::give_up(&directories.root)?;
                loading.programs(upgrade::plan(&directories, &settings.sizes, standing, false)?)?
            }
            other => other?,
        };
        let mut features = found.features;
        features.push(bpffs_feature(&directories));
        let mut programs = programs;
        let measured = measurement.and_then(|measurement| measurement.end(&mut programs));
        let ticks_per_second = measured.or_else(ticks::configured);
        let Plan { notes: map_sizes, upgrade, .. } = plan;
        Ok((Self { programs, directories, features, tcx: found.tcx, map_sizes, ticks_per_second, upgrade }, turn))
    }

    /// This agent is the only writer now: an upgrade puts its maps in the place of the former ones. `turn`: nobody else starts
    /// until that is over.
    pub fn switch(&mut self, turn: Candidate) -> Result<(), LoadError> {
        match &mut self.upgrade {
            Some(upgrade) => upgrade.switch(turn, &mut self.programs),
            None => upgrade::settle(&self.directories.maps),
        }
    }
}

/// What is loaded with maps that may be new ones.
struct Loading<'a> {
    settings: &'a LoadSettings,
    object: &'a [u8],
    names: &'a [&'static str],
}

impl Loading<'_> {
    /// Makes the maps that are missing, and has the programs verified.
    fn programs(&mut self, mut plan: Plan) -> Result<(Plan, Programs, Option<TickMeasurement>), LoadError> {
        let maps = plan.maps.as_path();
        // `STATUS` says whose the others are: an agent that is killed in between leaves nothing that its successor refuses.
        layouts::create_missing(maps, &self.settings.sizes)?;
        let object = self.object(&plan, None)?;
        if let Some(layout) = layouts::all().iter().find(|layout| !maps.join(layout.name).exists()) {
            return Err(LoadError::MissingMap { name: layout.name });
        }
        map_pins::claim_abi(maps)?;
        // The ticks pass while the verifier works.
        let mut programs = Programs::new(object);
        let measurement = TickMeasurement::begin(&mut programs);
        if let Some(upgrade) = &plan.upgrade {
            let transition = if upgrade.former_bits()? == 0 { None } else { Some(self.object(&plan, Some(upgrade))?) };
            if let (Some(object), Some(upgrade)) = (transition, &mut plan.upgrade) {
                upgrade.load_stages(Programs::new(object))?;
            }
        }
        if plan.upgrade.is_some() {
            programs.hold_back();
        }
        programs.load(self.names);
        Ok((plan, programs, measurement))
    }

    /// The object, with the maps of the plan; for the programs of a transition with the former ones as well.
    fn object(&self, plan: &Plan, transition: Option<&Upgrade>) -> Result<Ebpf, LoadError> {
        let mut loader = EbpfLoader::new();
        // Nothing is relocated by the kernel's types, and to read them takes a quarter of a second.
        loader.btf(None);
        // A trace of every instruction makes a refusal take minutes: only for those who look for it.
        loader.verifier_log_level(if tracing::enabled!(tracing::Level::DEBUG) {
            VerifierLogLevel::DEBUG | VerifierLogLevel::STATS
        } else {
            VerifierLogLevel::STATS
        });
        for layout in layouts::all() {
            loader.map_pin_path(layout.name, plan.maps.join(layout.name));
            let actual = plan.notes.iter().find(|note| note.map == layout.name).map(|note| note.actual);
            if let Some(size) = actual.or_else(|| self.settings.sizes.of(layout.name)) {
                loader.map_max_entries(layout.name, size);
            }
        }
        let bits = transition.map_or(Ok(0), Upgrade::former_bits)?;
        for (name, path) in transition.into_iter().flat_map(Upgrade::former_maps) {
            loader.map_pin_path(name, path);
        }
        loader.override_global("FORMER", &bits, true);
        let refuses = u8::from(kernel_version::can_refuse_sockets());
        loader.override_global("SET_RETVAL", &refuses, true);
        let failed = |error| LoadError::Object { source: Box::new(EbpfError::MapError(MapError::IoError(error))) };
        faults::point("maps of the object").map_err(failed)?;
        loader.load(self.object).map_err(|error| LoadError::Object { source: Box::new(error) })
    }
}

/// Needed before kernel 5.11 only, and may be refused.
fn lift_memory_limit() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        if kernel_version::counts_maps_as_locked_memory() {
            tracing::warn!(%error, "before Linux 5.11 maps need locked memory, and their limit stays (CAP_SYS_RESOURCE)");
        } else {
            tracing::debug!(%error, "memlock limit stays as it is");
        }
    }
}

fn bpffs_feature(directories: &PinDirectories) -> Feature {
    let used = match &directories.mounted {
        Some(path) => format!("mounted at {} by this agent", path.display()),
        None => directories.root.display().to_string(),
    };
    Feature { name: "bpffs".into(), found: directories.mounted.is_none(), used }
}
