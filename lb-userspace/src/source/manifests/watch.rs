//! Follows the folder by inotify: when a file is complete, and when to look at everything again.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::Sender;

use super::folder::{Folder, is_manifest};
use super::lists::as_lists;
use crate::model::event::SourceEvent;

/// Changes that follow each other this closely are taken together.
const GATHER: Duration = Duration::from_millis(1);
/// The first change never waits longer than this for others.
const GATHER_AT_MOST: Duration = Duration::from_millis(4);
/// A file that was written to and neither closed nor written to again for so long counts as complete.
const QUIET: Duration = Duration::from_secs(2);
/// Every so often everything is looked at, for what inotify cannot see: targets of symlinks, network file systems.
const RESCAN: Duration = Duration::from_secs(10);
/// The same without inotify.
const POLL: Duration = Duration::from_millis(500);

/// What there is to do.
#[derive(Debug, Default)]
struct Pending {
    /// Files that are complete and to be read.
    ready: BTreeSet<String>,
    /// Files being written, and when they were last written to.
    unfinished: BTreeMap<String, Instant>,
    /// Look at everything.
    rescan: bool,
}

/// Reads the folder, then follows it until the receiver of `events` is dropped.
pub(super) fn run(mut folder: Folder, events: &Sender<SourceEvent>) {
    let (tx, notices) = channel();
    let mut watcher = match notify::recommended_watcher(tx) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "inotify is not available: polling the folder of manifests, raise fs.inotify.max_user_instances");
            None
        }
    };
    let mut current = None;
    watch_again(&mut watcher, &mut current, folder.path());
    let begin = Instant::now();
    let lists = as_lists(folder.scan(&BTreeSet::new()));
    tracing::info!(folder = %folder.path().display(), millis = begin.elapsed().as_millis(), "manifests are read");
    if !send(events, lists) {
        return;
    }

    let mut pending = Pending::default();
    let mut next_scan = Instant::now() + RESCAN;
    loop {
        if current.is_none() {
            next_scan = next_scan.min(Instant::now() + POLL);
        }
        let finished = pending.unfinished.values().min().map(|written| *written + QUIET);
        let wake = finished.map_or(next_scan, |at| at.min(next_scan));
        gather(&notices, wake, &mut pending);
        if events.is_closed() {
            return;
        }
        let now = Instant::now();
        if now >= next_scan {
            pending.rescan = true;
        }
        pending.unfinished.retain(|name, written| {
            let open = now < *written + QUIET;
            if !open {
                pending.ready.insert(name.clone());
            }
            open
        });
        let mut out = Vec::new();
        if !pending.ready.is_empty() {
            out.append(&mut folder.refresh(std::mem::take(&mut pending.ready)));
        }
        if std::mem::take(&mut pending.rescan) {
            watch_again(&mut watcher, &mut current, folder.path());
            out.append(&mut folder.scan(&pending.unfinished.keys().cloned().collect()));
            next_scan = Instant::now() + RESCAN;
        }
        if !send(events, out) {
            return;
        }
    }
}

fn send(events: &Sender<SourceEvent>, out: Vec<SourceEvent>) -> bool {
    out.into_iter().all(|event| events.blocking_send(event).is_ok())
}

/// Watches the folder that the path leads to now, when it is not the one that is watched already.
fn watch_again(watcher: &mut Option<RecommendedWatcher>, current: &mut Option<(u64, u64)>, path: &Path) {
    let Some(watcher) = watcher else { return };
    let now = std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    if now == *current {
        return;
    }
    if current.take().is_some()
        && let Err(error) = watcher.unwatch(path)
    {
        tracing::debug!(%error, "the previous folder of manifests was not watched any more");
    }
    if now.is_some() {
        match watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => *current = now,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "cannot watch the folder of manifests, polling it");
            }
        }
    }
}

/// Waits for a notice or for `wake`, and takes what follows at once.
fn gather(notices: &Receiver<notify::Result<Event>>, wake: Instant, pending: &mut Pending) {
    let mut until = wake;
    let mut limit = None;
    loop {
        match notices.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(notice) => {
                pending.take(notice);
                if pending.ready.is_empty() && !pending.rescan {
                    // Only the beginning of a write, or nothing of interest: go on waiting, for its end at most.
                    if let Some(written) = pending.unfinished.values().min() {
                        until = wake.min(*written + QUIET);
                    }
                    continue;
                }
                let now = Instant::now();
                let limit = *limit.get_or_insert(now + GATHER_AT_MOST);
                until = limit.min(now + GATHER);
            }
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => {
                // There is no watcher: only time passes.
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
                return;
            }
        }
    }
}

impl Pending {
    fn take(&mut self, notice: notify::Result<Event>) {
        let Ok(event) = notice else {
            self.rescan = true;
            return;
        };
        if event.need_rescan() {
            self.rescan = true;
            return;
        }
        match event.kind {
            // Opened or read, by ourselves too.
            EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => return,
            EventKind::Remove(RemoveKind::Folder) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
            _ => {}
        }
        for path in &event.paths {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.starts_with("..") {
                // A ConfigMap's data directory was swapped.
                self.rescan |= matches!(event.kind, EventKind::Modify(ModifyKind::Name(_)) | EventKind::Create(_));
            } else if is_manifest(name) {
                self.take_file(event.kind, path, name);
            } else if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) {
                // Perhaps the folder itself.
                self.rescan |= path.is_dir() || !path.exists() && path.parent().is_some_and(|parent| !parent.exists());
            }
        }
    }

    fn take_file(&mut self, kind: EventKind, path: &Path, name: &str) {
        let written_in_place = match kind {
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => true,
            // A new file is about to be written, unless it was made whole: a link.
            EventKind::Create(CreateKind::File | CreateKind::Any) => {
                path.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.nlink() == 1)
            }
            // Owner, mode or times, which may make a file readable.
            EventKind::Modify(ModifyKind::Metadata(_)) => self.unfinished.contains_key(name),
            _ => false,
        };
        if written_in_place {
            self.ready.remove(name);
            self.unfinished.insert(name.to_owned(), Instant::now());
        } else {
            self.unfinished.remove(name);
            self.ready.insert(name.to_owned());
        }
    }
}
