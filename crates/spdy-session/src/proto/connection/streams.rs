//! Frames about streams. Each handler goes through the rules in the order of protocol.md §12.3.

use std::time::Instant;

use spdy_frame::{
    CompressedBlock, DEFAULT_WINDOW, HeaderBlock, Headers, RstStatus, RstStream, Side, StreamId,
    SynReply, SynStream, Version, WindowIncrement, WindowTarget, WindowUpdate,
};

use super::{
    Connection, Phase,
    blocks::{broken_block, settle_headers},
};
use crate::{
    Count, Limit, StreamError,
    config::OversizedHeaders,
    proto::{
        error::Violation,
        event::{Event, Opened},
        flow::{Overflow, RecvWindow, SendWindow},
        guard::Charge,
        state::{RecvHalf, RecvInput, SendHalf, Unfit},
        stream::Stream,
        wait::Wait,
    },
    queue::Queue,
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
        self.check_new_id(id)?;
        self.highest_remote = Some(id);
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
        self.check_room(id, &headers)?;
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
        let Some(stream) = self.streams.get_mut(&id).filter(|_| self.role.is_local(id)) else {
            return self.on_stray(now, id, "SYN_REPLY came for a stream that cannot have one");
        };
        let headers = settle_headers(stream, self.role.version(), RecvInput::Reply, fin, headers)?;
        let size = self.check_held(id, &headers)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.header_octets += size;
            self.held_headers += size;
        }
        self.events.push_back(Event::Replied { id, headers, fin });
        self.forget_if_closed(id);
        Ok(())
    }

    pub(super) fn on_headers(&mut self, now: Instant, frame: Headers<CompressedBlock>) -> Handled {
        let (id, fin) = (frame.stream, frame.fin);
        let headers = self.inflate(id, frame.block)?;
        let Some(stream) = self.streams.get_mut(&id) else {
            return self.on_stray(now, id, "HEADERS came for a stream that is not open");
        };
        let headers = settle_headers(
            stream,
            self.role.version(),
            RecvInput::Headers,
            fin,
            headers,
        )?;
        if headers.is_empty() && !fin {
            return self.guard.charge(Charge::EmptyFrame, now);
        }
        let size = self.check_held(id, &headers)?;
        match self.streams.get_mut(&id) {
            Some(stream) if stream.discard.is_none() || fin => {
                stream.unread_headers += size;
                self.held_headers += size;
                self.events.push_back(Event::Headers { id, headers, fin });
            }
            _ => self.count_discarded(id, size, fin),
        }
        self.forget_if_closed(id);
        Ok(())
    }

    pub(super) fn on_rst_stream(&mut self, now: Instant, frame: RstStream) -> Handled {
        let id = frame.stream;
        let error = StreamError::from_peer(frame.status);
        if self.streams.contains_key(&id) {
            self.take_back(id);
            self.drop_stream(id, error);
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
                let grown = self.send_window.grow(DEFAULT_WINDOW, frame.increment);
                grown.map_err(|Overflow| {
                    Violation::session("WINDOW_UPDATE lifts the session window above 2^31-1")
                })?;
                self.peer.grants_session = true;
                self.note_grant(now);
            }
            WindowTarget::Stream(id) if self.role.has_stream_windows() => {
                self.peer.grants_streams = true;
                self.grow_stream(now, id, frame.increment)?;
            }
            // SPDY/3 knows no session window, and without flow control nothing counts.
            WindowTarget::Session | WindowTarget::Stream(_) => {}
        }
        Ok(())
    }

    fn grow_stream(&mut self, now: Instant, id: StreamId, increment: WindowIncrement) -> Handled {
        let initial = self.peer.initial_window;
        let stream = self.streams.get_mut(&id);
        let Some(stream) = stream.filter(|stream| stream.send != SendHalf::Finished) else {
            return Ok(());
        };
        let before = stream.send_window.shortfall();
        let grown = stream.send_window.grow(initial, increment);
        grown.map_err(|Overflow| window_overflow(id))?;
        if self.output.blocked.remove(&(before, id)) {
            let shortfall = stream.send_window.shortfall();
            self.output.blocked.insert((shortfall, id));
        }
        let most = stream.send_window.most_initial();
        self.peer.most_initial = self.peer.most_initial.min(most);
        self.note_grant(now);
        self.unblock(now, id);
        self.tell_grant(id);
        Ok(())
    }

    // --- SYN_STREAM, rule by rule -----------------------------------------------------------------------

    /// After our GOAWAY new streams of the peer are ignored (protocol.md §15).
    fn is_beyond_our_go_away(&self, id: StreamId) -> bool {
        self.output.go_away_sent && !self.role.is_local(id) && Some(id) > self.highest_remote
    }

    fn check_new_id(&self, id: StreamId) -> Handled {
        let is_v2 = self.role.version() == Version::V2;
        let broken = |reason| {
            if is_v2 {
                Violation::stream(id, RstStatus::PROTOCOL_ERROR, reason)
            } else {
                Violation::session(reason)
            }
        };
        if self.role.is_local(id) {
            return Err(broken("SYN_STREAM has an id of the other side's parity"));
        }
        match self.highest_remote {
            Some(highest) if id == highest || self.streams.contains_key(&id) => {
                Err(Violation::stream(
                    id,
                    RstStatus::PROTOCOL_ERROR,
                    "SYN_STREAM has an id that is in use",
                ))
            }
            Some(highest) if id < highest => {
                Err(broken("SYN_STREAM has an id below an earlier one"))
            }
            _ => Ok(()),
        }
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
                self.role.is_local(associated) && self.streams.contains_key(&associated)
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

    fn check_room(&self, id: StreamId, headers: &HeaderBlock) -> Handled {
        let limits = &self.config.limits;
        let refused = |reason| Violation::stream(id, RstStatus::REFUSED_STREAM, reason);
        if self.phase != Phase::Open {
            Err(refused("session takes no new streams"))
        } else if self.remote_open + self.cancelled.len() >= limits.max_streams as usize {
            let reason = "peer opened more streams than MAX_CONCURRENT_STREAMS";
            Err(refused(reason).beyond(Limit::MaxStreams))
        } else if self.backlog >= limits.max_backlog {
            Err(refused("too many streams wait to be accepted").beyond(Limit::MaxBacklog))
        } else if !self.may_hold(headers.size()) {
            let reason = "header blocks of open streams are too large together";
            Err(refused(reason).beyond(Limit::HeldHeaders))
        } else {
            Ok(())
        }
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
        self.last_good = Some(id);
        let stream = Stream {
            send: SendHalf::of_acceptor(unidirectional),
            recv: RecvHalf::of_acceptor(fin),
            associated,
            unidirectional,
            header_octets: headers.size(),
            accepted: false,
            ..self.new_stream(id, priority)
        };
        self.held_headers += stream.header_octets;
        self.remote_open += 1;
        self.backlog += 1;
        self.tally.one(Count::StreamsReceived);
        self.streams.insert(id, Box::new(stream));
        self.events.push_back(Event::Opened(Opened {
            id,
            headers,
            fin,
            priority,
            associated,
            unidirectional,
        }));
        self.forget_if_closed(id);
    }

    /// A record with nothing queued and both halves open.
    pub(super) fn new_stream(&self, id: StreamId, priority: spdy_frame::Priority) -> Stream {
        let window = if self.role.has_stream_windows() {
            self.config.limits.stream_window()
        } else {
            DEFAULT_WINDOW
        };
        let slack = match self.settings_probe {
            Some(_) => DEFAULT_WINDOW.saturating_sub(window),
            None => 0,
        };
        Stream {
            id,
            priority,
            associated: None,
            unidirectional: false,
            send: SendHalf::Open,
            recv: RecvHalf::Open,
            send_window: SendWindow::default(),
            recv_window: RecvWindow::with_slack(window, slack),
            opening: None,
            queue: Queue::new(),
            taken: 0,
            scheduled: false,
            is_cut: false,
            blocked: Wait::default(),
            stalled_since: None,
            window_awaited: false,
            credit_due: false,
            discard: None,
            header_octets: 0,
            unread_headers: 0,
            accepted: true,
            released: false,
        }
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
            || self.reset_lately.contains(&id)
            || !self.role.enforces_windows()
    }

    pub(super) fn is_never_used(&self, id: StreamId) -> bool {
        if self.role.is_local(id) {
            self.next_local.is_some_and(|next| id >= next)
        } else {
            Some(id) > self.highest_remote
        }
    }

    // --- RST_STREAM -------------------------------------------------------------------------------------

    /// Resetting a request stops its pushes too (protocol.md §10.1).
    fn cancel_pushes_of(&mut self, id: StreamId) {
        let streams = self.streams.values();
        let of_stream = streams.filter(|stream| stream.associated == Some(id));
        let pushes: Vec<StreamId> = of_stream
            .filter(|stream| self.role.is_local(stream.id))
            .map(|stream| stream.id)
            .collect();
        for push in pushes {
            let error = StreamError::from_peer(RstStatus::CANCEL);
            self.reset_with(push, RstStatus::CANCEL, error);
        }
    }
}

pub(super) fn unfit_violation(id: StreamId, unfit: Unfit) -> Violation {
    match unfit {
        Unfit::Stream(status, reason) => Violation::stream(id, status, reason),
        Unfit::Session(reason) => Violation::session(reason),
    }
}

pub(super) fn window_overflow(id: StreamId) -> Violation {
    let reason = "send window of the stream would exceed 2^31-1";
    Violation::stream(id, RstStatus::FLOW_CONTROL_ERROR, reason)
}
