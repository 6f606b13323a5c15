//! The ready list: which items have orders for the driver, and when the driver is woken for them.
//!
//! A mailbox does not know its items or the state under its lock. An item is added to the list by
//! its first order, and leaves the list when the driver takes it. The driver parks when the list is
//! empty and there is nothing else to do. A later order wakes the driver if the driver waits for
//! this kind of order: see [`News`].
//!
//! [`Mailbox::enlist`] reads whether the driver is parked without the lock of the mailbox. The
//! module [`shared`](super) explains why this is correct.

use std::{
    mem,
    task::{Context, Waker},
};

use super::wakers::wake;
use crate::{
    proto::Heeds,
    spare::Spare,
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError},
};

/// A ready list of items `T`, with the state `S` under the same lock.
#[derive(Debug)]
pub(crate) struct Mailbox<T, S> {
    /// How many consumed bytes wake a parked driver, and whether a release does: see [`Heeds`].
    /// Written and read like `is_parked`.
    heeds_consumed: AtomicUsize,
    heeds_releases: AtomicBool,
    /// Whether the driver is parked. Written under the lock.
    is_parked: AtomicBool,
    contents: Mutex<Contents<T, S>>,
}

/// What the lock of a mailbox protects.
#[derive(Debug)]
pub(crate) struct Contents<T, S> {
    /// The items with orders, each once.
    ready: Vec<T>,
    /// The task of the driver, while the driver is parked.
    parked: Option<Waker>,
    /// Whether the driver takes nothing more.
    is_closed: bool,
    pub(crate) state: S,
}

/// What an order is about. The driver decides which orders wake it, and not the handle that places
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// An order that the driver carries out immediately.
    Order,
    /// The application has consumed payload. Contains the sum in bytes since the driver last
    /// checked.
    Consumed(usize),
    /// The application has taken something. The driver checks before it reads again, which is soon
    /// enough.
    Taken,
    /// The application has dropped all handles of the item.
    Released,
}

impl<T, S> Mailbox<T, S> {
    pub(crate) fn new(state: S) -> Self {
        let contents = Contents {
            ready: Vec::new(),
            parked: None,
            is_closed: false,
            state,
        };
        Self {
            heeds_consumed: AtomicUsize::new(0),
            heeds_releases: AtomicBool::new(true),
            is_parked: AtomicBool::new(false),
            contents: Mutex::new(contents),
        }
    }

    /// Locks the mailbox. Before it drops the result, the caller must not lock anything else, wake
    /// a task, or drop what the application gave.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Contents<T, S>> {
        // No code that can panic runs under the lock, so the contents of a poisoned lock are valid.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the task of the driver, to be woken, if the driver is parked.
    #[must_use = "it is woken or dropped without a lock"]
    fn take_parked(&self, contents: &mut Contents<T, S>) -> Option<Waker> {
        self.is_parked.store(false, Ordering::Relaxed);
        contents.parked.take()
    }

    /// Returns whether the news wake a parked driver.
    fn is_heeded(&self, news: News) -> bool {
        match news {
            News::Order => true,
            News::Consumed(sum) => sum >= self.heeds_consumed.load(Ordering::Relaxed),
            News::Taken => false,
            News::Released => self.heeds_releases.load(Ordering::Relaxed),
        }
    }
}

/// For handles.
impl<T: Clone, S> Mailbox<T, S> {
    /// Adds an item with orders to the ready list. `None` means that it is on the list already. The
    /// caller holds the lock of the item, and wakes the returned task after it has dropped that
    /// lock.
    #[must_use = "it is woken without a lock"]
    pub(crate) fn enlist(&self, item: Option<&T>, news: News) -> Option<Waker> {
        // A driver that is not parked checks the list before it parks, so it needs no wake-up.
        if item.is_none() && !(self.is_parked.load(Ordering::Relaxed) && self.is_heeded(news)) {
            return None;
        }
        let mut contents = self.lock();
        if contents.is_closed {
            return None;
        }
        if let Some(item) = item {
            contents.ready.push(item.clone());
        }
        if self.is_heeded(news) {
            self.take_parked(&mut contents)
        } else {
            None
        }
    }

    /// Changes the state with `place`, and wakes the driver unless `place` fails. `place` also gets
    /// the length of the ready list. It returns what it does not keep in its error, to be dropped
    /// without a lock.
    pub(crate) fn order<E>(
        &self,
        place: impl FnOnce(&mut S, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut contents = self.lock();
        let ready = contents.ready.len();
        place(&mut contents.state, ready)?;
        let parked = self.take_parked(&mut contents);
        drop(contents);
        wake(parked);
        Ok(())
    }
}

/// For the driver.
impl<T: Clone, S> Mailbox<T, S> {
    /// Notes that the driver runs, so that no order wakes it.
    pub(crate) fn unpark(&self) {
        // Only the driver parks, so it reads its own write, or that it was woken.
        if self.is_parked.load(Ordering::Relaxed) {
            let parked = self.take_parked(&mut self.lock());
            drop(parked);
        }
    }

    /// Swaps the ready list with `ready`, which is empty. Returns the lock, so that the caller can
    /// take further contents at the same moment.
    pub(crate) fn take_ready(&self, ready: &mut Vec<T>) -> MutexGuard<'_, Contents<T, S>> {
        let mut contents = self.lock();
        mem::swap(ready, &mut contents.ready);
        contents
    }

    /// Registers the task of the driver, to be woken by the next order and by the news that `heeds`
    /// names. Returns `false`, and registers nothing, if an item has orders or `is_idle` returns
    /// `false`.
    pub(crate) fn park(
        &self,
        cx: &Context<'_>,
        heeds: Heeds,
        is_idle: impl FnOnce(&S) -> bool,
    ) -> bool {
        let mut contents = self.lock();
        if !contents.ready.is_empty() || !is_idle(&contents.state) {
            return false;
        }
        let replaced = contents.parked.replace(cx.waker().clone());
        self.heeds_consumed.store(heeds.consumed, Ordering::Relaxed);
        self.heeds_releases.store(heeds.releases, Ordering::Relaxed);
        self.is_parked.store(true, Ordering::Relaxed);
        drop(contents);
        drop(replaced);
        true
    }

    /// Frees memory of the list that is not needed, and calls `free` under the same lock.
    pub(crate) fn free_spare(&self, free: impl FnOnce(&mut S)) {
        let mut contents = self.lock();
        contents.ready.free_spare();
        free(&mut contents.state);
    }

    /// Accepts nothing more from now on. `close` changes the state under the same lock. Returns the
    /// items that were on the list, and the result of `close`. The caller drops both without a
    /// lock.
    pub(crate) fn close<R>(&self, close: impl FnOnce(&mut S) -> R) -> (Vec<T>, R) {
        let mut contents = self.lock();
        contents.is_closed = true;
        let closed = close(&mut contents.state);
        (mem::take(&mut contents.ready), closed)
    }
}

/// Access for tests that check what a driver at rest has left undone.
impl<T: Clone, S> Contents<T, S> {
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    pub(crate) fn ready(&self) -> Vec<T> {
        self.ready.clone()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Items are letters, and the state is a number of orders: a mailbox needs no more.
    struct Fixture {
        mailbox: Mailbox<char, usize>,
        task: Arc<Task>,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                mailbox: Mailbox::new(0),
                task: Arc::default(),
            }
        }

        fn park(&self, consumed: usize, releases: bool) -> bool {
            let waker = Waker::from(Arc::clone(&self.task));
            let heeds = Heeds { consumed, releases };
            self.mailbox
                .park(&Context::from_waker(&waker), heeds, |orders| *orders == 0)
        }

        /// Returns whether the news wake the driver, which parks again if they do.
        fn wakes(&self, item: Option<char>, news: News) -> bool {
            self.mailbox.enlist(item.as_ref(), news).is_some()
        }

        fn take(&self) -> Vec<char> {
            let mut ready = Vec::new();
            drop(self.mailbox.take_ready(&mut ready));
            ready
        }
    }

    #[test]
    fn a_driver_parks_only_when_it_has_taken_all_items_and_orders() {
        let it = Fixture::new();
        assert!(!it.wakes(Some('a'), News::Order));
        assert!(!it.park(0, true));
        assert_eq!(it.take(), ['a']);
        let order = |orders: &mut usize, _| {
            *orders += 1;
            Ok::<_, ()>(())
        };
        it.mailbox.order(order).unwrap();
        assert!(!it.park(0, true));
        it.mailbox.lock().state = 0;
        assert!(it.park(0, true));
        it.mailbox.order(order).unwrap();
        assert_eq!(it.task.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_parked_driver_is_woken_once_and_only_by_news_that_it_heeds() {
        let it = Fixture::new();
        assert!(it.park(100, false));
        assert!(!it.wakes(Some('a'), News::Consumed(99)));
        assert!(!it.wakes(Some('b'), News::Released));
        assert!(!it.wakes(None, News::Taken));
        assert!(it.wakes(None, News::Consumed(100)));
        assert!(!it.wakes(None, News::Order));
        assert_eq!(it.take(), ['a', 'b']);
        assert!(it.park(100, true));
        assert!(it.wakes(Some('c'), News::Released));
    }

    /// A task that uses the mailbox when it ends.
    struct Ending(Arc<Mailbox<char, usize>>);

    impl Wake for Ending {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Ending {
        fn drop(&mut self) {
            assert!(self.0.contents.try_lock().is_ok(), "it ends under the lock");
        }
    }

    #[test]
    fn a_task_that_ends_when_it_is_replaced_can_use_the_mailbox() {
        let mailbox = Arc::new(Mailbox::new(0));
        let heeds = Heeds {
            consumed: 0,
            releases: true,
        };
        for unparks in [false, true, false] {
            let waker = Waker::from(Arc::new(Ending(Arc::clone(&mailbox))));
            assert!(mailbox.park(&Context::from_waker(&waker), heeds, |_| true));
            drop(waker);
            if unparks {
                mailbox.unpark();
            }
        }
        mailbox.unpark();
        assert_eq!(Arc::strong_count(&mailbox), 1);
    }

    #[test]
    fn an_order_that_cannot_be_placed_wakes_no_driver() {
        let it = Fixture::new();
        assert!(it.park(0, true));
        assert_eq!(it.mailbox.order(|_, _| Err("ended")), Err("ended"));
        assert_eq!(it.task.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_closed_mailbox_keeps_no_item() {
        let it = Fixture::new();
        assert!(!it.wakes(Some('a'), News::Order));
        assert_eq!(it.mailbox.close(|orders| *orders).0, ['a']);
        assert!(!it.wakes(Some('b'), News::Order));
        assert!(it.take().is_empty());
    }
}
