//! Exec and attach over any protocols: joins the streams of the client to those of the server.

use std::{
    fmt,
    future::{pending, poll_fn, ready},
    io,
    pin::pin,
    task::Context,
    time::Duration,
};

use http::{Response, StatusCode};
use tokio::io::AsyncWriteExt;

use super::{
    pipe::{self, Over},
    tap::tell,
};
use crate::{
    BoxError, Io, Size, Status,
    client::{Breaking, Input, Output, Remote, Resizer},
    server::{Done, Kind},
    stdio::{Resize, Stdin, Stdout},
};

/// What passes through a relay of a command, in the order of each stream.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Passing<'a> {
    /// Bytes of the client's input.
    Stdin(&'a [u8]),
    /// The end of the input. The client has expressed it.
    StdinEnd,
    /// Bytes of the output.
    Stdout(&'a [u8]),
    /// Bytes of the errors, if they have a stream of their own.
    Stderr(&'a [u8]),
    /// A size of the client's terminal.
    Resize(Size),
}

/// Shows the length of the bytes, and no content.
impl fmt::Debug for Passing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Self::Stdin(bytes) => ("Stdin", bytes),
            Self::StdinEnd => return f.write_str("StdinEnd"),
            Self::Stdout(bytes) => ("Stdout", bytes),
            Self::Stderr(bytes) => ("Stderr", bytes),
            Self::Resize(size) => return f.debug_tuple("Resize").field(size).finish(),
        };
        f.debug_tuple(name).field(&bytes.len()).finish()
    }
}

/// Sees what a [`Relay`](crate::Relay) passes of a command, for example to record it, and can end
/// the session.
///
/// The relay waits for its methods, so they should return soon.
pub trait CommandTap: Send + Sync + 'static {
    /// Decides whether `what` may pass. It has not passed when this is called.
    ///
    /// # Errors
    ///
    /// Return an error to stop it. Then it does not pass, the relay breaks off the session with the
    /// server, and the client gets a failure with the message of the error.
    fn passes(&self, what: Passing<'_>) -> Result<(), BoxError> {
        _ = what;
        Ok(())
    }

    /// Waits until what [`passes`](Self::passes) has allowed before this call can pass, for example
    /// until it is recorded. The relay calls this after one or more calls of `passes` for a stream,
    /// up to 64 KiB, and waits for the future before it passes those bytes on. Meanwhile it calls
    /// `passes` for what follows, up to 128 KiB of a stream. So what has to be settled should be
    /// noted at the call, as by a function that returns an `async` block: the body of an `async fn`
    /// runs when the future is first polled. A future can be dropped without having been polled.
    /// The default does not wait.
    ///
    /// # Errors
    ///
    /// As [`passes`](Self::passes).
    fn settled(&self) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }

    /// Waits until the session has to end, for example at a time limit, and returns the message for
    /// the client. The default waits for ever. The relay calls this once.
    fn over(&self) -> impl Future<Output = BoxError> + Send {
        pending()
    }

    /// The session has ended. This is called exactly once, whatever happened. The outcome is what
    /// the client gets: the outcome of the server, or a failure if there was none, for example the
    /// refusal of the request. A client that goes away at this moment might not get it. `None`
    /// means that the client got none, because it was gone or had not opened its streams.
    fn ended(&self, outcome: Option<&Status>) {
        _ = outcome;
    }
}

/// Sees nothing.
impl CommandTap for () {}

/// A session with a server. Dropping it breaks the session off, and reports the end to the tap.
pub(super) struct Joined<T: CommandTap> {
    // The first field is dropped first. An input that was dropped before it would look as if it had
    // ended.
    _breaking: Breaking,
    remote: Option<Remote>,
    input: Option<Input>,
    told: Told<T>,
}

impl<T: CommandTap> Joined<T> {
    pub(super) fn new(mut remote: Remote, told: Told<T>) -> Self {
        Self {
            _breaking: Breaking::new(remote.held()),
            input: remote.stdin.take(),
            remote: Some(remote),
            told,
        }
    }

    /// Passes everything until the server has reported the outcome. Returns the outcome for the
    /// client.
    pub(super) async fn run(mut self, io: Io) -> Done {
        let passed = self.pass(io).await;
        let is_ended = matches!(passed, Some(Err(End::Refused(_))));
        let outcome = passed.map(|ended| ended.unwrap_or_else(End::into_status));
        self.told.outcome.clone_from(&outcome);
        // A client that is gone gets no outcome.
        let status = outcome.unwrap_or_else(|| lost("client is gone"));
        Done {
            status,
            wait: is_ended.then_some(TELL),
        }
    }

    /// Passes everything. Returns `None` if the client is gone.
    async fn pass(&mut self, io: Io) -> Option<Result<Status, End>> {
        let tap = &self.told.tap;
        let mut remote = self.remote.take()?;
        let Io {
            stdin,
            stdout,
            stderr,
            resize,
            mut client,
            ..
        } = io;
        let (from_stdout, from_stderr) = (remote.stdout.take(), remote.stderr.take());
        let resizer = remote.resize.take();
        let inputs = async {
            let input = feed(stdin, self.input.as_mut(), tap);
            tokio::try_join!(input, tell_sizes(resize, resizer, tap))
        };
        let outputs = async {
            let stdout = drain(from_stdout, stdout, tap, |bytes| Passing::Stdout(bytes));
            let stderr = drain(from_stderr, stderr, tap, |bytes| Passing::Stderr(bytes));
            // The outcome is read meanwhile, because an unread outcome could delay the outputs.
            let outcome = async { Ok(remote.outcome().await) };
            let ((), (), outcome) = tokio::try_join!(stdout, stderr, outcome)?;
            Ok(outcome.unwrap_or_else(lost))
        };
        let (mut inputs, mut outputs, mut over) = (pin!(inputs), pin!(outputs), pin!(tap.over()));
        let mut is_fed = false;
        let ended = loop {
            tokio::select! {
                ended = &mut outputs => break ended,
                fed = &mut inputs, if !is_fed => match fed {
                    Ok(_) => is_fed = true,
                    Err(end) => break Err(end),
                },
                why = &mut over => break Err(End::Refused(why)),
                () = client.gone() => return None,
            }
        };
        Some(ended)
    }
}

/// Why a session ends before the server has ended it.
enum End {
    /// The tap ends it.
    Refused(BoxError),
    /// The server is lost.
    Lost(io::Error),
    /// The protocol of the server cannot express the end of the input.
    Endless,
}

impl End {
    fn into_status(self) -> Status {
        match self {
            Self::Refused(why) => {
                Status::failure(StatusCode::FORBIDDEN, "Forbidden", why.to_string())
            }
            Self::Lost(error) => lost(error),
            Self::Endless => lost("v4 of WebSocket cannot tell the end of the input"),
        }
    }
}

fn lost(why: impl fmt::Display) -> Status {
    Status::internal(format_args!("session with the server has failed: {why}"))
}

/// Asks the tap whether something may pass.
async fn ask(tap: &impl CommandTap, what: Passing<'_>) -> Result<(), End> {
    tap.passes(what).map_err(End::Refused)?;
    tap.settled().await.map_err(End::Refused)
}

/// Passes the input on, and its end. If the input breaks off it has not ended, and the session ends
/// for that reason.
async fn feed(
    from: Option<Stdin>,
    to: Option<&mut Input>,
    tap: &impl CommandTap,
) -> Result<(), End> {
    let (Some(mut from), Some(to)) = (from, to) else {
        return Ok(());
    };
    let next = |cx: &mut Context<'_>| from.poll_next(cx);
    match pipe::pass(next, to, tap, |bytes| Passing::Stdin(bytes)).await {
        Over::Ended => {}
        Over::Lost(_) => return pending().await,
        // The command reads no more. The rest of the input is thrown away.
        Over::Unwanted => return Ok(()),
        Over::Refused(why) => return Err(End::Refused(why)),
    }
    ask(tap, Passing::StdinEnd).await?;
    match to.shutdown().await {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Err(End::Endless),
        _ => Ok(()),
    }
}

/// Passes the sizes of the terminal on.
async fn tell_sizes(
    from: Option<Resize>,
    to: Option<Resizer>,
    tap: &impl CommandTap,
) -> Result<(), End> {
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return Ok(());
    };
    while let Some(size) = from.next().await {
        ask(tap, Passing::Resize(size)).await?;
        if to.resize(size).await.is_err() {
            return Ok(());
        }
    }
    // Dropping the stream would reset it.
    pending().await
}

/// Passes an output on, to its end. If the client does not want it, it is thrown away.
async fn drain(
    from: Option<Output>,
    to: Option<Stdout>,
    tap: &impl CommandTap,
    what: impl for<'a> Fn(&'a [u8]) -> Passing<'a>,
) -> Result<(), End> {
    let Some(mut from) = from else {
        return Ok(());
    };
    if let Some(mut to) = to {
        match pipe::pass(|cx| from.poll_next(cx), &mut to, tap, what).await {
            Over::Ended => return Ok(()),
            Over::Lost(error) => return Err(End::Lost(error)),
            Over::Refused(why) => return Err(End::Refused(why)),
            Over::Unwanted => {}
        }
    }
    while let Some(piece) = poll_fn(|cx| from.poll_next(cx)).await {
        piece.map_err(End::Lost)?;
    }
    Ok(())
}

/// Reports the end to the tap when it is dropped.
pub(super) struct Told<T: CommandTap> {
    tap: T,
    kind: Kind,
    outcome: Option<Status>,
}

impl<T: CommandTap> Told<T> {
    pub(super) const fn new(tap: T, kind: Kind) -> Self {
        Self {
            tap,
            kind,
            outcome: None,
        }
    }

    /// Sets the outcome of a session that did not start, and returns the response that says why.
    pub(super) fn refuse(mut self, response: Response<String>) -> Response<String> {
        self.outcome = Some(Status::of_refusal(&response));
        response
    }
}

impl<T: CommandTap> Drop for Told<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The tap itself panicked. The client gets this failure.
            self.outcome = Some(self.kind.panicked());
        }
        _ = tell(|| self.tap.ended(self.outcome.as_ref()));
    }
}

/// How long the client of a session that the tap has ended may take for the outcome, with the
/// outputs before it. Otherwise one that reads nothing would keep its connection for hours.
pub(super) const TELL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_nothing_that_passes() {
        assert_eq!(format!("{:?}", Passing::Stdin(b"secret")), "Stdin(6)");
        assert_eq!(format!("{:?}", Passing::StdinEnd), "StdinEnd");
    }
}
