//! The clock: the moments from which deadlines are counted.

mod reading_time;

use std::time::Instant;

pub(crate) use self::reading_time::{Moment, ReadingTime};

/// When events last happened, and when states began.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// The time in which waiting for the peer is measured.
    reading: ReadingTime,
    /// When the session was last used: by a frame of the peer that is more than an answer, or by a
    /// frame of a stream that left.
    last_use: Moment,
    /// When the current incomplete frame began to arrive.
    partial_since: Option<Instant>,
    seen_frame: bool,
    /// When outgoing bytes last left, or began to wait.
    write_progress: Option<Instant>,
    /// When enough outgoing bytes last left, or began to wait.
    write_since: Option<Instant>,
    /// The number of bytes that left since `write_since`; too few to count so far.
    too_few: u64,
    /// When unread bytes began to keep the peer from sending payload.
    unread_since: Option<Instant>,
    drain_deadline: Option<Instant>,
    /// When the session was over.
    over_since: Option<Instant>,
    haste: Haste,
}

/// How soon a session that is over has to leave its transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// The application has not ended it.
    None,
    /// The application has ordered an end in order.
    Ordered,
    /// It has ended at once, with all its streams.
    Cut,
    /// It has ended in order. Since this moment the application does not wait for the rest.
    Since(Instant),
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Self {
        let reading = ReadingTime::default();
        Self {
            started: now,
            last_use: reading.at(now),
            reading,
            partial_since: None,
            seen_frame: false,
            write_progress: None,
            write_since: None,
            too_few: 0,
            unread_since: None,
            drain_deadline: None,
            over_since: None,
            haste: Haste::None,
        }
    }

    // --- the time of the peer, which stands still while the transport is not read ----------------

    /// Notes whether the transport is read from now on.
    #[inline]
    pub(crate) fn note_reading(&mut self, now: Instant, is_read: bool) {
        self.reading.note(now, is_read);
    }

    /// Returns when the current pause of reading began, if reading pauses.
    pub(crate) fn paused_since(&self) -> Option<Instant> {
        self.reading.paused_since()
    }

    /// Returns the current moment.
    #[inline]
    pub(crate) fn at(&self, now: Instant) -> Moment {
        self.reading.at(now)
    }

    /// Returns when a moment comes if reading does not pause again, or `None` during a pause.
    pub(crate) fn when(&self, moment: Moment) -> Option<Instant> {
        self.reading.when(moment)
    }

    // --- what happens ----------------------------------------------------------------------------

    /// Notes that a frame came.
    pub(crate) fn note_frame(&mut self) {
        self.seen_frame = true;
    }

    /// Notes that the session is in use, so that it is not idle.
    #[inline]
    pub(crate) fn note_use(&mut self, now: Instant) {
        self.last_use = self.reading.at(now);
    }

    /// Notes that bytes came. `handled` says whether they completed a frame, and `partial` whether
    /// they end with the beginning of another one.
    pub(crate) fn input(&mut self, now: Instant, handled: bool, partial: bool) {
        if handled || !partial {
            self.partial_since = None;
        }
        if partial {
            self.partial_since.get_or_insert(now);
        }
    }

    /// Starts or stops the time of unread bytes.
    #[inline]
    pub(crate) fn note_unread(&mut self, now: Instant, is_in_the_way: bool) {
        if !is_in_the_way {
            self.unread_since = None;
        } else if self.unread_since.is_none() {
            self.unread_since = Some(now);
        }
    }

    /// Notes that the application has consumed bytes.
    #[inline]
    pub(crate) fn note_consumed(&mut self) {
        self.unread_since = None;
    }

    /// Starts the time of unread bytes again, or stops it.
    pub(crate) fn restart_unread(&mut self, now: Instant, is_in_the_way: bool) {
        self.unread_since = is_in_the_way.then_some(now);
    }

    /// Notes that bytes begin to wait for the transport.
    pub(crate) fn begin_to_write(&mut self, now: Instant) {
        self.write_progress = Some(now);
        self.write_since = Some(now);
        self.too_few = 0;
    }

    /// Notes that the transport took bytes. `write_since` moves on after `least` bytes. Returns
    /// whether the bytes had waited.
    pub(crate) fn written(&mut self, now: Instant, bytes: u64, least: usize) -> bool {
        self.too_few += bytes;
        if self.too_few >= least as u64 {
            self.write_since = Some(now);
            self.too_few = 0;
        }
        let before = self.write_progress.replace(now);
        before.is_some_and(|before| before < now)
    }

    /// Sets the deadline for the end of all streams, unless an earlier one is set.
    pub(crate) fn drain_by(&mut self, deadline: Instant) {
        let earlier = self.drain_deadline.unwrap_or(deadline);
        self.drain_deadline = Some(earlier.min(deadline));
    }

    /// Notes that the session is over.
    pub(crate) fn note_over(&mut self, now: Instant) {
        self.over_since.get_or_insert(now);
    }

    /// Notes that the session ends at once, with all its streams.
    pub(crate) fn cut(&mut self) {
        self.haste = Haste::Cut;
    }

    /// Notes that the application has ordered an end in order.
    pub(crate) fn order_end(&mut self) {
        if self.haste == Haste::None {
            self.haste = Haste::Ordered;
        }
    }

    /// Notes that the application has ordered the end at once of a session that is over. If it had
    /// ordered the end before, it waits no longer.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.haste = match self.haste {
            Haste::None => Haste::Cut,
            Haste::Ordered => Haste::Since(now),
            cut => cut,
        };
    }

    // --- since when ------------------------------------------------------------------------------

    /// Returns when the session started, if no frame has come yet.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        (!self.seen_frame).then_some(self.started)
    }

    pub(crate) const fn last_use(&self) -> Moment {
        self.last_use
    }

    pub(crate) const fn partial_since(&self) -> Option<Instant> {
        self.partial_since
    }

    pub(crate) const fn unread_since(&self) -> Option<Instant> {
        self.unread_since
    }

    /// Returns when outgoing bytes last left, or began to wait.
    pub(crate) const fn write_progress(&self) -> Option<Instant> {
        self.write_progress
    }

    /// Returns when enough outgoing bytes last left, or began to wait.
    pub(crate) const fn write_since(&self) -> Option<Instant> {
        self.write_since
    }

    pub(crate) const fn drain_deadline(&self) -> Option<Instant> {
        self.drain_deadline
    }

    pub(crate) const fn over_since(&self) -> Option<Instant> {
        self.over_since
    }

    pub(crate) const fn haste(&self) -> Haste {
        self.haste
    }

    /// Returns whether the session was ended at once, or the application waits no longer.
    #[cfg(feature = "tokio")]
    pub(crate) const fn is_cut(&self) -> bool {
        matches!(self.haste, Haste::Cut | Haste::Since(_))
    }
}
