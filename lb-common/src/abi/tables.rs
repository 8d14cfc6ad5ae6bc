//! The catalogue as constants: a [`Table`] for each of its entries, and all of them in the order of the documents.
#![allow(
    clippy::wildcard_imports,
    reason = "the catalogue names every type of the module, and so does what follows it"
)]

use super::table::{Carried, Flag, Kind, Map, Size, Table};
use super::*;

/// `BPF_F_NO_PREALLOC`: entries are allocated as they come.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`: the agent writes it as memory.
const MMAPABLE: u32 = 1 << 10;

macro_rules! map {
    (pinned $kind:ident $name:ident $key:ty, $value:ty) => {
        Map::new::<$key, $value>(stringify!($name), Kind::$kind)
    };
    (scratch $kind:ident $name:ident $key:ty, $value:ty) => {
        Map::private(stringify!($name))
    };
}

macro_rules! is_pinned {
    (pinned) => {
        true
    };
    (scratch) => {
        false
    };
}

macro_rules! family {
    (Self: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        /// The maps of one address family.
        pub trait FamilyMaps {
            $($(#[$doc])* const $table: Map;)*
        }

        $(
            $(#[$doc])*
            #[allow(clippy::needless_update, reason = "an entry need not say everything, but may")]
            pub const $table: Table = Table {
                maps: &[<V4 as FamilyMaps>::$table, <V6 as FamilyMaps>::$table],
                kind: Kind::$kind,
                pinned: is_pinned!($pin),
                $($facts)*
                ..Table::BLANK
            };
        )*

        const OF_FAMILIES: &[Table] = &[$($table),*];

        /// Names of all maps, as pinned: of IPv4 and IPv6 where a table has one for each.
        pub mod map_name {
            $($(#[$doc])* pub const $table: [&str; 2] = [stringify!($v4), stringify!($v6)];)*
            pub use super::single_name::*;
            pub use super::agent_name::*;
        }
    };
    (V4: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        impl FamilyMaps for V4 {
            $(const $table: Map = map!($pin $kind $v4 $key, $value);)*
        }
    };
    (V6: $($(#[$doc:meta])* $table:ident $accessor:ident [$v4:ident $v6:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        impl FamilyMaps for V6 {
            $(const $table: Map = map!($pin $kind $v6 $key, $value);)*
        }
    };
}

macro_rules! single {
    ($group:ident $names:ident: $($(#[$doc:meta])* $table:ident $accessor:ident [$name:ident]: $pin:ident
        $kind:ident($key:ty => $value:ty) { $($facts:tt)* })*) => {
        $(
            $(#[$doc])*
            #[allow(clippy::needless_update, reason = "an entry need not say everything, but may")]
            pub const $table: Table = Table {
                maps: &[map!($pin $kind $name $key, $value)],
                kind: Kind::$kind,
                pinned: is_pinned!($pin),
                $($facts)*
                ..Table::BLANK
            };
        )*

        const $group: &[Table] = &[$($table),*];

        mod $names {
            $($(#[$doc])* pub const $table: &str = stringify!($name);)*
        }
    };
}

macro_rules! of_programs {
    ($($entries:tt)*) => { single! { OF_PROGRAMS single_name: $($entries)* } };
}

macro_rules! of_agent {
    ($($entries:tt)*) => { single! { OF_AGENT agent_name: $($entries)* } };
}

crate::tables!(family, Self, family);
crate::tables!(family, V4, family);
crate::tables!(family, V6, family);
crate::tables!(single, of_programs);
crate::tables!(agent, of_agent);

/// All tables, in the order of the documents.
pub fn all() -> impl Iterator<Item = &'static Table> {
    OF_FAMILIES.iter().chain(OF_PROGRAMS).chain(OF_AGENT)
}

/// The table that a map belongs to.
pub fn of_map(name: &str) -> Option<&'static Table> {
    all().find(|table| table.maps.iter().any(|map| map.name == name))
}

/// A table by its name, without a family's digit.
pub fn named(name: &str) -> Option<&'static Table> {
    all().find(|table| table.name() == name)
}

impl Table {
    /// The setting to raise when it is full.
    pub fn setting(&self) -> Option<&'static str> {
        match self.size {
            Size::As(other) => named(other)?.setting(),
            _ => self.flag.map(|flag| flag.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::catalogue::SHAPE;

    #[test]
    fn every_map_is_listed_once_and_fits_the_kernels_name_length() {
        let names: Vec<&str> = all().flat_map(|table| table.maps).map(|map| map.name).collect();
        for name in &names {
            assert!(name.len() <= 15, "{name}");
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn a_field_that_is_moved_needs_a_new_version_of_the_maps() {
        let shape = all().flat_map(|table| table.maps).fold(0, |all, map| all ^ map.shape);
        assert_eq!(
            shape, SHAPE,
            "the shape is {shape:#018x}. Maps were added, or only names changed: put that number into catalogue.rs. \
             Fields of a map of a released version were changed: raise ABI_VERSION too"
        );
    }

    #[test]
    fn a_prefix_key_has_no_padding() {
        assert_eq!(V6::RANGES.key, 24);
    }

    #[test]
    fn a_table_that_says_how_many_it_has_means_one_that_exists() {
        for table in all() {
            if let Size::As(other) | Size::UpTo(other) = table.size {
                assert!(named(other).is_some(), "{}: {other}", table.name());
            }
        }
    }

    #[test]
    fn a_full_map_names_the_setting_that_it_follows() {
        let setting = |map| of_map(map).and_then(Table::setting);
        assert_eq!(setting("RANGES6"), Some("--max-source-ranges"));
        assert_eq!((setting("TOTALS"), setting("CONFIG4")), (Some("--max-services"), None));
    }

    #[test]
    fn the_object_has_room_in_every_map() {
        for table in OF_FAMILIES.iter().chain(OF_PROGRAMS) {
            assert!(table.entries_in_object() > 0, "{}", table.name());
        }
    }
}
