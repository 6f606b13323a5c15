//! The transport: a read buffer in front, vectored writes behind.

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

use crate::proto::Connection;

/// A transport, with the bytes that were read and not handled.
pub(super) struct Transport<IO> {
    io: IO,
    buffer: BytesMut,
    /// The size of the memory that `buffer` is in.
    buffer_size: usize,
    /// Something was written since the last flush.
    unflushed: bool,
    shut_down: bool,
    /// Bytes that were thrown away at the end.
    drained: usize,
}

/// The outcome of a read.
#[derive(Debug)]
pub(super) enum Read {
    Some,
    /// Nothing now; the task is woken when there is.
    Nothing,
    /// The peer has finished.
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
            shut_down: false,
            drained: 0,
        }
    }

    /// What was read and not handled yet.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether everything that was read is handled.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// How much memory waits for the rest of a frame, in bytes. A buffer without one is given up at
    /// the next rest.
    pub(super) fn held(&self) -> usize {
        if self.buffer.is_empty() {
            0
        } else {
            self.buffer.capacity()
        }
    }

    /// How much memory a slice of the buffer keeps alive, in bytes.
    pub(super) fn buffer_size(&self) -> usize {
        self.buffer_size
    }

    /// Makes room for what is read next. For the rest of a long control frame the buffer grows by
    /// half: left to itself it would double, and keep what was in front of the frame.
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
                // Where the thread is ending already, it is just dropped.
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
        // The future has no state of its own: dropping it loses nothing.
        match pin!(self.io.read_buf(&mut self.buffer)).poll(cx) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Ok(0)) => Read::End,
            Poll::Ready(Ok(_)) => Read::Some,
            Poll::Ready(Err(error)) => Read::Failed(error),
        }
    }

    /// Writes until the connection has nothing more for now, and flushes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        now: Instant,
    ) -> Poll<io::Result<()>> {
        loop {
            let out = connection.poll_transmit(now);
            if !out.has_remaining() {
                break;
            }
            let Poll::Ready(written) = poll_write_some(Pin::new(&mut self.io), cx, out) else {
                connection.release_buffers();
                return Poll::Pending;
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the writing side. A transport that fails at it has ended as well.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shut_down {
            _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
            self.shut_down = true;
        }
        Poll::Ready(())
    }

    /// Reads and throws away, until the peer has finished, or goes on for too long.
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

/// Writes what one call takes.
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
    /// The read buffer that a session gave up last, for the next one of the thread that reads: most
    /// sessions rest most of the time, and those that do not would ask the system for the same
    /// memory again and again.
    static SPARE: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// How much is read at once, in bytes.
const CHUNK: usize = 32 * 1024;

/// How much is thrown away after the end, in bytes: a peer that sends more does not stop by being
/// read.
const MAX_DRAINED: usize = 256 * 1024;

/// A buffer of less than this, in bytes, is not worth a copy to make it smaller.
const SMALL: usize = 1024;

/// How many pieces are written at once.
const SLICES: usize = 32;
