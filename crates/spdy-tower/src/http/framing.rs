//! The rule for the length of a response (RFC 9110, sections 8.6, 15.3.5 and 15.4.5), which is the
//! same for all applications and protocols.

use http::{HeaderMap, Method, StatusCode, header::CONTENT_LENGTH};

/// Returns whether a response has no body, whatever the application returns ([protocol.md §9.6]).
///
/// This function is public only for spdy-server, which applies it to HTTP/2.
///
/// [protocol.md §9.6]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#96-bodies
pub fn is_bodyless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// Removes a `content-length` that is wrong because the response has no body: before a tunnel, with
/// 204, and a zero with 304, which is the length of a body that was left out. Any other length of a
/// 304 is the length of the response to GET.
///
/// With HEAD the length stays, because a zero may be the length of an empty resource.
///
/// This function is public only for spdy-server, which applies it to HTTP/2.
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

/// Returns whether the size of the application's body is the length of the response to GET. With
/// HEAD the application may have left the body out.
pub(crate) fn is_length(method: &Method, status: StatusCode, bytes: u64) -> bool {
    let is_none = has_no_length(method, status) || status == StatusCode::NOT_MODIFIED;
    !is_none && (*method != Method::HEAD || bytes > 0)
}

/// Returns whether a `content-length` would be wrong, because the response has no content or opens
/// a tunnel.
fn has_no_length(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT
        || status.is_informational()
        || (*method == Method::CONNECT && status.is_success())
}
