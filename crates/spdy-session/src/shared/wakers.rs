//! Registers tasks and wakes them.

use std::task::{Context, Waker};

/// Registers the task of `cx` to be woken. Returns the task that was registered before, if it is
/// another one. The caller drops it without a lock: the last waker of a task may end the task,
/// which may use the same stream.
#[must_use = "it is dropped without a lock"]
pub(crate) fn register(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => place.replace(cx.waker().clone()),
    }
}

/// Wakes a task, if there is one. The caller holds no lock: the task may run at once.
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
