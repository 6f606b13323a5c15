//! The streams of a command, over any transport.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use spdy_session::{Initiator, Received, RecvStream, SendStream, StreamError};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    sync::{mpsc, watch},
};

pub use self::resize::{Resize, Size};
use crate::server::Session;

mod copy;
mod resize;

/// The streams of a command that the client asked for, and a signal that the client is gone.
///
/// A program can drop any stream at any time. Dropping an output ends it. The client gets the
/// outcome when all outputs have ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Io {
    /// The client's input. `None` if the client sends none; then the command should get an empty
    /// input.
    pub stdin: Option<Stdin>,
    /// The output of the command.
    pub stdout: Option<Stdout>,
    /// The errors of the command. `None` for a command with a terminal, whose errors are part of
    /// its output.
    pub stderr: Option<Stdout>,
    /// The sizes of the client's terminal, if the command has one and the client sends sizes.
    pub resize: Option<Resize>,
    /// Whether the command has a terminal.
    pub tty: bool,
    /// Signals that the client is gone.
    pub client: Client,
    /// How long outputs can stay open after the command: see [`run`](Self::run).
    pub(crate) drain: Option<Duration>,
}

/// The client's input. It ends only if the client has finished it or reset it. If the client is
/// gone, reading fails.
///
/// While it is not read, it stops everything that the client sends, including new sizes of the
/// terminal. Dropping it throws the rest of the input away.
#[derive(Debug)]
pub struct Stdin {
    source: Source,
    session: Session,
}

#[derive(Debug)]
enum Source {
    Spdy(RecvStream),
    Channel(Pieces),
}

/// A message of one channel of a WebSocket.
pub(crate) enum Piece {
    Data(Bytes),
    End,
}

/// The messages of one channel. They end with an error unless their end has arrived.
pub(crate) struct Pieces {
    queue: mpsc::Receiver<Piece>,
    current: Bytes,
    is_over: bool,
}

/// Shows nothing of what the peer sends.
impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces")
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

impl Pieces {
    pub(crate) const fn new(queue: mpsc::Receiver<Piece>) -> Self {
        Self {
            queue,
            current: Bytes::new(),
            is_over: false,
        }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if !self.current.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.current))));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        Poll::Ready(match std::task::ready!(self.queue.poll_recv(cx)) {
            Some(Piece::Data(piece)) => Some(Ok(piece)),
            Some(Piece::End) => {
                self.is_over = true;
                None
            }
            None => Some(Err(io::ErrorKind::ConnectionAborted.into())),
        })
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = std::task::ready!(self.poll_next(cx)).transpose()? else {
            return Poll::Ready(Ok(()));
        };
        let taken = buffer.remaining().min(piece.len());
        buffer.put_slice(&piece.split_to(taken));
        self.current = piece;
        Poll::Ready(Ok(()))
    }
}

impl Stdin {
    pub(crate) fn spdy(stream: RecvStream) -> Self {
        Self::new(Source::Spdy(stream))
    }

    pub(crate) fn channel(pieces: Pieces) -> Self {
        Self::new(Source::Channel(pieces))
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            session: Session::default(),
        }
    }

    /// Counts the bytes that are read as input of a session.
    pub(crate) fn counted(mut self, session: &Session) -> Self {
        self.session = session.clone();
        self
    }

    /// Waits for the next piece of input, as it arrived. Returns `None` at the end. Cancel safe.
    ///
    /// # Errors
    ///
    /// Fails if the client is gone.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let next = self.source.poll_next(cx);
        if let Poll::Ready(Some(Ok(piece))) = &next {
            self.session.received(piece.len());
        }
        next
    }
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match self {
            Self::Spdy(stream) => poll_data(stream, cx).map(|next| match next {
                // Some clients end their input in this way.
                Some(Err(StreamError::Reset {
                    initiator: Initiator::Remote,
                    ..
                })) => None,
                next => next.map(|next| next.map_err(io::Error::from)),
            }),
            Self::Channel(pieces) => pieces.poll_next(cx),
        }
    }
}

/// Waits for the next piece of payload of a stream, without header blocks.
pub(crate) fn poll_data(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, StreamError>>> {
    loop {
        match std::task::ready!(stream.poll_next(cx)) {
            Some(Ok(Received::Headers(_))) => {}
            Some(Ok(Received::Data(piece))) => return Poll::Ready(Some(Ok(piece))),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        }
    }
}

impl AsyncRead for Stdin {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match &mut self.source {
            Source::Spdy(stream) => {
                end_at_reset(std::task::ready!(Pin::new(stream).poll_read(cx, buffer)))
            }
            Source::Channel(pieces) => Pin::new(pieces).poll_read(cx, buffer),
        };
        self.session.received(buffer.filled().len() - before);
        read
    }
}

/// Turns a reset by the peer into the end of the stream, because many peers end streams in this
/// way.
pub(crate) fn end_at_reset(read: io::Result<()>) -> Poll<io::Result<()>> {
    Poll::Ready(match read {
        Err(error) if is_reset_by_peer(&error) => Ok(()),
        read => read,
    })
}

/// Returns whether the peer has reset a stream. A stream that was reset because the peer broke a
/// rule has not ended.
fn is_reset_by_peer(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(
        error,
        Some(StreamError::Reset {
            initiator: Initiator::Remote,
            ..
        })
    )
}

/// An output to the client. Writing waits while the client does not read.
///
/// Dropping it or shutting it down ends it, after everything that was written.
#[derive(Debug)]
pub struct Stdout {
    sink: Sink,
    session: Session,
}

enum Sink {
    Spdy(Returning),
    Pipe(DuplexStream),
}

/// Shows nothing of what the command writes.
impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spdy(stream) => stream.fmt(f),
            Self::Pipe(_) => f.debug_tuple("Pipe").finish_non_exhaustive(),
        }
    }
}

impl Stdout {
    /// Returns an output over a stream. When the output is dropped, the stream is finished and sent
    /// to `back`.
    pub(crate) fn spdy(stream: SendStream, back: mpsc::UnboundedSender<SendStream>) -> Self {
        Self::new(Sink::Spdy(Returning {
            stream: Some(stream),
            back,
        }))
    }

    pub(crate) fn pipe(pipe: DuplexStream) -> Self {
        Self::new(Sink::Pipe(pipe))
    }

    fn new(sink: Sink) -> Self {
        Self {
            sink,
            session: Session::default(),
        }
    }

    /// Counts the bytes that are written as output of a session.
    pub(crate) fn counted(mut self, session: &Session) -> Self {
        self.session = session.clone();
        self
    }

    /// Waits for room and writes a piece, if possible without copying it.
    ///
    /// # Errors
    ///
    /// Fails if the client is gone, or reads no more of this output.
    pub async fn send(&mut self, piece: Bytes) -> io::Result<()> {
        let bytes = piece.len();
        match &mut self.sink {
            Sink::Spdy(stream) => {
                let stream = stream.get()?;
                stream.ready().await?;
                stream.send_data(piece, false)?;
            }
            Sink::Pipe(pipe) => pipe.write_all(&piece).await?,
        }
        self.session.sent(bytes);
        Ok(())
    }

    fn sink(&mut self) -> io::Result<Pin<&mut (dyn AsyncWrite + Unpin)>> {
        let sink: &mut (dyn AsyncWrite + Unpin) = match &mut self.sink {
            Sink::Spdy(stream) => stream.get()?,
            Sink::Pipe(pipe) => pipe,
        };
        Ok(Pin::new(sink))
    }
}

impl AsyncWrite for Stdout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.sink()?.poll_write(cx, bytes);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.session.sent(*bytes);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink()?.poll_shutdown(cx)
    }
}

/// A stream that is finished and sent to `back` when it is dropped.
#[derive(Debug)]
struct Returning {
    stream: Option<SendStream>,
    back: mpsc::UnboundedSender<SendStream>,
}

impl Returning {
    fn get(&mut self) -> io::Result<&mut SendStream> {
        self.stream
            .as_mut()
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            // The command may have shut it down already, or the client may be gone.
            _ = stream.finish();
            _ = self.back.send(stream);
        }
    }
}

/// Signals that the client is gone. Clones share the signal.
#[derive(Clone, Debug)]
pub struct Client(watch::Receiver<bool>);

impl Client {
    /// Returns the sender of the signal, and the receiver. Dropping the sender sends the signal
    /// too.
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until the client is gone. The command then has some time to end: see
    /// [`Server::grace`](crate::Server::grace). Cancel safe.
    pub async fn gone(&mut self) {
        // An error means that the sender was dropped.
        _ = self.0.wait_for(|gone| *gone).await;
    }

    /// Returns whether the client is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn debug_output_shows_nothing_that_is_said() {
        let (near, _far) = tokio::io::duplex(100);
        let mut stdout = Stdout::pipe(near);
        stdout.write_all(b"secret").await.unwrap();
        let debug = format!("{stdout:?}");
        assert!(
            debug.contains("Pipe(..)") && !debug.contains("secret"),
            "{debug}"
        );
    }

    #[test]
    fn only_a_reset_of_the_peer_is_an_end() {
        for (initiator, is_end) in [(Initiator::Remote, true), (Initiator::Local, false)] {
            let status = spdy_session::RstStatus::CANCEL;
            let error = StreamError::Reset { status, initiator };
            let read = end_at_reset(Err(error.into()));
            assert_eq!(matches!(read, Poll::Ready(Ok(()))), is_end);
        }
        let error = StreamError::NotProcessed;
        assert!(matches!(
            end_at_reset(Err(error.into())),
            Poll::Ready(Err(_))
        ));
    }
}
