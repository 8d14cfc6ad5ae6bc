//! Tries a load again when the kernel says so.

use std::io::ErrorKind;

use aya::programs::ProgramError;

/// Times that a load is tried.
const LOADS: u32 = 5;

/// Loads again where the verifier gave up over a pending signal (EAGAIN), as it does now and then on a busy machine.
pub(super) fn retry_on_eagain(load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let eagain = |error: &ProgramError| matches!(error, ProgramError::LoadError { io_error, .. } if io_error.kind() == ErrorKind::WouldBlock);
    retry_while(eagain, load)
}

fn retry_while<E>(again: impl Fn(&E) -> bool, mut load: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    for _ in 1..LOADS {
        match load() {
            Err(error) if again(&error) => {}
            done => return done,
        }
    }
    load()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_tried_again_a_few_times_and_only_when_the_kernel_says_so() {
        let tries = |fails: u32, error: ErrorKind| {
            let mut tries = 0;
            let result = retry_while(
                |error| *error == ErrorKind::WouldBlock,
                || {
                    tries += 1;
                    if tries <= fails { Err(error) } else { Ok(()) }
                },
            );
            (tries, result.is_ok())
        };
        assert_eq!(tries(2, ErrorKind::WouldBlock), (3, true));
        assert_eq!(tries(99, ErrorKind::WouldBlock), (LOADS, false));
        assert_eq!(tries(1, ErrorKind::InvalidInput), (1, false));
    }
}
