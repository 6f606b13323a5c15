//! Makes the saved corpus from the small captures in `tests/fixtures` of the workspace. It writes
//! into the source tree:
//!
//! ```console
//! cargo run --example corpus
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use spdy_frame::{Frame, Version, parse};

fn main() {
    let fixtures = fs::read_dir(directory("../../../tests/fixtures")).expect("fixtures");
    for path in fixtures.map(|entry| entry.expect("an entry").path()) {
        let name = path.file_stem().expect("a name").to_string_lossy();
        let bytes = fs::read(&path).expect("a readable file");
        let is_capture = path.extension().is_some_and(|extension| extension == "bin")
            && !name.starts_with("dictionary");
        if is_capture && bytes.len() <= 4000 {
            add(&name, &bytes);
        }
    }
}

/// Adds a capture to the corpus of each target.
fn add(name: &str, bytes: &[u8]) {
    let version = match name.split('-').next() {
        Some("v2") => Version::V2,
        Some("v3") => Version::V3,
        _ => Version::V3_1,
    };
    let place = Version::ALL.iter().position(|other| *other == version);
    let selector = place.expect("all versions are there") as u8;
    save("decode", name, selector | 0x60, bytes);
    if bytes.len() < 2500 {
        save("roundtrip", name, selector, bytes);
    }
    save("headers", name, selector, &blocks(version, bytes));
}

fn directory(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

fn save(target: &str, name: &str, selector: u8, bytes: &[u8]) {
    let directory = directory("corpus").join(target);
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join(name), [&[selector], bytes].concat()).expect("a file");
}

/// Returns the compressed header blocks of a capture, each after its length in two bytes.
fn blocks(version: Version, mut bytes: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::new();
    while let Some((frame, length)) = parse(version, bytes).expect("a sound capture") {
        let block = match &frame {
            Frame::SynStream(frame) => frame.block.as_bytes(),
            Frame::SynReply(frame) => frame.block.as_bytes(),
            Frame::Headers(frame) => frame.block.as_bytes(),
            _ => &[],
        };
        if !block.is_empty() {
            blocks.extend((block.len() as u16).to_be_bytes());
            blocks.extend(block);
        }
        bytes = &bytes[length..];
    }
    blocks
}
