//! The fields of requests and responses that must not pass.
//!
//! The bastion speaks for its users with fields such as `Impersonate-User`. A client must not be
//! able to add such a field, or to remove one: `Connection: Impersonate-User` would let a proxy
//! behind the bastion drop it. So fields are removed before the bastion adds its own, `Connection`
//! never passes, and `_` is read as `-`, as some servers do.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

/// Returns whether a request asks to act as another user.
pub(crate) fn asks_to_impersonate(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| has_start(name, "impersonate-"))
}

/// Returns whether a request asks for another protocol. HTTP/2 without TLS does not count: clients
/// offer it with any request, and a server can ignore it.
pub(crate) fn asks_to_upgrade(headers: &HeaderMap) -> bool {
    let protocols = tokens(headers, &UPGRADE);
    protocols.iter().any(|protocol| protocol != "h2c")
}

/// Removes the fields of a single connection, from a request or from a response.
pub(crate) fn remove_hops(headers: &mut HeaderMap) {
    let named = tokens(headers, &CONNECTION);
    // Then the other length is not that of the body.
    let is_coded = headers.contains_key(TRANSFER_ENCODING);
    remove(headers, |name| {
        HOPS.contains(name)
            || is_coded && *name == CONTENT_LENGTH
            || named.iter().any(|token| name == token.as_str())
    });
}

/// Removes everything from a request that the API server could take for the word of a proxy, and
/// the credentials of the client, which are for the bastion. `own` are fields that name a user.
pub(crate) fn remove_claims(headers: &mut HeaderMap, own: &[HeaderName]) {
    remove_hops(headers);
    remove(headers, |name| {
        let is_own = own.iter().any(|own| has_start(name, own.as_str()));
        is_own || CLAIMS.contains(name) || STARTS.iter().any(|start| has_start(name, start))
    });
}

/// Returns whether two names are the same to a server that reads `_` as `-`.
pub(crate) fn is_same(name: &HeaderName, other: &HeaderName) -> bool {
    normal(name).eq(normal(other))
}

fn has_start(name: &HeaderName, start: &str) -> bool {
    let mut bytes = normal(name);
    start
        .bytes()
        .map(dash)
        .all(|byte| bytes.next() == Some(byte))
}

/// Returns the bytes of a name, which is in lower case, with `-` for `_`.
fn normal(name: &HeaderName) -> impl Iterator<Item = u8> {
    name.as_str().bytes().map(dash)
}

const fn dash(byte: u8) -> u8 {
    match byte {
        b'_' => b'-',
        byte => byte,
    }
}

fn remove(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    let names: Vec<_> = headers
        .keys()
        .filter(|name| is_removed(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Returns the tokens of a list, in lower case. A value that is not text is a token that is
/// unknown.
fn tokens(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let values: Vec<_> = headers.get_all(name).iter().map(text).collect();
    let tokens = values.iter().flat_map(|value| value.split(','));
    let tokens = tokens.map(|token| token.trim().to_owned());
    tokens.filter(|token| !token.is_empty()).collect()
}

/// The fields of a single connection.
const HOPS: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Fields that a request must not take to the API server. `Host` is set for the API server.
const CLAIMS: [HeaderName; 5] = [AUTHORIZATION, PROXY_AUTHORIZATION, EXPECT, FORWARDED, HOST];

/// How the names of such fields begin: those of impersonation, and those of a proxy in front of an
/// API server.
const STARTS: [&str; 5] = [
    "impersonate-",
    "x-forwarded-",
    "x-remote-",
    "x-real-",
    "authorization",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &'static str)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        headers
    }

    /// Returns the names that are left.
    fn left(fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = headers(fields);
        remove_claims(&mut headers, &[HeaderName::from_static("x-user")]);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn no_claim_passes_in_any_spelling() {
        for name in [
            "Impersonate-User",
            "IMPERSONATE-GROUP",
            "impersonate_user",
            "Impersonate-Extra-scopes",
            "impersonate-uid",
            "Authorization",
            "authorization_",
            "X-Forwarded-For",
            "x_forwarded_for",
            "X-Forwarded-Host",
            "Forwarded",
            "X-Remote-User",
            "X_Remote_Extra-a",
            "X-User",
            "x_user",
            "Proxy-Authorization",
            "Host",
        ] {
            let fields = [(name, "a"), ("accept", "b"), (name, "c")];
            assert_eq!(left(&fields), ["accept"], "{name}");
        }
    }

    #[test]
    fn fields_that_connection_names_do_not_pass() {
        let fields = [
            ("connection", "close, X-Secret"),
            ("connection", "Impersonate-User,,\tUser-Agent"),
            ("x-secret", "1"),
            ("user-agent", "2"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("accept", "3"),
        ];
        assert_eq!(left(&fields), ["accept"]);
    }

    #[test]
    fn what_asks_for_more_is_noticed() {
        assert!(asks_to_impersonate(&headers(&[("Impersonate_User", "a")])));
        assert!(!asks_to_impersonate(&headers(&[("x-impersonate", "a")])));
        assert!(asks_to_upgrade(&headers(&[("upgrade", "h2c, WebSocket")])));
        assert!(!asks_to_upgrade(&headers(&[
            ("upgrade", "H2C"),
            ("upgrade", "")
        ])));
        let name = HeaderName::from_static("x-user");
        assert!(is_same(&HeaderName::from_static("x_user"), &name));
        assert!(!is_same(&HeaderName::from_static("x-users"), &name));
    }
}
