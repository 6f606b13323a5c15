//! Makes `docs/conformance.md`, or with `--check` says whether it is up to date.
//!
//! ```text
//! cargo test --workspace 2>&1 | tee target/tests.log
//! cargo test -p spdy-server --features npn --test npn 2>&1 | tee target/npn.log
//! cargo run -p spdy-tests --bin conformance -- target/tests.log target/npn.log
//! cargo run -p spdy-tests --bin conformance -- --check target/tests.log target/npn.log
//! ```

use std::{collections::BTreeMap, env, fs, process::ExitCode};

use spdy_tests::conformance::{Error, page, results, root, rows, tests};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Io(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(Error::Unfit(lines)) => {
            eprintln!("{}", lines.join("\n"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let (flags, logs): (Vec<String>, Vec<String>) =
        env::args().skip(1).partition(|arg| arg.starts_with("--"));
    if logs.is_empty() || flags.iter().any(|flag| flag != "--check") {
        let usage = "usage: conformance [--check] OUTPUT_OF_CARGO_TEST…";
        return Err(Error::Unfit(vec![usage.into()]));
    }
    let mut ran = BTreeMap::new();
    for log in logs {
        for (name, passed) in results(&fs::read_to_string(log)?) {
            *ran.entry(name).or_insert(true) &= passed;
        }
    }
    let page = page(&rows()?, &tests()?, &ran)?;
    let path = root().join("docs/conformance.md");
    if flags.is_empty() {
        fs::write(path, page)?;
    } else if fs::read_to_string(path)? != page {
        let stale = "docs/conformance.md is not up to date: make it again";
        return Err(Error::Unfit(vec![stale.into()]));
    }
    Ok(())
}
