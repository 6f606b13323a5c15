//! What a server sees of a request.

use std::time::Duration;

use axum::{Router, http::HeaderValue, routing::get as on_get};
use bytes::Bytes;
use http_body_util::Empty;
use spdy_frame::{HeaderBlock, Priority, Version};
use spdy_tower::{
    StreamInfo,
    client::{Error, InvalidRequest},
};

use crate::support::{
    client::{Server, Whole, block, body_of, client_of, get, ok, post},
    in_all_versions, within,
};

/// What the server sees of a request, and that the client ends in order.
async fn seen(version: Version, request: http::Request<Whole>) -> (HeaderBlock, bool) {
    let (requests, mut server) = Server::new(version);
    let response = requests.send(request);
    drop(requests);
    let serve = async {
        let stream = server.accept().await;
        let (head, has_body) = (stream.headers().clone(), stream.has_body());
        let (_receive, reply) = stream.split();
        reply.send_reply(ok(version, &[]), true).unwrap();
        (head, has_body)
    };
    let (response, head) = tokio::join!(within(response), serve);
    assert_eq!(response.unwrap().status(), 200);
    within(server.client).await.unwrap().unwrap();
    head
}

fn expected(version: Version, pairs: &[(&str, &str)]) -> HeaderBlock {
    block(version, pairs)
}

#[tokio::test(start_paused = true)]
async fn c149_c150_a_request_has_its_meta_headers() {
    in_all_versions(async |version| {
        let (head, has_body) = seen(version, get("/page?q=1")).await;
        let meta = [
            (":method", "GET"),
            (":path", "/page?q=1"),
            (":version", "HTTP/1.1"),
            (":host", "a.test"),
            (":scheme", "https"),
        ];
        assert_eq!((head, has_body), (expected(version, &meta), false));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_target_is_a_path_an_asterisk_or_an_authority() {
    in_all_versions(async |version| {
        let field = |head: &HeaderBlock, name| {
            let name = match (version, name) {
                (Version::V2, ":path") => "url",
                (Version::V2, name) => &name[1..],
                (_, name) => name,
            };
            head.get(name)
                .map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        for (method, uri, host, target) in [
            ("GET", "http://b.test:81", "b.test:81", "/"),
            ("GET", "http://b.test?q", "b.test", "/?q"),
            ("OPTIONS", "*", "c.test", "*"),
            ("GET", "/only", "c.test", "/only"),
        ] {
            let request = http::Request::builder()
                .method(method)
                .uri(uri)
                .header("host", "c.test")
                .body(Whole::default())
                .unwrap();
            let (head, _) = seen(version, request).await;
            assert_eq!(field(&head, ":host").as_deref(), Some(host));
            assert_eq!(field(&head, ":path").as_deref(), Some(target));
            let scheme = if uri.starts_with("http:") {
                "http"
            } else {
                "https"
            };
            assert_eq!(field(&head, ":scheme").as_deref(), Some(scheme));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c152_fields_of_one_connection_are_not_sent() {
    in_all_versions(async |version| {
        let mut request = get("/");
        for (name, value) in [
            ("connection", "keep-alive, x-hop"),
            ("host", "other.test"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-hop", "1"),
            ("te", "gzip, trailers"),
            ("x-end", "1"),
        ] {
            request
                .headers_mut()
                .append(name, HeaderValue::from_static(value));
        }
        let (head, _) = seen(version, request).await;
        let names: Vec<_> = head.fields().map(|field| field.name()).skip(5).collect();
        assert_eq!(names, [&b"x-end"[..], b"te"]);
        assert_eq!(head.get("te"), Some(&b"trailers"[..]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c163_several_cookie_fields_are_sent_as_one() {
    in_all_versions(async |version| {
        let mut request = get("/");
        for cookie in ["a=1", "b=2"] {
            request
                .headers_mut()
                .append("cookie", HeaderValue::from_static(cookie));
        }
        let (head, _) = seen(version, request).await;
        assert_eq!(head.get("cookie"), Some(&b"a=1; b=2"[..]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn content_length_is_added_where_it_is_known() {
    in_all_versions(async |version| {
        for (request, length, has_body) in [
            (post("/", "12345"), Some("5"), true),
            (post("/", ""), Some("0"), false),
            (get("/"), None, false),
        ] {
            let (head, body) = seen(version, request).await;
            assert_eq!(
                (head.get("content-length"), body),
                (length.map(str::as_bytes), has_body)
            );
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_priority_in_the_extensions_is_sent() {
    in_all_versions(async |version| {
        let priority = async |info: axum::Extension<StreamInfo>| info.priority.get().to_string();
        let requests = client_of(version, Router::new().route("/", on_get(priority)));
        let mut request = get("/");
        request.extensions_mut().insert(Priority::new(1).unwrap());
        let response = within(requests.send(request)).await.unwrap();
        assert_eq!(body_of(response.into_body()).await, "1");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_spdy_cannot_express_is_an_error_of_the_request() {
    in_all_versions(async |version| {
        let (requests, _server) = Server::new(version);
        for (method, uri, reason) in [
            ("GET", "/no-host", InvalidRequest::HostMissing),
            (
                "GET",
                "https://user:secret@a.test/",
                InvalidRequest::UserInfo,
            ),
            ("CONNECT", "a.test", InvalidRequest::PortMissing),
        ] {
            let request = http::Request::builder().method(method).uri(uri);
            let error = within(requests.send(request.body(Empty::<Bytes>::new()).unwrap())).await;
            let error = error.unwrap_err();
            assert!(
                matches!(error, Error::Request(found) if found == reason),
                "{method} {uri}: {error:?}"
            );
            assert!(!error.is_connect() && !error.is_remote() && !error.is_timeout());
        }
        let mut long = get("/");
        let value = HeaderValue::from_bytes(&vec![b'a'; 66_000]).unwrap();
        long.headers_mut().insert("x-long", value);
        let mut response = requests.send(long);
        let is_refused = tokio::time::timeout(Duration::from_millis(50), &mut response)
            .await
            .is_ok();
        assert_eq!(is_refused, version == Version::V2);
    })
    .await;
}

/// The field that the session's own check would take for a meta header.
#[tokio::test(start_paused = true)]
async fn fields_named_like_meta_headers_of_version_2_are_not_sent() {
    let mut request = get("/");
    for name in ["method", "url", "version", "scheme"] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static("x"));
    }
    let (head, _) = seen(Version::V2, request).await;
    assert_eq!(head.len(), 5);
    assert_eq!(head.get("url"), Some(&b"/"[..]));
}
