//! The machine is drawn in ARCHITECTURE.md: its calls go down only, and managers know nothing of
//! `Connection`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Every source of the machine by its path, without tests and comments.
fn sources() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeMap::new();
    read(
        &root.join("crates/spdy-session/src/proto"),
        Path::new(""),
        &mut found,
    );
    assert!(found.len() > 30, "the machine is somewhere else now");
    found
}

fn read(folder: &Path, name: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = name.join(path.file_name().unwrap());
        if path.is_dir() {
            read(&path, &name, found);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            let lines: Vec<&str> = code.lines().filter(is_code).collect();
            found.insert(name, lines.join("\n"));
        }
    }
}

fn is_of_connection(path: &Path) -> bool {
    path.starts_with("connection") || path == Path::new("connection.rs")
}

/// The names that stand in a text between two others.
fn between<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| {
        let (name, _) = rest.split_once(after)?;
        let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
        name.chars().all(is_name).then_some(name)
    })
}

#[test]
fn no_manager_knows_the_connection() {
    for (path, code) in sources() {
        if !is_of_connection(&path) {
            let names = code.contains("Connection");
            assert!(!names, "{} names `Connection`", path.display());
        }
    }
}

#[test]
fn calls_among_the_files_of_the_connection_form_no_circle() {
    let mut files = sources();
    files.retain(|path, _| is_of_connection(path));
    let mut homes = BTreeMap::new();
    for (path, code) in &files {
        // The methods of `Connection` are those of the blocks that are for it.
        for block in code
            .split("\nimpl ")
            .filter(|it| it.starts_with("Connection "))
        {
            let block = block.split("\n}").next().unwrap();
            for name in between(block, "fn ", '(') {
                homes.insert(name, path);
            }
        }
    }
    assert!(homes.len() > 80, "{} methods were found", homes.len());
    let mut calls: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (path, code) in &files {
        let joined: String = code.split_whitespace().collect();
        let called = between(&joined, "self.", '(').filter_map(|name| homes.get(name));
        calls.insert(
            path,
            called.filter(|home| **home != path).copied().collect(),
        );
    }
    // Files that call none that are left are taken away: what remains at last calls in a circle.
    while let Some(last) = calls.iter().find(|(_, called)| called.is_empty()) {
        let last = *last.0;
        calls.remove(last);
        calls
            .values_mut()
            .for_each(|called| _ = called.remove(last));
    }
    assert!(calls.is_empty(), "these call each other: {calls:#?}");
}
