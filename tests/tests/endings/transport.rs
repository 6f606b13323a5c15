//! A connection in memory whose peer is the test. It behaves like TCP: FIN closes one direction, a
//! peer that has closed both answers the next bytes with a reset, and bytes that the peer does not
//! read stay in a buffer of a size that the test sets.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// The end that is under test.
#[derive(Debug)]
pub(crate) struct Near(Arc<Link>);

/// The end of the peer. Its methods do not wait.
#[derive(Clone, Debug)]
pub(crate) struct Far(Arc<Link>);

#[derive(Debug)]
struct Link {
    state: Mutex<State>,
    /// Bytes for the peer have arrived, or the near end is gone.
    news: Notify,
}

#[derive(Debug)]
struct State {
    to_near: Vec<u8>,
    to_far: Vec<u8>,
    /// How many bytes for the peer the system buffers.
    capacity: usize,
    life: Life,
    near_is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What the peer's system still does for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// FIN was sent, and bytes are accepted.
    HalfClosed,
    /// FIN was sent, and bytes are answered with a reset.
    Closed,
    Reset,
}

pub(crate) fn link() -> (Near, Far) {
    let state = State {
        to_near: Vec::new(),
        to_far: Vec::new(),
        capacity: LARGE,
        life: Life::Open,
        near_is_gone: false,
        reader: None,
        writer: None,
    };
    let link = Arc::new(Link {
        state: Mutex::new(state),
        news: Notify::new(),
    });
    (Near(Arc::clone(&link)), Far(link))
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Far {
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        state.to_near.extend_from_slice(bytes);
        state.wake();
    }

    /// Takes at most `most` of the bytes that have arrived.
    pub(crate) fn take(&self, most: usize) -> Vec<u8> {
        let mut state = self.0.lock();
        let len = state.to_far.len().min(most);
        let taken = state.to_far.drain(..len).collect();
        state.wake();
        taken
    }

    /// Waits for bytes, or for the end of the near side.
    pub(crate) async fn news(&self) {
        self.0.news.notified().await;
    }

    pub(crate) fn near_is_gone(&self) -> bool {
        self.0.lock().near_is_gone
    }

    /// Lets the system buffer at most `room` bytes more than it has.
    pub(crate) fn fill_up_to(&self, room: usize) {
        let mut state = self.0.lock();
        state.capacity = state.to_far.len() + room;
    }

    pub(crate) fn fin(&self) {
        self.become_(Life::HalfClosed);
    }

    pub(crate) fn close(&self) {
        self.become_(Life::Closed);
    }

    pub(crate) fn reset(&self) {
        self.become_(Life::Reset);
    }

    fn become_(&self, life: Life) {
        let mut state = self.0.lock();
        state.life = life;
        state.wake();
    }
}

impl AsyncRead for Near {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.life == Life::Reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let len = state.to_near.len().min(buf.remaining());
        if len > 0 {
            buf.put_slice(&state.to_near[..len]);
            state.to_near.drain(..len);
            return Poll::Ready(Ok(()));
        }
        match state.life {
            Life::HalfClosed | Life::Closed => Poll::Ready(Ok(())),
            _ => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Near {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        match state.life {
            Life::Reset => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            // The system accepts the bytes, and learns of the reset a moment later.
            Life::Closed => {
                state.life = Life::Reset;
                state.wake();
                return Poll::Ready(Ok(bytes.len()));
            }
            Life::Open | Life::HalfClosed => {}
        }
        let len = bytes
            .len()
            .min(state.capacity.saturating_sub(state.to_far.len()));
        if len == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.to_far.extend_from_slice(&bytes[..len]);
        self.0.news.notify_one();
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        self.0.lock().near_is_gone = true;
        self.0.news.notify_one();
    }
}

/// More than any exchange of these tests sends.
const LARGE: usize = 16 << 20;
