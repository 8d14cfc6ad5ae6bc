//! An entry of a flow table in plain memory.

use core::ops::Deref;

use crate::abi::{FlowKey, FlowValue};

/// An entry of a flow table as it was found. Marks go to the table, not to the copy.
#[derive(Clone, Copy, Debug)]
pub struct FlowRef<A> {
    pub(super) key: FlowKey<A>,
    pub(super) half_open: bool,
    /// Not an entry of a table, but what the slow path decided.
    pub(super) decided: bool,
    pub(super) value: FlowValue<A>,
}

impl<A> Deref for FlowRef<A> {
    type Target = FlowValue<A>;

    fn deref(&self) -> &FlowValue<A> {
        &self.value
    }
}
