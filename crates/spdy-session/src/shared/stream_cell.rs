//! The state that the handles of one stream share with the driver.
//!
//! A handle leaves *orders* in the cell of its stream, and adds the cell to the ready list. The
//! driver carries the orders out, and puts the events of the stream into the cell. The lock of a
//! cell is held for a few instructions, and never during a wake-up or an await. What an application
//! gave, such as payload, is taken out of a cell under its lock, and is dropped without it.
//!
//! `for_reader` and `for_writer` have what handles do with a cell, and `for_driver` has what the
//! driver does. This file has what happens when a handle is dropped.

mod for_driver;
mod for_reader;
mod for_writer;
mod joined;
mod pieces;
mod recv_side;
mod send_side;

use std::{mem, sync::Arc, task::Waker};

use spdy_frame::{RstStatus, StreamId};

pub use self::recv_side::Received;
use self::{recv_side::RecvSide, send_side::SendSide};
use super::{mailbox::News, wakers::wake};
use crate::{
    StreamError,
    sync::{AtomicBool, Mutex, MutexGuard, PoisonError},
};

/// The hub of a session whose streams have cells of this kind.
pub(crate) type Hub = super::Hub<StreamCell>;

/// The meeting place of a stream's handles and the driver.
#[derive(Debug)]
pub(crate) struct StreamCell {
    pub(crate) id: StreamId,
    hub: Arc<Hub>,
    /// Whether a part of a piece was read since the driver last asked. Only a whole piece counts as
    /// consumed. The driver asks when a deadline has passed, so `Timeouts::unread` may take twice
    /// as long then.
    is_partly_read: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recv: RecvSide,
    send: SendSide,
    orders: Orders,
    /// Whether the cell is on the ready list.
    is_listed: bool,
    /// How the stream ended, unless it ended in order.
    end: Option<StreamError>,
}

/// What the handles want of the machine, in addition to what they send.
#[derive(Debug, Default)]
struct Orders {
    /// How many bytes of payload the application has consumed.
    consumed: usize,
    /// The size of the header blocks that the application has taken.
    headers: usize,
    stop_reading: bool,
    await_window: bool,
    await_grant: bool,
    /// The first order to reset the stream counts.
    reset: Option<RstStatus>,
}

/// The state in which a cell begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    /// Whether a SYN_REPLY will come.
    pub(crate) replied: bool,
    /// Whether the peer has finished.
    pub(crate) received: bool,
    /// Whether this side has finished, with the opening frame.
    pub(crate) finished: bool,
    /// Whether this side cannot send on the stream.
    pub(crate) mute: bool,
    /// How many bytes the stream's window lets out.
    pub(crate) window: usize,
}

impl StreamCell {
    pub(crate) fn new(id: StreamId, hub: Arc<Hub>, birth: Birth) -> Self {
        let state = State {
            recv: RecvSide::new(birth.replied, birth.received),
            send: if birth.mute {
                SendSide::mute()
            } else {
                SendSide::new(birth.finished, birth.window)
            },
            orders: Orders::default(),
            is_listed: false,
            end: None,
        };
        Self {
            id,
            hub,
            is_partly_read: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock, so the state of a poisoned lock is valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the cell to the ready list, because it has new orders.
    fn enlist(self: &Arc<Self>, mut state: MutexGuard<'_, State>, news: News) {
        let is_new = !mem::replace(&mut state.is_listed, true);
        // The cell is added under its own lock, so that `is_listed` is always true to the list.
        // Otherwise an urgent order could rely on a cell that is not on the list yet, and the
        // driver would not be woken.
        let parked = self.hub.mailbox.enlist(is_new.then_some(self), news);
        drop(state);
        wake(parked);
    }

    /// Resets the stream in both directions.
    pub(crate) fn reset(self: &Arc<Self>, status: RstStatus) {
        let mut state = self.lock();
        if state.end.is_none() && !self.hub.is_cut() {
            state.orders.reset.get_or_insert(status);
            self.enlist(state, News::Order);
        }
    }
}

/// What happens when a handle is dropped. Each half is dropped once.
///
/// The order in which the halves of a stream are dropped does not matter, unless they order
/// different resets. [`abandon`](StreamCell::abandon) has the order for that case.
impl StreamCell {
    /// Drops both halves of a stream that no application has used: a stream of the peer that was
    /// not accepted, or a stream of this side that was given up.
    ///
    /// The sending half is first, because it orders the reset with `status`. If this side cannot
    /// send, the receiving half orders a reset with CANCEL. The peer must not see that one, because
    /// REFUSED_STREAM tells it that a retry is safe.
    pub(crate) fn abandon(self: &Arc<Self>, status: RstStatus) {
        self.drop_send(Some(status));
        self.drop_recv(0);
    }

    /// Drops the sending half. With a status, a stream that this side has not finished is reset,
    /// and so is a stream that the peer has not finished and on which this side cannot send.
    pub(crate) fn drop_send(self: &Arc<Self>, status: Option<RstStatus>) {
        let mut state = self.lock();
        state.send.dropped = true;
        let left = state.send.leave(self.id, &self.hub.budget);
        let is_open = state.send.is_open() || (state.send.is_mute && !state.recv.fin);
        if let Some(status) = status
            && is_open
            && state.end.is_none()
            && !self.hub.is_cut()
        {
            state.orders.reset.get_or_insert(status);
            self.enlist(state, News::Order);
        } else if state.is_released() {
            self.enlist(state, News::Released);
        } else {
            drop(state);
        }
        left.wake();
    }

    /// Drops the receiving half. `taken` bytes were taken and are not consumed yet. Everything that
    /// arrived counts as consumed. Nothing is done if the peer had finished from the start.
    pub(crate) fn drop_recv(self: &Arc<Self>, taken: usize) {
        let mut state = self.lock();
        if state.recv.dropped {
            return;
        }
        let (payload, headers) = state.recv.discard();
        let unread = taken + payload;
        state.recv.dropped = true;
        state.orders.headers += headers;
        state.orders.consumed += unread;
        let stops = !state.recv.fin && state.end.is_none() && !self.hub.is_cut();
        state.orders.stop_reading |= stops;
        if stops && state.send.is_mute {
            // The peer expects no reply, so a reset does no harm.
            state.orders.reset.get_or_insert(RstStatus::CANCEL);
        }
        let waker = state.take_closed_waker();
        if stops || unread > 0 || headers > 0 {
            self.enlist(state, News::Order);
        } else if state.is_released() {
            self.enlist(state, News::Released);
        } else {
            drop(state);
        }
        wake(waker);
    }
}

impl State {
    /// Takes the task that waits for the end of the stream, if the stream is over.
    fn take_closed_waker(&mut self) -> Option<Waker> {
        if self.is_over() {
            self.send.waker.take()
        } else {
            None
        }
    }

    /// Returns whether both halves are dropped.
    fn is_released(&self) -> bool {
        self.recv.dropped && self.send.dropped
    }

    /// Returns whether nothing more will happen to the stream.
    fn is_over(&self) -> bool {
        self.end.is_some() || ((self.recv.fin || self.recv.dropped) && self.send.is_written())
    }
}
