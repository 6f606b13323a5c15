//! What the driver does with a cell: it carries orders out, and stores the events of the stream.

use std::{mem, task::Waker, time::Instant};

use bytes::Bytes;
use spdy_frame::HeaderBlock;

use super::{StreamCell, recv_side::RecvSide};
use crate::{
    StreamError,
    proto::{Connection, Quiet},
    shared::wakers::wake,
    sync::Ordering,
};

impl StreamCell {
    /// Carries the orders out. Returns whether the stream is over.
    pub(crate) fn carry_out(&self, now: Instant, connection: &mut Connection) -> bool {
        let mut state = self.lock();
        state.is_listed = false;
        let id = self.id;
        let orders = mem::take(&mut state.orders);
        let queued = match orders.reset {
            Some(_) => None,
            None => state.send.take_orders(),
        };
        let window = state.send.window;
        let (is_released, is_over) = (state.is_released(), state.is_over());
        drop(state);
        connection.consume(id, orders.consumed);
        if orders.headers > 0 {
            connection.consume_headers(id, orders.headers);
        }
        match orders.reset {
            Some(status) => connection.reset(id, status),
            None => {
                if let Some(queued) = queued {
                    queued.hand_over(id, connection);
                }
                if orders.stop_reading {
                    connection.stop_reading(id);
                }
                if orders.await_window {
                    connection.await_window(now, id);
                }
                if orders.await_grant {
                    connection.await_grant(id, window);
                }
            }
        }
        if is_released {
            connection.release(id);
        }
        is_over
    }

    /// Returns whether the application has read a part of a piece since the last call.
    pub(crate) fn take_partly_read(&self) -> bool {
        self.is_partly_read.swap(false, Ordering::Relaxed)
    }

    /// Stores the peer's SYN_REPLY. Returns whether the stream is over.
    pub(crate) fn replied(&self, headers: HeaderBlock, fin: bool) -> bool {
        self.received(fin, |recv| recv.keep_reply(headers))
    }

    /// Stores a later header block. Returns its size if no handle wants it, and whether the stream
    /// is over.
    pub(crate) fn headers(&self, headers: HeaderBlock, fin: bool) -> (usize, bool) {
        let mut unwanted = 0;
        let over = self.received(fin, |recv| unwanted = recv.keep_headers(headers));
        (unwanted, over)
    }

    /// Stores payload, which is a slice of a read buffer of `buffer` bytes. Returns how many bytes
    /// of it no handle wants, and whether the stream is over.
    pub(crate) fn data(&self, payload: Bytes, fin: bool, buffer: usize) -> (usize, bool) {
        let mut unwanted = 0;
        let over = self.received(fin, |recv| unwanted = recv.keep_data(payload, buffer));
        (unwanted, over)
    }

    fn received(&self, fin: bool, keep: impl FnOnce(&mut RecvSide)) -> bool {
        let mut state = self.lock();
        keep(&mut state.recv);
        state.recv.fin |= fin;
        let wakers = (state.recv.waker.take(), state.take_closed_waker());
        let over = state.is_over();
        drop(state);
        wake(wakers.0);
        wake(wakers.1);
        over
    }

    /// Notes that bytes have left for the transport, with FIN if `fin` is set. Returns whether the
    /// stream is over.
    pub(crate) fn sent(&self, bytes: usize, fin: bool, window: usize) -> bool {
        let mut state = self.lock();
        let others = self.hub.budget.free(state.send.sent(bytes, fin));
        state.send.window = window;
        let waker = match state.send.take_due_waker(&self.hub.budget) {
            None => state.take_closed_waker(),
            due => due,
        };
        let over = state.is_over();
        drop(state);
        wake(waker);
        others.into_iter().for_each(Waker::wake);
        over
    }

    /// Notes that the window for which the stream has waited is open, or has changed. Returns
    /// whether the stream is over.
    pub(crate) fn window_opened(&self, window: usize) -> bool {
        let mut state = self.lock();
        state.send.window_opened(window);
        let waker = state.send.take_due_waker(&self.hub.budget);
        let over = state.is_over();
        drop(state);
        wake(waker);
        over
    }

    /// Drops the payload that the application has not taken for too long. After this the reader
    /// gets the error that follows, and no end, even if the stream was over. Returns the number of
    /// bytes.
    pub(crate) fn give_up(&self) -> usize {
        let mut state = self.lock();
        state.recv.fin = false;
        let end = state.end.take();
        let payload = state.recv.discard_payload();
        drop(state);
        drop(end);
        payload
    }

    /// Ends the stream with an error, unless it is over already. Everything that arrived can still
    /// be read. Returns whether both halves are dropped.
    pub(crate) fn fail(&self, error: StreamError) -> bool {
        let mut state = self.lock();
        if !state.is_over() {
            state.end = Some(error);
        }
        let (freed, queued) = state.send.discard();
        let others = self.hub.budget.free(freed);
        let left = state.send.leave(self.id, &self.hub.budget);
        let wakers = (state.recv.waker.take(), state.send.waker.take());
        let released = state.is_released();
        drop(state);
        wake(wakers.0);
        wake(wakers.1);
        others.into_iter().for_each(Waker::wake);
        left.wake();
        drop(queued);
        released
    }
}

/// Checks, for tests, that a driver at rest has left nothing undone.
impl StreamCell {
    /// Adds the orders of a listed cell to those that can wait. Returns an error if one of them
    /// cannot.
    pub(crate) fn check_rest(&self, quiet: &mut Quiet) -> Result<(), String> {
        let state = self.lock();
        let orders = &state.orders;
        // A stream that has ended sends nothing more.
        let sends = state.end.is_none() && state.send.has_orders();
        if orders.reset.is_some() || orders.stop_reading || sends {
            return Err(format!("an order of stream {} is not looked at", self.id));
        }
        *quiet.consumed.entry(self.id).or_default() += orders.consumed;
        if state.is_released() {
            quiet.released.push(self.id);
        }
        Ok(())
    }

    /// Returns an error if a task waits for a piece that the stream may have in the machine's
    /// window.
    pub(crate) fn check_piece(&self, connection: &Connection) -> Result<(), String> {
        let state = self.lock();
        let window = connection.send_window(self.id);
        if state.end.is_none() && state.send.is_held_up(window, &self.hub.budget) {
            let id = self.id;
            return Err(format!(
                "stream {id} waits for a piece that it may have, with a window of {window}"
            ));
        }
        Ok(())
    }
}
