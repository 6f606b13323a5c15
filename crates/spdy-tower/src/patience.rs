//! Limits the wait for the body of a request.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    time::{Sleep, sleep_until},
};

/// The limit on the silence of a peer that has to send a body.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// `None` means no limit.
    pub(crate) limit: Option<Duration>,
    /// The runtime that watches the deadlines, if it is not the one that polls.
    pub(crate) timers: Option<Handle>,
}

impl Patience {
    /// Returns the wait for one body, or `None` without a limit.
    pub(crate) fn wait(&self) -> Option<Wait> {
        self.limit.map(|limit| Wait {
            limit,
            timers: self.timers.clone(),
            since: None,
            alarm: None,
        })
    }
}

/// The wait for the next byte of one body. It starts when a poll finds nothing, and ends when
/// something arrives.
#[derive(Debug)]
pub(crate) struct Wait {
    limit: Duration,
    timers: Option<Handle>,
    since: Option<Instant>,
    /// The alarm is set to the deadline or to an earlier moment. A body that is ready whenever it
    /// is polled never has one.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    /// Notes that something arrived.
    pub(crate) const fn moved(&mut self) {
        self.since = None;
    }

    /// Is ready when the peer has been silent for too long. `held_up_until` returns until when the
    /// peer could not send at all; the time starts again there.
    pub(crate) fn poll_over(
        &mut self,
        cx: &mut Context<'_>,
        held_up_until: impl Fn(Instant) -> Option<Instant>,
    ) -> Poll<()> {
        let since = *self.since.get_or_insert_with(now);
        loop {
            // The deadline only moves away, so nothing has to be checked before the alarm goes off,
            // which rarely happens.
            if let Some(alarm) = self.alarm.as_mut().filter(|alarm| !alarm.is_elapsed()) {
                ready!(alarm.as_mut().poll(cx));
            }
            let now = now();
            let silent_since = held_up_until(now).map_or(since, |held_up| held_up.max(since));
            let Some(deadline) = silent_since.checked_add(self.limit) else {
                // A clock cannot express the deadline.
                return Poll::Pending;
            };
            if deadline <= now {
                return Poll::Ready(());
            }
            self.set_alarm(deadline);
        }
    }

    fn set_alarm(&mut self, deadline: Instant) {
        let deadline = tokio::time::Instant::from_std(deadline);
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().reset(deadline),
            None => {
                let _context = self.timers.as_ref().map(Handle::enter);
                self.alarm = Some(Box::pin(sleep_until(deadline)));
            }
        }
    }
}

/// The present time, which tests can set.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
