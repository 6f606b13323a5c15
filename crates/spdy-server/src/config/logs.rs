//! What is logged of requests.

use std::path::PathBuf;

#[cfg(doc)]
use super::{Config, Http2};

/// The destination of the access log, which has a line for each request.
///
/// A malformed request over HTTP/2 has a line with its stream alone, if the HTTP/2 library resets
/// that stream. It has none if its fields exceed `max_headers` of [`Http2`] and it has no body: the
/// library answers it with 431 without a notice. A body that contradicts its `content-length` is
/// noticed when the application has the head: then the request has a line of its own, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// The end of a file, which is created if it does not exist. A named pipe is opened without
    /// waiting for its reader, and lines are dropped while it is full.
    File(PathBuf),
}

/// The form of a line of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// The combined format of many servers, followed by the protocol, the stream, the duration in
    /// seconds, the bytes of the request body, the mark of the end (`cut`, `request-cut`, `refused`
    /// or `-`) and, with [`Config::request_ids`], the id of the request.
    #[default]
    Combined,
    /// An object of JSON. The names are those of OpenTelemetry, and of ECS for what OpenTelemetry
    /// has no name for.
    Json,
}

/// Whether each request has an id: 128 random bits in hexadecimal digits.
///
/// The application finds it in the field `x-request-id` and as [`RequestId`](crate::RequestId) in
/// the extensions, and the client in the field `x-request-id` of the response. It is in the access
/// log, and in the span `request` of what is logged while the response is awaited. The proxy passes
/// it on. The response to a malformed request has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestIds {
    /// Requests have no ids. The field `x-request-id` is one like others.
    #[default]
    Off,
    /// Each request gets a new id, which replaces one that the client has sent.
    Make,
    /// A request keeps the id that the client has sent, if it is the only one and has 1 to 128
    /// characters, which are letters of ASCII, digits and `-._~+/=:@`. Otherwise it gets a new one.
    /// Use it only behind a proxy that sets the field: clients could choose equal ones.
    Trust,
}
