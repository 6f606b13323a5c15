//! Frames about streams. Each handler goes through the rules in the order of protocol.md §12.3.

use std::time::Instant;

use spdy_frame::{
    CompressedBlock, DEFAULT_WINDOW, GoAwayStatus, HeaderBlock, HeaderError, Headers, RstStatus,
    RstStream, Side, StreamId, SynReply, SynStream, Version, WindowIncrement, WindowTarget,
    WindowUpdate,
};

use super::{Connection, Phase};
use crate::{
    Count, Limit, SessionError, StreamError,
    config::OversizedHeaders,
    proto::{
        error::{Violation, broken_block},
        event::{Event, Opened},
        guard::Charge,
        streams::{Birth, Ending, RecvInput, Stream},
        windows::RecvWindow,
    },
};

type Handled = Result<(), Violation>;

impl Connection {
    pub(super) fn on_syn_stream(
        &mut self,
        now: Instant,
        frame: SynStream<CompressedBlock>,
    ) -> Handled {
        let id = frame.stream;
        // Every block is inflated, whatever becomes of the stream (protocol.md §8.4).
        let headers = self.inflate(id, frame.block)?;
        if self.is_beyond_our_go_away(id) {
            // A few have crossed our GOAWAY; more of them only have their blocks inflated.
            self.charge_reset(now);
            return Ok(());
        }
        self.streams.note_remote(id)?;
        let headers = headers.map_err(|error| broken_block(id, &error))?;
        if headers.is_truncated() {
            match self.config.oversized_headers {
                OversizedHeaders::Reset => {
                    return Err(self.role.oversized(id).beyond(Limit::Headers));
                }
                OversizedHeaders::Deliver => self.reached(Limit::Headers),
            }
        }
        self.check_push(id, frame.associated, frame.unidirectional)?;
        if self.phase != Phase::Open {
            let reason = "session takes no new streams";
            return Err(Violation::stream(id, RstStatus::REFUSED_STREAM, reason));
        }
        self.streams.check_room(id, headers.size())?;
        self.admit(SynStream {
            stream: id,
            associated: frame.associated,
            priority: frame.priority,
            fin: frame.fin,
            unidirectional: frame.unidirectional,
            block: headers,
        });
        if self.role.side() == Side::Server && id.next().is_none() {
            // The client's ids are used up (protocol.md §11.1). Pushes simply stop.
            self.shutdown_gracefully(now, None);
        }
        Ok(())
    }

    pub(super) fn on_syn_reply(
        &mut self,
        now: Instant,
        frame: SynReply<CompressedBlock>,
    ) -> Handled {
        let (id, fin) = (frame.stream, frame.fin);
        let headers = self.inflate(id, frame.block)?;
        let stream = self.streams.get(id);
        let Some(mut stream) = stream.filter(|_| self.role.is_local(id)) else {
            return self.on_stray(now, id, "SYN_REPLY came for a stream that cannot have one");
        };
        let headers = stream.receive_headers(self.role, RecvInput::Reply, fin, headers)?;
        let size = stream.check_held(self.role, &headers)?;
        stream.hold_reply(size);
        let is_closed = stream.is_closed();
        self.events.push_back(Event::Replied { id, headers, fin });
        if is_closed {
            self.end_stream(id, Ending::closed());
        }
        Ok(())
    }

    pub(super) fn on_headers(&mut self, now: Instant, frame: Headers<CompressedBlock>) -> Handled {
        let (id, fin) = (frame.stream, frame.fin);
        let headers = self.inflate(id, frame.block)?;
        let Some(mut stream) = self.streams.get(id) else {
            return self.on_stray(now, id, "HEADERS came for a stream that is not open");
        };
        let headers = stream.receive_headers(self.role, RecvInput::Headers, fin, headers)?;
        if headers.is_empty() && !fin {
            return self.guard.charge(Charge::EmptyFrame, now);
        }
        let size = stream.check_held(self.role, &headers)?;
        if stream.is_discarded() && !fin {
            self.count_discarded(id, size, fin);
            return Ok(());
        }
        stream.hold_headers(size);
        let is_closed = stream.is_closed();
        self.events.push_back(Event::Headers { id, headers, fin });
        if is_closed {
            self.end_stream(id, Ending::closed());
        }
        Ok(())
    }

    pub(super) fn on_rst_stream(&mut self, now: Instant, frame: RstStream) -> Handled {
        let id = frame.stream;
        let error = StreamError::from_peer(frame.status);
        if self.streams.contains(id) {
            self.take_back(id);
            self.end_stream(id, Ending::failed(error));
        } else if !self.drop_ready(id, error) {
            // Unknown or closed: nothing to do, nothing to say (protocol.md §5.3).
            return self.guard.charge(Charge::IdleFrame, now);
        }
        self.cancel_pushes_of(id);
        if self.role.is_local(id) {
            return Ok(());
        }
        self.guard.charge(Charge::PeerReset, now)
    }

    pub(super) fn on_window_update(&mut self, now: Instant, frame: WindowUpdate) -> Handled {
        match frame.target {
            WindowTarget::Session if self.role.has_session_window() => {
                self.windows.grow_session(frame.increment)?;
                self.note_grant(now);
            }
            WindowTarget::Stream(id) if self.role.has_stream_windows() => {
                self.windows.note_stream_grant();
                self.grow_stream(now, id, frame.increment)?;
            }
            // SPDY/3 knows no session window, and without flow control nothing counts.
            WindowTarget::Session | WindowTarget::Stream(_) => {}
        }
        Ok(())
    }

    fn grow_stream(&mut self, now: Instant, id: StreamId, increment: WindowIncrement) -> Handled {
        let stream = self.streams.get(id);
        let Some(mut stream) = stream.filter(|stream| !stream.is_sent()) else {
            return Ok(());
        };
        let grow = |stream: &mut Stream| self.windows.grow_stream(stream, increment);
        self.waits.regrade(&mut stream, grow)?;
        self.note_grant(now);
        self.window_grew(now, id, true);
        Ok(())
    }

    /// Inflates a block. The outer error ends the session, the inner one only the stream.
    pub(super) fn inflate(
        &mut self,
        id: StreamId,
        block: CompressedBlock,
    ) -> Result<Result<HeaderBlock, HeaderError>, Violation> {
        match self.inbound.inflate(block) {
            Err(error) if error.is_context_lost() => {
                if matches!(error, HeaderError::Bomb { .. }) {
                    self.reached(Limit::HeadersMaxInflated);
                    if self.role.version() != Version::V2 {
                        self.output.reset(id, RstStatus::FRAME_TOO_LARGE);
                    }
                }
                self.fail(GoAwayStatus::PROTOCOL_ERROR, SessionError::Headers(error));
                // The session is over: the caller has nothing more to judge.
                Err(Violation::session(
                    "header block lost the compression context",
                ))
            }
            result => Ok(result),
        }
    }

    // --- SYN_STREAM, rule by rule -----------------------------------------------------------------------

    /// After our GOAWAY new streams of the peer are ignored (protocol.md §15).
    fn is_beyond_our_go_away(&self, id: StreamId) -> bool {
        self.go_away.is_sent() && self.streams.is_new_remote(id)
    }

    /// The rules for streams of a server (protocol.md §10.2); identity and origin are the HTTP layer's to judge.
    fn check_push(
        &self,
        id: StreamId,
        associated: Option<StreamId>,
        unidirectional: bool,
    ) -> Handled {
        if self.role.side() == Side::Server {
            return Ok(());
        }
        if unidirectional {
            let is_open = |associated: StreamId| {
                self.role.is_local(associated) && self.streams.contains(associated)
            };
            if !associated.is_some_and(is_open) {
                let reason = "push belongs to no open stream";
                return Err(Violation::stream(id, RstStatus::INVALID_STREAM, reason));
            }
        }
        if !self.config.accept_push {
            return Err(Violation::stream(
                id,
                RstStatus::REFUSED_STREAM,
                "pushes are not accepted",
            ));
        }
        Ok(())
    }

    fn admit(&mut self, frame: SynStream<HeaderBlock>) {
        let SynStream {
            stream: id,
            associated,
            priority,
            fin,
            unidirectional,
            block: headers,
        } = frame;
        self.go_away.admitted(id);
        let birth = Birth {
            priority,
            associated,
            unidirectional,
            fin,
            window: self.new_window(),
        };
        let is_closed = self.streams.admit(id, birth, headers.size()).is_closed();
        self.tally.one(Count::StreamsReceived);
        self.events.push_back(Event::Opened(Opened {
            id,
            headers,
            fin,
            priority,
            associated,
            unidirectional,
        }));
        if is_closed {
            self.end_stream(id, Ending::closed());
        }
    }

    /// Returns the window that the peer begins with on a new stream.
    pub(super) fn new_window(&self) -> RecvWindow {
        let window = if self.role.has_stream_windows() {
            self.config.limits.stream_window()
        } else {
            DEFAULT_WINDOW
        };
        let slack = match self.pings.awaits_settings() {
            true => DEFAULT_WINDOW.saturating_sub(window),
            false => 0,
        };
        RecvWindow::with_slack(window, slack)
    }

    // --- streams that are not open -----------------------------------------------------------------------

    /// A frame with a header block for a stream that is not open. It is answered at most once, and charged each
    /// time: its block had to be inflated.
    fn on_stray(&mut self, now: Instant, id: StreamId, reason: &'static str) -> Handled {
        if self.is_answered(id) {
            self.charge_reset(now);
            return Ok(());
        }
        Err(Violation::stream(id, RstStatus::INVALID_STREAM, reason))
    }

    /// Whether the peer knows already that a stream is not open, by our RST_STREAM or our GOAWAY. Peers without flow
    /// control go on sending on streams that we reset.
    pub(super) fn is_answered(&self, id: StreamId) -> bool {
        self.is_beyond_our_go_away(id)
            || self.streams.was_reset_lately(id)
            || !self.role.enforces_windows()
    }

    // --- RST_STREAM -------------------------------------------------------------------------------------

    /// Resetting a request stops its pushes too (protocol.md §10.1).
    fn cancel_pushes_of(&mut self, id: StreamId) {
        let streams = self.streams.iter();
        let of_stream = streams.filter(|stream| stream.associated() == Some(id));
        let ids = of_stream.map(Stream::id);
        let pushes: Vec<StreamId> = ids.filter(|&id| self.role.is_local(id)).collect();
        for push in pushes {
            let error = StreamError::from_peer(RstStatus::CANCEL);
            self.end_stream(push, Ending::reset(RstStatus::CANCEL, error));
        }
    }
}
