//! The runtimes and threads of the program.

use std::{future::Future, io, thread};

use clap::ValueEnum;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

/// How threads share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// One runtime with all threads. An idle thread takes work from the others.
    Shared,
    /// One runtime for each thread. A connection stays on its runtime.
    PerCore,
}

/// All runtimes of the program.
///
/// With one thread there is one runtime, which that thread runs. A second, almost idle thread
/// watches the deadlines of SPDY sessions. With [`Layout::PerCore`] one more thread accepts
/// connections and receives signals, so that no handler delays them.
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

    /// Returns the runtimes that serve connections, if they are not the main runtime.
    pub(crate) fn workers(&self) -> Vec<Handle> {
        self.workers
            .iter()
            .map(|worker| worker.runtime.clone())
            .collect()
    }

    /// Returns the runtime that watches the deadlines of sessions, if it is not the runtime of the
    /// sessions.
    pub(crate) fn timers(&self) -> Option<Handle> {
        self.timers.as_ref().map(|worker| worker.runtime.clone())
    }

    /// Runs `server` to its end, and then stops all runtimes.
    pub(crate) fn block_on<T>(self, server: impl Future<Output = T>) -> T {
        let outcome = self.main.block_on(server);
        // Blocking work on other threads, such as reading a file for a client that has gone, is
        // abandoned.
        self.main.shutdown_background();
        outcome
    }
}

/// A thread with a runtime of its own, which stops when this is dropped. Dropping does not wait for
/// the thread, because a handler might block it.
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

/// The maximum number of threads for blocking work over all runtimes, which is the default of one
/// tokio runtime.
const BLOCKING_THREADS: usize = 512;
