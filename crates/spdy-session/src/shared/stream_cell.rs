//! What the handles of one stream share with the driver.
//!
//! A handle never touches the protocol machine. It leaves *orders* in the cell of its stream and puts the cell on
//! the ready list of the [`Hub`]; the driver carries the orders out, and puts what happened into the cell. The lock
//! of a cell is held for a few instructions, never across a wake and never across an await.

mod pieces;
mod recv_side;
mod send_side;

use std::{
    mem,
    sync::Arc,
    task::{Context, Waker},
    time::Instant,
};

use bytes::Bytes;
use spdy_frame::{HeaderBlock, RstStatus, StreamId};

pub use self::recv_side::Received;
use self::{recv_side::RecvSide, send_side::SendSide};
use crate::{
    StreamError,
    proto::{Connection, Quiet},
    shared::{Hub, News},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The meeting place of a stream's handles and the driver.
#[derive(Debug)]
pub(crate) struct StreamCell {
    pub(crate) id: StreamId,
    hub: Arc<Hub>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recv: RecvSide,
    send: SendSide,
    orders: Orders,
    /// Whether the cell stands on the ready list.
    listed: bool,
    /// How the stream ended, unless in order.
    end: Option<StreamError>,
}

/// What else the handles want of the machine.
#[derive(Debug, Default)]
struct Orders {
    consumed: usize,
    /// What header blocks count that are taken.
    headers: usize,
    stop_reading: bool,
    await_window: bool,
    await_grant: bool,
    reset: Option<RstStatus>,
}

/// How a cell begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    /// A SYN_REPLY will come.
    pub(crate) replied: bool,
    /// The peer has finished.
    pub(crate) received: bool,
    /// This side has finished, with the opening frame.
    pub(crate) finished: bool,
    /// This side has nothing to send and never had.
    pub(crate) mute: bool,
    /// What the stream's window lets out, in bytes.
    pub(crate) window: usize,
}

impl StreamCell {
    pub(crate) fn new(id: StreamId, hub: Arc<Hub>, birth: Birth) -> Self {
        let state = State {
            recv: RecvSide::new(birth),
            send: SendSide::new(birth),
            orders: Orders::default(),
            listed: false,
            end: None,
        };
        Self {
            id,
            hub,
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock, so a poisoned state is a sound one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the driver that there are new orders.
    fn enlist(self: &Arc<Self>, mut state: MutexGuard<'_, State>, news: News) {
        let is_new = !mem::replace(&mut state.listed, true);
        // Under the lock: a cell that says it is listed has to be, or an urgent order could rely on a listing that is
        // still to come and wakes nobody.
        let parked = self.hub.enlist(is_new.then_some(self), news);
        drop(state);
        wake(parked);
    }
}

/// For the driver.
impl StreamCell {
    /// Carries the orders out. Says whether the cell is of no more use.
    pub(crate) fn carry_out(&self, now: Instant, connection: &mut Connection) -> bool {
        let mut state = self.lock();
        state.listed = false;
        let id = self.id;
        let orders = mem::take(&mut state.orders);
        connection.consume(id, orders.consumed);
        if orders.headers > 0 {
            connection.consume_headers(id, orders.headers);
        }
        match orders.reset {
            Some(status) => connection.reset(id, status),
            None => {
                state.send.hand_over(id, connection);
                if orders.stop_reading {
                    connection.stop_reading(id);
                }
                if orders.await_window {
                    connection.await_window(now, id);
                }
                if orders.await_grant {
                    connection.await_grant(id, state.send.window);
                }
            }
        }
        if state.is_released() {
            connection.release(id);
        }
        state.is_over()
    }

    /// For tests: adds the orders of a cell that is listed to those that may wait, or returns one that may not.
    pub(crate) fn check_rest(&self, quiet: &mut Quiet) -> Result<(), String> {
        let state = self.lock();
        let orders = &state.orders;
        // Of a stream that has ended nothing is sent any more.
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

    /// For tests: whether the task waits for another piece, and may have one by the window that the machine knows.
    pub(crate) fn check_piece(&self, connection: &Connection) -> Result<(), String> {
        let state = self.lock();
        let window = connection.send_window(self.id);
        if state.end.is_none() && state.send.is_held_up(window, &self.hub) {
            let id = self.id;
            return Err(format!(
                "stream {id} waits for a piece that it may have, with a window of {window}"
            ));
        }
        Ok(())
    }

    /// The peer has answered. Says whether the stream is over.
    pub(crate) fn replied(&self, headers: HeaderBlock, fin: bool) -> bool {
        self.received(fin, |recv| recv.keep_reply(headers))
    }

    /// A later header block came. Returns what it counts if no handle wants it, and whether the stream is over.
    pub(crate) fn headers(&self, headers: HeaderBlock, fin: bool) -> (usize, bool) {
        let mut unwanted = 0;
        let over = self.received(fin, |recv| unwanted = recv.keep_headers(headers));
        (unwanted, over)
    }

    /// Takes payload in, a slice of a read buffer of `buffer` octets. Says how many octets of it nobody wants, and
    /// whether the stream is over.
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

    /// Bytes left the queue. Returns whether the stream is over.
    pub(crate) fn sent(&self, octets: usize, fin: bool, window: usize) -> bool {
        let mut state = self.lock();
        let others = self.hub.room.free(state.send.sent(octets, fin));
        state.send.window = window;
        let waker = match state.send.take_due_waker(&self.hub) {
            None => state.take_closed_waker(),
            due => due,
        };
        let over = state.is_over();
        drop(state);
        wake(waker);
        others.into_iter().for_each(Waker::wake);
        over
    }

    /// The window that was waited for is open, or wider than before. Returns whether the stream is over.
    pub(crate) fn window_opened(&self, window: usize) -> bool {
        let mut state = self.lock();
        state.send.window_opened(window);
        let waker = state.send.take_due_waker(&self.hub);
        let over = state.is_over();
        drop(state);
        wake(waker);
        over
    }

    /// The stream has ended abnormally, unless it is over already. What has come can still be read. Says whether the
    /// handles are gone.
    pub(crate) fn fail(&self, error: StreamError) -> bool {
        let mut state = self.lock();
        if !state.is_over() {
            state.end = Some(error);
        }
        let mut others = self.hub.room.free(state.send.discard());
        others.extend(state.send.leave(self.id, &self.hub));
        let wakers = (state.recv.waker.take(), state.send.waker.take());
        let released = state.is_released();
        drop(state);
        wake(wakers.0);
        wake(wakers.1);
        others.into_iter().for_each(Waker::wake);
        released
    }
}

impl State {
    /// The task that waits for the end of the stream, if this is it.
    fn take_closed_waker(&mut self) -> Option<Waker> {
        if self.is_over() {
            self.send.waker.take()
        } else {
            None
        }
    }

    fn is_released(&self) -> bool {
        self.recv.dropped && self.send.dropped
    }

    fn is_over(&self) -> bool {
        self.end.is_some() || ((self.recv.fin || self.recv.dropped) && self.send.is_written())
    }
}

/// Registers the task to be woken.
fn park(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Small pieces are joined into pieces of about this length, in octets.
const JOINED_LENGTH: usize = 16 * 1024;
