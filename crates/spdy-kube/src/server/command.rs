//! A command while it runs, over any transport.

use std::{fmt, pin::Pin, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::{BoxError, Exit, Io, Status};

/// Runs a command, or attaches to one.
pub(crate) type Run = Box<dyn FnOnce(Io) -> Running + Send>;

pub(crate) type Running = Pin<Box<dyn Future<Output = Status> + Send>>;

/// The kind of request, which decides the text of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exec,
    Attach,
}

/// How a client leaves before the command has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// The client closed its connection in order. Its input is complete, and it wants no output.
    /// The command gets no signal, and can finish its work.
    Closed,
    /// The connection is lost.
    Lost,
}

/// Runs a command until it ends, and returns its outcome. If the client leaves, the command has to
/// end within `grace`, and the result is `None`.
pub(super) async fn supervise(
    run: Run,
    io: Io,
    kind: Kind,
    grace: Duration,
    gone: watch::Sender<bool>,
    client: impl Future<Output = Leave>,
) -> Option<Status> {
    let mut command = Guard(tokio::spawn(run(io)));
    tokio::select! {
        outcome = &mut command.0 => Some(match outcome {
            Ok(status) => status,
            Err(_) => kind.panicked(),
        }),
        leave = client => {
            if leave == Leave::Lost {
                _ = gone.send(true);
            }
            if timeout(grace, &mut command.0).await.is_err() {
                tracing::debug!(target: "spdy", ?kind, "command outlives its client, and is dropped");
            }
            None
        }
    }
}

/// A task that ends with its owner.
struct Guard(JoinHandle<Status>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Kind {
    /// Returns the Status for the result of a command that this server runs.
    pub(super) fn outcome(self, ended: Result<Exit, BoxError>) -> Status {
        ended.map_or_else(|error| self.failure(error), Status::from)
    }

    /// Returns the Status of a command that panicked.
    pub(crate) fn panicked(self) -> Status {
        self.failure("it panicked")
    }

    /// Returns the Status of a command that failed before it had an exit code.
    fn failure(self, why: impl fmt::Display) -> Status {
        let what = match self {
            Self::Exec => "error executing command in container",
            Self::Attach => "error attaching to container",
        };
        Status::internal(format_args!("{what}: {why}"))
    }
}
