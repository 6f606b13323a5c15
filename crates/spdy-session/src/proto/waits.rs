//! Streams that wait for windows of the peer, and since when: not for ever.
//!
//! A stream waits for its own window, or all streams wait for that of the session. In both cases it
//! has payload, or an application that has said so. An application may also wait for a grant with
//! nothing to send; no time runs then.

mod wait;

use std::{collections::BTreeSet, mem};

use spdy_frame::StreamId;

use self::wait::{Patience, Stall, Wait};
use super::{
    clock::Moment,
    scheduler::{Need, Scheduler},
    streams::{Stream, StreamIds},
};
use crate::config::{Limits, Timeouts};

/// All waiting for windows.
#[derive(Debug)]
pub(crate) struct Waits {
    /// Streams that wait for their own window, those in front that need the least.
    blocked: BTreeSet<(i64, StreamId)>,
    /// Since when the streams of the scheduler wait for the session's window.
    stall: Option<Stall>,
    /// Streams whose applications wait for something else, and go on if the window is wider.
    grants: StreamIds,
    /// How long may be waited, and when the peer last made a window larger.
    patience: Patience,
    /// When to look for streams that wait too long.
    check: Option<Moment>,
    /// So many bytes that are sent end a wait.
    least: usize,
}

/// What one stream waits for.
#[derive(Debug, Default)]
pub(crate) struct StreamWait {
    /// How long it has payload, or an application that waits to make some, that its window does not
    /// let out.
    blocked: Wait,
    /// The application waits until the window is open, to send more.
    for_window: bool,
    /// The application waits until the window is another.
    for_grant: bool,
    /// Since when it waits for the window of the session, unless that is as long as the session
    /// does.
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
    pub(crate) fn new(timeouts: &Timeouts, limits: &Limits, moment: Moment) -> Self {
        Self {
            blocked: BTreeSet::new(),
            stall: None,
            grants: StreamIds::default(),
            patience: Patience {
                granted: moment,
                blocked: timeouts.blocked,
                trickle: timeouts.trickle(timeouts.blocked),
            },
            check: None,
            least: limits.min_progress,
        }
    }

    /// The peer made a window larger. While the transport takes nothing it is not the session's
    /// that is waited for.
    pub(crate) fn granted(&mut self, moment: Moment, is_transport_full: bool) {
        self.patience.granted = moment;
        if is_transport_full {
            self.stall = None;
        }
    }

    /// Takes a stream that is gone out.
    pub(crate) fn forget(&mut self, stream: &Stream) {
        if stream.wait.is_blocked() {
            self.unlist(stream);
        }
        if stream.wait.for_grant {
            self.grants.remove(&stream.id());
        }
    }

    /// Forgets everything.
    pub(crate) fn stop(&mut self) {
        self.blocked.clear();
        self.stall = None;
    }

    // --- the window of a stream ------------------------------------------------------------------

    /// A stream has payload, and its window is used up.
    pub(crate) fn begin(&mut self, stream: &mut Stream, moment: Moment) {
        stream.wait.blocked.begin(moment);
        let shortfall = stream.send_window().shortfall();
        self.blocked.insert((shortfall, stream.id()));
        self.watch(stream.wait.blocked.deadline(self.patience));
    }

    /// The application has more to send and waits for the window first.
    pub(crate) fn begin_for_application(&mut self, stream: &mut Stream, moment: Moment) {
        stream.wait.for_window = true;
        self.begin(stream, moment);
    }

    /// The application waits until the window is another.
    pub(crate) fn await_grant(&mut self, stream: &mut Stream) {
        stream.wait.for_grant = true;
        self.grants.insert(stream.id());
    }

    /// The window of a stream, which may still be shut, grew by `change`.
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

    /// Takes a stream off the list of those that wait for their window, if windows that begin with
    /// this let it go on.
    pub(crate) fn pop_open(&mut self, initial: u32) -> Option<StreamId> {
        let &(shortfall, _) = self.blocked.first()?;
        if shortfall >= i64::from(initial) {
            return None;
        }
        self.blocked.pop_first().map(|(_, id)| id)
    }

    /// The window of a stream is open: it waits no more. Returns whether its application is to be
    /// told.
    #[must_use = "an application waits"]
    pub(crate) fn end(&mut self, stream: &mut Stream, moment: Moment) -> bool {
        stream.wait.blocked.end(moment);
        self.unlist(stream);
        let was_awaited = mem::take(&mut stream.wait.for_window);
        self.take_grant(stream) || was_awaited
    }

    /// The window of a stream is another. Returns whether its application is to be told.
    #[must_use = "an application waits"]
    pub(crate) fn take_grant(&mut self, stream: &mut Stream) -> bool {
        let was_awaited = mem::take(&mut stream.wait.for_grant);
        if was_awaited {
            self.grants.remove(&stream.id());
        }
        was_awaited
    }

    /// Takes the streams off the list whose applications wait until the window is another.
    pub(crate) fn take_grants(&mut self) -> impl Iterator<Item = StreamId> + use<> {
        mem::take(&mut self.grants).into_iter()
    }

    /// FIN of a stream is written: its application waits for nothing.
    pub(crate) fn finished(&mut self, stream: &mut Stream) {
        if mem::take(&mut stream.wait.for_window) {
            stream.wait.blocked = Wait::default();
            self.unlist(stream);
        }
    }

    /// Payload of a stream was sent, and this was all of it or not.
    #[inline]
    pub(crate) fn sent(&mut self, stream: &mut Stream, bytes: usize, is_all: bool) {
        stream.wait.blocked.sent(bytes, is_all, self.least);
        if let Some(stall) = &mut self.stall {
            // It has waited for as long as before, unless this was all.
            let since = stall.joined(stream.wait.stalled_since);
            stream.wait.stalled_since = (!is_all).then_some(since);
            if stall.is_ended_by(bytes, self.least) {
                self.stall = None;
            }
        }
    }

    fn unlist(&mut self, stream: &Stream) -> bool {
        let shortfall = stream.send_window().shortfall();
        self.blocked.remove(&(shortfall, stream.id()))
    }

    // --- the window of the session ---------------------------------------------------------------

    /// No stream waits for the window of the session.
    #[inline]
    pub(crate) fn end_stall(&mut self) {
        self.stall = None;
    }

    /// The streams with payload wait for the window of the session.
    pub(crate) fn note_stall(&mut self, scheduler: &Scheduler, moment: Moment) {
        if self.stall.is_none() {
            let stall = Stall::new(moment, scheduler.places());
            self.stall = Some(stall);
            self.watch(stall.deadline(None, self.patience));
        }
    }

    /// Returns the streams that have come to those that wait for the window of the session, if any
    /// do, since the last call: they have not waited before.
    pub(crate) fn newcomers(&mut self, scheduler: &Scheduler) -> Vec<StreamId> {
        let Some(stall) = &mut self.stall else {
            return Vec::new();
        };
        let newcomers = scheduler.payload_after(stall.seen).collect();
        stall.seen = scheduler.places();
        newcomers
    }

    /// A stream has joined those that wait for the window of the session.
    pub(crate) fn join_stall(&self, stream: &mut Stream, moment: Moment) {
        if self
            .stall
            .is_some_and(|stall| !stall.is_joined(stream.wait.stalled_since))
        {
            stream.wait.stalled_since = Some(moment);
        }
    }

    // --- the timeout -----------------------------------------------------------------------------

    /// Returns when to look for streams that wait too long.
    pub(crate) const fn check(&self) -> Option<Moment> {
        self.check
    }

    /// Returns the streams that have waited too long, and notes when to look again.
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

    fn deadline(&self, stream: &Stream, is_session_open: bool) -> Option<Moment> {
        match self.stall {
            Some(stall) if is_stalled(stream, is_session_open) => {
                stall.deadline(stream.wait.stalled_since, self.patience)
            }
            _ => stream.wait.blocked.deadline(self.patience),
        }
    }

    /// A stream will have waited too long then.
    fn watch(&mut self, deadline: Option<Moment>) {
        let sooner = match (self.check, deadline) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.check = sooner;
    }

    /// Looks again when the streams have waited too long that wait now.
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

/// Returns whether a stream has payload that the window of the session does not let out.
pub(crate) fn is_stalled(stream: &Stream, is_session_open: bool) -> bool {
    !is_session_open && stream.place.is_scheduled() && stream.need() == Need::Window
}
