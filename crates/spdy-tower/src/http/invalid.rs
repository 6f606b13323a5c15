//! Why a client cannot write a request, or cannot read a response.

use std::fmt;

/// Why a request cannot be expressed in SPDY. Unless a variant says otherwise, nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// Neither the URI nor the `host` field names a host.
    HostMissing,
    /// The `host` field is not a host with an optional port.
    Host,
    /// The URI has a user name or a password. These belong in `authorization`.
    UserInfo,
    /// The target of CONNECT has no port.
    PortMissing,
    /// A header field cannot be written, because the block would be longer than any frame.
    Field,
    /// A header field is longer than 65,535 bytes, the limit of SPDY/2.
    FieldTooLong,
    /// The header block is longer than a frame can be.
    HeadTooLong,
    /// A trailer is longer than 65,535 bytes, the limit of SPDY/2. The rest of the request was
    /// sent, and the stream was reset.
    TrailerTooLong,
}

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostMissing => "missing host in request URI",
            Self::Host => "invalid host in request",
            Self::UserInfo => "request URI contains user information",
            Self::PortMissing => "missing port in target of CONNECT",
            Self::Field => "invalid header field",
            Self::FieldTooLong => "header field is longer than 65535 bytes",
            Self::HeadTooLong => "header block is too long for a frame",
            Self::TrailerTooLong => "trailer is longer than 65535 bytes",
        })
    }
}

impl std::error::Error for InvalidRequest {}

/// Why the head of a response is not valid HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidResponse {
    /// The header block exceeds a limit of the session.
    HeadTooLong,
    /// A header field has an invalid name or value.
    Field,
    /// The status is missing.
    StatusMissing,
    /// The status is not the code of a final response.
    Status,
    /// The HTTP version is missing.
    HttpVersionMissing,
    /// The HTTP version is invalid.
    HttpVersion,
    /// The head of a push came in two blocks, which have a header field in common.
    RepeatedField,
}

impl fmt::Display for InvalidResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeadTooLong => "header block exceeds a limit",
            Self::Field => "invalid header field",
            Self::StatusMissing => "missing status",
            Self::Status => "invalid status",
            Self::HttpVersionMissing => "missing HTTP version",
            Self::HttpVersion => "invalid HTTP version",
            Self::RepeatedField => "repeated header field",
        })
    }
}

impl std::error::Error for InvalidResponse {}
