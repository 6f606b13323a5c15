//! A transport that fails at a certain call.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// What a transport does at one of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not ready, once.
    Pending,
    /// From then on it moves one byte at a time.
    Drip,
    /// It fails, and goes on failing.
    Error,
    /// It ends: reading gives nothing, writing takes nothing.
    End,
}

/// Where a transport fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) at: usize,
    pub(crate) fault: Fault,
}

/// A transport with a plan.
#[derive(Debug)]
pub(crate) struct Scripted {
    io: DuplexStream,
    plan: Option<Plan>,
    /// How many calls there were.
    calls: Arc<AtomicUsize>,
    has_failed: bool,
}

impl Scripted {
    pub(crate) fn new(io: DuplexStream, plan: Option<Plan>, calls: &Arc<AtomicUsize>) -> Self {
        Self {
            io,
            plan,
            calls: Arc::clone(calls),
            has_failed: false,
        }
    }

    /// The fault of this call, if it is its turn. Errors and ends stay.
    fn fault(&mut self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let plan = self.plan?;
        let is_due = match plan.fault {
            Fault::Pending => call == plan.at,
            Fault::Drip | Fault::Error | Fault::End => call >= plan.at,
        };
        self.has_failed |= is_due;
        is_due.then_some(plan.fault)
    }
}

fn failure() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "it is the turn of this call",
    )
}

fn once_more<T>(cx: &Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl AsyncRead for Scripted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.fault() {
            Some(Fault::Pending) => return once_more(cx),
            Some(Fault::Error) => return Poll::Ready(Err(failure())),
            Some(Fault::End) => return Poll::Ready(Ok(())),
            Some(Fault::Drip) => {
                let mut byte = [0];
                let mut one = ReadBuf::new(&mut byte);
                let read = Pin::new(&mut this.io).poll_read(cx, &mut one);
                buf.put_slice(one.filled());
                return read;
            }
            None => {}
        }
        Pin::new(&mut this.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.fault() {
            Some(Fault::Pending) => return once_more(cx),
            Some(Fault::Error) => return Poll::Ready(Err(failure())),
            Some(Fault::End) => return Poll::Ready(Ok(0)),
            Some(Fault::Drip) => return Pin::new(&mut this.io).poll_write(cx, &buf[..1]),
            None => {}
        }
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.fault() {
            Some(Fault::Pending) => return once_more(cx),
            Some(Fault::Error) => return Poll::Ready(Err(failure())),
            _ => {}
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.fault() {
            Some(Fault::Pending) => return once_more(cx),
            Some(Fault::Error) => return Poll::Ready(Err(failure())),
            _ => {}
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
