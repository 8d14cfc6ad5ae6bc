//! How a Service's new connections are spread over its backends: the algorithms that can be asked for, by name.

use lb_common::abi::algorithm;

/// How new connections are spread over the backends of a set. Weights count whatever the algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// Any backend, by chance.
    #[default]
    Random,
    /// One after the other, on each processor.
    RoundRobin,
    /// A client has always the same backend, as long as the set stays the same.
    SourceHash,
    /// A connection has the same backend on every node, and few move when the set changes.
    Maglev,
    /// The backend with the fewest open connections for its weight.
    LeastConnections,
}

/// How many places a table of Maglev has: a prime number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableSize(u32);

impl Default for TableSize {
    /// Of a hundred backends one that goes moves less than 1 % of the others' connections, see `plan::maglev`.
    fn default() -> Self {
        Self(32_749)
    }
}

impl TableSize {
    /// The smallest and the largest that can be asked for.
    const RANGE: std::ops::RangeInclusive<u32> = 251..=131_071;

    /// Reads a size. The error says which there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (least, most) = Self::RANGE.into_inner();
        let size: Option<u32> = text.parse().ok().filter(|size| Self::RANGE.contains(size) && is_prime(*size));
        size.map(Self).ok_or_else(|| {
            format!("{text:?} is no size of a table: use a prime number from {least} to {most}, such as 16381 or 65521")
        })
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

fn is_prime(number: u32) -> bool {
    number >= 2 && (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
}

/// What somebody asks for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The name says that backends have weights.
    pub weighted: bool,
}

/// Sluice's own names, and behind them those of IPVS.
const NAMES: &[(&str, Algorithm, bool)] = &[
    ("random", Algorithm::Random, false),
    ("weighted", Algorithm::Random, true),
    ("round-robin", Algorithm::RoundRobin, false),
    ("source-hash", Algorithm::SourceHash, false),
    ("maglev", Algorithm::Maglev, false),
    ("least-connections", Algorithm::LeastConnections, false),
    ("rr", Algorithm::RoundRobin, false),
    ("wrr", Algorithm::RoundRobin, false),
    ("sh", Algorithm::SourceHash, false),
    ("mh", Algorithm::Maglev, false),
    ("lc", Algorithm::LeastConnections, false),
    ("wlc", Algorithm::LeastConnections, false),
];

/// How many of them are Sluice's own.
const OWN: usize = 6;

impl Algorithm {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Random, Self::RoundRobin, Self::SourceHash, Self::Maglev, Self::LeastConnections];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
            Self::SourceHash => "source-hash",
            Self::Maglev => "maglev",
            Self::LeastConnections => "least-connections",
        }
    }

    /// Its number in a frontend.
    pub const fn number(self) -> u8 {
        match self {
            Self::Random => algorithm::RANDOM,
            Self::RoundRobin => algorithm::ROUND_ROBIN,
            Self::SourceHash => algorithm::SOURCE_HASH,
            Self::Maglev => algorithm::MAGLEV,
            Self::LeastConnections => algorithm::LEAST_CONNECTIONS,
        }
    }

    /// The algorithm of this number; none: not one of this version.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.number() == number)
    }

    /// The names of IPVS's schedulers that are taken over.
    pub fn schedulers() -> impl Iterator<Item = &'static str> {
        NAMES.iter().skip(OWN).map(|(name, ..)| *name)
    }

    /// What this name asks for; the error says which names there are.
    pub fn asked(name: &str) -> Result<Asked, String> {
        let found = NAMES.iter().find(|(known, ..)| *known == name);
        found.map(|(_, algorithm, weighted)| Asked { algorithm: *algorithm, weighted: *weighted }).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().take(OWN).map(|(name, ..)| *name).collect();
            format!("{name:?} is no algorithm of Sluice's: use {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_has_its_name_and_number() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::asked(algorithm.name()).map(|asked| asked.algorithm), Ok(*algorithm));
            assert_eq!(Algorithm::of_number(algorithm.number()), Some(*algorithm));
            assert!(NAMES.iter().take(OWN).any(|(name, ..)| *name == algorithm.name()), "{algorithm:?}");
        }
        assert_eq!(Algorithm::of_number(200), None);
    }

    #[test]
    fn a_table_has_a_prime_number_of_places() {
        for size in ["251", "509", "1021", "2039", "4093", "8191", "16381", "32749", "65521", "131071"] {
            assert_eq!(TableSize::parse(size).map(|size| size.get().to_string()), Ok(size.to_owned()));
        }
        assert_eq!(TableSize::parse("32749"), Ok(TableSize::default()));
        for bad in ["", "0", "2", "241", "1000", "16384", "65536", "131101", "4294967296", "-251", "prime"] {
            assert!(TableSize::parse(bad).unwrap_err().contains("prime number from 251 to 131071"), "{bad}");
        }
    }

    #[test]
    fn a_name_that_is_not_known_is_answered_with_those_that_are() {
        for name in ["", "Random", "magelv", "sed", "dh"] {
            let wrong = Algorithm::asked(name).unwrap_err();
            assert!(wrong.contains(name) && wrong.contains("round-robin") && !wrong.contains("wrr"), "{wrong}");
        }
    }
}
