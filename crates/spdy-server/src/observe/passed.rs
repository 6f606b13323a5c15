//! The bytes that pass after a connection has switched to another protocol.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::Exchange;

/// The bytes that a handler passes. A response with status 101 that has this among its extensions
/// is over, and gets its line in the log, when the handler drops the last clone.
#[derive(Clone, Default)]
pub(crate) struct Passed(Arc<Count>);

#[derive(Default)]
struct Count {
    received: AtomicU64,
    sent: AtomicU64,
    is_whole: AtomicBool,
    exchange: Mutex<Option<Exchange>>,
}

impl Passed {
    /// Counts bytes that the client has sent.
    pub(crate) fn received(&self, bytes: u64) {
        self.0.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that were sent to the client.
    pub(crate) fn sent(&self, bytes: u64) {
        self.0.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that the client was sent everything. Otherwise the response counts as cut.
    pub(crate) fn whole(&self) {
        self.0.is_whole.store(true, Ordering::Relaxed);
    }

    /// Keeps a request until its bytes have passed.
    pub(super) fn keep(&self, exchange: Exchange) {
        let kept = self.0.exchange.lock();
        *kept.unwrap_or_else(PoisonError::into_inner) = Some(exchange);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let kept = self.exchange.get_mut();
        if let Some(exchange) = kept.unwrap_or_else(PoisonError::into_inner) {
            exchange.sent = *self.sent.get_mut();
            exchange.is_cut = !*self.is_whole.get_mut();
            let received = *self.received.get_mut();
            exchange.received.bytes.store(received, Ordering::Relaxed);
        }
    }
}
