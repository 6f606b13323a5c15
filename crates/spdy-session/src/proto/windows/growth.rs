//! Windows that grow to what the path can hold (protocol.md §13.3, §16).
//!
//! In each round trip the peer can send at most one window. So over a long path the window limits
//! the speed of an upload. Whether it does is measured:
//!
//! 1. A PING goes out next to a WINDOW_UPDATE. Its answer shows how long a round trip takes.
//! 2. Bytes are counted from the PING to the first WINDOW_UPDATE after its answer. So it does not
//!    matter whether they arrive evenly, or all at once because the peer waits for credit.
//! 3. If a round trip carries more than half of a window, the window is doubled.
//!
//! ```text
//!   credit, and half ──► PING ──► answer ──► credit ──► a window doubles: again with the
//!   of a window came                            │       next credit
//!          ▲                                    └─────► none does: a pause, longer each time
//!          └──────────────────────────────────────────────────────────┘
//! ```
//!
//! While the application leaves much unread nothing is measured, because then the window is meant
//! to limit the peer. Windows never shrink and have a maximum, so few measurements enlarge them,
//! and those that do not become rare. If the peer does not answer the PING there is no further
//! measurement.

use std::time::{Duration, Instant};

use spdy_frame::StreamId;

use super::{RecvWindow, SessionWindows};
use crate::{
    config::Limits,
    proto::{role::Role, streams::Stream},
};

/// The growth of windows: their sizes, their maximums, and the current measurement.
#[derive(Debug)]
pub(super) struct Growth {
    /// The size of each stream's window. A stream gets it with its next credit.
    stream_window: u32,
    most_stream_window: u32,
    most_session_window: u32,
    /// It is boxed, because most sessions never measure.
    measurement: Option<Box<Measurement>>,
    /// No measurement begins before this moment.
    rests_until: Option<Instant>,
    /// The length of the next pause.
    rest: Duration,
}

/// A measurement that is under way, with the counts of received bytes at its start.
#[derive(Debug)]
struct Measurement {
    began: Instant,
    /// The round trip, once the PING is answered.
    round_trip: Option<Duration>,
    /// How many bytes the session had received.
    session: u64,
    /// The stream that got credit, or the busiest one, and how many bytes it had received.
    stream: (StreamId, u64),
}

impl Growth {
    pub(super) fn new(limits: &Limits, role: Role) -> Self {
        let most_stream_window = if role.version().has_session_window() {
            limits.max_stream_window
        } else {
            // One stream alone must not stop the reading.
            let half = u32::try_from(limits.session_buffer / 2).unwrap_or(u32::MAX);
            limits.max_stream_window.min(half)
        };
        Self {
            stream_window: limits.stream_window,
            most_stream_window: most_stream_window.max(limits.stream_window),
            most_session_window: limits.max_session_window.max(limits.session_window),
            measurement: None,
            rests_until: None,
            rest: FIRST_REST,
        }
    }

    /// Returns the size that each stream's window should have.
    pub(super) fn stream_window(&self) -> u32 {
        self.stream_window
    }

    /// Sets when the next measurement may begin. The pause gets longer after each measurement
    /// without growth.
    fn rest(&mut self, now: Instant, has_grown: bool) {
        if has_grown {
            // The larger windows are not announced yet.
            (self.rests_until, self.rest) = (Some(now), FIRST_REST);
        } else {
            self.rests_until = now.checked_add(self.rest);
            self.rest = (2 * self.rest).min(LONGEST_REST);
        }
    }
}

impl SessionWindows {
    /// Notes that the PING of the measurement was answered.
    pub(crate) fn ping_answered(&mut self, now: Instant) {
        if let Some(measurement) = &mut self.growth.measurement {
            measurement.round_trip = Some(now.saturating_duration_since(measurement.began));
        }
    }

    /// Returns the stream of a measurement whose PING was answered.
    pub(crate) fn measured_stream(&self) -> Option<StreamId> {
        let measurement = self.growth.measurement.as_ref()?;
        measurement.round_trip.map(|_| measurement.stream.0)
    }

    /// Ends a measurement after credit was granted, and enlarges the windows that limit the peer.
    /// `stream` is `None` if the measured stream is gone.
    pub(crate) fn end_measurement(&mut self, now: Instant, stream: Option<&Stream>) {
        let Some(measurement) = self.growth.measurement.take() else {
            return;
        };
        let before = (self.growth.stream_window, self.recv.size());
        self.grow_streams(now, &measurement, stream);
        if self.role.has_session_window() {
            let have_streams_grown = self.growth.stream_window > before.0;
            self.grow_own(now, &measurement, have_streams_grown);
        }
        let (stream, session) = (self.growth.stream_window, self.recv.size());
        let has_grown = (stream, session) != before;
        self.growth.rest(now, has_grown);
        if has_grown {
            tracing::debug!(target: "spdy", side = %self.role.side(), stream, session, "windows grow");
        }
    }

    /// Returns whether a measurement may begin.
    pub(crate) fn may_measure(&self, now: Instant) -> bool {
        let growth = &self.growth;
        let has_rested = growth.rests_until.is_none_or(|until| until < now);
        has_rested && growth.measurement.is_none() && self.can_grow()
    }

    fn can_grow(&self) -> bool {
        let growth = &self.growth;
        let can_session =
            self.role.has_session_window() && self.recv.size() < growth.most_session_window;
        can_session || growth.stream_window < growth.most_stream_window
    }

    /// Begins a measurement next to a WINDOW_UPDATE of the stream (`is_of_stream`) or of the
    /// session, if at least half of its window has arrived and the application keeps up. Returns
    /// whether it begins; then the caller has to send a PING.
    #[must_use = "a PING is due"]
    pub(crate) fn begin_measurement(
        &mut self,
        now: Instant,
        stream: &Stream,
        is_of_stream: bool,
    ) -> bool {
        let window = match is_of_stream {
            true => stream.recv_window(),
            false => &self.recv,
        };
        if !window.is_read() || 2 * window.received() < u64::from(window.size()) {
            return false;
        }
        self.growth.measurement = Some(Box::new(Measurement {
            began: now,
            round_trip: None,
            session: self.recv.received(),
            stream: (stream.id(), stream.recv_window().received()),
        }));
        true
    }

    fn grow_streams(&mut self, now: Instant, measurement: &Measurement, stream: Option<&Stream>) {
        let before = measurement.stream.1;
        if stream.is_some_and(|it| measurement.is_in_the_way(now, before, it.recv_window())) {
            let most = self.growth.most_stream_window;
            self.growth.stream_window = self.growth.stream_window.saturating_mul(2).min(most);
        }
    }

    fn grow_own(&mut self, now: Instant, measurement: &Measurement, have_streams_grown: bool) {
        let mut size = self.recv.size();
        if measurement.is_in_the_way(now, measurement.session, &self.recv) {
            size = size.saturating_mul(2);
        }
        if have_streams_grown {
            // A stream that is not read any more leaves half of the session's window to the others.
            size = size.max(self.growth.stream_window.saturating_mul(2));
        }
        self.recv
            .enlarge_to(size.min(self.growth.most_session_window));
    }
}

impl Measurement {
    /// Returns whether a round trip carries more than half of a window and the application keeps
    /// up. `before` is what the window had received when the measurement began.
    fn is_in_the_way(&self, now: Instant, before: u64, window: &RecvWindow) -> bool {
        let round_trip = self.round_trip.unwrap_or_default().as_nanos();
        let time = now.saturating_duration_since(self.began).as_nanos();
        let bytes = u128::from(window.received() - before);
        window.is_read() && 2 * bytes * round_trip > u128::from(window.size()) * time
    }
}

/// The pause after the first measurement without growth.
const FIRST_REST: Duration = Duration::from_millis(250);

/// The longest pause. A path that gets longer or wider is noticed after this time at the latest.
const LONGEST_REST: Duration = Duration::from_secs(16);
