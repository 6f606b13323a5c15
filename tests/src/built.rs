//! Programs of the workspace for tests of other packages, to which cargo does not pass their paths.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Builds a program, such as `["--bin", "spdy-server"]` or `["--example", "kubelet"]`, into the
/// target directory and in the profile of the running test. Returns the directory that has the
/// programs of this profile, and `examples` below it. Takes a moment if nothing has changed.
///
/// With `--workspace` the dependencies have the features that they have in
/// `cargo test --workspace`, which has built everything.
///
/// # Panics
///
/// If it cannot be built.
#[must_use]
pub fn build(target: [&str; 2]) -> PathBuf {
    // Tests are in TARGET/PROFILE/deps.
    let test = env::current_exe().expect("the test has a path");
    let directory = test.ancestors().nth(2).expect("cargo has built the test");
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} is no directory of a profile", directory.display()),
    };
    let root = directory
        .parent()
        .expect("it is below the target directory");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--workspace", "--profile", profile])
        .args(target)
        .arg("--target-dir")
        .arg(root)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    // What cargo tells the test of its package is different in each. The build script of ring reads
    // it: everything that depends on ring would be compiled again.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&*name);
        }
    }
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "{} cannot be built", target[1]);
    directory.to_owned()
}
