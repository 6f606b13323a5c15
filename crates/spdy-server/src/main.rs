//! The program `spdy-server`: a site or a directory over SPDY, HTTP/2 and HTTP/1.1. `--help` says the rest.

mod flags;

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use axum::Router;
use clap::Parser;
use spdy_server::{Config, Drained, Server, Signals, Transport, Version, app};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use self::flags::Flags;

fn main() -> ExitCode {
    let flags = Flags::parse();
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spdy-server: {}", sentence(&*error));
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> Result<(), Box<dyn Error>> {
    log_to_stderr(flags.log());
    let runtime = runtime(flags.threads())?;
    let (app, what) = match flags.directory() {
        Some(directory) => (
            app::directory(directory)?,
            format!("the files of {}", directory.display()),
        ),
        None => (app::site(), "the built-in site".to_owned()),
    };
    let outcome = runtime.block_on(serve(flags.config(), app, &what));
    // Work on other threads, such as reading a file for a client that was cut, is of no use any more.
    runtime.shutdown_background();
    outcome
}

/// Serves until the first signal, then drains; a second signal ends the server at once.
async fn serve(config: Config, app: Router, what: &str) -> Result<(), Box<dyn Error>> {
    let plain_version = config.plain_version.into();
    let drain = config.timeouts.drain;
    // Before the first client can connect, so that a signal always means a graceful end.
    let (mut first, mut second) = (Signals::new()?, Signals::new()?);
    let server = Server::bind(config).await?;
    report(&server, what, plain_version)
        .map_err(|error| format!("cannot write to standard output: {error}"))?;

    let shutdown = async {
        first.next().await;
        eprintln!(
            "spdy-server: ending within {} s; a second signal ends it at once",
            drain.as_secs()
        );
    };
    let again = async {
        second.next().await;
        second.next().await;
    };
    tokio::select! {
        Drained { cut } = server.run(app, shutdown) => {
            if cut > 0 {
                eprintln!("spdy-server: {cut} connections had not ended in time and were cut");
            }
        }
        () = again => eprintln!("spdy-server: ended at once"),
    }
    Ok(())
}

/// Prints where the server is found. Each URL begins a line, for programs that look for it.
fn report(server: &Server, what: &str, plain_version: Version) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "spdy-server {} serves {what}",
        env!("CARGO_PKG_VERSION")
    )?;
    for endpoint in server.endpoints() {
        match endpoint.transport {
            Transport::Tls => writeln!(
                out,
                "{endpoint} (spdy/3.1, spdy/3, spdy/2, h2, http/1.1 by ALPN)"
            )?,
            Transport::Plain => writeln!(
                out,
                "{endpoint} (spdy/2, {plain_version}, h2, http/1.1 by their first octets)"
            )?,
        }
    }
    for address in server.left_out() {
        writeln!(
            out,
            "not listening on {address}, an address this machine does not have"
        )?;
    }
    if let Some(fingerprint) = server.fingerprint() {
        writeln!(out, "certificate SHA-256 {fingerprint}")?;
    }
    out.flush()
}

/// One thread runs everything there itself; several share the connections.
fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

fn log_to_stderr(filter: EnvFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Joins an error and its causes to one sentence.
fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
