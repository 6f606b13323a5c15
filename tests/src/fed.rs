//! A transport in memory whose peer is the test itself. It wakes no task, so it is for code that is
//! polled by hand.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Takes what is written to a [`Fed`] transport.
pub trait Sink {
    /// Returns how many bytes it takes of these pieces. 0 means that the transport is full.
    fn take(&mut self, pieces: &[IoSlice<'_>]) -> usize;
}

/// A transport that reads the bytes that it is fed, and writes to a [`Sink`]. Clones are the same
/// transport.
pub struct Fed<S>(Rc<RefCell<Inside<S>>>);

struct Inside<S> {
    input: VecDeque<Bytes>,
    sink: S,
}

impl<S> Fed<S> {
    /// Creates a transport without input.
    pub fn new(sink: S) -> Self {
        let input = VecDeque::new();
        Self(Rc::new(RefCell::new(Inside { input, sink })))
    }

    /// Adds bytes that are read together.
    pub fn feed(&self, bytes: Bytes) {
        self.0.borrow_mut().input.push_back(bytes);
    }

    /// Looks at the sink, or changes it.
    pub fn sink<T>(&self, act: impl FnOnce(&mut S) -> T) -> T {
        act(&mut self.0.borrow_mut().sink)
    }
}

impl<S> Clone for Fed<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Fed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fed")
    }
}

impl<S> AsyncRead for Fed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let input = &mut self.0.borrow_mut().input;
        let Some(front) = input.front_mut() else {
            return Poll::Pending;
        };
        let bytes = front.len().min(to.remaining());
        to.put_slice(&front[..bytes]);
        front.advance(bytes);
        if front.is_empty() {
            input.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Sink> AsyncWrite for Fed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.0.borrow_mut().sink.take(pieces) {
            0 => Poll::Pending,
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
