//! The requests of an HTTP/2 connection that never reach the application.
//!
//! h2 answers a malformed request with a reset, and one whose fields are too long with a head of
//! status 431 alone. hyper does not learn of either. Both are seen among the frames that are sent,
//! but others look like them: a request whose body contradicts its length is reset, too, and
//! trailers can be as short as that head. Only the number of requests tells them apart: each stream
//! that the client opens becomes a request, unless it is refused.

use std::mem;

use axum::http::StatusCode;

use crate::opened::Opened;

/// What is known of the streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    streams: Opened,
    /// Whether h2 might not have looked at the last streams yet.
    are_new: bool,
    /// The number of streams that were opened since all were accounted for, and of the requests
    /// that have reached the application since.
    opened: u64,
    called: u64,
    /// The last stream when all were accounted for.
    settled: u32,
    /// What looks like refusals of later streams. That is at most one for each open stream, and for
    /// each that h2 resets before it ends the connection.
    signs: Vec<Refusal>,
}

/// A stream that did not become a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) stream: u32,
    /// `None` if the request can be sent again.
    pub(super) status: Option<StatusCode>,
}

impl Refusals {
    /// Notes that the reader asks for more bytes: it has handled all frames before.
    pub(super) const fn reads_on(&mut self) {
        self.are_new = false;
    }

    /// Notes bytes that the reader has got.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let opened = self.streams.pass(bytes);
        self.opened += opened;
        self.are_new |= opened > 0;
    }

    /// Notes that hyper has a request, which reaches the application.
    pub(super) const fn called(&mut self) {
        self.called += 1;
    }

    /// Notes that the client was sent what it gets of a request that is refused.
    pub(super) fn sign(&mut self, refusal: Refusal) {
        let is_known = |known: &Refusal| known.stream == refusal.stream;
        if refusal.stream > self.settled && !self.signs.iter().any(is_known) {
            self.signs.push(refusal);
        }
    }

    /// Accounts for all streams, once the application has got all requests that have arrived.
    /// Returns those that were refused. Nothing is known yet while frames are still to be sent.
    pub(super) fn settle(&mut self, is_flushed: bool) -> Vec<Refusal> {
        let missing = self.opened.saturating_sub(self.called);
        if self.are_new || (missing > 0 && !is_flushed) {
            return Vec::new();
        }
        (self.opened, self.called) = (0, 0);
        self.settled = self.streams.last();
        let mut signs = mem::take(&mut self.signs);
        // If there are more than that, it is not known which of these requests were refused.
        let missing = usize::try_from(missing).unwrap_or(usize::MAX);
        signs.truncate(missing);
        signs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(stream: u32, status: StatusCode) -> Refusal {
        Refusal {
            stream,
            status: Some(status),
        }
    }

    const MALFORMED: StatusCode = StatusCode::BAD_REQUEST;
    const LARGE: StatusCode = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;

    /// A connection that has read its preface.
    fn begun() -> Refusals {
        let mut refusals = Refusals::default();
        refusals.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        refusals
    }

    fn open(refusals: &mut Refusals, stream: u8) {
        refusals.read(&[0, 0, 0, 1, 4, 0, 0, 0, stream]);
    }

    #[test]
    fn a_stream_that_becomes_no_request_is_one_that_was_refused() {
        let mut refusals = begun();
        open(&mut refusals, 1);
        open(&mut refusals, 3);
        refusals.called();
        refusals.sign(refusal(1, MALFORMED));
        assert_eq!(refusals.settle(true), [], "it might look at them later");
        refusals.reads_on();
        assert_eq!(refusals.settle(true), [refusal(1, MALFORMED)]);
        assert_eq!(refusals.settle(true), []);
    }

    #[test]
    fn a_request_that_was_reset_later_or_has_short_trailers_was_not_refused() {
        let mut refusals = begun();
        open(&mut refusals, 1);
        refusals.called();
        refusals.sign(refusal(1, MALFORMED));
        refusals.reads_on();
        assert_eq!(refusals.settle(true), []);
        open(&mut refusals, 3);
        refusals.reads_on();
        // The first one has its trailers while the second one is refused.
        refusals.sign(refusal(1, LARGE));
        refusals.sign(refusal(3, LARGE));
        refusals.sign(refusal(3, MALFORMED));
        assert_eq!(refusals.settle(true), [refusal(3, LARGE)]);
        // A reset follows the status of a request whose body was still to come.
        refusals.sign(refusal(3, MALFORMED));
        assert_eq!(refusals.settle(true), []);
    }

    #[test]
    fn what_is_not_sent_yet_is_waited_for() {
        let mut refusals = begun();
        open(&mut refusals, 1);
        refusals.reads_on();
        assert_eq!(refusals.settle(false), []);
        refusals.sign(refusal(1, LARGE));
        assert_eq!(refusals.settle(true), [refusal(1, LARGE)]);
        // A stream that is ignored, because the connection ends, has no sign.
        open(&mut refusals, 3);
        refusals.reads_on();
        assert_eq!(refusals.settle(true), []);
        assert_eq!(refusals.opened, 0);
    }
}
