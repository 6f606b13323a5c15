//! Transports in memory, and what goes wrong with them at the origin's end.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    time::Sleep,
};

use super::books::Counted;

/// The end of the side that connects.
pub(crate) struct Near {
    pub(crate) io: DuplexStream,
    /// The connection was reset, so the last byte is followed by an error and not by an end.
    pub(crate) is_reset: Arc<AtomicBool>,
    pub(crate) _counted: Counted,
}

impl AsyncRead for Near {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        let is_end = matches!(outcome, Poll::Ready(Ok(()))) && buf.filled().len() == before;
        if is_end && self.is_reset.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        outcome
    }
}

impl AsyncWrite for Near {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// How a connection ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// Nothing moves any more, and nothing is said about it.
    Freeze,
}

/// The origin's end, which works until it has written a number of bytes, until a moment has come,
/// or until all open ones freeze.
pub(crate) struct Far {
    io: Option<DuplexStream>,
    end: End,
    bytes_left: usize,
    moment: Pin<Box<Sleep>>,
    is_reset: Arc<AtomicBool>,
    is_sound: Arc<AtomicBool>,
    is_frozen: bool,
    frost: Arc<AtomicBool>,
    graveyard: Graveyard,
}

/// Transports that are frozen: they stay open although their servers are gone.
pub(crate) type Graveyard = Arc<Mutex<Vec<DuplexStream>>>;

impl Far {
    pub(crate) fn new(
        io: DuplexStream,
        end: End,
        bytes: usize,
        moment: Sleep,
        frost: &Arc<AtomicBool>,
        graveyard: &Graveyard,
    ) -> Self {
        Self {
            frost: Arc::clone(frost),
            graveyard: Arc::clone(graveyard),
            io: Some(io),
            end,
            bytes_left: bytes,
            moment: Box::pin(moment),
            is_reset: Arc::default(),
            is_sound: Arc::new(AtomicBool::new(true)),
            is_frozen: false,
        }
    }

    pub(crate) fn is_reset(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_reset)
    }

    /// Whether nothing has gone wrong yet.
    pub(crate) fn is_sound(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_sound)
    }

    fn fail(&mut self) {
        self.is_sound.store(false, Ordering::Relaxed);
        match self.end {
            End::Freeze => self.is_frozen = true,
            End::Reset => {
                self.is_reset.store(true, Ordering::Relaxed);
                self.io = None;
            }
            End::Close => self.io = None,
        }
    }

    /// The transport, unless its end has come.
    fn transport(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut DuplexStream>> {
        if self.frost.load(Ordering::Relaxed) {
            self.end = End::Freeze;
            self.fail();
        }
        let is_over = self.is_frozen || self.io.is_none();
        if !is_over && (self.bytes_left == 0 || self.moment.as_mut().poll(cx).is_ready()) {
            self.fail();
        }
        if self.is_frozen {
            return Poll::Pending;
        }
        let broken = io::ErrorKind::BrokenPipe;
        Poll::Ready(self.io.as_mut().ok_or_else(|| broken.into()))
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.is_sound.store(false, Ordering::Relaxed);
        if self.is_frozen
            && let Some(io) = self.io.take()
        {
            let mut graveyard = self
                .graveyard
                .lock()
                .expect("nothing panics while it has it");
            graveyard.push(io);
        }
    }
}

impl AsyncRead for Far {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let transport = std::task::ready!(self.transport(cx))?;
        Pin::new(transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for Far {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = self.bytes_left.min(buf.len());
        let transport = std::task::ready!(self.transport(cx))?;
        let written = Pin::new(transport).poll_write(cx, &buf[..most]);
        if let Poll::Ready(Ok(written)) = written {
            self.bytes_left -= written;
            if self.bytes_left == 0 {
                self.fail();
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = std::task::ready!(self.transport(cx))?;
        Pin::new(transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = std::task::ready!(self.transport(cx))?;
        Pin::new(transport).poll_shutdown(cx)
    }
}
