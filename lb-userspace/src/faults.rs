//! Places at which a test build dies, hangs or fails when a test says so. In other builds they are nothing.
//!
//! With the feature `fault-points`, `SLUICE_FAULT=die:17` kills the process at the 17th place that it comes to, `hang:17` keeps
//! the thread there for good, `fail:17` lets what is done there fail once for want of memory. `SLUICE_FAULT_LOG=FILE` gets the
//! name of each place as it is reached, a line each. `SLUICE_FAULT_FROM=FILE` counts and logs from the moment on at which that
//! file is there.

#[cfg(not(feature = "fault-points"))]
use std::io;

#[cfg(feature = "fault-points")]
pub use self::told::point;

/// Something is about to be done to a map, a link or a pin.
#[cfg(not(feature = "fault-points"))]
#[inline]
pub const fn point(_place: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "fault-points")]
mod told {
    use std::env;
    use std::fs::{File, OpenOptions};
    use std::io::{self, Write};
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};

    #[derive(Clone, Copy)]
    enum Fault {
        Die,
        Hang,
        Fail,
    }

    struct Told {
        fault: Option<(Fault, usize)>,
        log: Option<File>,
        from: Option<PathBuf>,
        reached: AtomicUsize,
    }

    impl Told {
        fn from_environment() -> Self {
            let fault = env::var("SLUICE_FAULT").ok().and_then(|text| {
                let (fault, at) = text.split_once(':')?;
                let fault = match fault {
                    "die" => Fault::Die,
                    "hang" => Fault::Hang,
                    "fail" => Fault::Fail,
                    _ => return None,
                };
                Some((fault, at.parse().ok()?))
            });
            let log = env::var_os("SLUICE_FAULT_LOG")
                .and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
            let from = env::var_os("SLUICE_FAULT_FROM").map(PathBuf::from);
            Self { fault, log, from, reached: AtomicUsize::new(0) }
        }
    }

    /// Something is about to be done to a map, a link or a pin.
    pub fn point(place: &'static str) -> io::Result<()> {
        static TOLD: OnceLock<Told> = OnceLock::new();
        let told = TOLD.get_or_init(Told::from_environment);
        if told.from.as_ref().is_some_and(|file| !file.exists()) {
            return Ok(());
        }
        let number = told.reached.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(mut log) = told.log.as_ref() {
            // In one piece: several threads come here.
            log.write_all(format!("{place}\n").as_bytes())?;
        }
        match told.fault.filter(|(_, at)| *at == number) {
            None => Ok(()),
            Some((Fault::Fail, _)) => {
                tracing::warn!(place, "a test lets this fail");
                Err(io::Error::from_raw_os_error(libc::ENOMEM))
            }
            Some((Fault::Die, _)) => {
                raise(Signal::SIGKILL)?;
                Ok(())
            }
            Some((Fault::Hang, _)) => loop {
                thread::sleep(Duration::from_secs(3600));
            },
        }
    }
}
