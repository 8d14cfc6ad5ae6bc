//! The table of a backend set, by the algorithm with which the kernel picks from it.
//!
//! An algorithm is a variant here, with the table that it wants, and a file in `lb_common::datapath::schedule`, which
//! picks. Both know it by its number in `lb_common::abi::algorithm`.

use lb_common::abi::algorithm;

/// How new flows are spread over the backends of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Any slot, each as likely as the others.
    Random,
}

/// The algorithm of every Service.
pub(super) const ALGORITHM: Algorithm = Algorithm::Random;

impl Algorithm {
    /// Its number in a frontend.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Random => algorithm::RANDOM,
        }
    }

    /// What the set's slots hold: ids of `members`, which come in the order of their address. Equal members give equal
    /// tables, so that a set which has not changed is not written again; no members give an empty table.
    pub(super) fn table(self, members: &[u32]) -> Box<[u32]> {
        match self {
            Self::Random => members.into(),
        }
    }
}
