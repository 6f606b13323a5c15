//! The pages of the project hold together: links lead somewhere, the guide shows code of examples
//! that exist, all its other code is compiled, and tests that pages name exist.

use std::{
    fs,
    path::{Path, PathBuf},
};

use spdy_tests::conformance::{Test, root, tests_in};

/// Pages outside of the book link into the repository by relative paths, and so do its own pages
/// among themselves. The book knows files of the repository by this address.
const REPOSITORY: [&str; 2] = [
    "https://github.com/spdy-rs/spdy/blob/main/",
    "https://github.com/spdy-rs/spdy/tree/main/",
];

#[test]
fn every_page_of_the_guide_is_in_its_summary_and_compiled() {
    let source = guide();
    let summary = fs::read_to_string(source.join("SUMMARY.md")).unwrap();
    let library = fs::read_to_string(root().join("examples/src/lib.rs")).unwrap();
    for page in pages(&source) {
        let name = page.strip_prefix(&source).unwrap().to_str().unwrap();
        if name != "SUMMARY.md" {
            let link = format!("]({name})");
            assert!(summary.contains(&link), "{name} is not in the summary");
            let compiled = format!("= \"{name}\";");
            assert!(library.contains(&compiled), "{name} is not compiled");
        }
    }
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading() {
    let root = root();
    let mut pages = [guide(), root.join("docs")].map(|it| pages(&it)).concat();
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        pages.push(root.join(name));
    }
    let mut checked = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if let Some(fault) = fault_of(&page, link) {
                panic!("{}: the link {link} leads to {fault}", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "the pages have other links now");
}

/// A fence that is not compiled shows a part of a file that is.
#[test]
fn code_that_is_not_compiled_is_an_anchor_of_an_example() {
    let mut checked = 0;
    for page in pages(&guide()) {
        let text = fs::read_to_string(&page).unwrap();
        for (language, lines) in fences(&text) {
            if language == "rust" || !language.starts_with("rust") {
                let is_shown = lines.iter().any(|line| line.contains("{{#"));
                assert!(!is_shown, "{}: {lines:?}", page.display());
                continue;
            }
            assert_eq!(language, "rust,ignore", "{}", page.display());
            let [line] = lines[..] else {
                panic!("{}: more than an include: {lines:?}", page.display());
            };
            assert_is_an_anchor(&page, line);
            checked += 1;
        }
    }
    assert!(checked > 10, "the guide includes other code now");
}

#[test]
fn every_test_that_the_comparison_names_exists() {
    let page = fs::read_to_string(root().join("docs/compare.md")).unwrap();
    let tests = tests_in(&["crates", "examples", "tests"]).unwrap();
    let mut checked = 0;
    let is_row = |line: &&str| line.starts_with("| ") && !line.contains("this project");
    for row in page.lines().filter(is_row) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [.., ours, test] = cells[..] else {
            panic!("no cells: {row}");
        };
        if !ours.starts_with("yes") {
            assert_eq!((ours, test), ("no", ""), "{row}");
            continue;
        }
        let (place, name) = test.trim_matches('`').rsplit_once("::").unwrap();
        let exists = |it: &_| is_named(it, place, name);
        assert!(tests.iter().any(exists), "there is no test {test}");
        checked += 1;
    }
    assert!(checked > 30, "the page has other rows now");
}

#[test]
fn every_test_that_the_page_of_limits_names_exists() {
    let page = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let tests = tests_in(&["crates", "tests"]).unwrap();
    let mut checked = 0;
    for code in page.split('`').skip(1).step_by(2) {
        let is_name =
            |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || "_:".contains(it);
        let Some((place, name)) = code.rsplit_once("::").filter(|_| code.chars().all(is_name))
        else {
            continue;
        };
        // Other names are those of a module, or an example of a name.
        if name.contains('_') {
            let place = place.trim_end_matches("::tests");
            let exists = |it: &_| is_named(it, place, name);
            assert!(tests.iter().any(exists), "there is no test {code}");
            checked += 1;
        }
    }
    assert!(checked > 100, "the page has other names now");
}

/// Whether a test has this name, in a file or a folder of this place, such as `push::client`.
fn is_named(test: &Test, place: &str, name: &str) -> bool {
    let file = test.file.trim_end_matches(".rs");
    let place = format!("/{}/", place.replace("::", "/"));
    test.name == name && format!("/{file}/").contains(&place)
}

fn guide() -> PathBuf {
    root().join("docs/guide/src")
}

/// The pages in a folder and below, but the guide is another folder.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "guide" {
                pages.extend(self::pages(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages
}

/// Each line outside of fences.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The language and the lines of each fence.
fn fences(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut fences = Vec::new();
    let mut open = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language, Vec::new())),
            (Some(_), Some(_)) => fences.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    fences
}

/// The targets of all links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| {
        let after = line.split("](").skip(1);
        after.filter_map(|rest| rest.split(')').next())
    })
}

/// What is missing where a link leads, if it leads into the repository.
fn fault_of(page: &Path, link: &str) -> Option<String> {
    let (target, heading) = link.split_once('#').unwrap_or((link, ""));
    let inside = REPOSITORY.iter().find_map(|it| target.strip_prefix(it));
    let path = match inside {
        Some(path) => root().join(path),
        None if target.contains("://") => return None,
        None if target.is_empty() => page.to_owned(),
        None => page.parent().unwrap().join(target),
    };
    if !path.exists() {
        return Some("no file".to_owned());
    }
    // The book contains its own pages only.
    if inside.is_none() && page.starts_with(guide()) && !is_within(&path, &guide()) {
        return Some("a file outside of the book".to_owned());
    }
    let text = || fs::read_to_string(&path).unwrap();
    let is_heading = heading.is_empty() || headings(&text()).any(|it| it == heading);
    (!is_heading).then(|| "no heading".to_owned())
}

fn is_within(path: &Path, folder: &Path) -> bool {
    path.canonicalize()
        .unwrap()
        .starts_with(folder.canonicalize().unwrap())
}

/// The names by which links know the headings of a page.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let titles = prose(text).filter(|line| line.starts_with('#'));
    titles.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter_map(|it| match it {
            ' ' => Some('-'),
            '-' | '_' => Some(it),
            _ => it.is_alphanumeric().then_some(it),
        });
        kept.collect()
    })
}

fn assert_is_an_anchor(page: &Path, line: &str) {
    let include = line
        .strip_prefix("{{#include ")
        .and_then(|rest| rest.strip_suffix("}}"));
    let Some((file, anchor)) = include.and_then(|include| include.rsplit_once(':')) else {
        panic!("{}: no include of an anchor: {line}", page.display());
    };
    let path = page.parent().unwrap().join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    for mark in ["ANCHOR", "ANCHOR_END"] {
        let mark = format!("// {mark}: {anchor}");
        let times = text.lines().filter(|line| line.trim() == mark).count();
        assert_eq!(times, 1, "{mark:?} in {file}");
    }
}
