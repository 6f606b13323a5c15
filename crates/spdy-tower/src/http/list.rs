//! Fields with lists, and fields of a single connection (RFC 9110, sections 5.6.1 and 7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue};

/// Returns the tokens of a field with a list, from all its lines. Empty tokens are left out.
///
/// This function is public only for spdy-kube and spdy-server.
pub fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    lines
        .flat_map(|line| line.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Returns whether a field with a list has a token, ignoring case.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// Returns whether a field concerns only a single HTTP/1.1 connection. `name` is in lower case.
/// `te` depends on its value and is not included. SPDY has frames for the purposes of these fields.
///
/// This function is public only for the reverse proxy of spdy-server, which removes these fields.
pub const fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade"
    )
}

#[cfg(test)]
mod tests {
    use http::header::CONNECTION;

    use super::*;

    #[test]
    fn the_tokens_of_all_lines_of_a_field_are_found() {
        let mut headers = HeaderMap::new();
        for line in [&b"Close , x-a"[..], b"", b",, x-b\t,\xff"] {
            headers.append(CONNECTION, HeaderValue::from_bytes(line).unwrap());
        }
        let found: Vec<_> = tokens(&headers, &CONNECTION).collect();
        assert_eq!(found, [&b"Close"[..], b"x-a", b"x-b", b"\xff"]);
        assert!(has_token(&headers, &CONNECTION, "close"));
        assert!(has_token(&headers, &CONNECTION, "X-B"));
        assert!(!has_token(&headers, &CONNECTION, "x"));
        assert!(!has_token(&headers, &CONNECTION, ""));
    }
}
