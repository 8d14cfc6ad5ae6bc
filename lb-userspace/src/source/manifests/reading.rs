//! Reads one file: only the pieces whose text is new are parsed, on several threads when there are many.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::decode::{Key, Unreadable, decode};
use super::document::{Document, hash};
use super::split::{Piece, pieces};
use crate::model::desired::Refusal;
use crate::model::event::Object;
use crate::model::reason::Reason;
use crate::model::refusals::Refusals;

/// Pieces, or files, from which on it pays to start threads.
const PARALLEL_FROM: usize = 64;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Readable pieces.
    pub(super) documents: Vec<Document>,
    /// Objects of the pieces that are new.
    pub(super) objects: Vec<(Arc<Key>, Object)>,
    /// What cannot be read.
    pub(super) refusals: Vec<Refusal>,
    /// The file is not there.
    pub(super) gone: bool,
}

/// Reads a file. `old`: what it said before; `wanted`: objects to be returned even if unchanged.
pub(super) fn read(path: &Path, old: &[Document], wanted: &HashSet<Arc<Key>>) -> Reading {
    let mut bad = Refusals::of("File", path.display().to_string());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Reading { gone: true, ..Reading::default() },
        Err(error) => {
            bad.note(Reason::FileUnreadable, || {
                format!("cannot be read ({error}): its last good content stays in force, make it readable UTF-8 text")
            });
            return Reading { refusals: bad.into_rows(), ..Reading::default() };
        }
    };
    let mut reading = Reading::default();
    if text.is_empty() && !old.is_empty() {
        bad.note(Reason::FileEmpty, || {
            "is empty: its last good content stays in force, delete the file to remove its objects".to_owned()
        });
        return Reading { refusals: bad.into_rows(), ..reading };
    }
    let known: HashMap<u64, Option<&Arc<Key>>> = old.iter().map(|doc| (doc.hash, doc.key.as_ref())).collect();
    let mut lines: HashMap<Arc<Key>, usize> = HashMap::new();
    let mut fresh: Vec<(u64, Piece<'_>)> = Vec::new();
    for piece in pieces(&text) {
        let hash = hash(piece.text);
        match known.get(&hash) {
            Some(key) if !key.is_some_and(|key| wanted.contains(key)) => {
                let key = key.cloned();
                accept(hash, key, piece.line, None, &mut reading, &mut lines, &mut bad);
            }
            _ => fresh.push((hash, piece)),
        }
    }
    let decoded = decode_all(&fresh);
    for ((hash, piece), decoded) in fresh.iter().zip(decoded) {
        match decoded {
            Ok(object) => {
                let key = object.as_ref().map(|object| Arc::new(Key::of(object)));
                accept(*hash, key, piece.line, object, &mut reading, &mut lines, &mut bad);
            }
            Err(error) => bad.note(Reason::FileUnreadable, || {
                format!("{error}: what the file said before stays in force, correct it and save it again")
            }),
        }
    }
    reading.refusals = bad.into_rows();
    reading
}

fn accept(
    hash: u64,
    key: Option<Arc<Key>>,
    line: usize,
    object: Option<Object>,
    reading: &mut Reading,
    lines: &mut HashMap<Arc<Key>, usize>,
    bad: &mut Refusals,
) {
    if let Some(key) = &key {
        if let Some(first) = lines.get(key) {
            bad.note(Reason::DuplicateDocument, || {
                let (first, second) = (*first.min(&line), *first.max(&line));
                format!("{key} is there twice, in lines {first} and {second}: keep one")
            });
            return;
        }
        lines.insert(Arc::clone(key), line);
    }
    if let (Some(key), Some(object)) = (&key, object) {
        reading.objects.push((Arc::clone(key), object));
    }
    reading.documents.push(Document { hash, key });
}

/// How many of so many each thread should take, when it pays to start threads. (To ask for the number of processors
/// means to read several files, so that is left out for the few.)
pub(super) fn share(count: usize) -> Option<usize> {
    if count < PARALLEL_FROM {
        return None;
    }
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    (threads > 1).then(|| count.div_ceil(threads))
}

fn decode_all(fresh: &[(u64, Piece<'_>)]) -> Vec<Result<Option<Object>, Unreadable>> {
    let Some(share) = share(fresh.len()) else {
        return fresh.iter().map(|(_, piece)| decode(piece)).collect();
    };
    thread::scope(|scope| {
        let workers: Vec<_> = fresh
            .chunks(share)
            .map(|part| {
                let worker = scope.spawn(move || part.iter().map(|(_, piece)| decode(piece)).collect::<Vec<_>>());
                (part.len(), worker)
            })
            .collect();
        let mut results = Vec::with_capacity(fresh.len());
        for (count, worker) in workers {
            let lost = || Unreadable { line: 1, message: "the reader failed on this part of the file".into() };
            match worker.join() {
                Ok(part) => results.extend(part),
                Err(_) => results.extend((0..count).map(|_| Err(lost()))),
            }
        }
        results
    })
}
