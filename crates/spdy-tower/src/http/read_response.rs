//! Reads the head of an HTTP response from the header block of a SYN_REPLY or of a push
//! (protocol.md §9.3).

use http::{Response, StatusCode};
use spdy_frame::{Field, HeaderBlock, Version};

use super::{
    InvalidResponse,
    fields::{self, ConnectionFields},
    malformed::Malformed,
    names::Meta,
};

/// Reads the head of a response. For a push, meta headers of the request are left out.
///
/// The error names the fault. Fields of a single connection are dropped, and so are unknown names
/// that begin with a colon.
pub(crate) fn read(
    version: Version,
    block: &HeaderBlock,
    is_push: bool,
) -> Result<Response<()>, InvalidResponse> {
    if block.is_truncated() {
        return Err(InvalidResponse::HeadTooLong);
    }
    let (mut status, mut http_version) = (None, None);
    let mut headers = fields::map_for(block.len());
    for field in block.fields() {
        let name = field.name();
        match Meta::find(&Meta::RESPONSE, version, name) {
            Some(Meta::Status) => status = Some(read_status(field)?),
            Some(_) => http_version = Some(read_version(field)?),
            None if name.starts_with(b":") => {}
            None if is_push && Meta::find(&Meta::PROMISE, version, name).is_some() => {}
            None => {
                fields::receive(&mut headers, field, ConnectionFields::Drop).map_err(unread)?;
            }
        }
    }
    let mut response = Response::new(());
    *response.status_mut() = status.ok_or(InvalidResponse::StatusMissing)?;
    *response.version_mut() = http_version.ok_or(InvalidResponse::HttpVersionMissing)?;
    *response.headers_mut() = headers;
    Ok(response)
}

fn unread(why: Malformed) -> InvalidResponse {
    match why {
        Malformed::TooManyFields => InvalidResponse::HeadTooLong,
        _ => InvalidResponse::Field,
    }
}

/// Reads a status: three digits, and an optional reason phrase. An interim status is invalid,
/// because a second SYN_REPLY cannot follow it.
fn read_status(field: Field<'_>) -> Result<StatusCode, InvalidResponse> {
    let is_end = |rest: &[u8]| matches!(rest, [] | [b' ', ..]);
    field
        .value()
        .split_at_checked(3)
        .filter(|(_, rest)| is_end(rest))
        .and_then(|(code, _)| StatusCode::from_bytes(code).ok())
        .filter(|status| !status.is_informational())
        .ok_or(InvalidResponse::Status)
}

fn read_version(field: Field<'_>) -> Result<http::Version, InvalidResponse> {
    match field.value() {
        b"HTTP/1.0" => Ok(http::Version::HTTP_10),
        // Some servers send the protocol of the server behind them.
        [b'H', b'T', b'T', b'P', b'/', ..] => Ok(http::Version::HTTP_11),
        _ => Err(InvalidResponse::HttpVersion),
    }
}
