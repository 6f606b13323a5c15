//! A command while it runs, over any transport.

use std::{fmt, pin::Pin, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
    time::timeout,
};

use super::settings::Settings;
use crate::{BoxError, Exit, Io, Status};

/// Runs a command, or attaches to one.
pub(crate) type Run = Box<dyn FnOnce(Io) -> Running + Send>;

pub(crate) type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// How a command has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: Status,
    /// How long the client may take for the outcome, with the outputs before it. `None` means as
    /// long as for everything else.
    pub(crate) wait: Option<Duration>,
}

impl From<Status> for Done {
    fn from(status: Status) -> Self {
        Self { status, wait: None }
    }
}

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
/// end within the grace, and the result is `None`. If the session has to end, the command is
/// dropped.
pub(super) async fn supervise(
    run: Run,
    io: Io,
    kind: Kind,
    settings: &Settings,
    gone: watch::Sender<bool>,
    client: impl Future<Output = Leave>,
) -> Option<Done> {
    let session = &settings.session;
    // A panic of `run` itself is a failure as well.
    let mut command = Guard::spawn(async { run(io).await });
    let outcome = |ended: Result<Done, JoinError>| {
        let done = ended.unwrap_or_else(|_| kind.failure("it panicked").into());
        session.outcome(done.status.clone());
        done
    };
    tokio::select! {
        ended = command.end() => Some(outcome(ended)),
        why = session.over() => Some(session.outcome(why).into()),
        leave = client => {
            if leave == Leave::Lost {
                _ = gone.send(true);
            }
            tokio::select! {
                ended = timeout(settings.grace, command.end()) => match ended {
                    Ok(ended) => drop(outcome(ended)),
                    Err(_) => {
                        tracing::debug!(target: "spdy", ?kind, "command outlives its client, and is dropped");
                    }
                },
                _ = session.over() => {}
            }
            None
        }
    }
}

/// A task that ends with its owner.
pub(super) struct Guard<T>(JoinHandle<T>);

impl<T: Send + 'static> Guard<T> {
    pub(super) fn spawn(task: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }

    /// Waits for the end of the task. Cancel safe. Must not be called after that.
    pub(super) async fn end(&mut self) -> Result<T, JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for Guard<T> {
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
