//! No test depends on the speed of the machine: those whose transports are in memory have a virtual
//! clock.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where tests may have the clock of the machine, because the system has a part in them. Each wait
/// in them is for an event, with a bound that only what hangs exceeds.
const REAL: [&str; 6] = [
    // The sockets of the client are TCP.
    "crates/spdy-tower/tests/fetch",
    // A connection that the system resets is not like one in memory.
    "tests/tests/peer_life.rs",
    // The server is a process.
    "tests/tests/program.rs",
    "tests/tests/hostile_program.rs",
    "tests/interop",
    "tests/tests/clocks.rs",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn tests_over_transports_in_memory_have_a_virtual_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for folder in [
        "crates/spdy-session/tests",
        "crates/spdy-tower/tests",
        "tests",
    ] {
        sources(&root.join(folder), &mut found);
    }
    found.retain(|file| !REAL.iter().any(|real| file.starts_with(root.join(real))));
    assert!(found.len() > 100, "the tests are somewhere else");
    for file in found {
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            !text.contains("#[tokio::test]"),
            "{} needs `start_paused = true`",
            file.display()
        );
    }
}
