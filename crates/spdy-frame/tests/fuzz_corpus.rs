//! Runs the fuzz targets with a stable compiler, on their saved corpus and on random changes of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use spdy_frame::Version;

mod support;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub)] // The file is a crate of its own to the fuzzer.
mod targets;

use support::Random;

/// The number of changed inputs for each target.
const CHANGES: usize = 7000;

fn directory(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

fn files(directory: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let paths = files(directory("fuzz/corpus").join(target));
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn run(target: &str, try_input: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 10, "the corpus of {target} is missing");
    for input in &corpus {
        try_input(input);
    }
    let mut random = Random::new(corpus.len() as u64);
    for _ in 0..CHANGES {
        let input = change(&mut random, &corpus);
        try_input(&input);
    }
}

/// Returns a short part of one input, with bytes changed, removed or taken from another input.
fn change(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    input.truncate(1 + random.below(600));
    for _ in 0..1 + random.below(4) {
        let at = random.below(input.len());
        match random.below(5) {
            0 => input[at] ^= 1 << random.below(8),
            1 => input[at] = random.next() as u8,
            2 => input[at..].iter_mut().take(3).for_each(|byte| *byte = 0),
            3 => drop(input.drain(at..(at + random.below(20)).min(input.len()))),
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                let bytes = other[from..].iter().take(random.below(40));
                input.splice(at..at, bytes.copied());
            }
        }
        if input.is_empty() {
            return input;
        }
    }
    input
}

#[test]
fn decoding_is_the_same_at_once_and_in_pieces() {
    run("decode", targets::decode);
}

#[test]
fn what_is_decoded_can_be_encoded_and_decoded_again() {
    run("roundtrip", targets::roundtrip);
}

#[test]
fn header_blocks_are_read_without_a_panic_and_survive_our_encoder() {
    run("headers", targets::headers);
}
