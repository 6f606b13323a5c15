//! From the header block of a SYN_REPLY, or of a push, to the head of an HTTP response (protocol.md §9.3).

use http::{HeaderMap, Response, StatusCode};
use spdy_frame::{Field, HeaderBlock, Version};

use crate::fields::{self, ConnectionFields};

/// Reads the head of a response. Fields that `is_other` names belong to somebody else.
///
/// The error says what is wrong with it. Fields of a single connection are dropped, and so are names with a colon that
/// nobody knows.
pub(super) fn read(
    version: Version,
    block: &HeaderBlock,
    is_other: impl Fn(&[u8]) -> bool,
) -> Result<Response<()>, &'static str> {
    if block.is_truncated() {
        return Err("header block exceeds a limit");
    }
    let [status_name, version_name] = names(version);
    let (mut status, mut http_version) = (None, None);
    let mut headers = HeaderMap::with_capacity(block.len());
    for field in block.fields() {
        match field.name() {
            name if name == status_name.as_bytes() => status = Some(read_status(field)?),
            name if name == version_name.as_bytes() => http_version = Some(read_version(field)?),
            [b':', ..] => {}
            name if is_other(name) => {}
            _ => fields::receive(&mut headers, field, ConnectionFields::Drop)
                .map_err(|_| "a header field is not one of HTTP")?,
        }
    }
    let mut response = Response::new(());
    *response.status_mut() = status.ok_or("status is missing")?;
    *response.version_mut() = http_version.ok_or("HTTP version is missing")?;
    *response.headers_mut() = headers;
    Ok(response)
}

/// What status and HTTP version are called.
pub(super) const fn names(version: Version) -> [&'static str; 2] {
    match version {
        Version::V2 => ["status", "version"],
        Version::V3 | Version::V3_1 => [":status", ":version"],
    }
}

/// Three digits; a reason may follow. An interim status is none: a second SYN_REPLY cannot follow it.
fn read_status(field: Field<'_>) -> Result<StatusCode, &'static str> {
    let is_end = |rest: &[u8]| matches!(rest, [] | [b' ', ..]);
    field
        .value()
        .split_at_checked(3)
        .filter(|(_, rest)| is_end(rest))
        .and_then(|(code, _)| StatusCode::from_bytes(code).ok())
        .filter(|status| !status.is_informational())
        .ok_or("status is not one of a final response")
}

fn read_version(field: Field<'_>) -> Result<http::Version, &'static str> {
    match field.value() {
        b"HTTP/1.0" => Ok(http::Version::HTTP_10),
        // Some servers name what is behind them.
        [b'H', b'T', b'T', b'P', b'/', ..] => Ok(http::Version::HTTP_11),
        _ => Err("HTTP version is none"),
    }
}
