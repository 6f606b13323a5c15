//! The counts of all streams, and whether they match the records.

use super::{Streams, stream::Stream};

/// Counts of the streams that are not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) local: usize,
    pub(crate) remote: usize,
    pub(crate) backlog: usize,
    pub(crate) unsent: usize,
    pub(crate) held_headers: usize,
}

impl Streams {
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            local: self.local,
            remote: self.remote,
            backlog: self.books.backlog,
            unsent: self.books.unsent,
            held_headers: self.books.headers.open(),
        }
    }

    /// Panics in debug builds if a count differs from the records.
    pub(crate) fn debug_check(&self) {
        if cfg!(debug_assertions) && self.open.len() <= CHECKED {
            assert_eq!(self.check(), Ok(()));
        }
    }

    /// Returns an error if a count differs from the records.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sum = |of: fn(&Stream) -> usize| self.iter().map(of).sum::<usize>();
        let is_full = |stream: &Stream| stream.recv_window().held() >= self.books.stream_buffer;
        let local = self.iter().filter(|it| self.role.is_local(it.id())).count();
        let found = Counts {
            local,
            remote: self.open.len() - local,
            backlog: self.iter().filter(|it| !it.is_accepted()).count(),
            unsent: sum(Stream::queued_bytes),
            held_headers: sum(|it| it.opening_headers() + it.unread_headers()),
        };
        let overfull = self.iter().filter(|it| is_full(it)).count();
        if self.counts() != found || self.books.overfull != overfull {
            let (counted, full) = (self.counts(), self.books.overfull);
            return Err(format!(
                "counted are {counted:?} with {full} full, and there are {found:?} with {overfull}"
            ));
        }
        self.books.headers.check(found.held_headers)
    }
}

/// The counts are not checked with more streams than this, because tests that open thousands would
/// take too long.
const CHECKED: usize = 64;
