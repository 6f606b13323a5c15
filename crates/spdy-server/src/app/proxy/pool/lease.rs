//! A connection and an address that a request uses, and what its failure means.

use std::error::Error;

use axum::http::{Request, Response};
use hyper::{body::Incoming, client::conn::TrySendError};

use super::{
    super::{Failure, Heard, Target, Turn, Upload, target::Outcome, upload::Progress},
    exclusive, shared,
};
use crate::tail::Tail;

/// A connection that a request uses, and its turn at the address of the connection. If it is
/// dropped before [`finish`](Self::finish), the work for the request ends.
///
/// The turn belongs to the place of the request, so that it counts as long as the place is taken.
#[derive(Debug)]
pub(in super::super) enum Lease {
    Http1(exclusive::Lease),
    Http2(shared::Lease),
}

impl Lease {
    pub(in super::super) const fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Returns the index of the address.
    pub(super) fn index(&self) -> usize {
        self.target().index()
    }

    pub(super) fn turn(&self) -> &Turn {
        match self {
            Self::Http1(lease) => lease.turn(),
            Self::Http2(lease) => lease.turn(),
        }
    }

    fn target(&self) -> &Target {
        match self {
            Self::Http1(lease) => lease.target(),
            Self::Http2(lease) => lease.target(),
        }
    }

    /// Notes that the application has responded. That is a trial of its address, too.
    pub(super) fn note_answer(&self) {
        if self.turn().is_trial() {
            self.target().note(Outcome::Open);
        }
    }

    pub(super) async fn try_send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match self {
            Self::Http1(lease) => lease.sender().try_send_request(request).await,
            Self::Http2(lease) => lease.try_send(request).await,
        }
    }

    pub(super) const fn heard(&self) -> &Heard {
        match self {
            Self::Http1(lease) => lease.heard(),
            Self::Http2(lease) => lease.heard(),
        }
    }

    /// Returns the outcome of a request that failed on this connection.
    pub(super) fn fate(&self, error: &hyper::Error, before: u64) -> Fate {
        if error.is_user() {
            return Fate::Unknown;
        }
        let is_lost = match self {
            // An application can close an idle connection at the moment when the proxy uses it.
            Self::Http1(lease) => lease.is_reused() && lease.heard().bytes() == before,
            Self::Http2(_) => {
                let cause = error.source().and_then(|cause| cause.downcast_ref());
                if cause.is_some_and(is_untouched) {
                    return Fate::Untouched;
                }
                // A stream reset is a response.
                !cause.is_some_and(h2::Error::is_reset)
            }
        };
        if is_lost { Fate::Lost } else { Fate::Unknown }
    }

    /// Abandons an application that has not responded.
    pub(super) fn give_up(self) {
        match self {
            Self::Http1(_) => {}
            Self::Http2(lease) => lease.give_up(),
        }
    }

    /// Leaves a connection on which the request has failed.
    pub(super) fn leave(self, fate: Fate) {
        match self {
            Self::Http1(_) => {}
            Self::Http2(lease) => lease.leave(fate),
        }
    }

    /// Leaves it to a tunnel to limit the time of writes.
    pub(in super::super) fn timed_by_tunnel(&self) {
        self.heard().timed_by_tunnel();
    }

    /// Returns the state of the end of what a tunnel writes.
    pub(in super::super) fn tail(&self) -> &Tail {
        self.heard().tail()
    }

    /// Ends a request whose response has begun.
    pub(in super::super) fn break_off(self) {
        match self {
            Self::Http1(_) => {}
            Self::Http2(lease) => lease.break_off(),
        }
    }

    /// Returns the connection to the pool, after a complete response.
    pub(in super::super) fn finish(self, progress: &Progress) {
        match self {
            Self::Http1(lease) => lease.finish(progress.clone()),
            Self::Http2(lease) => lease.finish(progress.clone()),
        }
    }
}

/// Why a request has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The application has reported that it did not process the request.
    Untouched,
    /// The connection broke, and the request might not be the reason.
    Lost,
    Unknown,
}

impl Fate {
    pub(super) fn failure(self, error: &hyper::Error) -> Failure {
        match self {
            Self::Untouched => Failure::Untouched,
            Self::Lost | Self::Unknown => Failure::of(error),
        }
    }
}

/// Returns whether an application has reported that it did not process a stream: it has refused the
/// stream, or its GOAWAY names an earlier stream as the last one.
///
/// The code of a GOAWAY does not matter. h2 gives its error only to streams above the last one, and
/// to requests of which it has sent nothing; the others end with the transport, which is no proof.
/// spdy-tower's client takes NO_ERROR alone, since another code may be its own fault. Here requests
/// of many clients share a connection, and those that were not looked at are not to blame.
fn is_untouched(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || is_refused)
}
