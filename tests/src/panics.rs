//! Panics that a test did not ask for.
//!
//! A server catches the panics of its application, and a runtime those of its tasks. So a panic of
//! ours may look like an error of 500 or a stream that was reset, and a test that expects nothing
//! better passes. A [`Watch`] sees all of them.
//!
//! A panic on purpose has a message that begins with [`ON_PURPOSE`].

use std::{
    mem,
    panic::{PanicHookInfo, set_hook, take_hook},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread::{self, ThreadId},
};

/// What the message of a panic begins with that belongs to a test.
pub const ON_PURPOSE: &str = "on purpose";

/// Fails the test that drops it if there was a panic meanwhile that was not [on
/// purpose](ON_PURPOSE), on the thread of the test or on one of a runtime's own threads.
#[derive(Debug)]
#[must_use = "panics are looked for when this is dropped"]
pub struct Watch(());

/// Begins to watch for panics.
pub fn watch() -> Watch {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| note(panic, &usual)));
    });
    Watch(())
}

impl Watch {
    /// Takes the panics that were seen and not asked for.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        let mut seen = seen();
        let all = mem::take(&mut *seen);
        let (mine, others) = all.into_iter().partition(Seen::concerns_this_test);
        *seen = others;
        mine.into_iter().map(|panic: Seen| panic.text).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let panics = self.take();
        // A test that fails anyway has said why.
        if !thread::panicking() {
            assert!(
                panics.is_empty(),
                "panics that the test did not ask for: {panics:#?}"
            );
        }
    }
}

#[derive(Debug)]
struct Seen {
    text: String,
    thread: ThreadId,
    is_of_runtime: bool,
}

impl Seen {
    /// The threads of a runtime tell nothing of the test they work for. What they do wrong fails
    /// one of the tests.
    fn concerns_this_test(&self) -> bool {
        self.is_of_runtime || self.thread == thread::current().id()
    }
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

fn seen() -> MutexGuard<'static, Vec<Seen>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

type Hook = dyn Fn(&PanicHookInfo<'_>) + Send + Sync;

fn note(panic: &PanicHookInfo<'_>, usual: &Hook) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let message = text
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    if message.starts_with(ON_PURPOSE) {
        return;
    }
    let place = panic.location().map(ToString::to_string);
    let thread = thread::current();
    let text = format!("{message}, at {}", place.unwrap_or_default());
    seen().push(Seen {
        text,
        thread: thread.id(),
        is_of_runtime: thread.name().is_some_and(|name| name.starts_with("tokio-")),
    });
    usual(panic);
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_panic_that_is_caught_is_seen_unless_it_is_on_purpose() {
        let watch = watch();
        assert!(catch_unwind(|| panic!("on purpose: of the test")).is_err());
        assert!(watch.take().is_empty());
        assert!(catch_unwind(|| panic!("a fault")).is_err());
        let seen = watch.take();
        assert!(
            matches!(&seen[..], [one] if one.starts_with("a fault, at ")),
            "{seen:?}"
        );
        assert!(watch.take().is_empty());
    }

    #[test]
    fn a_watch_fails_where_a_runtime_caught_a_panic() {
        let watch = watch();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("it needs nothing");
        let ended = runtime.block_on(async { tokio::spawn(async { panic!("a fault") }).await });
        assert!(ended.is_err_and(|error| error.is_panic()));
        let dropped = catch_unwind(move || drop(watch));
        assert!(dropped.is_err());
        // What the watch says is a panic, too.
        assert_eq!(super::watch().take().len(), 1);
    }
}
