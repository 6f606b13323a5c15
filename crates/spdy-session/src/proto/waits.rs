//! Streams that wait for windows of the peer, and the limits of these waits.
//!
//! A stream waits for its own window, or all streams wait for the window of the session. In both
//! cases the stream has payload, or its application waits for a window before it sends more. An
//! application can also wait for a change of the window with nothing to send; then no timeout runs.

mod wait;

use std::{collections::BTreeSet, mem, sync::Arc};

use spdy_frame::StreamId;

use self::wait::{Patience, Stall, Wait};
use super::{
    clock::Moment,
    scheduler::{Need, Scheduler},
    streams::{Stream, StreamIds},
};
use crate::config::Config;

/// All waits for windows.
#[derive(Debug)]
pub(crate) struct Waits {
    /// Streams that wait for their own window, in the order of the window they need, smallest
    /// first.
    blocked: BTreeSet<(i64, StreamId)>,
    /// The wait of the scheduled streams for the session's window.
    stall: Option<Stall>,
    /// Streams whose applications wait for a larger window although they have nothing to send.
    grants: StreamIds,
    /// How long streams may wait, and how many sent bytes end a wait.
    config: Arc<Config>,
    /// When the peer last enlarged a window.
    granted: Moment,
    /// When to check for streams that have waited too long.
    check: Option<Moment>,
}

/// The waits of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamWait {
    /// The wait of the stream for its own window.
    blocked: Wait,
    /// Whether the application waits until the window is open, to send more.
    for_window: bool,
    /// Whether the application waits until the window changes.
    for_grant: bool,
    /// When the stream began to wait for the window of the session, unless it waits as long as the
    /// session does.
    stalled_since: Option<Moment>,
}

impl StreamWait {
    /// Returns whether the stream waits for its own window.
    #[inline]
    pub(crate) const fn is_blocked(&self) -> bool {
        self.blocked.is_on()
    }
}

impl Waits {
    pub(crate) fn new(config: Arc<Config>, moment: Moment) -> Self {
        Self {
            blocked: BTreeSet::new(),
            stall: None,
            grants: StreamIds::default(),
            config,
            granted: moment,
            check: None,
        }
    }

    /// Notes that the peer enlarged a window. If the transport is full, streams wait for the
    /// transport and not for the session's window.
    pub(crate) fn granted(&mut self, moment: Moment, is_transport_full: bool) {
        self.granted = moment;
        if is_transport_full {
            self.stall = None;
        }
    }

    /// Removes a stream that is gone.
    pub(crate) fn forget(&mut self, stream: &Stream) {
        if stream.wait.is_blocked() {
            self.unlist(stream);
        }
        if stream.wait.for_grant {
            self.grants.remove(&stream.id());
        }
    }

    /// Removes all streams.
    pub(crate) fn stop(&mut self) {
        self.blocked.clear();
        self.stall = None;
    }

    // --- the window of a stream ------------------------------------------------------------------

    /// Notes that a stream has payload and its window is used up.
    pub(crate) fn begin(&mut self, stream: &mut Stream, moment: Moment) {
        stream.wait.blocked.begin(moment);
        let shortfall = stream.send_window().shortfall();
        self.blocked.insert((shortfall, stream.id()));
        self.watch(stream.wait.blocked.deadline(self.patience()));
    }

    /// Notes that the application waits for the window before it sends more.
    pub(crate) fn begin_for_application(&mut self, stream: &mut Stream, moment: Moment) {
        stream.wait.for_window = true;
        self.begin(stream, moment);
    }

    /// Notes that the application waits until the window changes.
    pub(crate) fn await_grant(&mut self, stream: &mut Stream) {
        stream.wait.for_grant = true;
        self.grants.insert(stream.id());
    }

    /// Runs `change`, which enlarges the window of a stream, and keeps the stream's place in the
    /// order right. The window may still be closed after it.
    pub(crate) fn regrade<T>(
        &mut self,
        stream: &mut Stream,
        change: impl FnOnce(&mut Stream) -> T,
    ) -> T {
        let is_listed = stream.wait.is_blocked() && self.unlist(stream);
        let result = change(stream);
        if is_listed {
            let shortfall = stream.send_window().shortfall();
            self.blocked.insert((shortfall, stream.id()));
        }
        result
    }

    /// Removes and returns a stream that waits for its window and can go on with windows of this
    /// initial size.
    pub(crate) fn pop_open(&mut self, initial: u32) -> Option<StreamId> {
        let &(shortfall, _) = self.blocked.first()?;
        if shortfall >= i64::from(initial) {
            return None;
        }
        self.blocked.pop_first().map(|(_, id)| id)
    }

    /// Notes that the window of a stream is open, which ends its wait. Returns whether the
    /// application has to be told.
    #[must_use = "an application waits"]
    pub(crate) fn end(&mut self, stream: &mut Stream, moment: Moment) -> bool {
        stream.wait.blocked.end(moment);
        self.unlist(stream);
        let was_awaited = mem::take(&mut stream.wait.for_window);
        self.take_grant(stream) || was_awaited
    }

    /// Notes that the window of a stream changed. Returns whether the application has to be told.
    #[must_use = "an application waits"]
    pub(crate) fn take_grant(&mut self, stream: &mut Stream) -> bool {
        let was_awaited = mem::take(&mut stream.wait.for_grant);
        if was_awaited {
            self.grants.remove(&stream.id());
        }
        was_awaited
    }

    /// Removes and returns the streams whose applications wait for a change of the window.
    pub(crate) fn take_grants(&mut self) -> impl Iterator<Item = StreamId> + use<> {
        mem::take(&mut self.grants).into_iter()
    }

    /// Notes that FIN of a stream is written, so its application waits for nothing more.
    pub(crate) fn finished(&mut self, stream: &mut Stream) {
        if mem::take(&mut stream.wait.for_window) {
            stream.wait.blocked = Wait::default();
            self.unlist(stream);
        }
    }

    /// Notes that payload of a stream was sent. `is_all` says whether nothing is left.
    #[inline]
    pub(crate) fn sent(&mut self, stream: &mut Stream, bytes: usize, is_all: bool) {
        let least = self.config.limits.min_progress;
        stream.wait.blocked.sent(bytes, is_all, least);
        if let Some(stall) = &mut self.stall {
            // If payload is left, the wait of the stream goes on.
            let since = stall.joined(stream.wait.stalled_since);
            stream.wait.stalled_since = (!is_all).then_some(since);
            if stall.is_ended_by(bytes, least) {
                self.stall = None;
            }
        }
    }

    fn unlist(&mut self, stream: &Stream) -> bool {
        let shortfall = stream.send_window().shortfall();
        self.blocked.remove(&(shortfall, stream.id()))
    }

    // --- the window of the session ---------------------------------------------------------------

    /// Notes that no stream waits for the window of the session.
    #[inline]
    pub(crate) fn end_stall(&mut self) {
        self.stall = None;
    }

    /// Notes that the streams with payload wait for the window of the session.
    pub(crate) fn note_stall(&mut self, scheduler: &Scheduler, moment: Moment) {
        if self.stall.is_none() {
            let stall = Stall::new(moment, scheduler.places());
            self.stall = Some(stall);
            self.watch(stall.deadline(None, self.patience()));
        }
    }

    /// Returns the streams that have joined the wait for the session's window since the last call.
    pub(crate) fn newcomers(&mut self, scheduler: &Scheduler) -> Vec<StreamId> {
        let Some(stall) = &mut self.stall else {
            return Vec::new();
        };
        let newcomers = scheduler.payload_after(stall.seen).collect();
        stall.seen = scheduler.places();
        newcomers
    }

    /// Notes when a stream joined the wait for the session's window.
    pub(crate) fn join_stall(&self, stream: &mut Stream, moment: Moment) {
        if self
            .stall
            .is_some_and(|stall| !stall.is_joined(stream.wait.stalled_since))
        {
            stream.wait.stalled_since = Some(moment);
        }
    }

    // --- the timeout -----------------------------------------------------------------------------

    /// Returns when to check for streams that have waited too long.
    pub(crate) const fn check(&self) -> Option<Moment> {
        self.check
    }

    /// Returns the streams that have waited too long, and sets the next check.
    pub(crate) fn expired<'a>(
        &mut self,
        streams: impl Iterator<Item = &'a Stream>,
        is_session_open: bool,
        moment: Moment,
    ) -> Vec<StreamId> {
        self.check = None;
        let mut expired = Vec::new();
        for stream in streams {
            match self.deadline(stream, is_session_open) {
                Some(deadline) if deadline <= moment => expired.push(stream.id()),
                deadline => self.watch(deadline),
            }
        }
        expired
    }

    fn patience(&self) -> Patience {
        let timeouts = &self.config.timeouts;
        Patience {
            granted: self.granted,
            blocked: timeouts.blocked,
            trickle: timeouts.trickle(timeouts.blocked),
        }
    }

    fn deadline(&self, stream: &Stream, is_session_open: bool) -> Option<Moment> {
        match self.stall {
            Some(stall) if is_stalled(stream, is_session_open) => {
                stall.deadline(stream.wait.stalled_since, self.patience())
            }
            _ => stream.wait.blocked.deadline(self.patience()),
        }
    }

    /// Sets the next check to `deadline`, unless it is sooner.
    fn watch(&mut self, deadline: Option<Moment>) {
        let sooner = match (self.check, deadline) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.check = sooner;
    }

    /// Sets the next check for all streams that wait now.
    pub(crate) fn watch_all<'a>(
        &mut self,
        streams: impl Iterator<Item = &'a Stream>,
        is_session_open: bool,
    ) {
        for stream in streams {
            self.watch(self.deadline(stream, is_session_open));
        }
    }

    #[cfg(test)]
    pub(crate) fn blocked(&self) -> usize {
        self.blocked.len()
    }

    #[cfg(test)]
    pub(crate) fn grants(&self) -> usize {
        self.grants.len()
    }
}

/// Returns whether a stream has payload and only the window of the session keeps it from writing.
pub(crate) fn is_stalled(stream: &Stream, is_session_open: bool) -> bool {
    let needs_window = stream.need() == Need::Window;
    !is_session_open && stream.place.is_scheduled() && needs_window
}
