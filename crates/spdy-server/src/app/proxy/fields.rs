//! The header fields that a proxy changes or removes.

use std::{fmt::Write, net::IpAddr};

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{
        CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    },
    request::Parts,
};

use spdy_tower::{is_hop_by_hop, tokens};

use super::Upstream;
use crate::{cookies, info::ConnectionInfo};

/// How to prepare requests for the application.
#[derive(Debug)]
pub(super) struct Forwarding {
    /// Whether the application receives absolute URIs, as HTTP/2 requires.
    absolute: bool,
    scheme: &'static str,
    /// The host to use if the client does not name one.
    host: HeaderValue,
    trusted: bool,
}

impl Forwarding {
    pub(super) fn new(upstream: &Upstream, trusted: bool) -> Self {
        Self {
            absolute: upstream.is_http2(),
            scheme: upstream.scheme(),
            host: HeaderValue::try_from(upstream.authority()).expect("an authority is valid"),
            trusted,
        }
    }

    pub(super) const fn is_absolute(&self) -> bool {
        self.absolute
    }

    /// Converts the fields and the URI of a request to the form that the application needs.
    pub(super) fn request(&self, head: &mut Parts, info: Option<ConnectionInfo>) {
        let host = self.host_of(head);
        // `trailers` means that the client accepts trailers, which the proxy passes on.
        let wants_trailers = head.headers.get(TE).is_some_and(|te| te == "trailers");
        remove_hop_by_hop(&mut head.headers);
        remove_disguised(&mut head.headers);
        cookies::join(&mut head.headers);
        if wants_trailers {
            head.headers
                .insert(TE, const { HeaderValue::from_static("trailers") });
            if !self.absolute {
                // In HTTP/1.1 the field only concerns the next hop, and `connection` has to name
                // it.
                head.headers
                    .insert(CONNECTION, const { HeaderValue::from_static("te") });
            }
        }
        self.tell_who_asks(&mut head.headers, &host, info);
        head.uri = self.target(&head.uri, &host);
        if self.absolute {
            head.headers.remove(HOST);
        } else {
            head.headers.insert(HOST, host);
        }
    }

    /// Returns the host that the client has named. In HTTP/2 it is in the URI.
    fn host_of(&self, head: &Parts) -> HeaderValue {
        head.uri
            .authority()
            .and_then(|authority| HeaderValue::try_from(authority.as_str()).ok())
            .or_else(|| head.headers.get(HOST).cloned())
            .unwrap_or_else(|| self.host.clone())
    }

    fn target(&self, uri: &Uri, host: &HeaderValue) -> Uri {
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        if !self.absolute {
            return target.parse().unwrap_or_default();
        }
        let mut builder = Uri::builder().scheme(self.scheme).path_and_query(target);
        if let Ok(host) = host.to_str() {
            builder = builder.authority(host);
        }
        builder.build().unwrap_or_default()
    }

    fn tell_who_asks(
        &self,
        fields: &mut HeaderMap,
        host: &HeaderValue,
        info: Option<ConnectionInfo>,
    ) {
        if !self.trusted {
            remove_if(fields, is_of_who_asks);
        }
        let peer = info
            .and_then(|info| info.peer)
            .map(|peer| peer.ip().to_canonical());
        let proto = match info.is_some_and(|info| info.is_secure()) {
            true => "https",
            false => "http",
        };
        if let Some(peer) = peer {
            append(fields, FORWARDED_FOR, &peer.to_string());
        }
        append(fields, FORWARDED, &forwarded(peer, host, proto));
        // These two fields have one value, and the first proxy on the way knows it.
        fields
            .entry(FORWARDED_PROTO)
            .or_insert(HeaderValue::from_static(proto));
        fields.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
    }
}

/// Removes the fields that only concern one connection (RFC 9110 §7.6.1), and those for a proxy.
pub(super) fn remove_hop_by_hop(fields: &mut HeaderMap) {
    let named: Vec<_> = tokens(fields, &CONNECTION)
        .filter_map(|name| HeaderName::try_from(name).ok())
        .collect();
    for name in named {
        fields.remove(name);
    }
    remove_if(fields, is_of_one_hop);
}

/// Removes the fields that an application could confuse with fields that this proxy sets or
/// removes.
///
/// CGI and its successors convert both `-` and `_` to `_`, and some programs convert every other
/// sign as well: for them `x_forwarded_for` is `x-forwarded-for`.
fn remove_disguised(fields: &mut HeaderMap) {
    let is_disguised = |name: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !name.bytes().all(is_plain) && {
            let meant = name.replace(|sign: char| !sign.is_ascii_alphanumeric(), "-");
            is_of_who_asks(&meant) || is_of_the_connection(&meant)
        }
    };
    remove_if(fields, is_disguised);
}

/// Removes the trailers that must not be taken for fields of the head.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    remove_disguised(trailers);
    remove_if(trailers, |name| {
        is_of_who_asks(name) || is_of_the_connection(name)
    });
}

fn remove_if(fields: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    let unwanted: Vec<_> = fields
        .keys()
        .filter(|name| is_unwanted(name.as_str()))
        .cloned()
        .collect();
    for name in unwanted {
        fields.remove(name);
    }
}

/// Returns whether a field describes the client, in any form that proxies use.
fn is_of_who_asks(name: &str) -> bool {
    name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
}

/// Returns whether a field concerns one connection, or the destination or the length of a message.
fn is_of_the_connection(name: &str) -> bool {
    name == HOST || name == CONTENT_LENGTH || is_of_one_hop(name)
}

/// Returns whether a field only concerns the next hop. This includes `te`, and the fields for and
/// from a proxy.
fn is_of_one_hop(name: &str) -> bool {
    is_hop_by_hop(name.as_bytes())
        || name == TE
        || name == HTTP2_SETTINGS
        || name == PROXY_AUTHENTICATE
        || name == PROXY_AUTHORIZATION
}

/// Returns one element of `forwarded` (RFC 7239).
fn forwarded(peer: Option<IpAddr>, host: &HeaderValue, proto: &str) -> String {
    let mut text = match peer {
        Some(IpAddr::V4(peer)) => format!("for={peer}"),
        Some(IpAddr::V6(peer)) => format!("for=\"[{peer}]\""),
        None => "for=unknown".into(),
    };
    if let Ok(host) = host.to_str() {
        let host = host.replace(['"', '\\'], "");
        write!(text, ";host=\"{host}\"").expect("a String takes any text");
    }
    text + ";proto=" + proto
}

/// Appends to the list in a field, on the same line.
fn append(fields: &mut HeaderMap, name: HeaderName, more: &str) {
    let mut list = fields
        .get_all(&name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect::<Vec<_>>();
    list.push(more);
    if let Ok(value) = HeaderValue::try_from(list.join(", ")) {
        fields.insert(name, value);
    }
}

/// Accompanies `upgrade: h2c`, which is not passed on.
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;
    use crate::negotiate::Protocol;

    fn info(peer: &str) -> ConnectionInfo {
        ConnectionInfo {
            protocol: Protocol::Http2,
            peer: Some(peer.parse().unwrap()),
            tls: None,
            is_tls_of_proxy: false,
        }
    }

    fn ready(upstream: &str, trusted: bool, request: Request<()>) -> Parts {
        let forwarding = Forwarding::new(&upstream.parse().unwrap(), trusted);
        let (mut head, ()) = request.into_parts();
        forwarding.request(&mut head, Some(info("[2001:db8::1]:7")));
        head
    }

    #[test]
    fn fields_of_the_connection_and_those_it_names_stay_behind() {
        let request = Request::get("/a?b")
            .header("host", "example.com")
            .header("connection", "close, X-Secret")
            .header("x-secret", "1")
            .header("keep-alive", "timeout=5")
            .header("te", "trailers, deflate")
            .header("upgrade", "websocket")
            .header("accept", "*/*");
        let head = ready("http://127.0.0.1:1", false, request.body(()).unwrap());
        assert_eq!(head.uri, "/a?b");
        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "forwarded",
                "host",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto"
            ]
        );
        assert_eq!(head.headers["host"], "example.com");
    }

    /// Another server than that of this crate can serve the proxy, and join no cookies.
    #[test]
    fn the_cookies_of_a_request_are_one_field() {
        let request = Request::get("/").header("cookie", "a=1");
        let request = request.header("cookie", "b=2").body(()).unwrap();
        let head = ready("http://127.0.0.1:1", false, request);
        let cookies: Vec<_> = head.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn what_a_client_says_about_itself_is_believed_only_when_it_is_trusted() {
        let request = || {
            Request::get("http://example.com/")
                .header("x-forwarded-for", "192.0.2.1")
                .header("x-forwarded-proto", "https")
                .header("forwarded", "for=192.0.2.1")
                .body(())
                .unwrap()
        };
        let head = ready("http://127.0.0.1:1", false, request());
        assert_eq!(head.headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!(head.headers["x-forwarded-proto"], "http");
        assert_eq!(head.headers["x-forwarded-host"], "example.com");
        assert_eq!(
            head.headers["forwarded"],
            "for=\"[2001:db8::1]\";host=\"example.com\";proto=http"
        );

        let head = ready("http://127.0.0.1:1", true, request());
        assert_eq!(head.headers["x-forwarded-for"], "192.0.2.1, 2001:db8::1");
        assert_eq!(head.headers["x-forwarded-proto"], "https");
        assert_eq!(
            head.headers["forwarded"],
            "for=192.0.2.1, for=\"[2001:db8::1]\";host=\"example.com\";proto=http"
        );
    }

    #[test]
    fn a_client_whose_tls_a_proxy_has_ended_uses_https() {
        let forwarding = Forwarding::new(&"http://127.0.0.1:1".parse().unwrap(), false);
        let (mut head, ()) = Request::get("/").body(()).unwrap().into_parts();
        let info = ConnectionInfo {
            is_tls_of_proxy: true,
            ..info("192.0.2.1:7")
        };
        forwarding.request(&mut head, Some(info));
        assert_eq!(head.headers["x-forwarded-proto"], "https");
        assert_eq!(
            head.headers["forwarded"],
            "for=192.0.2.1;host=\"127.0.0.1:1\";proto=https"
        );
    }

    #[test]
    fn http_2_gets_the_host_in_the_uri_and_http_1_in_the_field() {
        let request = || Request::get("https://example.com/a").body(()).unwrap();
        let head = ready("h2://127.0.0.1:1", false, request());
        assert_eq!(head.uri, "http://example.com/a");
        assert_eq!(head.headers.get("host"), None);
        let head = ready("http://127.0.0.1:1", false, request());
        assert_eq!(
            (head.uri.to_string().as_str(), &head.headers["host"]),
            ("/a", &HeaderValue::from_static("example.com"))
        );
        let nameless = Request::get("/a").body(()).unwrap();
        let head = ready("http://127.0.0.1:1", false, nameless);
        assert_eq!(head.headers["host"], "127.0.0.1:1");
    }

    #[test]
    fn fields_that_an_application_could_take_for_those_of_the_proxy_stay_behind() {
        let request = || {
            Request::get("/")
                .header("x_forwarded_for", "192.0.2.1")
                .header("x-forwarded_proto", "https")
                .header("x.forwarded.host", "evil")
                .header("x_real_ip", "192.0.2.1")
                .header("transfer_encoding", "chunked")
                .header("content_length", "7")
                .header("x-real-ip", "192.0.2.7")
                .header("x-forwarded-port", "1")
                .header("my_field", "kept")
                .body(())
                .unwrap()
        };
        let names = |trusted| {
            let head = ready("http://127.0.0.1:1", trusted, request());
            let mut names: Vec<_> = head.headers.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        let ours = [
            "forwarded",
            "host",
            "my_field",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
        ];
        assert_eq!(names(false), ours);
        let mut with_trusted = ours.to_vec();
        with_trusted.extend(["x-forwarded-port", "x-real-ip"]);
        with_trusted.sort_unstable();
        assert_eq!(names(true), with_trusted);
    }

    #[test]
    fn trailers_say_nothing_about_who_asks() {
        let mut trailers = HeaderMap::new();
        for name in ["x-forwarded-for", "x_real_ip", "host", "checksum"] {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        clean_trailers(&mut trailers);
        assert!(trailers.keys().eq(["checksum"]));
    }
}
