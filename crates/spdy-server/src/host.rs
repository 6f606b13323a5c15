//! The host of a request, which must be unambiguous.

use http::{Request, Uri, Version, header::HOST};
use spdy_tower::{StreamInfo, is_authority};

/// Returns the reason why two programs could understand the host of a request differently, or
/// `None` if the host is unambiguous.
///
/// RFC 9112 §3.2 requires 400 for an HTTP/1.1 request without a `host` field, with several ones, or
/// with an invalid one. For all protocols, spdy-tower decides whether a host is valid. This
/// function also rejects a `host` field that differs from the host in the target: most applications
/// use the field, while the standard gives precedence to the target. A target with a user name is
/// rejected with or without the field: `a@b` is `b` to one program and `a` to another (RFC 9113
/// §8.3.1 forbids it).
pub(crate) fn ambiguity<B>(request: &Request<B>) -> Option<&'static str> {
    let named = request.uri().authority();
    if named.is_some_and(|named| !is_authority(named.as_str().as_bytes())) {
        return Some("invalid host in request target");
    }
    let mut lines = request.headers().get_all(HOST).iter();
    let Some(line) = lines.next() else {
        let is_due = request.version() == Version::HTTP_11 && !is_of_spdy(request);
        return is_due.then_some("missing host field");
    };
    let line = line.as_bytes();
    if lines.next().is_some() {
        return Some("more than one host field");
    }
    if !is_authority(line) {
        return Some("invalid host field");
    }
    match named {
        Some(named) if !is_same(named.as_str().as_bytes(), line, request.uri()) => {
            Some("the host field differs from the host in the request target")
        }
        _ => None,
    }
}

/// Returns whether a request came over SPDY. Such a request has version HTTP/1.1, and names its
/// host differently.
fn is_of_spdy<B>(request: &Request<B>) -> bool {
    request.extensions().get::<StreamInfo>().is_some()
}

fn is_same(named: &[u8], line: &[u8], uri: &Uri) -> bool {
    let port: &[u8] = match uri.scheme_str() {
        Some("https") => b":443",
        Some("http") => b":80",
        _ => b"",
    };
    let without = |host| <[u8]>::strip_suffix(host, port).unwrap_or(host);
    without(named).eq_ignore_ascii_case(without(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_clear(target: &str, hosts: &[&str]) -> bool {
        let mut request = Request::get(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        ambiguity(&request.body(()).unwrap()).is_none()
    }

    #[test]
    fn a_request_names_one_host() {
        assert!(is_clear("/", &["a"]));
        assert!(!is_clear("/", &[]));
        assert!(!is_clear("/", &[""]));
        assert!(is_clear("/", &["a_b.example:80"]));
        assert!(is_clear("/", &["[::1]:8080"]));
        assert!(!is_clear("/", &["a", "b"]));
        assert!(!is_clear("/", &["a", "a"]));
        for host in [
            "a b", "user@a", "a/b", "a\\b", "a\"b", "a#b", "a?b", "<a>", "a:65536", "a:b", "a:",
            ":80", "[::1", "::1", "%41",
        ] {
            assert!(!is_clear("/", &[host]), "{host}");
        }
    }

    #[test]
    fn only_http_1_1_needs_the_field() {
        for (version, is_needed) in [
            (Version::HTTP_10, false),
            (Version::HTTP_11, true),
            (Version::HTTP_2, false),
        ] {
            let request = Request::get("/").version(version).body(()).unwrap();
            assert_eq!(ambiguity(&request).is_some(), is_needed, "{version:?}");
        }
    }

    #[test]
    fn the_target_names_a_host_and_no_user() {
        assert!(is_clear("http://[::1]:8080/", &["[::1]:8080"]));
        for target in [
            "http://a@b/",
            "http://a:b@c/",
            "http://@b/",
            "admin.test@b:80",
        ] {
            assert!(!is_clear(target, &[]), "{target}");
            assert!(!is_clear(target, &["b"]), "{target}");
        }
    }

    #[test]
    fn the_target_and_the_field_name_the_same_host() {
        assert!(is_clear("http://a.test/", &["A.test"]));
        assert!(is_clear("http://a.test:80/", &["a.test"]));
        assert!(is_clear("https://a.test/", &["a.test:443"]));
        assert!(!is_clear("http://a.test/", &[]));
        assert!(!is_clear("http://a.test/", &["b.test"]));
        assert!(!is_clear("http://a.test/", &["a.test:443"]));
        assert!(!is_clear("http://a.test/", &[""]));
    }
}
