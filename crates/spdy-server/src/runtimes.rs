//! The threads of the program: how many runtimes, and who runs what.

use std::{future::Future, io, thread};

use clap::ValueEnum;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

/// How threads share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// One runtime with all threads. Who has nothing to do takes from the others.
    Shared,
    /// A runtime for each thread. Connections stay where they are.
    PerCore,
}

/// All runtimes of the program.
///
/// With one thread there is one runtime, which that thread runs; another thread, which hardly ever has anything to do,
/// watches the deadlines of SPDY sessions for it. With [`Layout::PerCore`] one more thread accepts connections and hears
/// signals, so that no handler ever holds up either.
#[derive(Debug)]
pub(crate) struct Runtimes {
    main: Runtime,
    workers: Vec<Worker>,
    timers: Option<Worker>,
}

impl Runtimes {
    pub(crate) fn new(layout: Layout, threads: usize) -> io::Result<Self> {
        let main = match (layout, threads) {
            (Layout::Shared, 2..) => Builder::new_multi_thread()
                .worker_threads(threads)
                .enable_all()
                .build()?,
            _ => Builder::new_current_thread().enable_all().build()?,
        };
        let workers = match (layout, threads) {
            (Layout::PerCore, 2..) => (0..threads)
                .map(|_| Worker::connections(BLOCKING_THREADS.div_ceil(threads)))
                .collect::<io::Result<_>>()?,
            _ => Vec::new(),
        };
        let timers = (threads == 1).then(Worker::timers).transpose()?;
        Ok(Self {
            main,
            workers,
            timers,
        })
    }

    /// The runtimes to serve connections on, if it is not to be the one that everything else runs on.
    pub(crate) fn workers(&self) -> Vec<Handle> {
        self.workers
            .iter()
            .map(|worker| worker.runtime.clone())
            .collect()
    }

    /// The runtime to watch the deadlines of sessions, if it is not to be the one that they run on.
    pub(crate) fn timers(&self) -> Option<Handle> {
        self.timers.as_ref().map(|worker| worker.runtime.clone())
    }

    /// Runs to the end of `server`, and ends all runtimes then.
    pub(crate) fn block_on<T>(self, server: impl Future<Output = T>) -> T {
        let outcome = self.main.block_on(server);
        // Work on other threads, such as reading a file for a client that was cut, is of no use any more.
        self.main.shutdown_background();
        outcome
    }
}

/// A thread that runs a runtime of its own, until this is dropped. Nobody waits for its end: a handler may hold it.
#[derive(Debug)]
struct Worker {
    runtime: Handle,
    _stop: oneshot::Sender<()>,
}

impl Worker {
    fn connections(blocking_threads: usize) -> io::Result<Self> {
        let mut runtime = Builder::new_current_thread();
        runtime.enable_all().max_blocking_threads(blocking_threads);
        Self::start("connections", runtime.build()?)
    }

    fn timers() -> io::Result<Self> {
        Self::start(
            "timers",
            Builder::new_current_thread().enable_time().build()?,
        )
    }

    fn start(name: &str, runtime: Runtime) -> io::Result<Self> {
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name(name.into()).spawn(move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self {
            runtime: handle,
            _stop: stop,
        })
    }
}

/// How many threads for blocking work there may be in all, as a single runtime of tokio has it.
const BLOCKING_THREADS: usize = 512;
