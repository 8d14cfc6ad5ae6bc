//! Another size or layout of maps, without a loss: new maps beside the running ones, filled, programs exchanged in place,
//! flows carried over, and the former maps removed last. docs/upgrade.md has the steps, and what it means to stop at each.

mod carry;
mod differences;
mod folders;
mod stages;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use lb_common::abi::table::Carried;
use lb_common::abi::{former, handover, tables};

use self::carry::Counts;
pub(super) use self::differences::Difference;
pub use self::folders::{ALL as FOLDERS, is_under_way};
pub(super) use self::folders::{NEXT, Standing, recover};
use self::stages::FormerStages;
use self::steps::step;
use super::pins::PinDirectories;
use super::writer_lock::Candidate;
use super::{LoadError, MapSizeNote, MapSizes, Programs};

/// What a start makes of the maps that it finds.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where the maps are that the programs are loaded with.
    pub(super) maps: PathBuf,
    /// Maps that keep another size than the wanted one.
    pub(super) notes: Vec<MapSizeNote>,
    /// What is to be done, if maps change.
    pub(super) upgrade: Option<Upgrade>,
}

/// An upgrade, from the making of new maps to the end of the former ones.
#[derive(Debug)]
pub struct Upgrade {
    root: PathBuf,
    /// Maps that are other ones from now on.
    replaced: BTreeSet<&'static str>,
    /// Whether flows begin in the new maps already: an agent was stopped there.
    is_open: bool,
    stages: Option<FormerStages>,
    counts: BTreeMap<&'static str, Counts>,
    /// Nobody else starts meanwhile.
    turn: Option<Candidate>,
}

/// Compares the pinned maps with the wanted ones. With `may_change` new maps are made for those that differ, as far as that
/// can be done without a loss; other sizes stay, and other layouts are refused.
pub(super) fn plan(
    directories: &PinDirectories,
    sizes: &MapSizes,
    standing: Standing,
    may_change: bool,
) -> Result<Plan, LoadError> {
    let root = &directories.root;
    if standing == Standing::Open {
        return resume(directories, sizes);
    }
    let differences = differences::all(&directories.maps, sizes)?;
    let stays = |differences: &[Difference]| Plan {
        maps: directories.maps.clone(),
        notes: differences.iter().filter_map(Difference::note).collect(),
        upgrade: None,
    };
    let foreign = differences.iter().find(|difference| !difference.is_size());
    let obstacle = if may_change { obstacle(directories, &differences)? } else { Some("no agent starts".to_owned()) };
    if let (Some(foreign), Some(_)) = (foreign, &obstacle) {
        return Err(foreign.refused(&directories.maps));
    }
    if let Some(obstacle) = obstacle {
        for difference in &differences {
            difference.tell(&obstacle);
        }
        return Ok(stays(&differences));
    }
    let (fits, too_small) = differences::that_fit(&directories.maps, differences)?;
    for difference in &too_small {
        difference.tell("what it holds does not fit into a smaller one");
    }
    if fits.is_empty() {
        return Ok(stays(&too_small));
    }
    let replaced = fits.iter().map(Difference::map).collect();
    folders::make_next(root, &replaced)?;
    for difference in &fits {
        tracing::info!("{difference}");
    }
    let notes = too_small.iter().filter_map(Difference::note).collect();
    Ok(Plan { maps: root.join(folders::NEXT), notes, upgrade: Some(Upgrade::new(root, replaced, false)) })
}

/// Goes on where an agent was stopped: both generations of maps are in use.
fn resume(directories: &PinDirectories, sizes: &MapSizes) -> Result<Plan, LoadError> {
    let (root, maps) = (&directories.root, &directories.maps);
    let former = root.join(folders::FORMER);
    let mut differences = differences::all(maps, sizes)?;
    if let Some(foreign) = differences.iter().find(|difference| !difference.is_size()) {
        // An agent of the former version is started again: its own maps are the former ones.
        if differences::all(&former, sizes)?.iter().any(|difference| !difference.is_size()) {
            return Err(foreign.refused(maps));
        }
        folders::swap(root)?;
        differences = differences::all(maps, sizes)?;
    }
    for difference in &differences {
        difference.tell("an upgrade that was stopped is completed first: its size changes with the next start");
    }
    let replaced = folders::different(maps, &former)?;
    tracing::info!(maps = replaced.len(), "an upgrade that was stopped goes on");
    let notes = differences.iter().filter_map(Difference::note).collect();
    Ok(Plan { maps: maps.clone(), notes, upgrade: Some(Upgrade::new(root, replaced, true)) })
}

/// Why maps cannot be changed now.
fn obstacle(directories: &PinDirectories, differences: &[Difference]) -> Result<Option<String>, LoadError> {
    if differences.is_empty() {
        return Ok(None);
    }
    if let Some(kept) = differences.iter().find(|difference| difference.carried() == Carried::Shared) {
        return Ok(Some(format!("{} cannot be another one while programs use it", kept.map())));
    }
    let needs_stages = differences.iter().any(|difference| stages::bit_of(difference.map()) != 0);
    if needs_stages && !stages::own_are_there(&directories.maps)? {
        return Ok(Some("the agent before was of a version that does not hand its flows over".to_owned()));
    }
    Ok(None)
}

impl Upgrade {
    fn new(root: &Path, replaced: BTreeSet<&'static str>, is_open: bool) -> Self {
        Self { root: root.to_owned(), replaced, is_open, stages: None, counts: BTreeMap::new(), turn: None }
    }

    /// Where the former maps are now.
    pub(super) fn former(&self) -> PathBuf {
        self.root.join(if self.is_open { folders::FORMER } else { folders::MAPS })
    }

    /// The former maps that the programs of the transition know, by the names that they have there.
    pub(super) fn former_maps(&self) -> Vec<(&'static str, PathBuf)> {
        let former = self.former();
        let maps = stages::former_maps().into_iter().map(|(name, map)| (name, former.join(map)));
        maps.filter(|(_, path)| path.exists()).collect()
    }

    /// Bits of [`former`]: what the programs of the transition look for in the former maps.
    pub(super) fn former_bits(&self) -> Result<u8, LoadError> {
        stages::bits(&self.replaced, &self.former())
    }

    /// Has the programs of the transition verified.
    pub(super) fn load_stages(&mut self, programs: Programs) -> Result<(), LoadError> {
        self.stages = Some(FormerStages::load(&self.root, &self.former(), self.former_bits()?, programs)?);
        Ok(())
    }

    /// Puts the new maps in the place of the former ones: from here on flows begin in them. This agent is the only writer.
    pub(super) fn switch(&mut self, turn: Candidate, programs: &mut Programs) -> Result<(), LoadError> {
        self.turn = Some(turn);
        if !self.is_open {
            let next = self.root.join(folders::NEXT);
            for map in self.replaced.iter().copied() {
                let carried = tables::of_map(map).map_or(Carried::Not, |table| table.carried);
                if matches!(carried, Carried::First | Carried::Counted) {
                    step("upgrade, fill")?;
                    let counts = carry::fill(map, &self.former(), &next)?;
                    if carried == Carried::Counted {
                        self.counts.insert(map, counts);
                    }
                }
            }
            if self.stages.is_some() {
                step("upgrade, prepared")?;
                folders::set_handover(&next, handover::PREPARED)?;
            }
            folders::switch(&self.root)?;
            self.is_open = true;
        }
        let maps = self.root.join(folders::MAPS);
        if let Some(stages) = &mut self.stages {
            // Here where they are already, an agent was stopped: then it is not the former one's turn any more.
            stages.enter()?;
            step("upgrade, open")?;
            folders::set_handover(&maps, handover::OPEN)?;
            stages.exchange_hooks()?;
        } else {
            // Flows stay where they are: nothing has to be looked for in two places.
            programs.take_places();
        }
        // From now on no program writes to the former table of sockets; the programs that are attached next know the new one.
        self.carry_all(|map| stages::bit_of(map) == former::SOCKETS)
    }

    fn carry_all(&self, wanted: impl Fn(&str) -> bool) -> Result<(), LoadError> {
        let (former, maps) = (self.former(), self.root.join(folders::MAPS));
        let is_last = |map: &&&str| tables::of_map(map).is_some_and(|table| table.carried == Carried::Last);
        for map in self.replaced.iter().filter(is_last).filter(|map| wanted(map)) {
            step("upgrade, carry")?;
            let carried = carry::carry(map, &former, &maps)?;
            tracing::info!(map, entries = carried, "carried over");
        }
        Ok(())
    }

    /// The programs that look first have been exchanged: what is left in the former maps is carried over, and they go. After an
    /// error it is still to be done.
    pub fn complete(&mut self, programs: &mut Programs) -> Result<(), LoadError> {
        self.carry_all(|_| true)?;
        let (former, maps) = (self.former(), self.root.join(folders::MAPS));
        while let Some((map, counts)) = self.counts.pop_first() {
            step("upgrade, counts")?;
            carry::add_counts(map, &counts, &former, &maps)?;
        }
        step("upgrade, last second stages")?;
        programs.take_places();
        if self.stages.is_some() {
            // A packet that is in a program of the transition has left it by then.
            thread::sleep(GRACE);
            step("upgrade, closed")?;
            folders::set_handover(&maps, handover::NONE)?;
        }
        folders::remove_former(&self.root)?;
        tracing::info!(maps = self.replaced.len(), "the former maps are gone");
        Ok(())
    }
}

/// As long as a packet may be in a program.
const GRACE: Duration = Duration::from_millis(20);

/// No upgrade is under way: an agent that was stopped before flows began in its maps may have left a word.
pub(super) fn settle(maps: &Path) -> Result<(), LoadError> {
    if folders::handover(maps)? != handover::NONE {
        folders::set_handover(maps, handover::NONE)?;
    }
    Ok(())
}

/// Takes away new maps that are of no use: the kernel refuses a program of the transition.
pub(super) fn give_up(root: &Path) -> Result<(), LoadError> {
    folders::remove_next(root)
}
