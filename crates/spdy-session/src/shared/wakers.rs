//! Registers tasks and wakes them.

use std::task::{Context, Waker};

/// Registers the task of `cx` to be woken, in place of an earlier one.
pub(crate) fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

/// Wakes a task, if there is one. The caller holds no lock: the task may run at once.
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
