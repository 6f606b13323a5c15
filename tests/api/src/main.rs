//! Lists the public API of a crate, an item a line, from the file of JSON that rustdoc has written.

use std::{env, error::Error};

use public_api::{Builder, PublicItem};

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args_os().nth(1).ok_or("usage: spdy-api FILE")?;
    let api = Builder::from_rustdoc_json(file)
        .omit_blanket_impls(true)
        .build()?;
    for line in api.items().map(PublicItem::to_string) {
        if !NOISE.iter().any(|name| line.contains(name)) {
            println!("{line}");
        }
    }
    Ok(())
}

/// Auto traits that users rarely name. `Send` and `Sync` are listed.
const NOISE: [&str; 5] = [
    "impl core::marker::Freeze for",
    "impl core::marker::Unpin for",
    "impl core::marker::UnsafeUnpin for",
    "impl core::panic::unwind_safe::RefUnwindSafe for",
    "impl core::panic::unwind_safe::UnwindSafe for",
];
