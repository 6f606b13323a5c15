//! Why a request is not passed to the application.

use std::fmt;

use http::StatusCode;

/// A request head or trailers that HTTP does not allow. The request is answered with an error and
/// not repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// A meta header that the version requires is missing.
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
    /// A field of a single HTTP/1.1 connection, if these are rejected.
    ConnectionField,
    ContentLength,
    /// `content-length` announces a body, but SYN_STREAM has FIN.
    BodyMissing,
    /// There are more header fields than the limits allow, and the block was truncated.
    HeadersTooLarge,
}

impl Malformed {
    /// Returns the status for the client.
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
            Self::Missing(name) => return write!(f, "missing {name}"),
            Self::Repeated(name) => {
                return write!(f, "repeated {name}");
            }
            Self::UnknownMeta => "unknown meta header",
            Self::Method => "invalid method",
            Self::Target => "invalid request target",
            Self::TargetTooLong => "request target is longer than 65534 bytes",
            Self::HttpVersion => "invalid HTTP version",
            Self::Host => "invalid host",
            Self::Scheme => "invalid scheme in request URI",
            Self::FieldName => "invalid header name",
            Self::FieldValue => "invalid header value",
            Self::TooManyFields => "too many header fields",
            Self::ConnectionField => "connection-specific header field",
            Self::ContentLength => "invalid content-length",
            Self::BodyMissing => "missing request body",
            Self::HeadersTooLarge => "header block exceeds a limit",
        })
    }
}
