//! What proves that no application has looked at a request. [`FetchError::is_retry_safe`] documents
//! it as a table.
//!
//! [`FetchError::is_retry_safe`]: super::FetchError::is_retry_safe

use std::error::Error as StdError;

use h2::Reason;
use spdy_session::StreamError;

use super::Error;

/// A proof that no application has looked at a request that has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Nothing of it was sent.
    Unsent,
    /// The server ends the connection, and names a request before this one as the last.
    LeftOut,
    /// The server has refused it, and may accept others. Over SPDY this includes
    /// [`LeftOut`](Self::LeftOut): then the session says that it accepts no more.
    Refused,
}

impl Proof {
    pub(super) const fn of_spdy(error: &Error) -> Option<Self> {
        match error {
            _ if !error.is_retry_safe() => None,
            Error::Stream(StreamError::NotProcessed) => Some(Self::Refused),
            _ => Some(Self::Unsent),
        }
    }

    /// Returns the proof in the error of a request over HTTP/2 or HTTP/1.1.
    pub(super) fn of_http(error: &hyper::Error) -> Option<Self> {
        // hyper cancels only what it has not begun.
        if error.is_canceled() {
            return Some(Self::Unsent);
        }
        let said = source::<h2::Error>(error).filter(|error| error.is_remote())?;
        match said.reason()? {
            Reason::REFUSED_STREAM if said.is_reset() => Some(Self::Refused),
            // The stream is above the last one that the GOAWAY names. The others end with their
            // responses.
            Reason::NO_ERROR if said.is_go_away() => Some(Self::LeftOut),
            _ => None,
        }
    }
}

/// Returns the cause of an error, if it is of this type.
pub(super) fn source<E: StdError + 'static>(error: &hyper::Error) -> Option<&E> {
    error.source()?.downcast_ref()
}
