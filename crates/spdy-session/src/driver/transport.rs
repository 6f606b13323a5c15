//! The transport, with a read buffer and vectored writes.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    mem,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::proto::{Connection, Phase};

/// A transport, with the bytes that were read and not handled.
pub(super) struct Transport<IO> {
    io: IO,
    buffer: BytesMut,
    /// The size of the allocation of `buffer`.
    buffer_size: usize,
    /// Whether bytes were written since the last flush.
    unflushed: bool,
    /// How many bytes the last call of `poll_write` has written.
    pub(super) written: usize,
    shut_down: bool,
    /// How many bytes were thrown away at the end.
    pub(super) drained: usize,
}

/// The outcome of a read.
#[derive(Debug)]
pub(super) enum Read {
    Some,
    /// Nothing now. The task is woken when there is more.
    Nothing,
    /// The peer has closed its writing side.
    End,
    Failed(io::Error),
}

impl<IO> Transport<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            buffer_size: 0,
            unflushed: false,
            written: 0,
            shut_down: false,
            drained: 0,
        }
    }

    /// Returns the bytes that were read and not handled.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Returns whether all bytes that were read were handled.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Returns whether the transport has not passed on everything that it has taken.
    pub(super) fn is_unflushed(&self) -> bool {
        self.unflushed
    }

    /// Returns whether everything is written, and the writing side is closed.
    pub(super) fn is_shut_down(&self) -> bool {
        self.shut_down
    }

    /// Returns how much memory waits for the rest of a frame, in bytes. A buffer without such a
    /// frame is freed at the next rest.
    pub(super) fn held(&self) -> usize {
        if self.buffer.is_empty() {
            0
        } else {
            self.buffer.capacity()
        }
    }

    /// Returns how much memory a slice of the buffer keeps alive, in bytes.
    pub(super) fn buffer_size(&self) -> usize {
        self.buffer_size
    }

    /// Makes room for the next read. For the rest of a long control frame the buffer grows by half.
    /// Without this it would double, and keep the bytes in front of the frame.
    fn make_room(&mut self) {
        let length = self.buffer.len();
        if length > CHUNK {
            let mut larger = BytesMut::with_capacity(length + length / 2);
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        } else {
            if self.buffer.capacity() == 0 {
                self.buffer = SPARE.try_with(Cell::take).unwrap_or_default();
            }
            self.buffer.reserve(CHUNK);
        }
        self.buffer_size = self.buffer.capacity();
    }

    /// Frees memory before a pause that may be long.
    pub(super) fn rest(&mut self) {
        if self.buffer.is_empty() {
            let buffer = mem::take(&mut self.buffer);
            if self.buffer_size <= 2 * CHUNK {
                // If the thread is ending, the buffer is just dropped.
                _ = SPARE.try_with(|spare| spare.set(buffer));
            }
        } else if self.buffer.capacity() > 2 * self.buffer.len().max(SMALL) {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.buffer_size = self.buffer.capacity();
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Transport<IO> {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Read {
        if self.buffer.capacity() - self.buffer.len() < CHUNK / 2 {
            self.make_room();
        }
        // The future has no state, so dropping it loses nothing.
        match pin!(self.io.read_buf(&mut self.buffer)).poll(cx) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Ok(0)) => Read::End,
            Poll::Ready(Ok(_)) => Read::Some,
            Poll::Ready(Err(error)) => Read::Failed(error),
        }
    }

    /// Writes until the connection has nothing more for now, and flushes. On an error the transport
    /// counts as one that holds what it has taken since the last flush.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        now: Instant,
    ) -> Poll<io::Result<()>> {
        self.written = 0;
        loop {
            let out = connection.poll_transmit(now);
            if !out.has_remaining() {
                break;
            }
            let Poll::Ready(written) = poll_write_some(Pin::new(&mut self.io), cx, out) else {
                connection.release_buffers();
                return self.poll_flush_last(cx, connection);
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out.advance(written);
            self.written += written;
            self.unflushed = true;
        }
        self.poll_flush(cx)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Finds out whether a full transport holds bytes, as TLS does and TCP does not. It matters at
    /// the end of a session, and for the end of a stream, which is not lost if it has left. All
    /// else is flushed by the next write that finds room.
    fn poll_flush_last(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
    ) -> Poll<io::Result<()>> {
        if connection.phase() == Phase::Closing || connection.has_taken_end() {
            ready!(self.poll_flush(cx))?;
        }
        Poll::Pending
    }

    /// Closes the writing side. A transport that fails here has ended too.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shut_down {
            _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
            self.shut_down = true;
        }
        Poll::Ready(())
    }

    /// Reads and throws away bytes, until the peer has closed its writing side or has sent too
    /// much.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.drained < MAX_DRAINED {
            self.drained += self.buffer.len();
            self.buffer.clear();
            match self.poll_read(cx) {
                Read::Some => {}
                Read::Nothing => return Poll::Pending,
                Read::End | Read::Failed(_) => break,
            }
        }
        Poll::Ready(())
    }
}

/// Writes as much as one call takes.
fn poll_write_some(
    io: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    out: &impl Buf,
) -> Poll<io::Result<usize>> {
    if out.chunk().len() == out.remaining() {
        return io.poll_write(cx, out.chunk());
    }
    let mut slices = [IoSlice::new(&[]); SLICES];
    let filled = out.chunks_vectored(&mut slices);
    io.poll_write_vectored(cx, &slices[..filled])
}

thread_local! {
    /// A read buffer that a session has given up, for the next session of this thread that reads.
    /// Most sessions rest most of the time; the others would repeatedly allocate the same memory.
    static SPARE: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// The size of one read, in bytes.
const CHUNK: usize = 32 * 1024;

/// How many bytes are thrown away after the end. Reading does not stop a peer that sends more.
const MAX_DRAINED: usize = 256 * 1024;

/// A buffer smaller than this, in bytes, is not worth a copy into a smaller one.
const SMALL: usize = 1024;

/// How many slices are written with one call.
const SLICES: usize = 32;
