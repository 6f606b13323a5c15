//! Requests over a session: the client against an axum server, and against one that does what it wants.

mod support;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header::SET_COOKIE},
    response::AppendHeaders,
    routing::{any, get as on_get, post as on_post},
};
use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Channel, Empty};
use spdy_frame::{HeaderBlock, Priority, RstStatus, Version};
use spdy_session::{Config, Count, Counters, OpenError, Received, Shutdown, StreamError};
use spdy_tower::{
    BoxError, Builder, StreamInfo,
    client::{self, Error, SendRequest},
};
use tokio::io::duplex;
use tower::{Service, ServiceExt};

use self::support::{
    client::{Server, Whole, block, client_of, get, octets, ok, post, reset_of},
    in_all_versions, within,
};

#[tokio::test]
async fn a_page_is_fetched() {
    in_all_versions(async |version| {
        let page = async |request: Request| {
            let uri = request.uri().to_string();
            (
                AppendHeaders([(SET_COOKIE, "a=1"), (SET_COOKIE, "b=2")]),
                uri,
            )
        };
        let requests = client_of(version, Router::new().route("/page", on_get(page)));
        let response = within(requests.oneshot(get("/page?q=1"))).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.version(), http::Version::HTTP_11);
        assert_eq!(response.headers()["content-length"], "23");
        let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(
            octets(response.into_body()).await,
            "https://a.test/page?q=1"
        );
    })
    .await;
}

/// What the server sees of a request, and that the client ends in order.
async fn seen(version: Version, request: http::Request<Whole>) -> (HeaderBlock, bool) {
    let (requests, mut server) = Server::new(version);
    let response = requests.send(request);
    drop(requests);
    let serve = async {
        let stream = server.accept().await;
        let (head, has_body) = (stream.headers().clone(), stream.has_body());
        let (_receive, reply) = stream.split();
        reply.reply(ok(version, &[]), true).unwrap();
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

#[tokio::test]
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

#[tokio::test]
async fn the_target_has_the_form_that_the_request_asks_for() {
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

#[tokio::test]
async fn c152_fields_of_one_connection_stay_behind() {
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

#[tokio::test]
async fn c163_cookies_are_one_line() {
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

#[tokio::test]
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

#[tokio::test]
async fn the_priority_is_that_of_the_request() {
    in_all_versions(async |version| {
        let priority = async |info: axum::Extension<StreamInfo>| info.priority.get().to_string();
        let requests = client_of(version, Router::new().route("/", on_get(priority)));
        let mut request = get("/");
        request.extensions_mut().insert(Priority::new(1).unwrap());
        let response = within(requests.send(request)).await.unwrap();
        assert_eq!(octets(response.into_body()).await, "1");
    })
    .await;
}

#[tokio::test]
async fn a_large_body_goes_there_and_back() {
    in_all_versions(async |version| {
        let requests = client_of(
            version,
            Router::new().route("/", on_post(async |body: axum::body::Body| body)),
        );
        let sent: Bytes = (0..3_000_000_u32)
            .map(|place| (place % 251) as u8)
            .collect();
        let response = within(requests.send(post("/", sent.clone())))
            .await
            .unwrap();
        assert!(octets(response.into_body()).await == sent);
    })
    .await;
}

#[tokio::test]
async fn both_bodies_stream_at_the_same_time() {
    in_all_versions(async |version| {
        let requests = client_of(
            version,
            Router::new().route("/", on_post(async |body: axum::body::Body| body)),
        );
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        let request = http::Request::post("https://a.test/").body(body).unwrap();
        let mut response = within(requests.send(request)).await.unwrap().into_body();
        for word in ["one", "two", "three"] {
            sender.send_data(word.into()).await.unwrap();
            let frame = within(response.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        drop(sender);
        assert!(within(response.frame()).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn c106_c110_trailers_go_both_ways() {
    in_all_versions(async |version| {
        let echo = async |request: Request| {
            let body = request.into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned().unwrap();
            let (mut sender, back) = Channel::<Bytes, BoxError>::new(2);
            sender.send_data(body.to_bytes()).await.unwrap();
            sender.send_trailers(trailers).await.unwrap();
            axum::body::Body::new(back)
        };
        let requests = client_of(version, Router::new().route("/", on_post(echo)));
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(2);
        sender.send_data("body".into()).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        sender.send_trailers(trailers.clone()).await.unwrap();
        let request = http::Request::post("https://a.test/").body(body).unwrap();
        let response = within(requests.send(request)).await.unwrap();
        let body = within(response.into_body().collect()).await.unwrap();
        // A client of SPDY/2 must ignore HEADERS behind DATA.
        let expected = (version != Version::V2).then_some(&trailers);
        assert_eq!(body.trailers(), expected);
        assert_eq!(body.to_bytes(), "body");
    })
    .await;
}

/// The server's answer to GET, and what the client makes of it.
async fn answered(
    version: Version,
    method: Method,
    head: HeaderBlock,
    payload: &'static str,
) -> Result<(http::response::Parts, Bytes), Error> {
    let (requests, mut server) = Server::new(version);
    let mut request = get("/");
    *request.method_mut() = method;
    let response = requests.send(request);
    let (_receive, reply) = server.accept().await.split();
    let mut send = reply.reply(head, false).unwrap();
    send.send_data(payload.into(), false).unwrap();
    match within(response).await {
        Ok(response) => {
            send.finish().unwrap();
            let (head, body) = response.into_parts();
            Ok((head, octets(body).await))
        }
        Err(error) => {
            let end = within(send.closed()).await;
            assert!(
                matches!(
                    end,
                    StreamError::Reset {
                        status: RstStatus::PROTOCOL_ERROR,
                        ..
                    }
                ),
                "{end:?}"
            );
            Err(error)
        }
    }
}

#[tokio::test]
async fn c157_a_wrong_content_length_is_ignored() {
    in_all_versions(async |version| {
        for length in ["3", "30", "x"] {
            let head = ok(version, &[("content-length", length)]);
            let (head, body) = answered(version, Method::GET, head, "12345").await.unwrap();
            assert_eq!(head.headers["content-length"], length);
            assert_eq!(body, "12345");
        }
    })
    .await;
}

#[tokio::test]
async fn the_size_hint_of_a_response_is_what_content_length_says() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        for (method, status, length, hints) in [
            (Method::GET, "200", Some("5"), [Some(5), Some(2), Some(0)]),
            (Method::GET, "404", None, [None, None, Some(0)]),
            (Method::GET, "200", Some("five"), [None, None, Some(0)]),
            // Wrong ones are heeded until they are known to be wrong.
            (Method::GET, "200", Some("2"), [Some(2), None, Some(0)]),
            (
                Method::GET,
                "200",
                Some("30"),
                [Some(30), Some(27), Some(0)],
            ),
            (Method::HEAD, "200", Some("5"), [Some(0); 3]),
            (Method::GET, "204", None, [Some(0); 3]),
            (Method::GET, "304", Some("5"), [Some(0); 3]),
        ] {
            let mut request = get("/");
            *request.method_mut() = method.clone();
            let response = requests.send(request);
            let mut pairs = vec![(":status", status), (":version", "HTTP/1.1")];
            pairs.extend(length.map(|length| ("content-length", length)));
            let (_receive, reply) = server.accept().await.split();
            let mut send = reply.reply(block(version, &pairs), false).unwrap();
            let mut body = within(response).await.unwrap().into_body();
            let what = format!("{method} {status} {length:?}");
            let mut seen = vec![body.size_hint().exact()];
            send.send_data("123".into(), false).unwrap();
            if hints[0] != Some(0) {
                within(body.frame()).await.unwrap().unwrap();
            }
            seen.push(body.size_hint().exact());
            send.send_data("45".into(), true).unwrap();
            within(async { while body.frame().await.is_some() {} }).await;
            seen.push(body.size_hint().exact());
            assert_eq!(seen, hints, "{what}");
        }
    })
    .await;
}

#[tokio::test]
async fn c158_a_head_without_status_or_version_is_reset() {
    in_all_versions(async |version| {
        for pairs in [
            &[(":status", "200")][..],
            &[(":version", "HTTP/1.1")],
            &[],
            &[(":status", ""), (":version", "HTTP/1.1")],
            &[(":status", "20"), (":version", "HTTP/1.1")],
            &[(":status", "2000"), (":version", "HTTP/1.1")],
            &[(":status", "two"), (":version", "HTTP/1.1")],
            &[(":status", "100 Continue"), (":version", "HTTP/1.1")],
            &[(":status", "200\x00404"), (":version", "HTTP/1.1")],
            &[(":status", "200"), (":version", "SPDY/3")],
            &[(":status", "200"), (":version", "HTTP/1.1"), ("a b", "")],
            &[(":status", "200"), (":version", "HTTP/1.1"), ("a", "\x01")],
        ] {
            let head = block(version, pairs);
            let error = answered(version, Method::GET, head, "").await.unwrap_err();
            assert!(matches!(error, Error::Response(_)), "{pairs:?}: {error:?}");
            assert!(!error.is_retry_safe());
        }
    })
    .await;
}

#[tokio::test]
async fn c159_c160_there_is_no_body_where_there_can_be_none() {
    in_all_versions(async |version| {
        for (method, status) in [
            (Method::HEAD, "200"),
            (Method::GET, "204"),
            (Method::GET, "304"),
        ] {
            let head = block(version, &[(":status", status), (":version", "HTTP/1.1")]);
            let (head, body) = answered(version, method, head, "not to be").await.unwrap();
            assert_eq!((head.status.as_str(), &body[..]), (status, &b""[..]));
        }
    })
    .await;
}

#[tokio::test]
async fn c165_a_reason_phrase_is_passed_over() {
    in_all_versions(async |version| {
        for status in ["404", "404 Not Found", "404 "] {
            let head = block(version, &[(":status", status), (":version", "HTTP/1.1")]);
            let (head, _) = answered(version, Method::GET, head, "").await.unwrap();
            assert_eq!(head.status, StatusCode::NOT_FOUND);
        }
    })
    .await;
}

#[tokio::test]
async fn values_of_one_field_are_told_apart_and_unknown_meta_headers_dropped() {
    in_all_versions(async |version| {
        let mut head = ok(
            version,
            &[
                ("set-cookie", "a=1\x00b=2"),
                ("vary", "x\x00y"),
                ("connection", "close"),
            ],
        );
        head.append(":new", "1").unwrap();
        let (head, _) = answered(version, Method::GET, head, "").await.unwrap();
        let all = |name| head.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(all("vary"), ["x", "y"]);
        assert_eq!(head.headers.keys_len(), 2);
    })
    .await;
}

#[tokio::test]
async fn errors_say_whether_to_try_again() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let refused = requests.send(post("/", "body"));
        server.accept().await.refuse(RstStatus::REFUSED_STREAM);
        let error = within(refused).await.unwrap_err();
        assert!(
            error.is_retry_safe() && error.reset_by_peer().is_none(),
            "{error:?}"
        );

        let reset = requests.send(get("/"));
        server.accept().await.refuse(RstStatus::INTERNAL_ERROR);
        let error = within(reset).await.unwrap_err();
        assert_eq!(error.reset_by_peer(), Some(RstStatus::INTERNAL_ERROR));
        assert!(!error.is_retry_safe());

        let cut = requests.send(get("/"));
        let _stream = server.accept().await;
        requests.session().shutdown(Shutdown::Now);
        let error = within(cut).await.unwrap_err();
        assert!(
            matches!(error, Error::Stream(StreamError::Session(_))),
            "{error:?}"
        );
        assert!(!error.is_retry_safe());

        within(server.client).await.unwrap().unwrap();
        let error = within(requests.send(get("/"))).await.unwrap_err();
        assert!(
            matches!(error, Error::NotSent(OpenError::Session(_))),
            "{error:?}"
        );
        assert!(error.is_retry_safe());
    })
    .await;
}

async fn ready(requests: &mut SendRequest) -> Result<(), Error> {
    std::future::poll_fn(|cx| Service::<http::Request<Whole>>::poll_ready(requests, cx)).await
}

#[tokio::test]
async fn after_goaway_a_request_is_not_sent() {
    in_all_versions(async |version| {
        let (mut requests, mut server) = Server::new(version);
        let under_way = requests.send(get("/"));
        let (_receive, reply) = server.accept().await.split();
        assert!(within(ready(&mut requests)).await.is_ok());
        server
            .session
            .shutdown(Shutdown::Graceful { deadline: None });
        while requests.is_ready() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let error = within(ready(&mut requests)).await.unwrap_err();
        assert!(error.is_retry_safe(), "{error:?}");
        let error = within(requests.send(get("/"))).await.unwrap_err();
        assert!(
            matches!(error, Error::NotSent(OpenError::GoingAway)),
            "{error:?}"
        );
        // What was under way is answered.
        reply.reply(ok(version, &[]), true).unwrap();
        assert_eq!(within(under_way).await.unwrap().status(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_session_that_times_out_says_so() {
    let (requests, mut server) = {
        let (near, far) = duplex(1024);
        let mut config = Config::default();
        config.timeouts.keep_alive = Some(Duration::from_millis(10));
        config.timeouts.keep_alive_reply = Duration::from_millis(10);
        let (requests, driver) = client::handshake(near, Version::V3_1, config);
        tokio::spawn(driver);
        (requests, far)
    };
    let error = within(requests.send(get("/"))).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    tokio::io::AsyncWriteExt::shutdown(&mut server)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_body_that_fails_resets_the_stream() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let (sender, body) = Channel::<Bytes, BoxError>::new(1);
        let response = requests.send(http::Request::post("https://a.test/").body(body).unwrap());
        let fail = async {
            let (_receive, reply) = server.accept().await.split();
            sender.abort("out of paper".into());
            reset_of(reply).await
        };
        let (response, status) = tokio::join!(within(response), fail);
        let error = response.unwrap_err();
        assert!(matches!(&error, Error::Body(cause) if cause.to_string() == "out of paper"));
        assert_eq!(status, RstStatus::CANCEL);
    })
    .await;
}

#[tokio::test]
async fn a_future_that_is_dropped_resets_its_stream() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        for request in [get("/"), post("/", "body")] {
            let mut response = requests.send(request);
            assert!(
                tokio::time::timeout(Duration::from_millis(10), &mut response)
                    .await
                    .is_err()
            );
            let (_receive, reply) = server.accept().await.split();
            drop(response);
            assert_eq!(reset_of(reply).await, RstStatus::CANCEL);
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_dropped_resets_its_stream() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let (_sender, body) = Channel::<Bytes, BoxError>::new(1);
        let response = requests.send(http::Request::post("https://a.test/").body(body).unwrap());
        let serve = async {
            let (_receive, reply) = server.accept().await.split();
            reply.reply(ok(version, &[]), false).unwrap()
        };
        let (response, mut send) = tokio::join!(within(response), serve);
        drop(response.unwrap());
        let end = within(send.closed()).await;
        assert!(
            matches!(
                end,
                StreamError::Reset {
                    status: RstStatus::CANCEL,
                    ..
                }
            ),
            "{end:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_response_that_is_cut_is_an_error() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let response = requests.send(get("/"));
        let (_receive, reply) = server.accept().await.split();
        let mut send = reply.reply(ok(version, &[]), false).unwrap();
        send.send_data("half".into(), false).unwrap();
        let mut body = within(response).await.unwrap().into_body();
        let half = within(body.frame()).await.unwrap().unwrap();
        assert_eq!(half.into_data().unwrap(), "half");
        send.reset(RstStatus::INTERNAL_ERROR);
        assert!(within(body.frame()).await.unwrap().is_err());
        assert!(within(body.frame()).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_request_waits_for_a_free_stream() {
    in_all_versions(async |version| {
        let mut config = Config::default();
        config.limits.max_streams = 1;
        let (mut requests, mut server) = Server::with(version, config);
        // The limit is known from the first answer on.
        let first = requests.send(get("/"));
        let (_, reply) = server.accept().await.split();
        reply.reply(ok(version, &[]), true).unwrap();
        within(first).await.unwrap();

        let second = requests.send(get("/2"));
        let stream = server.accept().await;
        ready(&mut requests).await.unwrap();
        let mut third = requests.call(get("/3"));
        assert!(
            tokio::time::timeout(Duration::from_millis(20), &mut third)
                .await
                .is_err()
        );
        for (response, stream) in [(second, Some(stream)), (third, None)] {
            let stream = match stream {
                Some(stream) => stream,
                None => server.accept().await,
            };
            let (_, reply) = stream.split();
            reply.reply(ok(version, &[]), true).unwrap();
            assert_eq!(within(response).await.unwrap().status(), 200);
        }
    })
    .await;
}

/// A body that is always ready, and counts what was taken of it.
struct Endless(Arc<AtomicUsize>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.fetch_add(1000, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1000])))))
    }
}

#[tokio::test]
async fn a_server_that_does_not_read_stops_the_upload() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let taken = Arc::new(AtomicUsize::new(0));
        let request = http::Request::post("https://a.test/")
            .body(Endless(Arc::clone(&taken)))
            .unwrap();
        let response = tokio::spawn(requests.send(request));
        let (mut receive, reply) = server.accept().await.split();
        let mut before = 0;
        while taken.load(Ordering::Relaxed) != before {
            before = taken.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // The window, the queue and the pipe.
        assert!((10_000..600_000).contains(&before), "{before}");
        // An answer does not stop it, and reading goes on.
        let _send = reply.reply(ok(version, &[]), false).unwrap();
        let _response = within(response).await.unwrap().unwrap();
        let mut read = 0;
        while read < 1_000_000 {
            let Some(Ok(Received::Data(octets))) = within(receive.next()).await else {
                panic!("the upload ended")
            };
            read += octets.len();
        }
    })
    .await;
}

#[tokio::test]
async fn an_upload_goes_on_behind_an_early_answer() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        let response = requests.send(http::Request::post("https://a.test/").body(body).unwrap());
        let serve = async {
            let (receive, reply) = server.accept().await.split();
            reply.reply(ok(version, &[]), true).unwrap();
            receive
        };
        let (response, mut receive) = tokio::join!(within(response), serve);
        assert_eq!(octets(response.unwrap().into_body()).await, "");
        sender.send_data("late".into()).await.unwrap();
        drop(sender);
        let Some(Ok(Received::Data(late))) = within(receive.next()).await else {
            panic!("nothing came")
        };
        assert_eq!(late, "late");
        assert!(within(receive.next()).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_an_error_of_the_request() {
    in_all_versions(async |version| {
        let (requests, _server) = Server::new(version);
        for (method, uri) in [
            ("GET", "/no-host"),
            ("GET", "https://user:secret@a.test/"),
            ("CONNECT", "a.test"),
        ] {
            let request = http::Request::builder().method(method).uri(uri);
            let error = within(requests.send(request.body(Empty::<Bytes>::new()).unwrap())).await;
            let error = error.unwrap_err();
            assert!(
                matches!(error, Error::Request(_)),
                "{method} {uri}: {error:?}"
            );
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
#[tokio::test]
async fn meta_headers_of_version_2_cannot_be_disturbed() {
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

#[tokio::test]
async fn many_requests_share_a_session() {
    in_all_versions(async |version| {
        let requests = client_of(
            version,
            Router::new().route("/", any(async |body: Bytes| body)),
        );
        // The server's limit is known from the first answer on.
        within(requests.send(get("/"))).await.unwrap();
        let all = (0..300_u32).map(|number| {
            let response = requests.send(post("/", number.to_string()));
            tokio::spawn(async move { octets(response.await.unwrap().into_body()).await })
        });
        for (number, body) in all.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(within(body).await.unwrap(), number.to_string());
        }
    })
    .await;
}

/// What a server has to say about its limits comes after the first requests of a client that has many.
#[tokio::test]
async fn a_burst_before_the_server_has_spoken_is_not_refused() {
    in_all_versions(async |version| {
        let counters = Arc::new(Counters::default());
        let mut config = Config::default();
        config.counters = Some(Arc::clone(&counters));
        let (near, far) = duplex(1024 * 1024);
        let (requests, driver) = client::handshake(near, version, Config::default());
        tokio::spawn(driver);
        let burst: Vec<_> = (0..150)
            .map(|_| tokio::spawn(requests.send(post("/echo", "body"))))
            .collect();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let router = Router::new().route("/echo", on_post(async |body: Bytes| body));
        let builder = Builder::new().config(config);
        tokio::spawn(builder.serve_connection(far, version, router));
        for response in burst {
            let response = within(response).await.unwrap().unwrap();
            assert_eq!(octets(response.into_body()).await, "body");
        }
        let refused = Count::ResetsSent(RstStatus::REFUSED_STREAM);
        assert_eq!(counters.get(refused), 0);
        assert_eq!(counters.get(Count::StreamsReceived), 150);
    })
    .await;
}
