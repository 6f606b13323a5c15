//! The transport of a driver whose peer is a script, and the task that polls it.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A transport in memory whose other end is the script.
pub(super) struct Pipe(pub(super) Rc<RefCell<State>>);

#[derive(Default)]
pub(super) struct State {
    pub(super) input: BytesMut,
    pub(super) ended: bool,
    pub(super) reader: Option<Waker>,
    pub(super) output: Vec<u8>,
    /// Whether the output is read.
    pub(super) is_read: bool,
    pub(super) writer: Option<Waker>,
}

impl State {
    pub(super) fn wake(place: &mut Option<Waker>) {
        if let Some(waker) = place.take() {
            waker.wake();
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        if state.input.is_empty() && !state.ended {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes = state.input.len().min(buf.remaining());
        buf.put_slice(&state.input.split_to(bytes));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        if !state.is_read {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.output.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether a task was woken.
#[derive(Debug, Default)]
pub(super) struct Woken(pub(super) AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls a future once.
pub(super) fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    let mut future = pin!(future);
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}
