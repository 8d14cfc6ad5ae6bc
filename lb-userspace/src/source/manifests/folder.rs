//! What the files of a folder say, file by file: which objects come from where, and what a change of files changes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use super::decode::Key;
use super::document::Document;
use super::reading::{Reading, read, share};
use crate::model::desired::Refusal;
use crate::model::event::{Object, SourceEvent};
use crate::model::reason::Reason;

/// Tells a file from its next version without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    documents: Vec<Document>,
    refusals: Vec<Refusal>,
}

/// The files of a folder as last read.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    files: BTreeMap<Arc<str>, File>,
    /// Which files hold an object, ascending: the first one counts.
    homes: HashMap<Arc<Key>, Vec<Arc<str>>>,
    contested: BTreeSet<Arc<Key>>,
    unreadable: Option<Refusal>,
    reported: Vec<Refusal>,
}

/// Files to be read again, and for each the objects that are needed even if their text did not change.
type Work = BTreeMap<Arc<str>, HashSet<Arc<Key>>>;

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: BTreeMap::new(),
            homes: HashMap::new(),
            contested: BTreeSet::new(),
            unreadable: None,
            reported: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at every file, reads those that changed. Files in `unfinished` are left for later.
    pub(super) fn scan(&mut self, unfinished: &BTreeSet<String>) -> Vec<SourceEvent> {
        let names = match list(&self.path) {
            Ok(names) => {
                self.unreadable = None;
                names
            }
            Err(error) => {
                self.unreadable = Some(Refusal {
                    kind: "Folder",
                    object: self.path.display().to_string(),
                    reason: Reason::FolderUnreadable,
                    message: format!("cannot be listed ({error}): everything stays as it was, bring the folder back"),
                });
                return self.report().into_iter().collect();
            }
        };
        let known = self.files.keys().map(ToString::to_string);
        let all: BTreeSet<String> = names.into_iter().chain(known).filter(|name| !unfinished.contains(name)).collect();
        let changed = all.into_iter().filter(|name| {
            let known = self.files.get(name.as_str()).map(|file| file.stamp);
            known != Some(stamp(&self.path.join(name)).ok())
        });
        let changed: BTreeSet<String> = changed.collect();
        self.refresh(changed)
    }

    /// Reads the files of these names again, whether they look changed or not.
    pub(super) fn refresh(&mut self, names: BTreeSet<String>) -> Vec<SourceEvent> {
        let mut work: Work = names.into_iter().map(|name| (name.into(), HashSet::new())).collect();
        let mut ahead = self.read_ahead(&work);
        let mut objects: BTreeMap<Arc<Key>, Object> = BTreeMap::new();
        let mut touched: BTreeSet<Arc<Key>> = BTreeSet::new();
        let mut asked: HashSet<Arc<Key>> = HashSet::new();
        while let Some((name, wanted)) = work.pop_first() {
            let read = ahead.remove(&name).unwrap_or_else(|| self.read_file(&name, &wanted));
            self.refresh_file(&name, read, &mut objects, &mut touched);
            if work.is_empty() {
                // A second round reads what was overshadowed by a file that is gone now.
                for key in touched.iter().filter(|key| !objects.contains_key(*key)) {
                    if let Some(first) = self.homes.get(key).and_then(|homes| homes.first())
                        && asked.insert(Arc::clone(key))
                    {
                        work.entry(Arc::clone(first)).or_default().insert(Arc::clone(key));
                    }
                }
            }
        }
        let mut events: Vec<SourceEvent> = touched
            .iter()
            .filter(|key| !self.homes.contains_key(*key))
            .map(|key| SourceEvent::Delete {
                kind: key.kind,
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
            })
            .collect();
        events.extend(
            objects.into_iter().filter(|(key, _)| self.homes.contains_key(key)).map(|(_, o)| SourceEvent::Apply(o)),
        );
        for key in touched {
            if self.homes.get(&key).is_some_and(|homes| homes.len() > 1) {
                self.contested.insert(key);
            } else {
                self.contested.remove(&key);
            }
        }
        events.extend(self.report());
        events
    }

    fn read_file(&self, name: &str, wanted: &HashSet<Arc<Key>>) -> (Option<Stamp>, Reading) {
        let path = self.path.join(name);
        let old = self.files.get(name).map_or(&[][..], |file| &file.documents);
        // In this order: what is written meanwhile is noticed by its stamp.
        let stamp = stamp(&path).ok();
        (stamp, read(&path, old, wanted))
    }

    /// Reads on several threads when there are many files; else nothing, they are read one by one.
    fn read_ahead(&self, work: &Work) -> HashMap<Arc<str>, (Option<Stamp>, Reading)> {
        let Some(share) = share(work.len()) else { return HashMap::new() };
        let names: Vec<&Arc<str>> = work.keys().collect();
        thread::scope(|scope| {
            let readers: Vec<_> = names
                .chunks(share)
                .map(|part| {
                    let none = HashSet::new();
                    let read = move |name: &&Arc<str>| (Arc::clone(name), self.read_file(name, &none));
                    scope.spawn(move || part.iter().map(read).collect::<Vec<_>>())
                })
                .collect();
            // What a reader failed on is read again, one by one.
            readers.into_iter().filter_map(|reader| reader.join().ok()).flatten().collect()
        })
    }

    fn refresh_file(
        &mut self,
        name: &Arc<str>,
        (stamp, reading): (Option<Stamp>, Reading),
        objects: &mut BTreeMap<Arc<Key>, Object>,
        touched: &mut BTreeSet<Arc<Key>>,
    ) {
        let old = self.files.remove(name).unwrap_or_default();
        let Reading { mut documents, objects: parsed, mut refusals, gone } = reading;

        let mut held: HashSet<Arc<Key>> = documents.iter().filter_map(|document| document.key.clone()).collect();
        for document in old.documents {
            let Some(key) = &document.key else { continue };
            if held.contains(key) {
                continue;
            }
            if refusals.is_empty() {
                remove_home(&mut self.homes, key, name);
                touched.insert(Arc::clone(key));
            } else {
                // A file with something unreadable in it may be half-written: what it held stays.
                held.insert(Arc::clone(key));
                documents.push(document);
            }
        }
        for key in &held {
            let homes = self.homes.entry(Arc::clone(key)).or_insert_with(|| Vec::with_capacity(1));
            if let Err(at) = homes.binary_search(name) {
                homes.insert(at, Arc::clone(name));
                touched.insert(Arc::clone(key));
            }
        }
        for (key, object) in parsed {
            if self.homes.get(&key).and_then(|homes| homes.first()) == Some(name) {
                objects.insert(key, object);
            }
        }
        if !gone {
            refusals.sort();
            self.files.insert(Arc::clone(name), File { stamp, documents, refusals });
        }
    }

    /// What cannot be read at present, when that is news.
    fn report(&mut self) -> Option<SourceEvent> {
        let duplicates = self.contested.iter().filter_map(|key| {
            let (first, others) = self.homes.get(key)?.split_first()?;
            Some(Refusal {
                kind: "File",
                object: self.path.join(&*others.join(", ")).display().to_string(),
                reason: Reason::DuplicateObject,
                message: format!(
                    "{key} is also in {first}, which counts as it is first by name: remove one of the two"
                ),
            })
        });
        let files = self.files.values().flat_map(|file| file.refusals.iter().cloned());
        let now: Vec<Refusal> = self.unreadable.iter().cloned().chain(files).chain(duplicates).collect();
        (now != self.reported).then(|| {
            self.reported.clone_from(&now);
            SourceEvent::Refused(now)
        })
    }
}

fn remove_home(homes: &mut HashMap<Arc<Key>, Vec<Arc<str>>>, key: &Arc<Key>, name: &Arc<str>) {
    if let Some(files) = homes.get_mut(key) {
        files.retain(|file| file != name);
        if files.is_empty() {
            homes.remove(key);
        }
    }
}

/// Whether a file of this name is read at all.
pub(super) fn is_manifest(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Names of the files that are read.
pub(super) fn list(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string()
            && is_manifest(&name)
        {
            names.insert(name);
        }
    }
    Ok(names)
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    Ok(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}
