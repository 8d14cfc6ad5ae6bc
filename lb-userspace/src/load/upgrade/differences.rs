//! Pinned maps that are not as they are wanted: of another size, or of another layout.

use std::fmt;
use std::path::Path;

use aya::maps::MapType;
use lb_common::abi::table::Carried;
use lb_common::abi::tables;

use super::carry::Content;
use crate::load::layouts::{self, Layout};
use crate::load::map_pins::pinned;
use crate::load::{LoadError, MapSizeNote, MapSizes};

/// A pinned map and what it should be.
#[derive(Debug)]
pub(in crate::load) struct Difference {
    found: Layout,
    needed: Layout,
    actual: u32,
    wanted: u32,
}

/// All of a folder. Keys of another kind are refused at once: nothing can be carried over then.
pub(super) fn all(maps: &Path, sizes: &MapSizes) -> Result<Vec<Difference>, LoadError> {
    let mut differences = Vec::new();
    for needed in layouts::all() {
        let path = maps.join(needed.name);
        if !path.exists() || layouts::is_own(needed.name) {
            continue;
        }
        let info = pinned(&path)?;
        let found = needed.found(&info).map_err(|source| LoadError::NoMap { path: path.clone(), source })?;
        let actual = info.max_entries();
        let wanted = sizes.of(needed.name).or(needed.entries).unwrap_or(actual);
        let difference = Difference { found, needed, actual, wanted };
        if (found.kind, found.key) != (needed.kind, needed.key) {
            return Err(difference.refused(maps));
        }
        if !difference.is_size() || actual != wanted {
            differences.push(difference);
        }
    }
    Ok(differences)
}

/// Those whose content has room in the wanted size, and the others.
pub(super) fn that_fit(
    maps: &Path,
    differences: Vec<Difference>,
) -> Result<(Vec<Difference>, Vec<Difference>), LoadError> {
    let (mut fit, mut too_small) = (Vec::new(), Vec::new());
    for difference in differences {
        let fits = difference.wanted >= difference.actual || difference.has_room(maps)?;
        if fits { &mut fit } else { &mut too_small }.push(difference);
    }
    Ok((fit, too_small))
}

impl Difference {
    /// The map.
    pub(super) const fn map(&self) -> &'static str {
        self.needed.name
    }

    /// Whether only the number of entries differs.
    pub(super) fn is_size(&self) -> bool {
        self.found == self.needed
    }

    /// How its content comes into the new map.
    pub(super) fn carried(&self) -> Carried {
        tables::of_map(self.needed.name).map_or(Carried::Shared, |table| table.carried)
    }

    /// For the report: it keeps its size.
    pub(super) fn note(&self) -> Option<MapSizeNote> {
        let Self { wanted, actual, .. } = *self;
        (wanted != actual).then(|| MapSizeNote { map: self.needed.name.to_owned(), wanted, actual })
    }

    /// Says why it keeps its size.
    pub(super) fn tell(&self, why: &str) {
        let Self { wanted, actual, .. } = *self;
        tracing::warn!(map = self.needed.name, wanted, actual, "pinned map keeps its size: {why}");
    }

    /// It cannot be used, and nothing be made of it.
    pub(super) fn refused(&self, maps: &Path) -> LoadError {
        let (found, needed) = (self.found.to_string(), self.needed.to_string());
        LoadError::ForeignMap { path: maps.join(self.needed.name), found, needed }
    }

    /// Whether a smaller map holds what is there. What others add until then needs room as well.
    fn has_room(&self, maps: &Path) -> Result<bool, LoadError> {
        let used = Content::open(self.needed.name, maps)?.used()?;
        let is_array = matches!(self.needed.kind, MapType::Array | MapType::PerCpuArray);
        let room = if is_array { self.wanted } else { self.wanted / 4 * 3 };
        Ok(used <= u64::from(room))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, needed, actual, wanted } = self;
        write!(f, "map {}: {actual} entries become {wanted}", needed.name)?;
        if self.is_size() { Ok(()) } else { write!(f, ", {found} becomes {needed}") }
    }
}
