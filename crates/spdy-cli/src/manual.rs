//! Manual pages and shell completions, which are made from the flags.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::failure::{Exit, print};

/// The names of the manual pages: one for the program, and one for each command.
pub(crate) const PAGES: [&str; 5] = ["spdy", "get", "ping", "load", "inspect"];

/// Returns the completions for a shell, or else a manual page, or `None` if neither is wanted.
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
        .expect("a Vec takes any bytes");
    Some(text)
}

/// Writes a text to standard output and ends the process.
pub(crate) fn print_and_exit(text: &[u8]) -> ! {
    let exit = print(text).map_or_else(|failure| failure.report(), |()| Exit::Success);
    std::process::exit(exit as i32)
}
