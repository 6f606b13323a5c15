//! The program `spdy-server`: serves an application, a directory or a site over SPDY, HTTP/2 and
//! HTTP/1.1. `spdy-server --help` describes every option.

#![forbid(unsafe_code)]

mod descriptors;
mod flags;
mod manager;
mod runtimes;

use std::{
    env,
    error::Error,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    process::{self, ExitCode},
};

use axum::Router;
use spdy_server::{
    Address, Bind, Config, Drained, Inherited, Protocol, Reload, Server, Signals, Transport,
    Version,
    app::{self, Upstreams},
};
use tracing::{Level, enabled, error, info, warn};
use tracing_subscriber::EnvFilter;

use self::{
    descriptors::Descriptors,
    flags::{Flags, Listen, LogFormat},
    runtimes::Runtimes,
};

fn main() -> ExitCode {
    let flags = Flags::from_command_line();
    let (filter, format) = flags.log();
    log_to_stderr(filter, format);
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match format {
                LogFormat::Json if enabled!(Level::ERROR) => error!("{}", sentence(&*error)),
                _ => eprintln!("spdy-server: {}", sentence(&*error)),
            }
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> Result<(), Box<dyn Error>> {
    if flags.check_config() {
        return check(flags);
    }
    let descriptors = Descriptors::raise();
    // This call changes the environment, so it comes before the process has threads.
    let inherited = if flags.systemd() {
        sockets_of_systemd()?
    } else {
        warn_of_sockets_of_systemd();
        Inherited::default()
    };
    let runtimes = Runtimes::new(flags.runtime(), flags.threads())?;
    let capacity = Capacity::new(&flags, descriptors, inherited.len());
    let Served {
        app,
        what,
        upstreams,
    } = application(&flags, capacity.files)?;
    let (workers, timers) = (runtimes.workers(), runtimes.timers());
    let is_checked = flags.ready_checks_application();
    let place = move |server: Server| {
        let server = match timers {
            Some(timers) => server.spread(workers).timers(timers),
            None => server.spread(workers),
        };
        match upstreams {
            Some(upstreams) => behind(server, upstreams, is_checked),
            None => server,
        }
    };
    let listens = flags.listens();
    runtimes.block_on(serve(
        flags.config(),
        &listens,
        capacity,
        inherited,
        place,
        app,
        &what,
    ))
}

/// Prints that the configuration is valid if the server would start with it.
fn check(flags: Flags) -> Result<(), Box<dyn Error>> {
    drop(application(&flags, None)?);
    let systemd = flags.systemd();
    let mut config = flags.config();
    if systemd {
        // Which sockets there will be is not known yet, and most use TLS.
        config
            .binds
            .push(Bind::tls(SocketAddr::from(([127, 0, 0, 1], 0))));
    }
    Server::check(&config)?;
    println!("the configuration is valid");
    Ok(())
}

/// How many connections and open files there can be, and why.
struct Capacity {
    descriptors: Option<Descriptors>,
    given: Option<usize>,
    most: usize,
    /// The number of large files of a directory, if the system has a limit.
    files: Option<usize>,
}

impl Capacity {
    fn new(flags: &Flags, descriptors: Option<Descriptors>, inherited: usize) -> Self {
        let needs = flags.needs(inherited);
        Self {
            descriptors,
            given: flags.max_connections(),
            most: descriptors.map_or(usize::MAX, |it| needs.connections(it.now)),
            files: descriptors.map(|it| needs.files(it.now)),
        }
    }

    /// Returns the number that is given, or the default if there are descriptors for it.
    fn connections(&self, default: usize) -> usize {
        self.given.unwrap_or_else(|| default.min(self.most))
    }

    fn tell(&self, max_connections: usize) {
        let Some(Descriptors { before, now }) = self.descriptors else {
            return;
        };
        if max_connections > self.most {
            let most = self.most;
            warn!(
                "--max-connections {max_connections} is more than the limit of {now} file \
                 descriptors (ulimit -n) is enough for: {most} connections"
            );
        }
        info!(
            descriptors = now,
            before, max_connections, "the limit of file descriptors"
        );
    }
}

fn sockets_of_systemd() -> Result<Inherited, Box<dyn Error>> {
    let inherited = Inherited::from_systemd()
        .map_err(|error| format!("cannot listen on a socket passed by systemd: {error}"))?;
    if inherited.is_empty() {
        return Err("systemd passed no sockets to the process".into());
    }
    Ok(inherited)
}

/// Warns of sockets that systemd has passed although this command line does not take them. Their
/// clients would connect, and wait for ever.
fn warn_of_sockets_of_systemd() {
    let variable = |name| env::var(name).unwrap_or_default();
    let is_for_us = variable("LISTEN_PID") == process::id().to_string();
    let sockets = variable("LISTEN_FDS");
    if is_for_us && !matches!(&*sockets, "" | "0") {
        warn!(
            sockets,
            names = variable("LISTEN_FDNAMES"),
            "systemd has passed sockets that are not served: add --systemd"
        );
    }
}

/// What is served.
struct Served {
    app: Router,
    what: String,
    /// The addresses of the application behind a proxy.
    upstreams: Option<Upstreams>,
}

/// Returns what is served. If it is a directory, it has no more large files open than `files`.
fn application(flags: &Flags, files: Option<usize>) -> Result<Served, Box<dyn Error>> {
    if let Some(proxy) = flags.proxy()? {
        let addresses: Vec<_> = proxy.upstreams().iter().map(ToString::to_string).collect();
        let (app, upstreams) = proxy.build();
        return Ok(Served {
            app,
            what: format!("the application at {}", addresses.join(", ")),
            upstreams: Some(upstreams),
        });
    }
    let (app, what) = match flags.directory() {
        Some(mut directory) => {
            directory.max_handles = files.unwrap_or(directory.max_handles);
            let what = format!("the files of {}", directory.path.display());
            (app::directory(directory)?, what)
        }
        None => (app::site(), "the built-in site".to_owned()),
    };
    Ok(Served {
        app,
        what,
        upstreams: None,
    })
}

/// Returns a server that shows the addresses of its application, and is ready only if it accepts
/// connections there where that is asked for.
fn behind(server: Server, upstreams: Upstreams, is_checked: bool) -> Server {
    let server = server.upstreams(upstreams.clone());
    if !is_checked {
        return server;
    }
    server.ready_when(move || {
        let upstreams = upstreams.clone();
        async move { upstreams.accept().await }
    })
}

/// Serves until the first signal, then drains. A second signal ends the server at once.
async fn serve(
    mut config: Config,
    listens: &[Listen],
    capacity: Capacity,
    inherited: Inherited,
    place: impl FnOnce(Server) -> Server,
    app: Router,
    what: &str,
) -> Result<(), Box<dyn Error>> {
    config.max_connections = capacity.connections(config.max_connections);
    let max_connections = config.max_connections;
    let plain_version = config.plain_version.into();
    let drain = config.timeouts.drain_delay + config.timeouts.drain;
    // The handlers are installed before the first client can connect, so a signal always leads to a
    // graceful shutdown.
    let (mut first, mut second) = (Signals::new()?, Signals::new()?);
    let hangups = Hangups::new()?;
    let server = place(Server::bind_with(config, inherited).await?);
    if let Some(listen) = listens.iter().find(|it| it.is_lost(server.left_out())) {
        return Err(listen.no_address().into());
    }
    tokio::spawn(hangups.follow(server.reload()));
    report(&server, what, plain_version)
        .map_err(|error| format!("cannot write to standard output: {error}"))?;
    capacity.tell(max_connections);
    manager::ready();

    let shutdown = async {
        first.next().await;
        manager::stopping();
        info!(
            "shutting down within {} s; send a second signal to stop at once",
            drain.as_secs()
        );
    };
    let again = async {
        second.next().await;
        second.next().await;
    };
    tokio::select! {
        drained = server.run(app, shutdown) => tell(drained),
        () = again => warn!("stopped at once"),
    }
    Ok(())
}

/// Logs the connections that did not end by themselves.
fn tell(Drained { cut, unclosed }: Drained) {
    if cut > 0 {
        warn!("{cut} connections did not finish in time and were closed");
    }
    if unclosed > 0 {
        info!("{unclosed} connections had finished, but their clients did not close them in time");
    }
}

/// Prints the URLs of the server. Each URL begins a line, so that programs can find it.
fn report(server: &Server, what: &str, plain_version: Version) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "spdy-server {} serves {what}",
        env!("CARGO_PKG_VERSION")
    )?;
    for endpoint in server.endpoints() {
        let protocols = match endpoint.transport {
            Transport::Tls => format!("{} by {NEGOTIATION}", ids(Protocol::ALL)),
            Transport::Plain => {
                format!("spdy/2, {plain_version}, h2, http/1.1 by their first bytes")
            }
        };
        let carrier = match (&endpoint.address, endpoint.transport) {
            (Address::Unix(_), Transport::Tls) => "TLS: ",
            (Address::Unix(_), Transport::Plain) => "plain text: ",
            (Address::Tcp(_), _) => "",
        };
        writeln!(out, "{endpoint} ({carrier}{protocols})")?;
    }
    if let Some(endpoint) = server.metrics() {
        match endpoint.address {
            Address::Tcp(_) => writeln!(
                out,
                "{endpoint}metrics, {endpoint}livez and {endpoint}readyz"
            )?,
            Address::Unix(_) => writeln!(out, "{endpoint} /metrics, /livez and /readyz")?,
        }
    }
    for address in server.left_out() {
        writeln!(
            out,
            "not listening on {address}: this machine does not have that address"
        )?;
    }
    if let Some(fingerprint) = server.fingerprint() {
        writeln!(out, "certificate SHA-256 {fingerprint}")?;
    }
    out.flush()
}

const NEGOTIATION: &str = if cfg!(feature = "npn") {
    "ALPN or NPN"
} else {
    "ALPN"
};

fn ids(protocols: [Protocol; 5]) -> String {
    protocols.map(Protocol::token).join(", ")
}

/// The signal SIGHUP, which asks the server to reload its files.
struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Installs the handler. From then on SIGHUP no longer ends the process.
    fn new() -> io::Result<Self> {
        #[cfg(unix)]
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            #[cfg(unix)]
            signal: signal(SignalKind::hangup())?,
        })
    }

    #[cfg(unix)]
    async fn follow(mut self, reload: Reload) {
        while self.signal.recv().await.is_some() {
            reload.now();
        }
    }

    #[cfg(not(unix))]
    async fn follow(self, _: Reload) {}
}

fn log_to_stderr(filter: EnvFilter, format: LogFormat) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Joins an error and its causes into one sentence.
fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
