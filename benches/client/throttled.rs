//! A transport that is read at a limited rate, as by a client behind a slower link.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::transport::Transport;

pub(crate) struct Throttled {
    io: Box<dyn Transport>,
    /// The time that a byte takes, in seconds.
    byte: f64,
    /// When the bytes that were read would have arrived over the link.
    free: Instant,
    wait: Pin<Box<Sleep>>,
}

impl Throttled {
    /// Reads at most this many bytes a second.
    pub(crate) fn new(io: Box<dyn Transport>, rate: u64) -> Self {
        let now = Instant::now();
        Self {
            io,
            byte: 1.0 / rate as f64,
            free: now,
            wait: Box::pin(sleep_until(now)),
        }
    }
}

impl AsyncRead for Throttled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let now = Instant::now();
        // Timers have a granularity of a millisecond, so the link may be ahead by as much.
        if this.free > now + GRAIN {
            this.wait.as_mut().reset(this.free - GRAIN);
            ready!(this.wait.as_mut().poll(cx));
        }
        // A read may fill the whole buffer. What it brings counts afterwards.
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        this.free = this.free.max(now) + Duration::from_secs_f64(read as f64 * this.byte);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Throttled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

const GRAIN: Duration = Duration::from_millis(2);
