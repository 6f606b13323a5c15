//! Runs the fuzz targets with a stable compiler: on their saved corpus, on random changes of it,
//! and on random bytes.

use std::{fs, path::Path};

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub)] // The file is a crate of its own to the fuzzer.
mod targets;

/// How many changed inputs each target gets, and how many random ones.
const CHANGES: usize = 1000;

#[test]
fn a_session_handles_any_input_of_its_peer_without_a_panic() {
    run("peer", targets::peer);
}

#[test]
fn two_sessions_agree_after_any_calls_of_their_applications() {
    run("pair", targets::pair);
}

fn run(target: &str, try_input: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(folder).expect("the corpus is saved");
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(corpus.len() >= 10, "the corpus of {target} is missing");
    let mut random = Random(corpus.len() as u64 | 1);
    let changed = (0..CHANGES).map(|_| change(&mut random, &corpus));
    for input in corpus.iter().cloned().chain(changed.collect::<Vec<_>>()) {
        let result = std::panic::catch_unwind(|| try_input(&input));
        assert!(result.is_ok(), "{target} fails with {input:?}");
    }
    for _ in 0..CHANGES {
        let input: Vec<u8> = (0..random.below(300))
            .map(|_| random.next() as u8)
            .collect();
        let result = std::panic::catch_unwind(|| try_input(&input));
        assert!(result.is_ok(), "{target} fails with {input:?}");
    }
}

/// Returns an input in which bytes are changed, removed or taken from another input.
fn change(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..1 + random.below(4) {
        if input.is_empty() {
            return input;
        }
        let at = random.below(input.len());
        match random.below(4) {
            0 => input[at] ^= 1 << random.below(8),
            1 => input[at] = random.next() as u8,
            2 => drop(input.drain(at..(at + random.below(20)).min(input.len()))),
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                let bytes = other[from..].iter().take(random.below(40));
                input.splice(at..at, bytes.copied());
            }
        }
    }
    input
}

/// A generator of random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound.max(1)
    }
}
