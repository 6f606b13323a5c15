//! Why a request cannot be handed to the application.

use std::fmt;

use http::StatusCode;

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
