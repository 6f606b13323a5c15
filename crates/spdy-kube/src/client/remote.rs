//! A command that runs on a server, over any protocol.

use std::{
    convert::Infallible,
    fmt, io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use spdy_session::{Initiator, RecvStream, SendStream, Session, Shutdown, Stream, StreamError};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    sync::mpsc,
};

use super::ClientError;
use crate::{
    Protocol, Size, Status,
    stdio::{Pieces, end_at_reset, poll_data},
    websocket::PIECE,
};

/// A command that runs on a server. Dropping it with all its streams ends the session, and the
/// server ends the command.
///
/// Read all outputs, or drop them, because an output that is not read delays the others. The same
/// is true of an outcome, which is mostly short: [`copy`](Self::copy) reads it meanwhile.
#[derive(Debug)]
#[non_exhaustive]
pub struct Remote {
    /// The protocol that the server has chosen.
    pub protocol: Protocol,
    /// The input, if it was asked for. Shut it down to end the input.
    pub stdin: Option<Input>,
    /// The output, if it was asked for.
    pub stdout: Option<Output>,
    /// The errors, if they were asked for and there is no terminal.
    pub stderr: Option<Output>,
    /// The sizes of the terminal, if there is one. Send the first size soon, because servers wait
    /// for it.
    pub resize: Option<Resizer>,
    pub(super) error: Output,
    pub(super) session: Held,
}

impl Remote {
    /// Returns a handle that can break the session off.
    pub(crate) fn held(&self) -> Held {
        self.session.clone()
    }

    /// Copies between streams of this side and those of the command, and waits for the command to
    /// end. The input of the command ends when `stdin` does, and the outputs are flushed at the
    /// end. The command may end before `stdin` does: the rest of it is not read.
    ///
    /// Streams that were taken before are not copied. If the future is dropped, the session is
    /// broken off, and the command does not see the end of its input.
    ///
    /// # Errors
    ///
    /// As [`outcome`](Self::outcome). An error of `stdin`, `stdout` or `stderr` is a
    /// [`ClientError::Stream`] as well, and breaks the session off.
    pub async fn copy(
        mut self,
        mut stdin: impl AsyncRead + Unpin,
        mut stdout: impl AsyncWrite + Unpin,
        mut stderr: impl AsyncWrite + Unpin,
    ) -> Result<Status, ClientError> {
        let session = self.held();
        let mut to = self.stdin.take();
        let (from_stdout, from_stderr) = (self.stdout.take(), self.stderr.take());
        let input = pin!(copy_input(&mut stdin, &mut to));
        let outputs = async {
            let out = copy_output(from_stdout, &mut stdout);
            let err = copy_output(from_stderr, &mut stderr);
            tokio::try_join!(out, err).map_err(ClientError::from)
        };
        // The command may close its outputs and go on reading.
        let end = pin!(self.outcome_with(outputs));
        // It is dropped before the input, which does not look complete then.
        let breaking = Breaking::new(session);
        let (_, outcome) = tokio::select! {
            error = input => return Err(error.into()),
            ended = end => ended?,
        };
        breaking.release();
        Ok(outcome)
    }

    /// Waits for the outcome and for the copying of streams that were taken. The outcome is read
    /// meanwhile, because an unread one could stop the other streams.
    pub(super) async fn outcome_with<T, E>(
        mut self,
        copying: impl Future<Output = Result<T, E>>,
    ) -> Result<(T, Status), E>
    where
        ClientError: Into<E>,
    {
        // Without them the session or the terminal would end before the copying.
        let _held = (self.session.clone(), self.resize.take());
        let outcome = async { Ok(self.outcome().await) };
        let (copied, outcome) = tokio::try_join!(copying, outcome)?;
        Ok((copied, outcome.map_err(Into::into)?))
    }

    /// Waits for the command to end, without a timeout. Streams that were not taken are dropped
    /// first, including the input.
    ///
    /// # Errors
    ///
    /// [`ClientError::Stream`] if the session was lost before the outcome, or
    /// [`ClientError::Status`].
    pub async fn outcome(self) -> Result<Status, ClientError> {
        let Self {
            protocol,
            stdin,
            stdout,
            stderr,
            resize,
            mut error,
            session: _session,
        } = self;
        // A stream that is not read would delay the outcome.
        drop((stdin, stdout, stderr, resize));
        let mut told = Vec::new();
        let mut limited = (&mut error).take(MAX_STATUS as u64);
        limited.read_to_end(&mut told).await?;
        judge(protocol, &told, error.is_reset())
    }
}

/// Copies an input until the command reads no more. Returns only if it cannot be read.
async fn copy_input(from: &mut (impl AsyncRead + Unpin), to: &mut Option<Input>) -> io::Error {
    let mut piece = vec![0; PIECE];
    while let Some(open) = to {
        match from.read(&mut piece).await {
            Ok(0) => {
                _ = open.shutdown().await;
                *to = None;
            }
            Ok(length) if open.write_all(&piece[..length]).await.is_ok() => {}
            Ok(_) => *to = None,
            Err(error) => return error,
        }
    }
    std::future::pending().await
}

async fn copy_output(from: Option<Output>, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    if let Some(mut from) = from {
        tokio::io::copy(&mut from, to).await?;
    }
    to.flush().await
}

/// Returns the outcome that the whole error stream of a command carries.
///
/// # Errors
///
/// As [`Remote::outcome`].
pub(crate) fn judge(
    protocol: Protocol,
    told: &[u8],
    is_reset: bool,
) -> Result<Status, ClientError> {
    // In v4 too, an empty error stream means success. But a server that resets it has given up.
    if told.is_empty() && protocol.has_status() && is_reset {
        return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
    }
    if told.is_empty() {
        return Ok(Status::Success);
    }
    if protocol.has_status() {
        return Status::from_json(told).map_err(ClientError::Status);
    }
    Ok(Status::internal(format_args!(
        "error executing remote command: {}",
        String::from_utf8_lossy(told)
    )))
}

/// Keeps a session alive.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Spdy(Session),
    WebSocket { _alive: Alive, severed: Severed },
}

impl Held {
    /// Breaks the session off, so that a stream that is dropped from now on does not look like the
    /// end of the input.
    pub(crate) fn sever(&self) {
        match self {
            Self::Spdy(session) => session.shutdown(Shutdown::Now),
            Self::WebSocket { severed, .. } => severed.set(),
        }
    }
}

/// Breaks a session off when it is dropped.
#[derive(Debug)]
pub(crate) struct Breaking(Option<Held>);

impl Breaking {
    pub(crate) const fn new(session: Held) -> Self {
        Self(Some(session))
    }

    /// Lets the session go on.
    pub(crate) fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Breaking {
    fn drop(&mut self) {
        if let Some(session) = &self.0 {
            session.sever();
        }
    }
}

/// Whether a session over WebSocket is broken off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Severed(Arc<AtomicBool>);

impl Severed {
    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Each handle of a session over WebSocket has a clone. The session ends when the last one is
/// dropped.
pub(super) type Alive = mpsc::Sender<Infallible>;

/// The input of a command that runs on a server. `shutdown` ends it. Dropping it ends it too; over
/// SPDY it is reset, which servers take for the end.
///
/// Writing waits until the command reads, without a timeout.
#[derive(Debug)]
pub struct Input(To);

enum To {
    Spdy {
        to: SendStream,
        /// It receives nothing.
        _from: RecvStream,
    },
    Channel {
        pipe: DuplexStream,
        /// Whether the protocol can express the end of an input.
        has_close: bool,
        _alive: Alive,
    },
}

/// Shows nothing of the bytes that are sent.
impl fmt::Debug for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spdy { to, .. } => to.fmt(f),
            Self::Channel { has_close, .. } => f
                .debug_struct("Channel")
                .field("has_close", has_close)
                .finish_non_exhaustive(),
        }
    }
}

impl Input {
    pub(super) fn spdy(stream: Stream) -> Self {
        let (from, to) = stream.split();
        Self(To::Spdy { to, _from: from })
    }

    pub(super) const fn channel(pipe: DuplexStream, has_close: bool, alive: Alive) -> Self {
        Self(To::Channel {
            pipe,
            has_close,
            _alive: alive,
        })
    }

    /// Waits for room and writes a piece, if possible without copying it.
    pub(crate) async fn send(&mut self, piece: Bytes) -> io::Result<()> {
        match &mut self.0 {
            To::Spdy { to, .. } => {
                to.ready().await?;
                Ok(to.send_data(piece, false)?)
            }
            To::Channel { pipe, .. } => pipe.write_all(&piece).await,
        }
    }

    fn to(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match &mut self.0 {
            To::Spdy { to, .. } => Pin::new(to),
            To::Channel { pipe, .. } => Pin::new(pipe),
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.to().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to().poll_flush(cx)
    }

    /// Fails with `Unsupported` over v4 of WebSocket, which cannot express the end.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let To::Channel {
            has_close: false, ..
        } = &self.0
        {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        }
        self.to().poll_shutdown(cx)
    }
}

/// An output of a command that runs on a server. A reset by the server counts as the end, because
/// some servers end outputs in this way. Reading fails if the session is lost.
#[derive(Debug)]
pub struct Output(From);

#[derive(Debug)]
enum From {
    Spdy {
        from: RecvStream,
        /// It sends nothing, but dropping it would reset the stream.
        _to: SendStream,
        is_reset: bool,
    },
    Channel {
        from: Pieces,
        _alive: Alive,
    },
}

impl Output {
    pub(super) fn spdy(stream: Stream) -> Self {
        let (from, to) = stream.split();
        Self(From::Spdy {
            from,
            _to: to,
            is_reset: false,
        })
    }

    /// Returns whether the server has reset the output, which counts as its end.
    const fn is_reset(&self) -> bool {
        matches!(self.0, From::Spdy { is_reset: true, .. })
    }

    /// Waits for the next piece, as it arrived. Returns the end, or an error, each time after the
    /// last piece.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match &mut self.0 {
            From::Spdy { from, is_reset, .. } => Poll::Ready(match ready!(poll_data(from, cx)) {
                Some(Err(StreamError::Reset {
                    initiator: Initiator::Remote,
                    ..
                })) => {
                    *is_reset = true;
                    None
                }
                next => next.map(|next| next.map_err(io::Error::from)),
            }),
            From::Channel { from, .. } => from.poll_next(cx),
        }
    }

    /// Returns the last moment at which the server could not send on any stream, because this side
    /// has not read another one.
    pub(super) fn held_up_until(&self, now: std::time::Instant) -> Option<std::time::Instant> {
        match &self.0 {
            From::Spdy { from, .. } => from.held_up_until(now),
            From::Channel { .. } => None,
        }
    }

    pub(super) const fn channel(from: Pieces, alive: Alive) -> Self {
        Self(From::Channel {
            from,
            _alive: alive,
        })
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            From::Spdy { from, is_reset, .. } => {
                let read = ready!(Pin::new(from).poll_read(cx, buffer));
                let kind = read.as_ref().err().map(io::Error::kind);
                *is_reset |= kind == Some(io::ErrorKind::ConnectionReset);
                end_at_reset(read)
            }
            From::Channel { from, .. } => Pin::new(from).poll_read(cx, buffer),
        }
    }
}

/// Sends the sizes of a terminal.
#[derive(Debug)]
pub struct Resizer(Sizes);

#[derive(Debug)]
enum Sizes {
    Spdy(Stream),
    Channel {
        sizes: mpsc::Sender<Bytes>,
        _alive: Alive,
    },
}

impl Resizer {
    pub(super) const fn spdy(stream: Stream) -> Self {
        Self(Sizes::Spdy(stream))
    }

    pub(super) const fn channel(sizes: mpsc::Sender<Bytes>, alive: Alive) -> Self {
        Self(Sizes::Channel {
            sizes,
            _alive: alive,
        })
    }

    /// Sends a size.
    ///
    /// # Errors
    ///
    /// Fails if the command has ended.
    pub async fn resize(&mut self, size: Size) -> io::Result<()> {
        let json = size.to_json();
        match &mut self.0 {
            Sizes::Spdy(stream) => stream.write_all(json.as_bytes()).await,
            Sizes::Channel { sizes, .. } => {
                let sent = sizes.send(json.into()).await;
                sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}

/// The largest status, in bytes.
pub(crate) const MAX_STATUS: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn debug_output_shows_nothing_that_is_sent() {
        let (near, _far) = tokio::io::duplex(100);
        let mut input = Input::channel(near, true, mpsc::channel(1).0);
        input.write_all(b"secret").await.unwrap();
        let shown = format!("{input:?}");
        assert_eq!(shown, "Input(Channel { has_close: true, .. })");
    }
}
