//! Takes a backend by its id.

use super::choice::Choice;
use crate::abi::{Address, Counter};
use crate::datapath::env::Services;

/// Takes the backend with this id.
#[inline(always)]
pub(super) fn take<A: Address, E: Services<A>>(env: &E, id: u32, choice: &mut Choice<A>) -> Result<(), Counter> {
    match env.backend(id) {
        // A slot never leads to another Service's Pod, whoever wrote it.
        Some(backend) if id != 0 && backend.generation != 0 && backend.service == choice.frontend.service => {
            choice.id = id;
            choice.backend = backend;
            Ok(())
        }
        _ => Err(Counter::DropStaleSlot),
    }
}
