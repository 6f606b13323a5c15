//! The page `docs/conformance.md`: which test proves which row of protocol.md §23, and whether it
//! passes.
//!
//! A test names its rows in its own name: `c042_…`, `c058_c059_…`, and `c133_to_c141_…` for a
//! range. What ran and passed is taken from the output of `cargo test`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

/// Rows that no test proves, and why.
pub const NOT_MET: &[(u32, &str)] = &[];

/// A row of protocol.md §23.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number.
    pub number: u32,
    /// The versions that it is about, as the checklist says it.
    pub versions: String,
    /// MUST, SHOULD, or a decision.
    pub level: String,
    /// The input.
    pub given: String,
    /// The expected result.
    pub expect: String,
}

/// A test that names rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// The file, from the root of the workspace.
    pub file: String,
    /// The name of the function.
    pub name: String,
}

/// Why the page cannot be written.
#[derive(Debug)]
pub enum Error {
    /// A file cannot be read.
    Io(io::Error),
    /// What the rows and the tests say does not fit together, one line each.
    Unfit(Vec<String>),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is a member of the workspace")
        .to_path_buf()
}

/// Reads the checklist.
///
/// # Errors
///
/// If the file cannot be read.
pub fn rows() -> io::Result<Vec<Row>> {
    let text = fs::read_to_string(root().join("docs/protocol.md"))?;
    Ok(text.lines().filter_map(row).collect())
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line
        .strip_prefix("| ")?
        .strip_suffix(" |")?
        .split(" | ")
        .collect();
    let [number, versions, level, given, expect, _source] = cells[..] else {
        return None;
    };
    if !matches!(level, "M" | "S" | "D") {
        return None;
    }
    Some(Row {
        number: number.parse().ok()?,
        versions: versions.into(),
        level: level.into(),
        given: given.into(),
        expect: expect.into(),
    })
}

/// Finds the tests in the sources, by the rows that they name.
///
/// # Errors
///
/// If a file cannot be read.
pub fn tests() -> io::Result<BTreeMap<u32, BTreeSet<Test>>> {
    let mut tests = BTreeMap::<u32, BTreeSet<Test>>::new();
    for test in tests_in(&["crates", "tests"])? {
        for row in rows_in(&test.name) {
            tests.entry(row).or_default().insert(test.clone());
        }
    }
    Ok(tests)
}

/// Finds all tests in the sources of some folders of the workspace.
///
/// # Errors
///
/// If a file cannot be read.
pub fn tests_in(folders: &[&str]) -> io::Result<BTreeSet<Test>> {
    let mut tests = BTreeSet::new();
    let root = root();
    for folder in folders {
        visit(&root.join(folder), &mut |path, text| {
            let file = path.strip_prefix(&root).expect("it was found there");
            tests.extend(test_names(text).map(|name| Test {
                file: file.display().to_string(),
                name: name.into(),
            }));
        })?;
    }
    Ok(tests)
}

fn visit(folder: &Path, each: &mut impl FnMut(&Path, &str)) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir()
            && !["target", "node_modules"]
                .iter()
                .any(|other| name == *other)
        {
            visit(&path, each)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&path, &fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The functions that follow a `#[test]` of any kind.
fn test_names(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            return None;
        }
        let is_attributed = std::mem::take(&mut is_test);
        let function = line.strip_prefix("async ").unwrap_or(line);
        let name = function.strip_prefix("fn ")?.split('(').next()?;
        is_attributed.then_some(name)
    })
}

/// The rows that a name begins with or has in it, ranges written out.
fn rows_in(name: &str) -> Vec<u32> {
    let mut rows = Vec::new();
    let mut is_range = false;
    for word in name.split('_') {
        let number = word
            .strip_prefix('c')
            .filter(|digits| digits.len() == 3)
            .and_then(|digits| digits.parse().ok());
        match (number, rows.last().copied()) {
            (Some(last), Some(first)) if is_range => rows.extend(first + 1..=last),
            (Some(row), _) => rows.push(row),
            (None, _) => {}
        }
        is_range = word == "to";
    }
    rows
}

/// Whether each test passed, by the name of its function, from the output of `cargo test`.
#[must_use]
pub fn results(output: &str) -> BTreeMap<String, bool> {
    let mut results = BTreeMap::new();
    for line in output.lines() {
        let Some((path, result)) = line
            .strip_prefix("test ")
            .and_then(|line| line.rsplit_once(" ... "))
        else {
            continue;
        };
        let path = path.split(" - ").next().unwrap_or(path);
        let name = path.rsplit("::").next().unwrap_or(path).to_owned();
        let passed = result.starts_with("ok");
        if !result.starts_with("ignored") {
            *results.entry(name).or_insert(true) &= passed;
        }
    }
    results
}

/// Finds rows without a test and without a reason, reasons for rows that have tests, and tests that
/// name no row.
///
/// # Errors
///
/// What was found.
pub fn check(rows: &[Row], tests: &BTreeMap<u32, BTreeSet<Test>>) -> Result<(), Error> {
    let mut unfit = Vec::new();
    for row in rows {
        let number = row.number;
        match (tests.contains_key(&number), reason(number)) {
            (true, None) | (false, Some(_)) => {}
            (false, None) => unfit.push(format!("row {number} has no test and no reason")),
            (true, Some(_)) => {
                unfit.push(format!("row {number} has a test and is said not to be met"))
            }
        }
    }
    for (number, tests) in tests {
        if !rows.iter().any(|row| row.number == *number) {
            unfit.push(format!("there is no row {number}: {tests:?}"));
        }
    }
    if unfit.is_empty() {
        Ok(())
    } else {
        Err(Error::Unfit(unfit))
    }
}

fn reason(row: u32) -> Option<&'static str> {
    let found = NOT_MET.iter().find(|(number, _)| *number == row);
    found.map(|(_, reason)| *reason)
}

/// Writes the page.
///
/// # Errors
///
/// Those of [`check`], and tests that did not run or did not pass.
pub fn page(
    rows: &[Row],
    tests: &BTreeMap<u32, BTreeSet<Test>>,
    results: &BTreeMap<String, bool>,
) -> Result<String, Error> {
    check(rows, tests)?;
    let mut unfit = Vec::new();
    let met = rows.len() - NOT_MET.len();
    let mut page = format!("{INTRODUCTION}\n{met} of {} rows are met.\n", rows.len());
    for (row, reason) in NOT_MET {
        writeln!(page, "\nRow {row} is not met: {reason}.").expect("a string takes everything");
    }
    page.push_str(TABLE_HEAD);
    for row in rows {
        let tests = tests.get(&row.number).into_iter().flatten();
        let mut names = Vec::new();
        for test in tests {
            match results.get(&test.name) {
                Some(true) => {}
                Some(false) => unfit.push(format!("{} failed", test.name)),
                None => unfit.push(format!("{} in {} did not run", test.name, test.file)),
            }
            names.push(format!("[`{}`](../{})", test.name, test.file));
        }
        let result = if names.is_empty() { "not met" } else { "pass" };
        writeln!(
            page,
            "| {} | {} | {} | {} → {} | {} | {result} |",
            row.number,
            row.versions,
            row.level,
            row.given,
            row.expect,
            names.join("<br>")
        )
        .expect("a string takes everything");
    }
    if unfit.is_empty() {
        Ok(page)
    } else {
        Err(Error::Unfit(unfit))
    }
}

const INTRODUCTION: &str = "\
# Conformance

Made from the checklist in [protocol.md §23](protocol.md#23-conformance-checklist), the names of the tests and the output
of a test run: not to be edited. The commands are in the [source](../tests/src/bin/conformance.rs).

Versions: 2, 3, 31 for SPDY/3.1, or all. Levels: M for MUST, S for SHOULD, D for deployed practice or a decision of
protocol.md. The tests of a row cover every version that it names and that makes a difference to it.

Most of the rows 16 to 148 and 179 to 210 are about the session. Their tests say bytes to one side of a connection and
read bytes and events from it. They do so with the protocol machine alone, where every step can be seen; then all that
was done is done again over the tokio driver and its handles, on a transport in memory and under a clock of the test, and
the same frames have to come out, in the same order wherever the order is not the driver's own, and the handles have to
tell the same (`tests/src/driven.rs`). A few tests do what no handle can, such as using up the ids; they say `alone` and
why, and show the machine only. Rows 149 to 178 run over the HTTP layer and the driver, and rows of the transport against
the server or its program.
";

const TABLE_HEAD: &str = "
## All rows

| # | V | L | Given → expected | Tests | Result |
|---|---|---|---|---|---|
";

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn names_of_tests_name_rows_one_by_one_and_in_ranges() {
        assert_eq!(rows_in("c042_a_client"), [42]);
        assert_eq!(rows_in("c058_c059_the_priority"), [58, 59]);
        assert_eq!(rows_in("c018_to_c021_frames"), [18, 19, 20, 21]);
        assert_eq!(
            rows_in("c049_to_c051_and_c113_to_c114_statuses"),
            [49, 50, 51, 113, 114]
        );
        assert_eq!(rows_in("c205_l03_a_reader"), [205]);
        assert_eq!(rows_in("cat_can_c12_c1234"), [0; 0]);
    }

    #[test]
    fn results_are_read_from_the_output_of_cargo() {
        let output = "running 3 tests\ntest proto::tests::c001_a ... ok\ntest c002_b ... FAILED\n\
                      test c003_c ... ignored, slow\ntest c004_d - should panic ... ok\n";
        let expected = [("c001_a", true), ("c002_b", false), ("c004_d", true)];
        assert_eq!(
            results(output),
            expected.map(|(name, ok)| (name.into(), ok)).into()
        );
    }

    #[test]
    fn tests_are_functions_with_the_attribute() {
        let text = "#[test]\nfn c001_a() {}\nfn c002_b() {}\n#[tokio::test(start_paused = true)]\n\
                    #[should_panic]\nasync fn c003_c() {}\n";
        assert_eq!(test_names(text).collect::<Vec<_>>(), ["c001_a", "c003_c"]);
    }
}
