//! Reports requests that the application does not get.

use std::{fmt, sync::Arc};

use http::StatusCode;
use spdy_frame::{HeaderBlock, StreamId, Version};
use spdy_session::PendingStream;

use crate::http::Malformed;

/// A request that HTTP does not allow. It was answered and not passed to the service: see
/// [`Builder::on_malformed`](crate::Builder::on_malformed).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct MalformedRequest<'a> {
    /// The stream on which it arrived.
    pub stream: StreamId,
    /// The version of the session.
    pub version: Version,
    /// The header fields that arrived and that the limits allow, in the form of the version. They
    /// satisfy only the rules of the frame format.
    pub headers: &'a HeaderBlock,
    /// The status of the response: 400, 414 or 431.
    pub status: StatusCode,
    /// The fault, as a text for people.
    pub reason: &'a dyn fmt::Display,
}

/// Shows no header fields, because they may be secret.
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

/// The function that is called for malformed requests, if one is set.
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
