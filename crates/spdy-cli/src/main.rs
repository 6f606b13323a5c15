//! The program `spdy`: it sends requests, measures round trips and load over SPDY, and shows
//! recorded frames. `spdy --help` describes every option.

#![forbid(unsafe_code)]

mod connect;
mod counted;
mod failure;
mod flags;
mod get;
mod http2;
mod inspect;
mod interrupt;
mod load;
mod manual;
mod offer;
mod origin;
mod ping;
mod proxies;
mod route;
mod speech;
mod tls;
mod whole;
mod wire;

use std::process::ExitCode;

use tokio::runtime::Builder;

use self::{
    failure::{Exit, Failure},
    flags::{Command, Flags},
};

fn main() -> ExitCode {
    let outcome = match Flags::from_command_line() {
        Command::Get(get) => on_runtime(1, get::run(*get)),
        Command::Ping(ping) => on_runtime(1, ping::run(*ping)),
        Command::Load(load) => on_runtime(load.threads.get().into(), load::run(*load)),
        Command::Inspect(inspect) => inspect::run(&inspect),
    };
    outcome.unwrap_or_else(|failure| failure.report()).into()
}

fn on_runtime(
    threads: usize,
    work: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::local("cannot start the runtime", &error))?;
    let outcome = runtime.block_on(work);
    // A name lookup that is still running blocks a thread. The program does not wait for it.
    runtime.shutdown_background();
    outcome
}
