//! How long the body of a request is waited for.

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

/// The bound on the silence of a peer that owes a body, for one body after the other.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// `None` waits for ever.
    pub(crate) limit: Option<Duration>,
    /// The runtime that watches the deadlines, if it is not the one that polls.
    pub(crate) timers: Option<Handle>,
}

impl Patience {
    /// Returns the wait for one body; `None` if there is no bound.
    pub(crate) fn wait(&self) -> Option<Wait> {
        self.limit.map(|limit| Wait {
            limit,
            timers: self.timers.clone(),
            since: None,
            alarm: None,
        })
    }
}

/// The wait for the next byte of one body. It runs from the first poll that found nothing until
/// something comes.
#[derive(Debug)]
pub(crate) struct Wait {
    limit: Duration,
    timers: Option<Handle>,
    since: Option<Instant>,
    /// Set to the deadline or to an earlier moment. A body that is there when it is asked for never
    /// has one.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    /// Something has come.
    pub(crate) const fn moved(&mut self) {
        self.since = None;
    }

    /// Ready when the peer has been silent for too long. `held_up_until` tells until when it could
    /// not send at all: the time begins anew there.
    pub(crate) fn poll_over(
        &mut self,
        cx: &mut Context<'_>,
        held_up_until: impl Fn(Instant) -> Option<Instant>,
    ) -> Poll<()> {
        let since = *self.since.get_or_insert_with(now);
        loop {
            // A deadline only moves away. So until the alarm goes off there is nothing to find out:
            // most never do.
            if let Some(alarm) = self.alarm.as_mut().filter(|alarm| !alarm.is_elapsed()) {
                ready!(alarm.as_mut().poll(cx));
            }
            let now = now();
            let silent_since = held_up_until(now).map_or(since, |held_up| held_up.max(since));
            let Some(deadline) = silent_since.checked_add(self.limit) else {
                // Beyond the end of time.
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

/// The time, which tests may set.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
