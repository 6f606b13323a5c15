//! The program `spdy-bastion`: runs a bastion, lists and ends its live sessions, and plays
//! recordings. `spdy-bastion --help` describes every option.

#![forbid(unsafe_code)]

mod flags;
mod play;

use std::{
    error::Error,
    fs,
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
};

use clap::Parser;
use serde_json::Value;
use spdy_bastion::{Bastion, control};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

use self::flags::{Command, Flags};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let flags = Flags::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&flags.log))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spdy-bastion: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> Result<(), Failure> {
    match flags.command {
        Some(Command::Play(play)) => play::run(&play),
        Some(Command::Sessions { json }) => {
            let sessions = Runtime::new()?.block_on(control::sessions(&flags.socket))?;
            list(&sessions, json)
        }
        Some(Command::Kill { id, message }) => {
            let killed = control::kill(&flags.socket, &id, &message);
            Ok(Runtime::new()?.block_on(killed)?)
        }
        None => Runtime::new()?.block_on(serve(flags)),
    }
}

/// Runs a bastion until a signal.
async fn serve(flags: Flags) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let kubeconfig = flags.write_kubeconfig.clone();
    let is_quiet = flags.audit.is_none();
    let bastion = Bastion::start(flags.config()?).await?;
    match kubeconfig {
        Some(path) => write_private(&path, bastion.kubeconfig())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?,
        None => print!("{}", bastion.kubeconfig()),
    }
    if !is_quiet {
        println!("# spdy-bastion listens on {}", bastion.address());
    }
    if let Some(address) = bastion.metrics() {
        println!("# metrics are on http://{address}/metrics");
    }
    io::stdout().flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    bastion.shutdown("the bastion is shutting down").await;
    Ok(())
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    // The mode belongs to a new file, so an old one is not kept.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// Prints the live sessions: as JSON, or as a table.
fn list(sessions: &[Value], json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if json {
        for session in sessions {
            writeln!(out, "{}", control::line(session))?;
        }
        return Ok(());
    }
    writeln!(
        out,
        "{:8} {:>7} {:12} {:20} POD",
        "ID", "SECONDS", "VERB", "USER"
    )?;
    for session in sessions {
        let text = |name: &str| printable(session[name].as_str().unwrap_or_default());
        let (id, verb, user) = (text("session"), text("verb"), text("user"));
        let pod = format!("{}/{}", text("namespace"), text("pod"));
        let seconds = session["seconds"].as_u64().unwrap_or_default();
        writeln!(out, "{id:8} {seconds:>7} {verb:12} {user:20} {pod}")?;
    }
    Ok(())
}

/// Replaces what could control a terminal, or change the order of what it shows.
fn printable(text: &str) -> String {
    let shown = |char: char| match char {
        '"' | '\'' | '\\' => char,
        // Others are escaped because they are not printable.
        char if char.escape_debug().len() > 1 => '?',
        char => char,
    };
    text.chars().map(shown).collect()
}

/// Returns an error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_in_the_table_controls_a_terminal() {
        let evil = "a\u{1b}[2J\u{9b}1m\n\u{202e}b\u{2066}\u{200b}'\"\\ü";
        assert_eq!(super::printable(evil), "a?[2J?1m??b??'\"\\ü");
    }
}
