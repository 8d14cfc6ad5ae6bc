//! What can be said of a map: the types of which the catalogue (`tables.rs`) is made.

use super::plain::{Plain, shape};

/// How a map is organised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Hash table; a new key is refused when it is full.
    Hash,
    /// Hash table that evicts the entries that were not used for the longest time.
    LruHash,
    /// Longest-prefix match. In front of the key lies the number of its significant bits (`bpf_lpm_trie_key`).
    LpmTrie,
    /// Array, index = key.
    Array,
    /// Array with a value for each processor.
    PerCpuArray,
    /// Array of programs for tail calls.
    ProgramArray,
    /// Ring of records, which are read once; its entries are bytes.
    RingBuf,
}

impl Kind {
    /// As documents call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::LruHash => "LRU hash",
            Self::LpmTrie => "LPM trie",
            Self::Array => "array",
            Self::PerCpuArray => "per-CPU array",
            Self::ProgramArray => "program array",
            Self::RingBuf => "ring buffer",
        }
    }
}

/// How many entries a map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Part of the map's meaning.
    Fixed(u32),
    /// One entry for each of these things; part of the map's meaning, too.
    Each(u32, &'static str),
    /// The same on every node.
    Constant(u32),
    /// By whether the node has 4 GiB of memory.
    ByNode {
        /// With at least that.
        large: u32,
        /// With less.
        small: u32,
    },
    /// One entry per so many bytes of memory, rounded down to a power of two. The kernel allocates LRU tables in full
    /// when it creates them, so they follow the memory.
    PerMemory {
        /// Bytes of memory per entry.
        bytes: u64,
        /// At least.
        low: u32,
        /// At most.
        high: u32,
    },
    /// As many as this table has, or fewer where that is asked for, down to none.
    UpTo(&'static str),
    /// As many as this table has.
    As(&'static str),
}

/// How a table's content comes into another table of its kind, when a successor wants it larger, or laid out otherwise
/// (docs/upgrade.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Before the programs are exchanged: agents alone write it.
    First,
    /// The same, and what programs have counted since then is added at the end.
    Counted,
    /// At the end: programs write it.
    Last,
    /// Not at all: what is in it is over soon, or is not missed.
    Not,
    /// It cannot be another: programs of both agents share it.
    Shared,
    /// Each agent makes it for itself.
    Own,
}

/// A setting of `sluice run` that changes a table's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As it is given on the command line.
    pub name: &'static str,
    /// One sentence for `--help`.
    pub help: &'static str,
    /// What is counted, for the documents.
    pub counts: &'static str,
    /// What happens when the table is full, for the documents.
    pub full: &'static str,
}

impl Flag {
    /// Without the dashes.
    pub fn long(self) -> &'static str {
        self.name.trim_start_matches('-')
    }
}

/// One map, as it is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Name, at most 15 bytes.
    pub name: &'static str,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// Changes with the fields of key and value.
    pub shape: u64,
}

/// One table: a map, or one for each address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its map, or that of IPv4 and that of IPv6.
    pub maps: &'static [Map],
    /// Kind.
    pub kind: Kind,
    /// Whether it is pinned and outlives the agent. Working memory is not.
    pub pinned: bool,
    /// Entries.
    pub size: Size,
    /// Entries where a loader says nothing else (tests, benches; the agent does); 0: as `size` has it.
    pub object: u32,
    /// Flags of the kernel (`BPF_F_...`).
    pub flags: u32,
    /// Key and value, for people.
    pub holds: &'static str,
    /// Who writes it.
    pub writer: &'static str,
    /// Who reads it.
    pub readers: &'static str,
    /// What it means that a key is not there; empty: it always is.
    pub miss: &'static str,
    /// How its content comes into another one.
    pub carried: Carried,
    /// The setting that changes the size.
    pub flag: Option<Flag>,
}

impl Table {
    /// What an entry of the catalogue need not say.
    pub(super) const BLANK: Self = Self {
        maps: &[],
        kind: Kind::Hash,
        pinned: true,
        size: Size::Fixed(1),
        object: 0,
        flags: 0,
        holds: "",
        writer: "",
        readers: "",
        miss: "",
        carried: Carried::First,
        flag: None,
    };

    /// Name without the family's digit.
    pub fn name(&self) -> &'static str {
        match self.maps {
            [map] => map.name,
            [map, ..] => map.name.trim_end_matches('4'),
            [] => "",
        }
    }

    /// Entries in the object that holds the programs.
    pub const fn entries_in_object(&self) -> u32 {
        match self.size {
            Size::Fixed(entries) | Size::Each(entries, _) | Size::Constant(entries) if self.object == 0 => entries,
            _ => self.object,
        }
    }
}

impl Map {
    pub(super) const fn new<K: Plain, V: Plain>(name: &'static str, kind: Kind) -> Self {
        let prefix = if let Kind::LpmTrie = kind { size_of::<u32>() } else { 0 };
        Self {
            name,
            key: bytes(prefix + size_of::<K>()),
            value: bytes(size_of::<V>()),
            shape: shape(K::SHAPE, name, V::SHAPE),
        }
    }

    /// A map whose value no other program shares.
    pub(super) const fn private(name: &'static str) -> Self {
        Self { name, key: bytes(size_of::<u32>()), value: 0, shape: 0 }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::as_conversions, reason = "map types are far below 4 GiB, and const")]
const fn bytes(size: usize) -> u32 {
    size as u32
}
