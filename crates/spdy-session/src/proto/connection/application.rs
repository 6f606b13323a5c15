//! What the application wants.

use std::time::{Duration, Instant};

use bytes::Bytes;
use spdy_frame::{HeaderBlock, Priority, RstStatus, StreamId};

use super::{Connection, Phase};
use crate::{
    Count, OpenError, SessionError, StreamError,
    error::Initiator,
    proto::{
        event::{Event, PingId},
        streams::{Birth, Ending, Outgoing},
    },
};

/// How a stream is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// How urgent it is. Default 3.
    pub priority: Priority,
    /// Nothing follows the header block.
    pub fin: bool,
    /// The peer may not answer. Pushes are so.
    pub unidirectional: bool,
    /// The stream of the peer that this one belongs to. Pushes have one, which must be open and not
    /// finished on this side.
    pub associated: Option<StreamId>,
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// GOAWAY; open streams finish, within `deadline` if there is one; then the transport is
    /// closed. Without flow control GOAWAY comes last, since such peers stop reading at it.
    Graceful {
        /// What is not finished by then fails.
        deadline: Option<Duration>,
    },
    /// GOAWAY and the end: open streams fail at once.
    Now,
}

#[cfg(feature = "tokio")]
impl Shutdown {
    /// Of two wishes the one that ends the session sooner.
    pub(crate) fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now, _) | (_, Self::Now) => Self::Now,
            (Self::Graceful { deadline: None }, other) => other,
            (
                Self::Graceful {
                    deadline: Some(deadline),
                },
                Self::Graceful { deadline: other },
            ) => Self::Graceful {
                deadline: Some(other.map_or(deadline, |other| other.min(deadline))),
            },
        }
    }
}

impl Connection {
    /// Opens a stream. Ids are given in the order of the calls, and SYN_STREAMs leave in it.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is sent then. When the ids are used up the session also starts to drain.
    pub fn open(
        &mut self,
        now: Instant,
        headers: HeaderBlock,
        how: OpenOptions,
    ) -> Result<StreamId, OpenError> {
        if self.phase != Phase::Open || self.go_away.is_received() {
            return Err(match &self.outcome {
                Err(error) if self.phase == Phase::Closing => OpenError::Session(error.clone()),
                _ => OpenError::GoingAway,
            });
        }
        let birth = Birth {
            priority: how.priority,
            associated: how.associated,
            unidirectional: how.unidirectional,
            fin: how.fin,
            window: self.new_window(),
        };
        let id = match self.streams.open(birth, headers) {
            Ok(id) => id,
            Err(error) => {
                if matches!(error, OpenError::IdsExhausted) && how.associated.is_none() {
                    self.shutdown_gracefully(now, None);
                }
                return Err(error);
            }
        };
        self.tally.one(Count::StreamsOpened);
        self.output.opening(id);
        Ok(id)
    }

    /// Whether [`open`](Self::open) would find a free place now.
    #[must_use]
    pub fn can_open_now(&self) -> bool {
        self.streams.can_open_now()
    }

    /// Whether a new stream of this side can still be opened, now or later.
    #[must_use]
    pub fn can_open(&self) -> bool {
        self.phase == Phase::Open && !self.go_away.is_received() && self.streams.has_ids()
    }

    /// Sets the id that the next stream of this side gets: tests of the end of the ids want it.
    /// Ignored unless it is of this side's parity and not below the next one.
    pub fn skip_to(&mut self, id: StreamId) {
        self.streams.skip_to(id);
    }

    /// Takes a stream of the peer out of the backlog.
    pub fn accept(&mut self, id: StreamId) {
        if let Some(mut stream) = self.streams.get(id) {
            stream.accept();
        }
    }

    /// Answers a stream of the peer with SYN_REPLY, once.
    ///
    /// # Errors
    /// [`StreamError::Finished`] if there is nothing to answer: a reply was given, the stream is unidirectional,
    /// or it is gone.
    pub fn send_reply(
        &mut self,
        id: StreamId,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        let mut stream = self.streams.get(id).ok_or(StreamError::Finished)?;
        stream.send_reply(headers, fin)?;
        self.output.opening(id);
        Ok(())
    }

    /// Queues header fields behind what is queued already: trailers with `fin`. A stream of the
    /// peer that is not answered gets an empty SYN_REPLY first.
    ///
    /// # Errors
    /// [`StreamError::Finished`] if this side has finished the stream, or it is gone.
    pub fn send_headers(
        &mut self,
        id: StreamId,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        self.queue(id, Some(Outgoing::Headers(headers)), fin)
    }

    /// Queues payload. How much is queued is the caller's to bound:
    /// [`Event::Sent`](crate::proto::Event::Sent) says what has left. An empty payload without
    /// `fin` does nothing. A stream of the peer that is not answered gets an empty SYN_REPLY first.
    ///
    /// # Errors
    /// [`StreamError::Finished`] if this side has finished the stream, or it is gone.
    pub fn send_data(
        &mut self,
        id: StreamId,
        payload: Bytes,
        fin: bool,
    ) -> Result<(), StreamError> {
        let item = (!payload.is_empty()).then_some(Outgoing::Data(payload));
        self.queue(id, item, fin)
    }

    /// Queues FIN: what is queued goes out first. The receiving half stays as it is.
    ///
    /// # Errors
    /// [`StreamError::Finished`] if this side has finished the stream, or it is gone.
    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        self.queue(id, None, true)
    }

    /// Queues payload that is not empty, or header fields, or FIN alone.
    pub(crate) fn queue(
        &mut self,
        id: StreamId,
        item: Option<Outgoing>,
        fin: bool,
    ) -> Result<(), StreamError> {
        let mut stream = self.streams.get(id).ok_or(StreamError::Finished)?;
        if stream.queue(item, fin)?.opening_due {
            self.output.opening(id);
        }
        self.output.schedule(&mut stream);
        Ok(())
    }

    /// Gives back `bytes` of a stream's payload that the application is done with. This also counts
    /// for streams that are gone: the session's credit is owed all the same. Of a stream that was
    /// given up by [`Timeouts::unread`](crate::Timeouts::unread) it only ends the record.
    pub fn consume(&mut self, id: StreamId, octets: usize) {
        if octets > 0 {
            self.return_bytes(id, octets);
        }
    }

    /// The application will read no more of a stream. One of ours is reset with CANCEL; of the
    /// peer's stream the rest is dropped as it comes, up to
    /// [`Limits::discard`](crate::Limits::discard) and, once it is answered, for
    /// [`Timeouts::discard`](crate::Timeouts::discard): many clients take a reset after the
    /// response for a failure of the request (protocol.md §9.6).
    pub fn stop_reading(&mut self, id: StreamId) {
        let Some(mut stream) = self.streams.get(id) else {
            return;
        };
        if stream.is_received() {
            return;
        }
        if self.role.is_local(id) {
            self.reset(id, RstStatus::CANCEL);
        } else {
            stream.stop_reading(self.config.limits.discard);
        }
    }

    /// Ends a stream both ways at once. What is queued on it is dropped, and of what
    /// [`poll_transmit`](Self::poll_transmit) has given, the frames of which no byte was taken,
    /// unless a header block of the stream stands behind them. A status that the version does not
    /// have goes out as PROTOCOL_ERROR.
    pub fn reset(&mut self, id: StreamId, status: RstStatus) {
        let status = self.role.status_in_version(status);
        let initiator = Initiator::Local;
        let error = StreamError::Reset { status, initiator };
        if self.streams.contains(id) {
            self.end_stream(id, Ending::reset(status, error));
        } else if self.drop_ready(id, error) {
            self.tell_reset(id, status);
        }
    }

    /// The application has dropped its last handle of a stream. It is to be told of every stream,
    /// however it ended and also before it ends.
    pub fn release(&mut self, id: StreamId) {
        self.streams.release(id);
    }

    /// Gives back what header blocks of [`Event::Headers`](crate::proto::Event::Headers) count that
    /// the application is done with, by their [`held_size`](crate::proto::held_size). The block
    /// that opens a stream, and that of its reply, count as long as the stream is open, whatever
    /// becomes of them; the one that opened a stream of the peer also until
    /// [`release`](Self::release), as do blocks that are not named.
    pub fn consume_headers(&mut self, id: StreamId, octets: usize) {
        self.streams.consume_headers(id, octets);
    }

    /// Returns what the window of a stream lets out now, in bytes; `usize::MAX` where streams have
    /// no window.
    #[must_use]
    pub fn send_window(&self, id: StreamId) -> usize {
        if !self.role.has_stream_windows() {
            return usize::MAX;
        }
        let stream = self.streams.peek(id);
        stream.map_or(0, |stream| self.windows.available(stream))
    }

    /// Waits with more payload until the window of a stream is open, which [`Event::WindowOpen`]
    /// tells. Meanwhile the stream counts as one that has payload and no window for it, with its
    /// [timeout](crate::Timeouts::blocked).
    pub fn await_window(&mut self, now: Instant, id: StreamId) {
        let Some(mut stream) = self.streams.get(id) else {
            return;
        };
        let window = self.windows.available(&stream);
        if window > 0 {
            self.events.push_back(Event::WindowOpen { id, window });
        } else if self.inbound.is_ended() {
            self.lose_stream(id); // No peer is left to grant anything.
        } else {
            let moment = self.clock.at(now);
            self.waits.begin_for_application(&mut stream, moment);
        }
    }

    /// Waits until the window of a stream is another than the `known` one, open or not, which
    /// [`Event::WindowOpen`] tells once. The stream waits for nothing of the peer meanwhile, so no
    /// timeout runs.
    pub fn await_grant(&mut self, id: StreamId, known: usize) {
        let Some(mut stream) = self.streams.get(id) else {
            return;
        };
        let window = self.windows.available(&stream);
        if window != known {
            self.events.push_back(Event::WindowOpen { id, window });
        } else {
            self.waits.await_grant(&mut stream);
        }
    }

    /// Sends a PING. Its answer is [`Event::Pong`]. At most 64 are kept waiting; the oldest is
    /// given up then.
    ///
    /// On a connection that is closing nothing is sent, and no answer comes.
    pub fn ping(&mut self, now: Instant) -> PingId {
        if self.phase == Phase::Closing {
            return PingId(self.pings.take_id());
        }
        let id = self.pings.ask_for_user(now);
        self.output.ping(id.0);
        id
    }

    /// Whether the answer to a PING of this connection is not waited for any more, though the
    /// session goes on.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_given_up(&self, id: PingId) -> bool {
        self.phase != Phase::Closing && !self.pings.awaits_user(id)
    }

    /// Ends the session, in order or at once. May be called again to hurry.
    pub fn shutdown(&mut self, now: Instant, how: Shutdown) {
        match how {
            Shutdown::Graceful { deadline } => self.shutdown_gracefully(now, deadline),
            Shutdown::Now if self.phase != Phase::Closing => {
                self.send_go_away();
                self.end(SessionError::Closed);
                self.outcome = Ok(());
            }
            Shutdown::Now => {}
        }
    }
}
