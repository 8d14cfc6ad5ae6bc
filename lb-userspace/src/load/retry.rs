//! Tries a load again when the kernel says so.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::ProgramError;

/// How long a load is tried. A process that is stopped and let go on again and again gets no program through the verifier
/// meanwhile; it must not end for that.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it is tried where the kernel lacks memory.
const PATIENCE_WITHOUT_MEMORY: Duration = Duration::from_secs(2);
/// The pause after a load that was tried in vain.
const PAUSE: Duration = Duration::from_millis(2);

/// Loads again where the verifier gave up over a pending signal (EAGAIN), as it does now and then on a busy machine; and for a
/// moment where there was no memory (ENOMEM): a program that was refused is not tried again later.
pub(super) fn retry(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let is = |kind: ErrorKind| {
        move |error: &ProgramError| match error {
            ProgramError::LoadError { io_error, .. } | ProgramError::IOError(io_error) => io_error.kind() == kind,
            _ => false,
        }
    };
    let read = || retry_while(is(ErrorKind::WouldBlock), PATIENCE, &mut load);
    retry_while(is(ErrorKind::OutOfMemory), PATIENCE_WITHOUT_MEMORY, read)
}

fn retry_while<E>(
    again: impl Fn(&E) -> bool,
    patience: Duration,
    mut load: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let begin = Instant::now();
    loop {
        match load() {
            Err(error) if again(&error) && begin.elapsed() < patience => thread::sleep(PAUSE),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(patience: Duration, fails: u32, error: ErrorKind) -> (u32, bool) {
        let mut tries = 0;
        let load = || {
            tries += 1;
            if tries <= fails { Err(error) } else { Ok(()) }
        };
        let result = retry_while(|error| *error == ErrorKind::WouldBlock, patience, load);
        (tries, result.is_ok())
    }

    #[test]
    fn a_load_is_tried_again_when_the_kernel_says_so() {
        assert_eq!(tries(PATIENCE, 30, ErrorKind::WouldBlock), (31, true));
        assert_eq!(tries(PATIENCE, 1, ErrorKind::InvalidInput), (1, false));
    }

    #[test]
    fn patience_has_an_end() {
        assert_eq!(tries(Duration::ZERO, 30, ErrorKind::WouldBlock), (1, false));
    }
}
