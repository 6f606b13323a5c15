//! An end for HTTP/2 connections that rest.
//!
//! hyper asks a client for a sign of life whether requests are open or not, so a client that answers would keep a
//! connection that it does not use, and its place, for ever: to [`Idle`](crate::idle::Idle) the answers are bytes like
//! others. So requests are counted here, and a connection that has had none for long enough is asked to finish.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use crate::config::after;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    open: AtomicUsize,
    /// How often one has begun or ended.
    changes: AtomicU64,
}

/// A request that is open, for as long as this lives.
pub(crate) struct Open(Arc<Requests>);

impl Open {
    pub(crate) fn new(requests: &Arc<Requests>) -> Self {
        requests.open.fetch_add(1, Ordering::Relaxed);
        requests.changes.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(requests))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Notices that a connection has had no request for one or two periods.
#[derive(Debug)]
pub(crate) struct Rest {
    requests: Arc<Requests>,
    period: Duration,
    alarm: Pin<Box<Sleep>>,
    /// How many changes there had been when the alarm was set.
    changes: u64,
    is_over: bool,
}

impl Rest {
    pub(crate) fn new(requests: Arc<Requests>, period: Duration) -> Self {
        Self {
            requests,
            period,
            alarm: Box::pin(sleep(period)),
            changes: 0,
            is_over: false,
        }
    }

    /// Ready once, when there have been no requests for long enough.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.is_over {
            ready!(self.alarm.as_mut().poll(cx));
            let changes = self.requests.changes.load(Ordering::Relaxed);
            let is_open = self.requests.open.load(Ordering::Relaxed) > 0;
            if !is_open && changes == self.changes {
                self.is_over = true;
                return Poll::Ready(());
            }
            self.changes = changes;
            self.alarm.as_mut().reset(after(self.period));
        }
        Poll::Pending
    }
}
