//! The clock: the moments that deadlines are counted from.

mod reading_time;

use std::time::Instant;

pub(crate) use self::reading_time::{Moment, ReadingTime};

/// When what last happened, or began.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// What the peer is waited for is counted in it.
    reading: ReadingTime,
    /// When a frame last came that does not only answer this side, or a frame of a stream left.
    last_use: Moment,
    /// Since when a frame is incomplete.
    partial_since: Option<Instant>,
    seen_frame: bool,
    /// When outgoing bytes last moved, or began to wait.
    write_progress: Option<Instant>,
    /// The same, but for bytes that are too few to count.
    write_since: Option<Instant>,
    /// How many of these moved since then.
    too_few: u64,
    /// Since when unread bytes keep the peer from sending payload.
    unread_since: Option<Instant>,
    drain_deadline: Option<Instant>,
    /// The session has ended at once, and all its streams with it.
    is_cut: bool,
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
            is_cut: false,
        }
    }

    // --- the time of the peer, which stands still while the transport is not read ----------------

    /// Notes whether the transport is read from now on.
    #[inline]
    pub(crate) fn note_reading(&mut self, now: Instant, is_read: bool) {
        self.reading.note(now, is_read);
    }

    /// Returns since when the transport is not read, if it is not.
    pub(crate) fn paused_since(&self) -> Option<Instant> {
        self.reading.paused_since()
    }

    /// Returns the moment that it is now.
    #[inline]
    pub(crate) fn at(&self, now: Instant) -> Moment {
        self.reading.at(now)
    }

    /// Returns when a moment comes if reading does not pause again; `None` during a pause.
    pub(crate) fn when(&self, moment: Moment) -> Option<Instant> {
        self.reading.when(moment)
    }

    // --- what happens ----------------------------------------------------------------------------

    /// Notes that a frame came.
    pub(crate) fn note_frame(&mut self) {
        self.seen_frame = true;
    }

    /// The session is in use, which is no idle time.
    #[inline]
    pub(crate) fn note_use(&mut self, now: Instant) {
        self.last_use = self.reading.at(now);
    }

    /// Bytes came: whole frames among them or not, and with the beginning of another behind them or
    /// not.
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

    /// The application has consumed something.
    #[inline]
    pub(crate) fn note_consumed(&mut self) {
        self.unread_since = None;
    }

    /// The time of unread bytes begins anew, or is over.
    pub(crate) fn restart_unread(&mut self, now: Instant, is_in_the_way: bool) {
        self.unread_since = is_in_the_way.then_some(now);
    }

    /// Bytes wait to be written.
    pub(crate) fn begin_to_write(&mut self, now: Instant) {
        self.write_progress = Some(now);
        self.write_since = Some(now);
        self.too_few = 0;
    }

    /// The transport took bytes, which count if they are at least `least`. Returns whether they had
    /// waited.
    pub(crate) fn written(&mut self, now: Instant, bytes: u64, least: usize) -> bool {
        self.too_few += bytes;
        if self.too_few >= least as u64 {
            self.write_since = Some(now);
            self.too_few = 0;
        }
        let before = self.write_progress.replace(now);
        before.is_some_and(|before| before < now)
    }

    /// All has to be done by then, or by an earlier moment that was named.
    pub(crate) fn drain_by(&mut self, deadline: Instant) {
        let earlier = self.drain_deadline.unwrap_or(deadline);
        self.drain_deadline = Some(earlier.min(deadline));
    }

    /// The session ends at once.
    pub(crate) fn cut(&mut self) {
        self.is_cut = true;
    }

    // --- since when ------------------------------------------------------------------------------

    /// Returns since when no frame has come, if none ever has.
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

    /// Returns when outgoing bytes last moved, or began to wait.
    pub(crate) const fn write_progress(&self) -> Option<Instant> {
        self.write_progress
    }

    /// Returns when enough outgoing bytes last moved, or began to wait.
    pub(crate) const fn write_since(&self) -> Option<Instant> {
        self.write_since
    }

    pub(crate) const fn drain_deadline(&self) -> Option<Instant> {
        self.drain_deadline
    }

    /// Returns whether the session has ended at once, and all its streams with it.
    pub(crate) const fn is_cut(&self) -> bool {
        self.is_cut
    }
}
