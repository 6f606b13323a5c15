//! The calls of the application.

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
///
/// ```
/// use spdy_session::{OpenOptions, Priority};
///
/// let request_without_body = OpenOptions::new().priority(Priority::HIGHEST).fin(true);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
#[must_use]
pub struct OpenOptions {
    /// The priority. Default 3.
    pub priority: Priority,
    /// Whether the header block is all that this side sends. Default `false`.
    pub fin: bool,
    /// Whether the peer must not reply, as for pushes. Default `false`.
    pub unidirectional: bool,
    /// The stream of the peer that this one belongs to, as for pushes. It must be open, and this
    /// side must not have finished it. Default `None`.
    pub associated: Option<StreamId>,
}

impl OpenOptions {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the priority.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets whether the header block is all that this side sends.
    pub fn fin(mut self, fin: bool) -> Self {
        self.fin = fin;
        self
    }

    /// Sets whether the peer must not reply.
    pub fn unidirectional(mut self, unidirectional: bool) -> Self {
        self.unidirectional = unidirectional;
        self
    }

    /// Sets the stream of the peer that this one belongs to.
    pub fn associated(mut self, stream: impl Into<Option<StreamId>>) -> Self {
        self.associated = stream.into();
        self
    }
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Sends GOAWAY, lets open streams finish, then closes the transport. Without flow control
    /// GOAWAY is the last frame, since such peers stop reading when they see it.
    Graceful {
        /// Streams that are still open after this time fail. `None` waits for them without a limit.
        deadline: Option<Duration>,
    },
    /// Sends GOAWAY and closes the transport. Open streams fail at once. Streams that were reported
    /// as written are passed on, as in an end in order. The same order behind an end in order that
    /// is under way limits that to [`Timeouts::linger`](crate::Timeouts::linger).
    Now,
}

#[cfg(feature = "tokio")]
impl Shutdown {
    /// Returns the one of two shutdowns that ends the session sooner.
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
    /// Opens a stream. Ids are assigned in the order of the calls, and SYN_STREAMs leave in that
    /// order.
    ///
    /// # Errors
    /// Returns an [`OpenError`], and sends nothing. If the ids are used up, the session also starts
    /// to drain.
    pub fn open(
        &mut self,
        now: Instant,
        headers: HeaderBlock,
        how: OpenOptions,
    ) -> Result<StreamId, OpenError> {
        if self.phase != Phase::Open || self.go_away.is_received() {
            return Err(match &self.outcome {
                Err(error) if self.phase == Phase::Closing || self.output.is_broken() => {
                    OpenError::Session(error.clone())
                }
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

    /// Returns whether [`open`](Self::open) would find a free place now.
    #[must_use]
    pub fn can_open_now(&self) -> bool {
        self.streams.can_open_now()
    }

    /// Returns whether this side can still open a stream, now or later.
    #[must_use]
    pub fn can_open(&self) -> bool {
        self.phase == Phase::Open && !self.go_away.is_received() && self.streams.has_ids()
    }

    /// Sets the id of the next stream of this side, for tests of the end of the ids. Has no effect
    /// if the id belongs to the other side or is below the next one.
    pub fn skip_to(&mut self, id: StreamId) {
        self.streams.skip_to(id);
    }

    /// Takes a stream of the peer out of the backlog.
    pub fn accept(&mut self, id: StreamId) {
        if let Some(mut stream) = self.streams.get(id) {
            stream.accept();
        }
    }

    /// Replies to a stream of the peer with SYN_REPLY.
    ///
    /// # Errors
    /// [`StreamError::Finished`] if the stream has a reply already, is unidirectional, or is gone.
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

    /// Queues header fields behind everything that is queued. With `fin` they are trailers. If a
    /// stream of the peer has no reply yet, an empty SYN_REPLY goes first.
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

    /// Queues payload. The caller has to limit how much it queues;
    /// [`Event::Sent`](crate::proto::Event::Sent) reports what has left. An empty payload without
    /// `fin` does nothing. If a stream of the peer has no reply yet, an empty SYN_REPLY goes first.
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

    /// Queues FIN behind everything that is queued. The receiving half does not change.
    ///
    /// # Errors
    /// [`StreamError::Finished`] if this side has finished the stream, or it is gone.
    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        self.queue(id, None, true)
    }

    /// Queues payload that is not empty, or header fields, or only FIN.
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

    /// Notes that the application has consumed `bytes` of a stream's payload, so that the peer gets
    /// credit for them. Call it also for streams that are gone, because their bytes still count in
    /// the window of the session. For a stream that
    /// [`Timeouts::unread`](crate::Timeouts::unread) gave up, the peer has this credit already.
    pub fn consume(&mut self, id: StreamId, bytes: usize) {
        if bytes > 0 {
            self.return_bytes(id, bytes);
        }
    }

    /// Notes that the application reads no more of a stream. A stream of this side is reset with
    /// CANCEL.
    ///
    /// The rest of a stream of the peer is dropped as it arrives, because many clients take a reset
    /// after the response for a failed request ([protocol.md §9.6]). Two limits apply:
    /// [`Limits::discard`](crate::Limits::discard), and, once the reply is complete,
    /// [`Timeouts::discard`](crate::Timeouts::discard).
    ///
    /// [protocol.md §9.6]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#96-bodies
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

    /// Ends both halves of a stream at once, with RST_STREAM. Everything that is queued on it is
    /// dropped. Frames that [`poll_transmit`](Self::poll_transmit) has returned are dropped if the
    /// transport has taken no byte of them and no header block of the stream is behind them. A
    /// status that the version does not define is sent as PROTOCOL_ERROR.
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

    /// Notes that the application has dropped its last handle of a stream. Call it once for every
    /// stream, before or after its end, and however it ended.
    pub fn release(&mut self, id: StreamId) {
        self.streams.release(id);
    }

    /// Notes that the application has consumed header blocks of
    /// [`Event::Headers`](crate::proto::Event::Headers): `bytes` is the sum of their
    /// [`held_size`](crate::proto::held_size). A block
    /// that is not named here counts until [`release`](Self::release).
    ///
    /// The block that opened a stream, and the block of its reply, count as long as the stream is
    /// open. The block that opened a stream of the peer counts until `release`.
    pub fn consume_headers(&mut self, id: StreamId, bytes: usize) {
        self.streams.consume_headers(id, bytes);
    }

    /// Returns how many bytes the window of a stream lets out now, or `usize::MAX` if streams have
    /// no window.
    #[must_use]
    pub fn send_window(&self, id: StreamId) -> usize {
        if !self.role.has_stream_windows() {
            return usize::MAX;
        }
        let stream = self.streams.peek(id);
        stream.map_or(0, |stream| self.windows.available(stream))
    }

    /// Waits until the window of a stream is open, which [`Event::WindowOpen`] reports. Until then
    /// the stream counts as one that has payload and no window, and
    /// [`Timeouts::blocked`](crate::Timeouts::blocked) runs.
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

    /// Waits until the window of a stream differs from `known`, which [`Event::WindowOpen`] reports
    /// once. No timeout runs meanwhile, because the stream has nothing to send.
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

    /// Sends a PING. [`Event::Pong`] reports its answer. At most 64 PINGs wait for an answer; a
    /// further one replaces the oldest.
    ///
    /// A connection that is closing sends nothing, and no answer comes.
    pub fn ping(&mut self, now: Instant) -> PingId {
        if self.phase == Phase::Closing {
            return PingId(self.pings.take_id());
        }
        let id = self.pings.ask_for_user(now);
        self.output.ping(id.0);
        id
    }

    /// Returns whether the connection no longer waits for the answer to this PING although the
    /// session continues.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_given_up(&self, id: PingId) -> bool {
        self.phase != Phase::Closing && !self.pings.awaits_user(id)
    }

    /// Ends the session, in order or at once. Further calls can end it sooner, but not later.
    pub fn shutdown(&mut self, now: Instant, how: Shutdown) {
        match how {
            Shutdown::Graceful { deadline } => {
                self.clock.order_end();
                self.shutdown_gracefully(now, deadline);
            }
            Shutdown::Now if self.phase == Phase::Closing => self.clock.hurry(now),
            Shutdown::Now if self.output.is_broken() => self.fail_broken(),
            Shutdown::Now => {
                self.send_go_away();
                self.end(SessionError::Closed);
                self.outcome = Ok(());
            }
        }
    }
}
