//! What an address that was asked for a connection has, and the wait at one that is full.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use super::{Failure, Lease};

/// What an address has for a request.
pub(super) enum Asked {
    Leased(Lease),
    /// All of its places are taken.
    Full(Waiting),
}

/// The wait for a place at an address, and then for a connection. It begins when it is first
/// polled, and dropping it ends it.
pub(super) struct Waiting {
    leasing: Pin<Box<dyn Future<Output = Result<Lease, Failure>> + Send>>,
    placed: Placed,
}

/// Where a request that waits notes that it has a place, and only its connection is missing.
#[derive(Clone, Default)]
pub(super) struct Placed(Arc<AtomicBool>);

impl Placed {
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Waiting {
    pub(super) fn new<F>(wait: impl FnOnce(Placed) -> F) -> Self
    where
        F: Future<Output = Result<Lease, Failure>> + Send + 'static,
    {
        let placed = Placed::default();
        Self {
            leasing: Box::pin(wait(placed.clone())),
            placed,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease, Failure>> {
        self.leasing.as_mut().poll(cx)
    }

    /// Returns whether only the connection is missing.
    pub(super) fn connects(&self) -> bool {
        self.placed.0.load(Ordering::Relaxed)
    }
}
