//! ARCHITECTURE.md names files that exist.

use std::{fs, path::Path};

use spdy_tests::conformance::root;

/// Collects the paths of all sources below a folder, each with `/` in front.
fn collect(root: &Path, folder: &str, paths: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && name != "node_modules" {
                collect(root, &path, paths);
            }
        } else {
            paths.push(format!("/{path}"));
        }
    }
}

#[test]
fn every_file_that_the_page_names_exists() {
    let root = root();
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut paths = Vec::new();
    for folder in ["crates", "tests"] {
        collect(&root, folder, &mut paths);
    }
    let in_code = page.split('`').skip(1).step_by(2);
    let names: Vec<&str> = in_code.filter(|name| name.ends_with(".rs")).collect();
    assert!(names.len() > 100, "the page has other quotes now");
    for name in names {
        let name = name.replace("conn/", "proto/connection/");
        let end = format!("/{name}");
        let exists = paths.iter().any(|path| path.ends_with(&end));
        assert!(exists, "there is no file {name}");
    }
}
