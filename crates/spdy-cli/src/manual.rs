//! What the program can say about itself: more than the flags, for people and for shells.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::failure::{Exit, print};

/// The manual pages: one of the program, and one of each command.
pub(crate) const PAGES: [&str; 5] = ["spdy", "get", "ping", "load", "inspect"];

/// The text of the completions or of a manual page, if one of them is wanted.
pub(crate) fn wanted(
    mut command: Command,
    completions: Option<Shell>,
    page: Option<&str>,
) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    if let Some(shell) = completions {
        clap_complete::generate(shell, &mut command, "spdy", &mut text);
        return Some(text);
    }
    let page = page?;
    command.build();
    let command = command.find_subcommand(page).unwrap_or(&command).clone();
    Man::new(command)
        .source(concat!("spdy ", env!("CARGO_PKG_VERSION")))
        .render(&mut text)
        .expect("a Vec takes any octets");
    Some(text)
}

/// Ends the process.
pub(crate) fn print_and_exit(text: &[u8]) -> ! {
    let exit = print(text).map_or_else(|failure| failure.report(), |()| Exit::Success);
    std::process::exit(exit as i32)
}
