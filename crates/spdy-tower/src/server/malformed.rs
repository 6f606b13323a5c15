//! Telling the application of requests that it does not get.

use std::{fmt, sync::Arc};

use http::StatusCode;
use spdy_frame::{HeaderBlock, StreamId, Version};
use spdy_session::PendingStream;

use crate::http::Malformed;

/// A request that HTTP does not allow, which was answered and is not given to the service: see
/// [`Builder::on_malformed`](crate::Builder::on_malformed).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct MalformedRequest<'a> {
    /// The stream that it came on.
    pub stream: StreamId,
    /// The version of the session.
    pub version: Version,
    /// Its header fields, as far as they came and the limits allow, in the form of the version.
    /// Nothing about them is checked but what the frame format demands.
    pub headers: &'a HeaderBlock,
    /// The status of the answer: 400, 414 or 431.
    pub status: StatusCode,
    /// What is wrong with it, for people.
    pub reason: &'a dyn fmt::Display,
}

/// Header fields may be secret, and are not shown.
impl fmt::Debug for MalformedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MalformedRequest")
            .field("stream", &self.stream)
            .field("version", &self.version)
            .field("status", &self.status)
            .field("reason", &format_args!("{}", self.reason))
            .finish_non_exhaustive()
    }
}

/// The function that is called for malformed requests, if there is one.
#[derive(Clone, Default)]
pub(crate) struct OnMalformed(Option<Arc<Told>>);

type Told = dyn Fn(&MalformedRequest<'_>) + Send + Sync;

impl OnMalformed {
    pub(crate) fn new(told: impl Fn(&MalformedRequest<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Reports a request whose head is malformed.
    pub(crate) fn tell(&self, stream: &PendingStream, version: Version, malformed: Malformed) {
        if let Self(Some(told)) = self {
            told(&MalformedRequest {
                stream: stream.id(),
                version,
                headers: stream.headers(),
                status: malformed.status(),
                reason: &malformed,
            });
        }
    }
}

impl fmt::Debug for OnMalformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnMalformed")
            .field(&self.0.is_some())
            .finish()
    }
}
