//! The one host that a request names.

use http::{Request, Uri, Version, header::HOST};
use spdy_tower::{StreamInfo, is_authority};

/// Returns why a request names its host in a way that two programs could understand differently, if it does.
///
/// RFC 9112 §3.2 wants 400 for a request of HTTP/1.1 without a line, for several lines, and for a line that is no host;
/// what is one says spdy-tower, for all protocols. A host that differs from the one in the target is refused, too:
/// applications mostly look at the line, while the target counts by the letter of the standards. A target that names a
/// user beside the host is refused with or without a line: `a@b` is `b` to one program and `a` to another (RFC 9113
/// §8.3.1 forbids it).
pub(crate) fn ambiguity<B>(request: &Request<B>) -> Option<&'static str> {
    let named = request.uri().authority();
    if named.is_some_and(|named| !is_authority(named.as_str().as_bytes())) {
        return Some("the target of the request does not name a valid host");
    }
    let mut lines = request.headers().get_all(HOST).iter();
    let Some(line) = lines.next() else {
        let is_due = request.version() == Version::HTTP_11 && !is_of_spdy(request);
        return is_due.then_some("the request has no host field");
    };
    let line = line.as_bytes();
    if lines.next().is_some() {
        return Some("the request has several host fields");
    }
    if !is_authority(line) {
        return Some("the host field of the request is not a valid host");
    }
    match named {
        Some(named) if !is_same(named.as_str().as_bytes(), line, request.uri()) => {
            Some("the host field of the request differs from the host in its target")
        }
        _ => None,
    }
}

/// A request of SPDY says that it is one of HTTP/1.1, and names its host in another way.
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
