//! What a receiving handle does with the cell of its stream.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use spdy_frame::HeaderBlock;

use super::{
    State, StreamCell,
    recv_side::{Received, Reply},
};
use crate::{
    StreamError,
    proto::held_size,
    shared::{mailbox::News, wakers::register},
    sync::{MutexGuard, Ordering},
};

impl StreamCell {
    /// Waits for the SYN_REPLY.
    pub(crate) fn poll_response_headers(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Result<HeaderBlock, StreamError>> {
        let mut state = self.lock();
        match state.recv.take_reply() {
            Reply::Here(block) => Poll::Ready(Ok(block)),
            Reply::None | Reply::Taken => Poll::Ready(Err(StreamError::Finished)),
            Reply::Due => match &state.end {
                Some(end) => Poll::Ready(Err(end.clone())),
                None => wait(state, cx),
            },
        }
    }

    /// Waits for the next piece of payload or the next header block. Returns `None` after FIN.
    /// Everything that arrived before an early end is returned before the error. With `consumes`,
    /// payload counts as consumed when this returns it.
    pub(crate) fn poll_next(
        self: &Arc<Self>,
        cx: &Context<'_>,
        consumes: bool,
    ) -> Poll<Option<Result<Received, StreamError>>> {
        let mut state = self.lock();
        match state.recv.take() {
            Some(Received::Headers(block)) => {
                self.note_taken(state, &block);
                Poll::Ready(Some(Ok(Received::Headers(block))))
            }
            Some(Received::Data(payload)) => {
                if consumes {
                    self.note_consumed(state, payload.len());
                }
                Poll::Ready(Some(Ok(Received::Data(payload))))
            }
            None => poll_drained(state, cx),
        }
    }

    /// Waits for the next header block, and takes it even from behind payload that is not taken
    /// yet.
    pub(crate) fn poll_headers(
        self: &Arc<Self>,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<HeaderBlock, StreamError>>> {
        let mut state = self.lock();
        match state.recv.take_headers() {
            Some(block) => {
                self.note_taken(state, &block);
                Poll::Ready(Some(Ok(block)))
            }
            None => poll_drained(state, cx),
        }
    }

    /// Returns whether the peer has finished and everything that arrived was taken.
    pub(crate) fn is_drained(&self) -> bool {
        self.lock().recv.is_drained()
    }

    /// Returns the last moment at which the peer could not send payload, or `now` if it cannot now.
    pub(crate) fn held_up_until(&self, now: Instant) -> Option<Instant> {
        self.hub.held_up_until(now)
    }

    /// Returns credit for bytes that were taken and are consumed now.
    pub(crate) fn consume(self: &Arc<Self>, bytes: usize) {
        if bytes > 0 {
            self.note_consumed(self.lock(), bytes);
        }
    }

    /// Notes that the application has read a part of a piece, which does not count as consumed yet.
    pub(crate) fn note_partly_read(&self) {
        self.is_partly_read.store(true, Ordering::Relaxed);
    }

    fn note_consumed(self: &Arc<Self>, mut state: MutexGuard<'_, State>, bytes: usize) {
        state.orders.consumed += bytes;
        self.enlist(state, News::Consumed(self.hub.budget.consume(bytes)));
    }

    /// Notes that the application has taken a header block.
    fn note_taken(self: &Arc<Self>, mut state: MutexGuard<'_, State>, block: &HeaderBlock) {
        state.orders.headers += held_size(block);
        self.enlist(state, News::Taken);
    }
}

/// Returns how the stream ended, or waits. Everything that arrived was taken.
fn poll_drained<T>(
    state: MutexGuard<'_, State>,
    cx: &Context<'_>,
) -> Poll<Option<Result<T, StreamError>>> {
    if state.recv.fin {
        return Poll::Ready(None);
    }
    match &state.end {
        Some(end) => Poll::Ready(Some(Err(end.clone()))),
        None => wait(state, cx),
    }
}

/// Registers the task that reads, and gives up the lock.
fn wait<T>(mut state: MutexGuard<'_, State>, cx: &Context<'_>) -> Poll<T> {
    let replaced = register(&mut state.recv.waker, cx);
    drop(state);
    drop(replaced);
    Poll::Pending
}
