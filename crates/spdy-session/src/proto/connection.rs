//! The connection: everything one side knows, and the dispatch of what comes in.

mod application;
mod awaited;
mod control;
mod data;
mod deadlines;
mod ending;
mod fill;
#[cfg(feature = "tokio")]
mod heeds;
#[cfg(feature = "tokio")]
mod rest;
mod sent;
mod stats;
mod streams;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::BytesMut;
use spdy_frame::{Frame, FrameError, GoAwayStatus, Side, StreamId, Version};

pub use self::{
    application::{Open, Shutdown},
    stats::{Stats, Windows},
};
#[cfg(feature = "tokio")]
pub(crate) use self::{heeds::Heeds, rest::Quiet};
use super::{
    clock::Clock,
    error::Violation,
    event::{Event, Outcome},
    go_away::GoAways,
    guard::{Charge, Guard},
    inbound::Inbound,
    output::Output,
    pings::Pings,
    role::Role,
    streams::{Stream, Streams},
    waits::{self, Waits},
    windows::SessionWindows,
};
use crate::{
    Count, Limit, SessionError,
    config::{Config, STREAM_RECORD},
    counters::Tally,
    wire_log,
};

/// One side of a SPDY connection, without I/O and without a clock of its own.
///
/// See the [module](super) for the order of calls. Its methods are, by family:
///
/// - what the network or the clock did: [`handle_input`](Self::handle_input),
///   [`handle_frame`](Self::handle_frame), [`handle_frame_error`](Self::handle_frame_error),
///   [`handle_eof`](Self::handle_eof), [`handle_transport_error`](Self::handle_transport_error),
///   [`handle_timeout`](Self::handle_timeout);
/// - what the application wants: [`open`](Self::open), [`accept`](Self::accept), [`reply`](Self::reply),
///   [`send_headers`](Self::send_headers), [`send_data`](Self::send_data), [`finish`](Self::finish),
///   [`consume`](Self::consume), [`stop_reading`](Self::stop_reading), [`reset`](Self::reset),
///   [`release`](Self::release), [`ping`](Self::ping), [`shutdown`](Self::shutdown);
/// - what the caller must do now: [`poll_event`](Self::poll_event), [`poll_transmit`](Self::poll_transmit),
///   [`poll_timeout`](Self::poll_timeout), [`wants_input`](Self::wants_input), [`phase`](Self::phase).
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
    events: VecDeque<Event>,
    pings: Pings,
    guard: Guard,
    clock: Clock,
    tally: Tally,
}

/// How far a connection is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Streams come and go.
    Open,
    /// GOAWAY was sent or is to be sent when all is done: no new streams, the open ones finish.
    Draining,
    /// Nothing is left but to write what [`Connection::poll_transmit`] gives, to shut the writing side of the
    /// transport down and to close it.
    Closing,
}

/// How many streams a client opens before it has heard from the server, as Chromium and HTTP/2 clients do: no server
/// should accept fewer (protocol.md §14), and what is refused would have to be sent again.
const ASSUMED_STREAMS: usize = 100;

/// After so many waiting events decoding pauses, so that one turn's work is bounded.
const MAX_EVENTS: usize = 128;

impl Connection {
    /// A connection at its start. It has SETTINGS to send, and over SPDY/3.1 a larger session window, unless
    /// flow control is off.
    #[must_use]
    pub fn new(side: Side, version: Version, config: Arc<Config>, now: Instant) -> Self {
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
            waits: Waits::new(&config.timeouts, limits, clock.at(now)),
            output: Output::new(role, &config),
            events: VecDeque::new(),
            pings: Pings::new(side, clock.at(now)),
            guard: Guard::new(limits, now),
            clock,
            tally: Tally::new(config.counters.as_ref()),
            config,
        };
        connection.announce();
        connection
    }

    /// Takes frames off the front of `src` and handles them, until there is no whole frame, enough events wait,
    /// or reading has to pause; octets that are left belong to the next call. Gives whether any frame was
    /// handled.
    ///
    /// `src` is never copied: payloads are slices of it.
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
            .add(Count::OctetsReceived, (before - src.len()) as u64);
        // While reading pauses it is not the peer that keeps a frame from being complete.
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
        self.note_frame(now, &frame);
        self.count_received(&frame);
        if self.inbound.note_frame() {
            self.streams.set_most_local(usize::MAX);
        }
        let result = match frame {
            Frame::Data(data) => self.on_data(now, data),
            Frame::SynStream(frame) => self.on_syn_stream(now, frame),
            Frame::SynReply(frame) => self.on_syn_reply(now, frame),
            Frame::RstStream(frame) => self.on_rst_stream(now, frame),
            Frame::Settings(frame) => self.on_settings(now, frame),
            Frame::Ping(frame) => self.on_ping(now, frame),
            Frame::GoAway(frame) => self.on_go_away(now, frame),
            Frame::Headers(frame) => self.on_headers(now, frame),
            Frame::WindowUpdate(frame) => self.on_window_update(now, frame),
            // `Frame` has no other kinds; were there more, skipping them is the rule (protocol.md §5.11).
            Frame::Noop | Frame::Credential(_) | Frame::Unknown(_) => {
                self.guard.charge(Charge::IdleFrame, now)
            }
        };
        if let Err(violation) = result {
            self.on_violation(now, violation);
        }
    }

    /// Handles a frame that could not be decoded: tells the peer, and ends the session if it has to.
    pub fn handle_frame_error(&mut self, now: Instant, error: FrameError) {
        if self.phase == Phase::Closing {
            return;
        }
        if matches!(error, FrameError::TooLarge { .. }) {
            self.reached(Limit::MaxControlFrame);
        }
        if let Some((id, status)) = error.reset().filter(|_| self.deserves_reset(&error)) {
            let reason = "frame cannot be accepted";
            self.on_violation(now, Violation::stream(id, status, reason));
        }
        if let Some(status) = error.go_away() {
            self.fail(status, SessionError::Frame(error));
        }
    }

    /// Handles the end of the peer's octets. Streams that it had not finished fail; answers to those it had
    /// finished still go out, as the peer may only have closed its writing side; whether it has closed both is
    /// probed meanwhile, as [`Timeouts::probe`](crate::Timeouts::probe) says.
    pub fn handle_eof(&mut self, now: Instant) {
        if self.phase == Phase::Closing || self.inbound.is_ended() {
            return;
        }
        self.inbound.end();
        self.clock.input(now, false, false);
        self.pings.half_closed();
        self.note_pause(now);
        // A stream that waits for a window waits in vain now.
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

    /// Handles a failed transport: everything ends at once.
    pub fn handle_transport_error(&mut self, error: SessionError) {
        if self.phase != Phase::Closing {
            self.end(error);
        } else if self.drop_unwritten(&error) && self.outcome.is_ok() {
            self.outcome = Err(error);
        }
        self.output.discard_all();
        self.waits.stop();
    }

    /// Gives the next thing that happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether the transport should be read now. It should not while the peer leaves replies unread, or while
    /// the application leaves octets unread that no window bounds: this is the only back-pressure then.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.phase != Phase::Closing
            && !self.inbound.is_ended()
            && self.output.replies() < self.config.limits.max_queued_replies.max(1)
            && !self.is_overfull()
    }

    /// Returns how many bytes the connection holds: the peer's compression window, what was received and not consumed,
    /// what is ready to be written, and the records of streams, also of those that are gone and whose handles exist.
    /// What is queued to be sent is known where it is queued.
    #[must_use]
    pub fn memory(&self) -> usize {
        let records = self.streams.records() * STREAM_RECORD;
        let received = self.windows.recv().held() + self.streams.held_headers() + records;
        self.inbound.memory() + received + self.output.held()
    }

    /// Whether this side keeps the peer from sending payload: the transport is not read, or the session's receive window
    /// is used up, since the application has not taken what came. A peer that is silent then is not to blame.
    #[must_use]
    pub fn holds_up_peer(&self) -> bool {
        !self.inbound.is_ended() && (!self.wants_input() || self.windows.is_used_up())
    }

    /// How far the connection is on its way to its end.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Why the connection ended, or will: `Ok` for an orderly end.
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The negotiated version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.role.version()
    }

    /// The role of this side.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.role.side()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    // --- questions --------------------------------------------------------------------------------------

    /// Whether a stream has payload that a window does not let out, or an application that waits to make some.
    fn is_waiting_for_window(&self, stream: &Stream) -> bool {
        stream.wait.is_blocked() || waits::is_stalled(stream, self.windows.is_open())
    }

    /// Whether unread octets forbid reading the transport.
    fn is_overfull(&self) -> bool {
        self.streams.is_overfull() || self.windows.is_overfull()
    }
}
