//! Why a request cannot be handed to the application.

use std::{fmt, sync::Arc};

use http::StatusCode;
use spdy_frame::{HeaderBlock, StreamId, Version};
use spdy_session::PendingStream;

/// A request that HTTP does not allow, which was answered and is not given to the service: see
/// [`Builder::on_malformed`](crate::Builder::on_malformed).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct MalformedRequest<'a> {
    /// The stream that it came on.
    pub stream: StreamId,
    /// The version of the session.
    pub version: Version,
    /// Its header fields, as far as they came and the limits allow, in the form of the version. Nothing about them is
    /// checked but what the frame format demands.
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

/// Who is told of malformed requests, if anybody.
#[derive(Clone, Default)]
pub(crate) struct OnMalformed(Option<Arc<Told>>);

type Told = dyn Fn(&MalformedRequest<'_>) + Send + Sync;

impl OnMalformed {
    pub(crate) fn new(told: impl Fn(&MalformedRequest<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Tells of a request whose head is malformed.
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

/// A request head, or trailers, that HTTP does not allow. It is answered and never repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// A meta header that the version requires is not there.
    Missing(&'static str),
    /// A meta header has more than one value.
    Repeated(&'static str),
    /// A name starts with a colon and is not one of the meta headers.
    UnknownMeta,
    Method,
    Target,
    TargetTooLong,
    HttpVersion,
    Host,
    Scheme,
    FieldName,
    FieldValue,
    TooManyFields,
    /// A field of a single HTTP/1.1 connection, where those are refused.
    ConnectionField,
    ContentLength,
    /// `content-length` announces a body, but the stream opened finished.
    BodyMissing,
    /// More header fields than the limits allow: the block was cut.
    HeadersTooLarge,
}

impl Malformed {
    /// What the client is told.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge | Self::TooManyFields => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing(name) => return write!(f, "meta header for the {name} is missing"),
            Self::Repeated(name) => {
                return write!(f, "meta header for the {name} has several values");
            }
            Self::UnknownMeta => "unknown meta header",
            Self::Method => "method is not a token",
            Self::Target => "request target does not fit the method",
            Self::TargetTooLong => "request target is longer than 65534 octets",
            Self::HttpVersion => "HTTP version is neither 1.0 nor 1.1",
            Self::Host => "host is not a name with an optional port",
            Self::Scheme => "scheme is not one",
            Self::FieldName => "header name is not a token",
            Self::FieldValue => "header value has a control character, or a blank at an end",
            Self::TooManyFields => "more header fields than a map can hold",
            Self::ConnectionField => "header field of a single HTTP/1.1 connection",
            Self::ContentLength => "content-length is not one decimal number",
            Self::BodyMissing => "content-length announces a body that does not come",
            Self::HeadersTooLarge => "header block exceeds a limit",
        })
    }
}
