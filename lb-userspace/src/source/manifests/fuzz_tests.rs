//! The fuzz target of manifests without a fuzzer: its corpus, and texts made of pieces of it.

use std::path::{Path, PathBuf};

use lb_common::testkit::Noise;

use super::objects;
use crate::model::desired::{ExternalIps, NodeFacts, ResolveSettings};
use crate::model::event::SourceEvent;
use crate::model::world::World;

/// Changed texts for each of the corpus.
const CHANGED: usize = 120;
/// What YAML and JSON are made of.
const PIECES: [&str; 24] = [
    "---\n",
    "...\n",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "'",
    "\"",
    "#",
    "|",
    ">",
    "&a ",
    "*a",
    "!!str ",
    "~",
    "\n",
    "\n  ",
    "\t",
    "\u{feff}",
    "kind: List\n",
    "\\",
    "4294967296",
];

fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/manifests");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// A place between two characters.
fn place(noise: &mut Noise, text: &str) -> usize {
    let at = noise.below(text.len() + 1);
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn change(noise: &mut Noise, text: &str, other: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..=noise.below(4) {
        let (a, b) = (place(noise, &text), place(noise, &text));
        let cut = a.min(b)..a.max(b).min(a.min(b) + 12);
        let cut = if text.is_char_boundary(cut.end) { cut } else { a..a };
        match noise.below(4) {
            0 => text.replace_range(cut, ""),
            1 => text.replace_range(cut, PIECES[noise.below(PIECES.len())]),
            2 => text.insert_str(a, PIECES[noise.below(PIECES.len())]),
            _ => {
                let from = place(noise, other);
                text.insert_str(a, other[from..].lines().next().unwrap_or_default());
            }
        }
    }
    text
}

/// Whatever could be read is taken by the model.
fn take(text: &str) -> usize {
    let mut world = World::new(
        NodeFacts::default(),
        ResolveSettings { external_ips: ExternalIps::On, ..ResolveSettings::default() },
    );
    world.apply(SourceEvent::Synced);
    let read: Vec<_> = objects(text).into_iter().flatten().collect();
    let count = read.len();
    for object in read {
        world.apply(SourceEvent::Apply(object));
    }
    world.take_changes();
    count
}

#[test]
fn changed_manifests_are_read_or_refused_without_a_panic() {
    let (mut noise, corpus) = (Noise::new(5), corpus());
    let (mut readable, mut changed) = (0, 0);
    for text in &corpus {
        assert!(take(text) > 0, "nothing was read of\n{text}");
        for _ in 0..CHANGED {
            let other = &corpus[noise.below(corpus.len())];
            readable += usize::from(take(&change(&mut noise, text, other)) > 0);
            changed += 1;
        }
    }
    assert!(readable > changed / 10, "{readable} of {changed} texts had anything in them that could be read");
}
