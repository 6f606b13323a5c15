//! What a sending handle does with the cell of its stream.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use spdy_frame::HeaderBlock;

use super::{State, StreamCell, send_side::SendSide};
use crate::{
    StreamError,
    shared::{
        budget::{Left, Verdict},
        mailbox::News,
        wakers::register,
    },
    sync::MutexGuard,
};

/// Sending.
impl StreamCell {
    /// Replies to the peer's stream.
    pub(crate) fn send_reply(
        self: &Arc<Self>,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        self.send(fin, |send| send.set_reply(headers))
    }

    /// Replies to the peer's stream with everything that this side sends, and drops the sending
    /// half.
    pub(crate) fn reply_in_full(
        self: &Arc<Self>,
        headers: HeaderBlock,
        payload: Bytes,
    ) -> Result<(), StreamError> {
        self.send(true, |send| {
            send.set_reply(headers);
            send.dropped = true;
            send.push(payload, true, &self.hub.budget)
        })
    }

    pub(crate) fn send_data(
        self: &Arc<Self>,
        payload: Bytes,
        fin: bool,
    ) -> Result<(), StreamError> {
        if payload.is_empty() && !fin {
            return self.check_send();
        }
        self.send(fin, |send| send.push(payload, fin, &self.hub.budget))
    }

    pub(crate) fn send_headers(
        self: &Arc<Self>,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        self.send(fin, |send| send.push_headers(headers))
    }

    /// Calls `queue`, which returns what it does not keep, to be dropped without a lock.
    fn send<R>(
        self: &Arc<Self>,
        fin: bool,
        queue: impl FnOnce(&mut SendSide) -> R,
    ) -> Result<(), StreamError> {
        let mut state = self.lock();
        state.check_send()?;
        let unkept = queue(&mut state.send);
        let mut left = Left::default();
        if fin {
            state.send.finish();
            left = state.send.leave(self.id, &self.hub.budget);
        }
        self.enlist(state, News::Order);
        left.wake();
        drop(unkept);
        Ok(())
    }

    /// Copies as many of `bytes` as there is room for.
    pub(crate) fn poll_write(
        self: &Arc<Self>,
        cx: &Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        if bytes.is_empty() {
            return Poll::Ready(self.check_send().map(|()| 0));
        }
        let mut state = self.lock();
        state.check_send()?;
        let room = self.hub.budget.of_writer(state.send.queued());
        if room == 0 {
            state.send.awaited.room = true;
            return wait(state, cx);
        }
        let written = room.min(bytes.len());
        state.send.copy(&bytes[..written], &self.hub.budget);
        self.enlist(state, News::Order);
        Poll::Ready(Ok(written))
    }

    fn check_send(&self) -> Result<(), StreamError> {
        self.lock().check_send()
    }
}

/// The room for payload.
impl StreamCell {
    /// Waits for room in the queue.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        state.check_send()?;
        if self.hub.budget.of_writer(state.send.queued()) > 0 {
            return Poll::Ready(Ok(()));
        }
        state.send.awaited.room = true;
        wait(state, cx)
    }

    /// Waits until the stream may have another piece whose length is known only when the piece
    /// exists. `held` bytes are about to be queued before it. Reserves room for the piece and
    /// returns how much; the caller [gives it back](Self::give_back). For `is_modest` see
    /// [`Asking`](crate::shared::budget::Asking).
    pub(crate) fn poll_piece(
        self: &Arc<Self>,
        cx: &Context<'_>,
        held: usize,
        is_modest: bool,
    ) -> Poll<Result<usize, StreamError>> {
        let mut state = self.lock();
        state.check_send()?;
        let budget = &self.hub.budget;
        let asking = state.send.asking(held, is_modest);
        let verdict = match state.send.claim(self.id, asking, budget) {
            Ok(claimed) => {
                self.go_on(state);
                return Poll::Ready(Ok(claimed));
            }
            Err(verdict) => verdict,
        };
        state.send.awaited.piece = true;
        let replaced = register(&mut state.send.waker, cx);
        let (mut replaced_in_list, mut left) = (None, Left::default());
        let has_order = if verdict == Verdict::WhenOthersHaveSent {
            replaced_in_list = budget.wait(self.id, asking, cx);
            state.send.waits_for_others = true;
            // Others may just have sent: see `Budget::call_up`.
            if let Ok(claimed) = state.send.claim(self.id, asking, budget) {
                self.go_on(state);
                return Poll::Ready(Ok(claimed));
            }
            // In a larger window the piece might leave at once, and then need not wait for others.
            let asks = state.send.asks_for_grant();
            state.orders.await_grant |= asks;
            asks
        } else {
            left = state.send.leave(self.id, budget);
            let asks = verdict == Verdict::WhenWindowOpens && state.send.asks_for_window();
            state.orders.await_window |= asks;
            asks
        };
        if has_order {
            self.enlist(state, News::Order);
        } else {
            drop(state);
        }
        left.wake();
        drop((replaced, replaced_in_list));
        Poll::Pending
    }

    /// Notes that the stream may have another piece, and waits for nothing any more.
    fn go_on(&self, mut state: MutexGuard<'_, State>) {
        state.send.awaited.piece = false;
        let left = state.send.leave(self.id, &self.hub.budget);
        drop(state);
        left.wake();
    }

    /// Reserves room for a piece that is being made, of at most `most` bytes: see
    /// `Budget::reserve`. The caller [gives it back](Self::give_back).
    pub(crate) fn reserve(&self, most: usize) -> usize {
        let asking = self.lock().send.asking(0, true);
        self.hub.budget.reserve(asking, most)
    }

    pub(crate) fn give_back(&self, length: usize) {
        let others = self.hub.budget.give_back(length);
        others.into_iter().for_each(Waker::wake);
    }

    /// Notes that from now on no piece is longer than the room for it.
    pub(crate) fn promise_room(&self) {
        self.lock().send.is_modest = true;
    }
}

/// The progress of sending, and the end.
impl StreamCell {
    /// Waits until all payload has left the queues, here and in the machine.
    pub(crate) fn poll_flush(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        let is_done = state.send.queued() == 0;
        state.send.awaited.flushed = true;
        poll_until(state, is_done, cx)
    }

    /// Waits until FIN has been written to the transport.
    pub(crate) fn poll_written(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        state.send.awaited.written = true;
        poll_until(state, false, cx)
    }

    /// Waits until the stream ends. Returns [`StreamError::Finished`] if it ends in order.
    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<StreamError> {
        let state = self.lock();
        match &state.end {
            Some(end) => Poll::Ready(end.clone()),
            None if state.is_over() => Poll::Ready(StreamError::Finished),
            None => wait(state, cx),
        }
    }

    /// Returns whether this side has finished the stream.
    pub(crate) fn is_finished(&self) -> bool {
        !self.lock().send.is_open()
    }
}

impl State {
    /// Returns an error if the application cannot send more.
    fn check_send(&self) -> Result<(), StreamError> {
        match &self.end {
            Some(end) => Err(end.clone()),
            None if !self.send.is_open() => Err(StreamError::Finished),
            None => Ok(()),
        }
    }
}

fn poll_until(
    state: MutexGuard<'_, State>,
    is_done: bool,
    cx: &Context<'_>,
) -> Poll<Result<(), StreamError>> {
    match &state.end {
        // If FIN is written, everything that was written before an early end has left.
        _ if state.send.is_written() => Poll::Ready(Ok(())),
        Some(end) => Poll::Ready(Err(end.clone())),
        None if is_done => Poll::Ready(Ok(())),
        None => wait(state, cx),
    }
}

/// Registers the task that sends, and gives up the lock.
fn wait<T>(mut state: MutexGuard<'_, State>, cx: &Context<'_>) -> Poll<T> {
    let replaced = register(&mut state.send.waker, cx);
    drop(state);
    drop(replaced);
    Poll::Pending
}
