//! The connection: the state of one side, and the dispatch of what arrives.

mod application;
mod deadlines;
mod end;
mod fill;
mod grants;
#[cfg(feature = "tokio")]
mod heeds;
mod on_frame;
mod questions;
#[cfg(feature = "tokio")]
mod rest;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::BytesMut;
use spdy_frame::{
    DEFAULT_WINDOW, Frame, FrameError, GoAwayStatus, MAX_WINDOW, Setting, SettingId, Side,
    StreamId, Version, WindowTarget,
};

pub use self::{
    application::{OpenOptions, Shutdown},
    questions::{Stats, Windows},
};
#[cfg(feature = "tokio")]
pub(crate) use self::{heeds::Heeds, rest::Quiet};
use super::{
    clock::Clock,
    error::Violation,
    event::{Event, Outcome},
    go_away::GoAways,
    guard::Guard,
    held::Held,
    inbound::Inbound,
    output::Output,
    pings::Pings,
    role::Role,
    streams::{Stream, Streams},
    waits::Waits,
    windows::SessionWindows,
};
use crate::{
    Count, Limit, Rule, SessionError,
    config::{Config, range},
    counters::tally::Tally,
    wire_log,
};

/// One side of a SPDY connection, without I/O and without a clock of its own.
///
/// The [module](super) describes the order of calls. The methods by their purpose:
///
/// - Report what the network or the clock did: [`handle_input`](Self::handle_input),
///   [`handle_frame`](Self::handle_frame), [`handle_frame_error`](Self::handle_frame_error),
///   [`handle_eof`](Self::handle_eof), [`handle_transport_error`](Self::handle_transport_error),
///   [`handle_timeout`](Self::handle_timeout).
/// - Do what the application wants: [`open`](Self::open), [`accept`](Self::accept),
///   [`send_reply`](Self::send_reply), [`send_headers`](Self::send_headers),
///   [`send_data`](Self::send_data), [`finish`](Self::finish), [`consume`](Self::consume),
///   [`stop_reading`](Self::stop_reading), [`reset`](Self::reset), [`release`](Self::release),
///   [`ping`](Self::ping), [`shutdown`](Self::shutdown).
/// - Return what the caller has to do: [`poll_event`](Self::poll_event),
///   [`poll_transmit`](Self::poll_transmit), [`poll_timeout`](Self::poll_timeout),
///   [`wants_input`](Self::wants_input), [`phase`](Self::phase).
#[derive(Debug)]
pub struct Connection {
    role: Role,
    config: Arc<Config>,
    phase: Phase,
    outcome: Outcome,

    inbound: Inbound,
    streams: Streams,
    go_away: GoAways,
    windows: SessionWindows,
    waits: Waits,
    output: Output,
    held: Held,
    events: VecDeque<Event>,
    pings: Pings,
    guard: Guard,
    clock: Clock,
    tally: Tally,
}

/// How close a connection is to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Both sides may open streams.
    Open,
    /// GOAWAY was sent, or will be sent when all streams have ended. No new streams are opened, and
    /// the open ones finish.
    Draining,
    /// The caller writes what [`Connection::poll_transmit`] returns, shuts down the writing side of
    /// the transport, and closes it. Nothing else remains.
    Closing,
}

/// How many streams a client opens before the first SETTINGS of the server, as Chromium and HTTP/2
/// clients do. No server should accept fewer (protocol.md §14), and a refused request would have to
/// be sent again.
const ASSUMED_STREAMS: usize = 100;

/// The number of events for which a new connection has room. With one request at a time there are
/// no more at once.
const FEW_EVENTS: usize = 2;

/// Decoding pauses while this number of events waits, so that the work of one turn is bounded.
const MAX_EVENTS: usize = 128;

impl Connection {
    /// Creates a connection that has sent nothing yet. Unless flow control is off, it queues
    /// SETTINGS, and over SPDY/3.1 a WINDOW_UPDATE that enlarges the session window.
    ///
    /// A value of `config` that is outside of its range counts as the nearest one within: see
    /// [`config`](Self::config).
    #[must_use]
    pub fn new(side: Side, version: Version, mut config: Arc<Config>, now: Instant) -> Self {
        range::check(&mut config);
        let limits = &config.limits;
        let clock = Clock::new(now);
        let role = Role::new(side, version, &config);
        let most_streams = match side {
            Side::Client if role.enforces_windows() => ASSUMED_STREAMS,
            Side::Client | Side::Server => usize::MAX,
        };
        let mut connection = Self {
            role,
            phase: Phase::Open,
            outcome: Ok(()),
            inbound: Inbound::new(role, &config),
            streams: Streams::new(role, limits, most_streams),
            go_away: GoAways::default(),
            windows: SessionWindows::new(role, limits),
            waits: Waits::new(Arc::clone(&config), clock.at(now)),
            output: Output::new(role, &config),
            held: Held::default(),
            events: VecDeque::with_capacity(FEW_EVENTS),
            pings: Pings::new(side, clock.at(now)),
            guard: Guard::new(limits, now),
            clock,
            tally: Tally::new(config.counters.as_ref()),
            config,
        };
        connection.announce();
        connection
    }

    /// Takes frames off the front of `src` and handles them, until no whole frame is left, enough
    /// events wait, or reading has to pause. Pass the bytes that are left to the next call again.
    /// Returns whether any frame was handled.
    ///
    /// Payloads are slices of `src`, which is never copied.
    pub fn handle_input(&mut self, now: Instant, src: &mut BytesMut) -> bool {
        let (mut handled, before) = (false, src.len());
        if let Some(protocol) = self.inbound.foreign(src).filter(|_| self.wants_input()) {
            src.clear();
            self.fail(
                GoAwayStatus::PROTOCOL_ERROR,
                SessionError::Foreign(protocol),
            );
        }
        let is_read = loop {
            if !self.wants_input() {
                break false;
            }
            if src.is_empty() || self.events.len() >= MAX_EVENTS {
                break true;
            }
            match self.inbound.next(src) {
                Ok(Some(frame)) => self.handle_frame(now, frame),
                Ok(None) => break true,
                Err(error) => self.handle_frame_error(now, error),
            }
            handled = true;
        };
        self.tally
            .add(Count::BytesReceived, (before - src.len()) as u64);
        // While reading pauses, this side and not the peer keeps a frame from being complete.
        let partial = is_read && (!src.is_empty() || self.inbound.is_mid_frame());
        self.clock.input(now, handled, partial);
        self.clock.note_reading(now, is_read);
        handled
    }

    /// Handles one frame of the peer.
    pub fn handle_frame(&mut self, now: Instant, frame: Frame) {
        wire_log::received(self.role.side(), &frame);
        if self.phase == Phase::Closing {
            return;
        }
        if let Err(violation) = self.on_frame(now, frame) {
            self.on_violation(now, violation);
        }
    }

    /// Handles a frame that could not be decoded: informs the peer, and ends the session if the
    /// error requires it.
    pub fn handle_frame_error(&mut self, now: Instant, error: FrameError) {
        if self.phase == Phase::Closing {
            return;
        }
        if matches!(error, FrameError::TooLarge { .. }) {
            self.reached(Limit::MaxControlFrame);
        }
        if let Some((id, status)) = error.reset().filter(|_| self.deserves_reset(&error)) {
            self.on_violation(now, Violation::stream(id, status, Rule::InvalidFrame));
        }
        if let Some(status) = error.go_away() {
            self.fail(status, SessionError::Frame(error));
        }
    }

    /// Handles the end of the peer's bytes.
    ///
    /// Streams that the peer had not finished fail. Responses on the other streams still go out,
    /// because the peer may have closed only its writing side. Meanwhile probes find out whether it
    /// has closed both sides: see [`Timeouts::probe`](crate::Timeouts::probe).
    pub fn handle_eof(&mut self, now: Instant) {
        if self.phase == Phase::Closing || self.inbound.is_ended() {
            return;
        }
        self.inbound.end();
        self.clock.input(now, false, false);
        self.pings.half_closed();
        self.note_pause(now);
        // No WINDOW_UPDATE can come any more, so a stream that waits for a window would wait for
        // ever.
        let streams = self.streams.iter();
        let lost: Vec<StreamId> = streams
            .filter(|stream| !stream.is_received() || self.is_waiting_for_window(stream))
            .map(Stream::id)
            .collect();
        if self.inbound.is_mid_frame() {
            self.note_loss();
        }
        for id in lost {
            self.lose_stream(id);
        }
        self.phase = Phase::Draining;
        self.go_away.skip();
        self.close_when_done();
    }

    /// Returns the next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns whether this side answers an undecodable frame with RST_STREAM.
    fn deserves_reset(&self, error: &FrameError) -> bool {
        match error {
            // SPDY/2 has no FRAME_TOO_LARGE, and the session ends anyway.
            FrameError::TooLarge { .. } => self.role.version() != Version::V2,
            // WINDOW_UPDATE is ignored if the stream is gone or no windows are in force
            // (protocol.md §12.3).
            FrameError::ZeroIncrement {
                target: WindowTarget::Stream(id),
            } => self.role.has_stream_windows() && self.streams.contains(*id),
            _ => true,
        }
    }

    /// Queues the first frames of a connection (protocol.md §3.7).
    fn announce(&mut self) {
        if !self.role.enforces_windows() {
            return;
        }
        let limits = &self.config.limits;
        // Streams that the server opens are pushes.
        let streams = match self.role.side() {
            Side::Client if !self.config.accept_push => 0,
            Side::Client | Side::Server => limits.max_streams,
        };
        // SPDY/2 has no windows, but node-spdy applies INITIAL_WINDOW_SIZE there. So it gets the
        // largest.
        let window = if self.role.version().has_stream_windows() {
            limits.stream_window
        } else {
            MAX_WINDOW
        };
        self.output.settings(vec![
            Setting::new(SettingId::MAX_CONCURRENT_STREAMS, streams),
            Setting::new(SettingId::INITIAL_WINDOW_SIZE, window),
        ]);
        if window < DEFAULT_WINDOW {
            self.output.ping(self.pings.ask_settings());
        }
    }
}
