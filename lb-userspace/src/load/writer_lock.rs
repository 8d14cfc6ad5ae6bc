//! One writer per pin path: locks beside the pins.
//!
//! They are `flock(2)` locks on directories of the BPF file system itself, so whoever shares the pins shares them, also
//! across namespaces of processes and of mounts. The kernel gives a lock back when its holder ends, in whatever way.
//!
//! | below `<pin-path>/lock` | held by |
//! |---|---|
//! | `writing` | the agent that writes, until its process is gone |
//! | `starting` | an agent that starts, until it writes: one at a time |
//! | `asking` | the same, once its programs are ready: the agent that writes sees it and gives way |

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const WRITING: &str = "writing";
const STARTING: &str = "starting";
const ASKING: &str = "asking";

/// A lock that is taken is tried again this often.
const POLL: Duration = Duration::from_millis(20);
/// Who waits says so this often.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// An agent that starts: it loads programs, and writes nothing that another agent may be writing.
#[derive(Debug)]
pub struct Candidate {
    locks: PathBuf,
    /// Held as long as it lives.
    _starting: File,
}

/// Held by the only writer of a pin path. It is never given back by hand: it goes with the process, so that no thread of
/// it can write later.
#[derive(Debug)]
pub struct WriterLock {
    asking: File,
}

impl Candidate {
    /// Waits until no other agent of this pin path is starting.
    pub fn stand(pin_path: &Path) -> io::Result<Self> {
        let locks = directory(pin_path);
        let starting = wait_for(&locks.join(STARTING), "another agent is starting on these pins, waiting for it")?;
        Ok(Self { locks, _starting: starting })
    }

    /// Whether an agent writes now.
    pub fn has_predecessor(&self) -> bool {
        is_locked(&self.locks.join(WRITING))
    }

    /// Asks the agent that writes to give way, and waits until its process is gone, however long that takes.
    /// Who keeps the candidate keeps others from starting.
    pub fn succeed(&self) -> io::Result<WriterLock> {
        let _asking = wait_for(&self.locks.join(ASKING), "another agent asks already, waiting for it")?;
        let writing = wait_for(
            &self.locks.join(WRITING),
            "an agent writes these maps and has not given way yet, waiting for it: see `sluice status`",
        )?;
        let asking = open(&self.locks.join(ASKING))?;
        let _stays_open = writing.into_raw_fd();
        Ok(WriterLock { asking })
    }
}

impl WriterLock {
    /// Whether another agent waits for this one to give way. It lives: a lock does not outlast its process.
    pub fn has_successor(&self) -> bool {
        matches!(self.asking.try_lock_shared(), Err(TryLockError::WouldBlock)) || {
            let _nothing_was_held = self.asking.unlock();
            false
        }
    }
}

/// Keeps agents away while the pins are taken out.
#[derive(Debug)]
pub struct NoAgent {
    _held: [File; 2],
}

impl NoAgent {
    /// `None`: an agent writes, or starts.
    pub fn ensure(pin_path: &Path) -> io::Result<Option<Self>> {
        let locks = directory(pin_path);
        let Some(starting) = try_for(&locks.join(STARTING))? else { return Ok(None) };
        let Some(writing) = try_for(&locks.join(WRITING))? else { return Ok(None) };
        Ok(Some(Self { _held: [starting, writing] }))
    }
}

/// Where the locks of a pin path are.
pub fn directory(pin_path: &Path) -> PathBuf {
    pin_path.join("lock")
}

/// Whether an agent writes the maps of this pin path.
pub fn has_writer(pin_path: &Path) -> bool {
    is_locked(&directory(pin_path).join(WRITING))
}

fn is_locked(path: &Path) -> bool {
    // The shared lock is given back with the file.
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn open(path: &Path) -> io::Result<File> {
    fs::create_dir_all(path)?;
    File::open(path)
}

/// The lock, if nobody has it.
fn try_for(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    match file.try_lock() {
        // `sluice cleanup` may have taken the directory away meanwhile: a lock on what is gone keeps nobody out.
        Ok(()) => Ok(is_at(&file, path)?.then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    Ok(fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino())))
}

fn wait_for(path: &Path, why: &str) -> io::Result<File> {
    let mut say_at = Instant::now() + Duration::from_secs(1);
    loop {
        if let Some(file) = try_for(path)? {
            return Ok(file);
        }
        if Instant::now() >= say_at {
            tracing::warn!(lock = %path.display(), "{why}");
            say_at = Instant::now() + SAY_EVERY;
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_seen_and_has_the_lock_only_when_the_writer_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let locks = directory(dir.path());
        // The lock of another process, as it were: here it can be given back.
        let writing = try_for(&locks.join(WRITING)).unwrap().unwrap();
        let writer = WriterLock { asking: open(&locks.join(ASKING)).unwrap() };
        assert!(has_writer(dir.path()) && !writer.has_successor());
        assert!(NoAgent::ensure(dir.path()).unwrap().is_none(), "cleanup is refused");
        let candidate = Candidate::stand(dir.path()).unwrap();
        thread::scope(|scope| {
            assert!(candidate.has_predecessor() && !writer.has_successor(), "programs are loaded first");
            let successor = scope.spawn(|| candidate.succeed().unwrap());
            while !writer.has_successor() {
                thread::sleep(POLL);
            }
            thread::sleep(POLL * 5);
            assert!(!successor.is_finished());
            drop(writing);
            assert!(!successor.join().unwrap().has_successor());
        });
        assert!(has_writer(dir.path()), "held until the process ends");
    }

    #[test]
    fn a_candidate_waits_for_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let first = Candidate::stand(dir.path()).unwrap();
        assert!(NoAgent::ensure(dir.path()).unwrap().is_none(), "an agent that starts keeps cleanup away");
        thread::scope(|scope| {
            let second = scope.spawn(|| Candidate::stand(dir.path()).unwrap());
            thread::sleep(POLL * 5);
            assert!(!second.is_finished());
            drop(first);
            assert!(!second.join().unwrap().has_predecessor());
        });
    }

    #[test]
    fn a_lock_on_a_directory_that_was_taken_away_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let starting = directory(dir.path()).join(STARTING);
        let cleanup = NoAgent::ensure(dir.path()).unwrap().unwrap();
        thread::scope(|scope| {
            let candidate = scope.spawn(|| Candidate::stand(dir.path()).unwrap());
            thread::sleep(POLL * 5);
            fs::remove_dir(&starting).unwrap();
            drop(cleanup);
            let candidate = candidate.join().unwrap();
            assert!(is_locked(&starting), "{candidate:?}");
        });
    }
}
