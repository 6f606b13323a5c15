//! The streams, with every count that belongs to them: the map of open streams, and the state that
//! is kept for streams that are gone.
//!
//! A frame looks its stream up once: [`Streams::get`] returns a [`StreamRef`], which updates the
//! counts when it changes the stream.

mod abandoned;
mod check;
mod ending;
mod halves;
mod held_headers;
mod ids;
mod stream;
mod stream_ref;
mod untaken;

use std::{collections::VecDeque, time::Duration};

use spdy_frame::{HeaderBlock, RstStatus, StreamId, Version};

pub use self::held_headers::held_size;
#[cfg(feature = "tokio")]
pub(crate) use self::ids::IdHasher;
use self::{abandoned::Abandoned, held_headers::HeldHeaders, ids::ById, untaken::Untaken};
pub(crate) use self::{
    ending::{Ended, Ending},
    halves::RecvInput,
    ids::StreamIds,
    stream::{Birth, Next, Outgoing, Stream, Taken},
    stream_ref::StreamRef,
};
use super::{clock::Moment, error::Violation, role::Role};
use crate::{OpenError, Rule, config::Limits, spare::Spare};

/// All streams of a connection.
#[derive(Debug)]
pub(crate) struct Streams {
    role: Role,
    /// The streams that are not closed. They are boxed, because the map keeps the places of removed
    /// entries.
    open: ById<Box<Stream>>,
    books: Books,
    /// Streams of this side that are not closed.
    local: usize,
    /// Streams of the peer that are not closed.
    remote: usize,
    /// How many streams of this side the peer accepts.
    most_local: usize,
    /// How many streams of the peer this side accepts.
    most_remote: usize,
    most_backlog: usize,
    /// Streams of the peer that are gone, because the peer ended them or because they closed before
    /// they were accepted, and whose handles still exist.
    cancelled: StreamIds,
    /// Streams that this side reset recently. Frames that are still under way for them are ignored.
    reset_lately: VecDeque<StreamId>,
    /// Unconsumed payload of streams that are gone.
    untaken: Untaken,
    next_local: Option<StreamId>,
    highest_remote: Option<StreamId>,
}

/// The counts that every open stream contributes to.
#[derive(Debug)]
struct Books {
    /// Streams of the peer that the application has not accepted.
    backlog: usize,
    /// Bytes of payload in the send queues.
    unsent: usize,
    /// Reading pauses at this number of unread bytes of one stream. It is `usize::MAX` if windows
    /// limit them.
    stream_buffer: usize,
    /// Streams whose unread bytes have reached `stream_buffer`.
    overfull: usize,
    /// A stream gets credit after this number of consumed bytes.
    credit_step: u32,
    headers: HeldHeaders,
    abandoned: Abandoned,
}

impl Streams {
    pub(crate) fn new(role: Role, limits: &Limits, most_local: usize) -> Self {
        Self {
            role,
            open: ById::default(),
            books: Books {
                backlog: 0,
                unsent: 0,
                stream_buffer: if role.has_stream_windows() {
                    usize::MAX
                } else {
                    limits.stream_buffer
                },
                overfull: 0,
                credit_step: if role.has_stream_windows() {
                    (limits.stream_window / 2).clamp(1, MAX_CREDIT_STEP)
                } else {
                    u32::MAX
                },
                headers: HeldHeaders::new(limits.held_headers),
                abandoned: Abandoned::default(),
            },
            local: 0,
            remote: 0,
            most_local,
            most_remote: limits.max_streams as usize,
            most_backlog: limits.max_backlog,
            cancelled: StreamIds::default(),
            reset_lately: VecDeque::new(),
            untaken: Untaken::default(),
            next_local: Some(StreamId::first(role.side())),
            highest_remote: None,
        }
    }

    // --- one stream ------------------------------------------------------------------------------

    /// Looks up a stream that is not closed, to change it.
    #[inline]
    pub(crate) fn get(&mut self, id: StreamId) -> Option<StreamRef<'_>> {
        let stream = self.open.get_mut(&id)?;
        let books = &mut self.books;
        Some(StreamRef { stream, books })
    }

    /// Looks up a stream that is not closed, to read it.
    #[inline]
    pub(crate) fn peek(&self, id: StreamId) -> Option<&Stream> {
        self.open.get(&id).map(|stream| &**stream)
    }

    #[inline]
    pub(crate) fn contains(&self, id: StreamId) -> bool {
        self.open.contains_key(&id)
    }

    /// Opens a stream of this side.
    pub(crate) fn open(
        &mut self,
        birth: Birth,
        headers: HeaderBlock,
    ) -> Result<StreamId, OpenError> {
        let id = self.next_local.ok_or(OpenError::IdsExhausted)?;
        let may_have_pushes = |id| self.peek(id).is_some_and(Stream::is_open_to_send);
        if !birth.associated.is_none_or(may_have_pushes) {
            return Err(OpenError::NoAssociatedStream);
        }
        if !self.can_open_now() {
            return Err(OpenError::TooManyStreams);
        }
        self.next_local = id.next();
        self.local += 1;
        let stream = Stream::of_initiator(id, birth, headers);
        self.open.insert(id, Box::new(stream));
        Ok(id)
    }

    /// Notes the id of a SYN_STREAM, or returns an error if the peer must not use it.
    pub(crate) fn note_remote(&mut self, id: StreamId) -> Result<(), Violation> {
        let broken = |rule| match self.role.version() {
            Version::V2 => Violation::stream(id, RstStatus::PROTOCOL_ERROR, rule),
            Version::V3 | Version::V3_1 => Violation::session(rule),
        };
        if self.role.is_local(id) {
            return Err(broken(Rule::WrongParity));
        }
        match self.highest_remote {
            // A stream above all others is in no map.
            Some(highest) if id <= highest => {
                if id < highest && !self.contains(id) {
                    return Err(broken(Rule::IdBelowEarlier));
                }
                let (status, rule) = (RstStatus::PROTOCOL_ERROR, Rule::IdInUse);
                Err(Violation::stream(id, status, rule))
            }
            _ => {
                self.highest_remote = Some(id);
                Ok(())
            }
        }
    }

    /// Returns an error if there is no room for another stream of the peer, whose header block has
    /// this size.
    pub(crate) fn check_room(&self, id: StreamId, headers: usize) -> Result<(), Violation> {
        let rule = if self.remote + self.cancelled.len() >= self.most_remote {
            Rule::MaxStreams
        } else if self.books.backlog >= self.most_backlog {
            Rule::MaxBacklog
        } else if !self.books.headers.has_room(headers) {
            Rule::HeldHeaders
        } else {
            return Ok(());
        };
        Err(Violation::stream(id, RstStatus::REFUSED_STREAM, rule))
    }

    /// Adds a stream of the peer, whose header block has this size.
    pub(crate) fn admit(&mut self, id: StreamId, birth: Birth, headers: usize) -> StreamRef<'_> {
        self.books.headers.hold(headers);
        self.remote += 1;
        self.books.backlog += 1;
        let stream = Box::new(Stream::of_acceptor(id, birth, headers));
        let stream = self.open.entry(id).insert_entry(stream).into_mut();
        let books = &mut self.books;
        StreamRef { stream, books }
    }

    /// Notes that the application has dropped its last handle of a stream.
    pub(crate) fn release(&mut self, id: StreamId) {
        if !self.cancelled.is_empty() {
            self.cancelled.remove(&id);
        }
        self.books.headers.release(id);
        self.untaken.close(id);
        if let Some(stream) = self.open.get_mut(&id) {
            stream.release();
        }
    }

    /// Stops counting header blocks that the application has consumed.
    pub(crate) fn consume_headers(&mut self, id: StreamId, size: usize) {
        match self.open.get_mut(&id) {
            Some(stream) => {
                let size = stream.consume_headers(size);
                self.books.headers.let_go(size);
            }
            None => self.books.headers.take(id, size),
        }
    }

    /// Frees memory that is not needed. Returns whether there were many streams.
    pub(crate) fn free_spare(&mut self) -> bool {
        self.cancelled.free_spare();
        self.books.headers.free_spare();
        self.untaken.free_spare();
        self.open.free_spare()
    }

    // --- ids -------------------------------------------------------------------------------------

    pub(crate) const fn highest_remote(&self) -> Option<StreamId> {
        self.highest_remote
    }

    /// Returns whether this side has ids for more streams.
    pub(crate) const fn has_ids(&self) -> bool {
        self.next_local.is_some()
    }

    /// Sets the id of the next stream of this side, unless the id belongs to the other side or is
    /// lower.
    pub(crate) fn skip_to(&mut self, id: StreamId) {
        if self.role.is_local(id) && self.next_local.is_some_and(|next| id >= next) {
            self.next_local = Some(id);
        }
    }

    /// Returns whether this id is above every id that the peer has used.
    pub(crate) fn is_new_remote(&self, id: StreamId) -> bool {
        !self.role.is_local(id) && Some(id) > self.highest_remote
    }

    pub(crate) fn is_never_used(&self, id: StreamId) -> bool {
        match self.role.is_local(id) {
            true => self.next_local.is_some_and(|next| id >= next),
            false => Some(id) > self.highest_remote,
        }
    }

    pub(crate) fn remember_reset(&mut self, id: StreamId) {
        if self.reset_lately.len() == RESET_LATELY {
            self.reset_lately.pop_front();
        }
        self.reset_lately.push_back(id);
    }

    pub(crate) fn was_reset_lately(&self, id: StreamId) -> bool {
        self.reset_lately.contains(&id)
    }

    // --- all streams -----------------------------------------------------------------------------

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.open.values().map(|stream| &**stream)
    }

    /// Returns the stream that has received most, of those on which the peer still sends.
    pub(crate) fn busiest(&self) -> Option<&Stream> {
        let receiving = self.iter().filter(|stream| !stream.is_received());
        receiving.max_by_key(|stream| stream.recv_window().received())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns how many records of streams exist, including streams that are gone but have handles.
    pub(crate) fn records(&self) -> usize {
        self.open.len() + self.cancelled.len()
    }

    /// Returns the streams of the peer that are gone and keep their places.
    pub(crate) fn cancelled(&self) -> impl ExactSizeIterator<Item = StreamId> {
        self.cancelled.iter().copied()
    }

    /// Sets how many streams of this side the peer accepts.
    pub(crate) fn set_most_local(&mut self, most: usize) {
        self.most_local = most;
    }

    /// Returns how many streams of this side the peer accepts.
    #[cfg(feature = "tokio")]
    pub(crate) const fn most_local(&self) -> usize {
        self.most_local
    }

    /// Returns whether the peer accepts another stream of this side.
    pub(crate) const fn can_open_now(&self) -> bool {
        self.local < self.most_local
    }

    /// Returns whether the unread bytes of one stream stop the reading.
    #[inline]
    pub(crate) const fn is_overfull(&self) -> bool {
        self.books.overfull > 0
    }

    /// Returns the size of all header blocks that are held.
    pub(crate) const fn held_headers(&self) -> usize {
        self.books.headers.sum()
    }

    /// Starts the time of the streams that were abandoned since the last call.
    #[inline]
    pub(crate) fn date_abandoned(&mut self, moment: Moment) {
        self.books.abandoned.date(moment);
    }

    /// Returns when the oldest stream was abandoned.
    pub(crate) fn abandoned_since(&self) -> Option<Moment> {
        self.books.abandoned.since()
    }

    /// Takes the oldest abandoned stream off their list, if it was abandoned at least `limit` ago.
    pub(crate) fn pop_abandoned(&mut self, moment: Moment, limit: Duration) -> Option<StreamId> {
        self.books.abandoned.pop_expired(moment, limit)
    }
}

/// The largest number of consumed bytes after which a stream gets credit. Qt stops after 64 KiB,
/// whatever window was announced (clients in the field, protocol.md §19).
const MAX_CREDIT_STEP: u32 = 32 * 1024;

/// How many streams that this side reset are remembered.
const RESET_LATELY: usize = 128;
