//! How long the transport of a session that ends is still read.

use std::time::{Duration, Instant};

use crate::{config::range::MAX_LINGER, proto::Connection};

/// How long the transport may have nothing, and how long it is read in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) until: Instant,
    most: Instant,
    /// What each byte of the peer adds.
    silent: Duration,
}

impl Patience {
    fn new(now: Instant, silent: Duration, most: Duration) -> Self {
        Self {
            until: now + silent,
            most: now + most.clamp(silent, MAX_LINGER),
            silent,
        }
    }

    /// For a session that has written everything. If it has ended in order, the peer may still have
    /// to read, and its credit shows that it does.
    pub(super) fn of_an_end(connection: &Connection, now: Instant) -> Self {
        let timeouts = &connection.config().timeouts;
        if connection.is_broken() {
            // Nothing can be written, so there is nothing to wait for.
            Self::new(now, Duration::ZERO, Duration::ZERO)
        } else if connection.outcome().is_ok() && !connection.is_cut() {
            Self::new(now, timeouts.close, timeouts.longest())
        } else {
            Self::new(now, timeouts.linger, timeouts.linger)
        }
    }

    /// Notes that bytes have come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.until = (now + self.silent).min(self.most);
    }

    /// Notes that the application waits for the end no longer than this.
    pub(super) fn at_most(&mut self, moment: Instant) {
        self.most = self.most.min(moment);
        self.until = self.until.min(moment);
    }
}

/// How long a transport is read that takes no more bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    patience: Patience,
    /// Whether the session waits for the transport, and not for the application.
    is_awaited: bool,
    /// How many bytes the application had not consumed.
    unread: usize,
}

impl Rest {
    pub(super) fn new(connection: &Connection, now: Instant) -> Self {
        let timeouts = &connection.config().timeouts;
        Self {
            // The transport is read once more at least.
            patience: Patience::new(now, timeouts.linger.max(MOMENT), timeouts.longest()),
            is_awaited: true,
            unread: connection.unread(),
        }
    }

    pub(super) fn until(&self) -> Instant {
        self.patience.until
    }

    /// Starts the time again if anything was read, or if reading pauses and anything was consumed.
    pub(super) fn look(
        &mut self,
        connection: &Connection,
        is_awaited: bool,
        was_read: bool,
        now: Instant,
    ) {
        let unread = connection.unread();
        let has_moved = was_read || is_awaited != self.is_awaited;
        if has_moved || (!is_awaited && unread != self.unread) {
            let timeouts = &connection.config().timeouts;
            self.patience.silent = match is_awaited {
                true => timeouts.linger.max(MOMENT),
                false => timeouts.close,
            };
            self.patience.heard(now);
        }
        self.is_awaited = is_awaited;
        self.unread = unread;
    }
}

/// A timer does not ring in the same turn.
const MOMENT: Duration = Duration::from_millis(1);
