//! A transport whose peer is this program: it reads the bytes that it is given, and drops what is
//! written.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The transport, and with a clone of it the hand that feeds it. No task is woken.
#[derive(Clone, Default)]
pub(crate) struct Transport(Rc<RefCell<Inside>>);

#[derive(Default)]
struct Inside {
    input: VecDeque<Bytes>,
    written: usize,
}

impl Transport {
    /// Adds bytes that are read together.
    pub(crate) fn feed(&self, bytes: Bytes) {
        self.0.borrow_mut().input.push_back(bytes);
    }

    /// How many bytes were written so far.
    pub(crate) fn written(&self) -> usize {
        self.0.borrow().written
    }
}

impl AsyncRead for Transport {
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

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().written += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        self.0.borrow_mut().written += bytes;
        Poll::Ready(Ok(bytes))
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
