//! What is attached beside the programs of devices, and is looked at with them.

use crate::load::Programs;

/// What there is to tell people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Clients that are not served, and why.
    pub not_served: Vec<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// Keeps something attached.
pub trait Upkeep: std::fmt::Debug + Send {
    /// Looks whether the kernel has it, and repairs it. Gives what there is to tell, and what was missing.
    fn look(&mut self, programs: &mut Programs) -> (Told, Vec<String>);
}
