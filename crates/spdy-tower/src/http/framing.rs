//! What a response may say of its length (RFC 9110, sections 8.6, 15.3.5 and 15.4.5). All
//! applications and all protocols have this one rule.

use http::{HeaderMap, Method, StatusCode, header::CONTENT_LENGTH};

/// Returns whether a response has no body, whatever the application gives it ([protocol.md §9.6]).
///
/// It is public for spdy-server alone, whose HTTP/2 has the same applications.
///
/// [protocol.md §9.6]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#96-bodies
pub fn is_bodyless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// Removes a `content-length` that speaks of a body that no response of this kind has: before a
/// tunnel, of 204, and the zero of 304, which is the length of a body left out. Any other length of
/// a 304 is that of what GET would have got.
///
/// With HEAD the length stays: a zero may well be that of an empty resource.
///
/// It is public for spdy-server alone, whose HTTP/2 has the same applications.
pub fn remove_false_length(method: &Method, status: StatusCode, headers: &mut HeaderMap) {
    let is_false = has_no_length(method, status)
        || (status == StatusCode::NOT_MODIFIED
            && headers
                .get(CONTENT_LENGTH)
                .is_some_and(|length| length == "0"));
    if is_false {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Returns whether the size of the body that the application gave is the length of what GET would
/// have got. For HEAD it may have left the body out.
pub(crate) fn is_length(method: &Method, status: StatusCode, bytes: u64) -> bool {
    let is_none = has_no_length(method, status) || status == StatusCode::NOT_MODIFIED;
    !is_none && (*method != Method::HEAD || bytes > 0)
}

/// Returns whether a `content-length` would say something that is not so: without content, and
/// before a tunnel.
fn has_no_length(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT
        || status.is_informational()
        || (*method == Method::CONNECT && status.is_success())
}
