//! The fuzz target of the pipeline without a fuzzer: over its corpus, over mutations of it, and over seeds. A fault
//! panics with the packet.
//!
//! | variable | meaning |
//! |---|---|
//! | `SLUICE_FUZZ_PACKETS` | so many packets, in place of a bounded run |
//! | `SLUICE_FUZZ_SEED` | the first seed, to go on where a run ended or to see one again |
//! | `SLUICE_BLESS` | also writes the corpus anew: one input for each feature of the pipeline that was seen |
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking, and says how far it came"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lb_common::testkit::Noise;
use lb_common::testkit::fuzz::{Feature, packet, parse, pipeline, seeded};

/// Packets of a bounded run; some seconds without optimisation.
const PACKETS: usize = 80_000;
/// Packets of one seed: its world is set up anew after so many.
const PER_SEED: usize = 1_000;
/// Bytes of an input of the corpus.
const INPUT: usize = 640;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "the corpus is empty");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn inputs_of_the_corpus_and_their_neighbours_show_no_fault() {
    let mut noise = Noise::new(9);
    for input in inputs("pipeline") {
        pipeline(&input);
        for _ in 0..8 {
            let mut changed = input.clone();
            for _ in 0..=noise.below(6) {
                let at = noise.below(changed.len());
                changed[at] = noise.byte();
            }
            let cut = noise.below(changed.len());
            changed.rotate_left(if noise.below(4) == 0 { cut } else { 0 });
            pipeline(&changed);
        }
    }
}

#[test]
fn parsed_packets_are_those_that_another_parser_finds() {
    let (mut noise, mut flows) = (Noise::new(11), 0);
    for mut input in inputs("parse") {
        parse(&input);
        for at in 0..input.len().min(64) {
            input[at] ^= 1 << noise.below(8);
            parse(&input);
        }
    }
    for _ in 0..20_000 {
        let choices: Vec<u8> = (0..64).map(|_| noise.byte()).collect();
        flows += usize::from(parse(&packet(&choices)));
        parse(&choices);
    }
    assert!(flows > 5_000, "only {flows} packets were parsed");
}

#[test]
fn packets_from_seeds_show_no_fault() {
    let packets = number("SLUICE_FUZZ_PACKETS", PACKETS);
    let first = number("SLUICE_FUZZ_SEED", 1);
    let runs = packets.div_ceil(PER_SEED);
    let mut features: BTreeSet<Feature> = BTreeSet::new();
    for (run, seed) in (first..).take(runs).enumerate() {
        // Said before, so that a panic has its seed beside it.
        if packets > PACKETS && run % 1_000 == 0 {
            eprintln!("seed {seed}: {} packets, {} features", run * PER_SEED, features.len());
        }
        let seen = std::panic::catch_unwind(|| seeded(seed as u64, PER_SEED));
        features.extend(seen.unwrap_or_else(|fault| {
            eprintln!("SLUICE_FUZZ_SEED={seed}");
            std::panic::resume_unwind(fault)
        }));
    }
    eprintln!("{packets} packets, {} features", features.len());
    assert!(features.len() > 100, "hardly anything of the pipeline was seen: {features:?}");
}

#[test]
fn the_corpus_reaches_what_seeds_reach() {
    if std::env::var_os("SLUICE_BLESS").is_some() {
        bless();
    }
    let seen: BTreeSet<Feature> = inputs("pipeline").iter().flat_map(|input| pipeline(input)).collect();
    assert!(seen.len() > 100, "the corpus has grown old: {} features; write it anew with SLUICE_BLESS=1", seen.len());
}

fn bless() {
    for target in ["pipeline", "parse"] {
        if corpus(target).exists() {
            std::fs::remove_dir_all(corpus(target)).unwrap();
        }
        std::fs::create_dir_all(corpus(target)).unwrap();
    }
    let mut seen: BTreeSet<Feature> = BTreeSet::new();
    for seed in 0..4_000 {
        let mut noise = Noise::new(seed);
        let input: Vec<u8> = (0..INPUT).map(|_| noise.byte()).collect();
        let features = pipeline(&input);
        if !features.is_subset(&seen) {
            seen.extend(features);
            if seed < 16 {
                std::fs::write(corpus("parse").join(format!("{seed:04}")), packet(&input)).unwrap();
            }
            std::fs::write(corpus("pipeline").join(format!("{seed:04}")), input).unwrap();
        }
    }
    eprintln!("the corpus has {} features", seen.len());
}
