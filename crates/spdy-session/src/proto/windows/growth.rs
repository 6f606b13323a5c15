//! Windows that grow with what the path holds (protocol.md §13.3, §16).
//!
//! A window lets through in each round trip what it has, so over a long path it is the window that says how fast an
//! upload is. Whether it does is measured. A PING goes out beside credit and tells how long a round trip takes. From there
//! to the first credit after its answer the bytes are counted: so it makes no difference whether they come evenly or, as
//! they do when they wait for credit, all at once. If a round trip brings more than half of a window, the window is doubled.
//!
//! ```text
//!   credit, and half of a window has come ──► PING ──► answer ──► credit ──► a window doubles: again with the next credit
//!          ▲                                                       └───────► none does: a rest, longer each time
//!          └─────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing is measured while the application leaves much unread: then the window does what it is there for. Windows never
//! shrink, and they have a maximum: so there are few measurements that change something, and those that do not become
//! rare. A peer that does not answer is not asked again.

use std::time::{Duration, Instant};

use spdy_frame::StreamId;

use super::{RecvWindow, SessionWindows};
use crate::{
    config::Limits,
    proto::{role::Role, streams::Stream},
};

/// What is known of the path, and what is being measured.
#[derive(Debug)]
pub(super) struct Growth {
    /// What the window of each stream is to have. It gets it with its next credit.
    stream_window: u32,
    most_stream_window: u32,
    most_session_window: u32,
    measurement: Option<Measurement>,
    /// No measurement begins up to then.
    rests_until: Option<Instant>,
    /// How long the next rest is.
    rest: Duration,
}

/// A measurement that is under way, and what had come when it began.
#[derive(Debug)]
struct Measurement {
    began: Instant,
    /// Once the PING is answered.
    round_trip: Option<Duration>,
    /// In the session.
    session: u64,
    /// On the stream that got credit, or on the busiest one.
    stream: (StreamId, u64),
}

impl Growth {
    pub(super) fn new(limits: &Limits, role: Role) -> Self {
        Self {
            stream_window: limits.stream_window(),
            most_stream_window: limits.max_stream_window(role.version()),
            most_session_window: limits.max_session_window(),
            measurement: None,
            rests_until: None,
            rest: FIRST_REST,
        }
    }

    /// What the window of each stream is to have.
    pub(super) fn stream_window(&self) -> u32 {
        self.stream_window
    }

    /// Says when the next measurement is: those that change nothing become rare.
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
    /// The answer to the PING that measures came.
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

    /// Ends a measurement after credit was granted: the windows that are in the way grow. Its stream may be gone.
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

    /// Begins a measurement if as much has come as half of the window that got credit, more is to come, and the
    /// application keeps up with it. The window is that of the stream, or of the session. Returns whether it begins: a
    /// PING is due then.
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
        self.growth.measurement = Some(Measurement {
            began: now,
            round_trip: None,
            session: self.recv.received(),
            stream: (stream.id(), stream.recv_window().received()),
        });
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
            // A stream that nobody reads any more leaves half of it to the others.
            size = size.max(self.growth.stream_window.saturating_mul(2));
        }
        self.recv
            .enlarge_to(size.min(self.growth.most_session_window));
    }
}

impl Measurement {
    /// Whether a round trip brings more than half of a window to which `before` bytes had come in the beginning, and
    /// the application keeps up with it.
    fn is_in_the_way(&self, now: Instant, before: u64, window: &RecvWindow) -> bool {
        let round_trip = self.round_trip.unwrap_or_default().as_nanos();
        let time = now.saturating_duration_since(self.began).as_nanos();
        let octets = u128::from(window.received() - before);
        window.is_read() && 2 * octets * round_trip > u128::from(window.size()) * time
    }
}

/// The rest after the first measurement that changes nothing.
const FIRST_REST: Duration = Duration::from_millis(250);

/// A path that gets longer or wider is noticed after so long at the latest.
const LONGEST_REST: Duration = Duration::from_secs(16);
