//! A lock under which nothing is dropped or woken that can run other code.
//!
//! The drop of a connection, and the waker of a request, can run code of the application. That code
//! can use the same client, which would wait forever for a lock that its own thread holds.

use std::sync::{Mutex, PoisonError};

/// Data behind a lock. There is no guard, so the lock is never held during a wait.
#[derive(Debug, Default)]
pub(super) struct Locked<T>(Mutex<T>);

impl<T> Locked<T> {
    pub(super) const fn new(data: T) -> Self {
        Self(Mutex::new(data))
    }

    /// Calls `act` with the data. `act` returns what it takes out, so that this is dropped after
    /// the lock is released.
    ///
    /// # Panics
    ///
    /// In debug builds, if `act` drops a value with [`DroppedUnlocked`], or locks other data.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        let mut data = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _inside = inside::enter();
        act(&mut data)
    }
}

/// A field of values that must not be dropped under a lock. Debug builds check that.
#[derive(Debug, Default)]
pub(super) struct DroppedUnlocked;

impl Drop for DroppedUnlocked {
    fn drop(&mut self) {
        inside::assert_not("it is dropped under a lock");
    }
}

/// Whether this thread is inside of [`Locked::with`].
#[cfg(debug_assertions)]
mod inside {
    use std::{cell::Cell, thread};

    thread_local! {
        static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) struct Inside;

    pub(super) fn enter() -> Inside {
        assert_not("a lock is taken under another one");
        IS_INSIDE.set(true);
        Inside
    }

    impl Drop for Inside {
        fn drop(&mut self) {
            IS_INSIDE.set(false);
        }
    }

    pub(super) fn assert_not(fault: &str) {
        assert!(!IS_INSIDE.get() || thread::panicking(), "{fault}");
    }
}

#[cfg(not(debug_assertions))]
mod inside {
    pub(super) const fn enter() {}

    pub(super) const fn assert_not(_: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_returned_is_dropped_after_the_lock_is_released() {
        let locked = Locked::new(Some(DroppedUnlocked));
        drop(locked.with(Option::take));
        assert!(locked.with(|it| it.is_none()));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "it is dropped under a lock")]
    fn a_value_that_is_dropped_under_the_lock_panics() {
        let locked = Locked::new(Some(DroppedUnlocked));
        locked.with(|it| *it = None);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a lock is taken under another one")]
    fn a_lock_under_a_lock_panics() {
        let (first, second) = (Locked::new(()), Locked::new(()));
        first.with(|()| second.with(|()| ()));
    }
}
