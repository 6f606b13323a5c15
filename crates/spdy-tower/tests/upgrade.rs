//! HTTP/1.1 Upgrade to SPDY/3.1: an axum handler, asked by a client of our own and by bytes written
//! by hand.

mod support;

use axum::{Router, extract::Request, http::Response, routing::any};
use bytes::BytesMut;
use http::{
    HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, UPGRADE},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use spdy_frame::{
    Data, DecodeLimits, Decoder, Frame, HeaderBlock, HeaderCompression, HeaderEncoder, Priority,
    StreamId, SynStream, Version,
};
use spdy_session::{Config, OpenOptions, Received, Session};
use spdy_tower::{
    Builder,
    upgrade::{self, ConnectError, UpgradeError},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tower::ServiceExt;

use self::support::{Client, within};

/// Answers every stream with an empty header block and what it brings.
async fn echo(mut request: Request) -> Response<String> {
    let (mut response, upgraded) = match upgrade::accept(&mut request) {
        Ok(accepted) => accepted,
        Err(error) => return error.into_response(),
    };
    let protocol = request.headers().get("x-stream-protocol-version").cloned();
    if let Some(protocol) = protocol {
        response
            .headers_mut()
            .insert("x-stream-protocol-version", protocol);
    }
    tokio::spawn(async move {
        let (session, mut incoming, driver) = upgraded.server(upgrade::config()).await.unwrap();
        tokio::spawn(driver);
        while let Some(stream) = incoming.accept().await {
            tokio::spawn(async move {
                let mut stream = stream.send_reply(HeaderBlock::new()).unwrap();
                let (mut receive, mut send) = tokio::io::split(&mut stream);
                tokio::io::copy(&mut receive, &mut send).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
        drop(session);
    });
    response
}

/// An HTTP/1.1 server for one connection.
fn serve(router: Router) -> DuplexStream {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let service = service_fn(move |request| router.clone().oneshot(request));
        http1::Builder::new()
            .serve_connection(TokioIo::new(far), service)
            .with_upgrades()
            .await
    });
    near
}

fn echoing() -> DuplexStream {
    serve(Router::new().route("/", any(echo)))
}

fn ask() -> http::Request<()> {
    upgrade::request(&"http://a.test/".parse().unwrap())
}

fn begin(transport: upgrade::Upgraded) -> Session {
    let (session, _, driver) = spdy_session::client(transport, Version::V3_1, upgrade::config());
    tokio::spawn(driver);
    session
}

/// Sends `bytes` on a new stream, and returns what comes back.
async fn exchange(session: &Session, headers: HeaderBlock, bytes: Vec<u8>) -> Vec<u8> {
    let mut stream = within(session.open(headers, OpenOptions::default()))
        .await
        .unwrap();
    let reply = within(stream.response_headers()).await.unwrap();
    assert!(reply.is_empty(), "{reply:?}");
    let (mut receive, mut send) = stream.split();
    let sending = async {
        send.write_all(&bytes).await.unwrap();
        send.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let receiving = async {
        receive.read_to_end(&mut back).await.unwrap();
    };
    within(async { tokio::join!(sending, receiving) }).await;
    back
}

#[tokio::test(start_paused = true)]
async fn c010_a_handler_of_axum_upgrades() {
    let mut request = ask();
    request.headers_mut().insert(
        "x-stream-protocol-version",
        HeaderValue::from_static("v4.channel.k8s.io"),
    );
    *request.method_mut() = http::Method::POST;
    let (response, transport) = within(upgrade::connect(echoing(), request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()[CONNECTION], "Upgrade");
    assert_eq!(response.headers()[UPGRADE], "SPDY/3.1");
    assert_eq!(
        response.headers()["x-stream-protocol-version"],
        "v4.channel.k8s.io"
    );
    let session = begin(transport);
    assert_eq!(
        exchange(&session, HeaderBlock::new(), b"hello".to_vec()).await,
        b"hello"
    );
}

#[tokio::test(start_paused = true)]
async fn c010_tokens_are_compared_without_case_and_beside_other_tokens() {
    for (connection, upgrade) in [
        ("Upgrade", "SPDY/3.1"),
        ("keep-alive, UPGRADE", "websocket, spdy/3.1"),
        ("upgrade", "Spdy/3.1"),
    ] {
        let mut request = http::Request::new(());
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static(connection));
        headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        // It was asked for: only the connection is missing here.
        assert_eq!(
            upgrade::accept(&mut request).unwrap_err(),
            UpgradeError::NotPossible
        );
    }
}

/// A request head, and behind it in the same write a whole stream.
#[tokio::test(start_paused = true)]
async fn c011_frames_behind_the_head_in_the_same_segment_are_processed() {
    let mut io = echoing();
    let mut bytes = BytesMut::from(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
    );
    frames(&mut bytes);
    io.write_all(&bytes).await.unwrap();

    let mut unread = BytesMut::new();
    let head = loop {
        within(io.read_buf(&mut unread)).await.unwrap();
        if let Some(end) = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break unread.split_to(end + 4);
        }
    };
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
    assert_eq!(echoed(&mut io, unread).await, b"first");
}

/// A stream with `first` as its payload.
fn frames(bytes: &mut BytesMut) {
    let mut encoder = HeaderEncoder::new(Version::V3_1, HeaderCompression::default());
    let headers = HeaderBlock::new();
    let open = SynStream {
        stream: StreamId::new(1).unwrap(),
        associated: None,
        priority: Priority::default(),
        fin: false,
        unidirectional: false,
        block: &headers,
    };
    encoder.encode_syn_stream(&open, bytes).unwrap();
    bytes.extend_from_slice(&[0, 0, 0, 1, 1, 0, 0, 5]);
    bytes.extend_from_slice(b"first");
}

/// The payload that comes back on stream 1.
async fn echoed(io: &mut DuplexStream, mut unread: BytesMut) -> Vec<u8> {
    let mut decoder = Decoder::new(Version::V3_1, DecodeLimits::default());
    let mut payload = Vec::new();
    loop {
        match decoder.decode(&mut unread).unwrap() {
            Some(Frame::Data(Data {
                payload: bytes,
                fin,
                ..
            })) => {
                payload.extend_from_slice(&bytes);
                if fin {
                    return payload;
                }
            }
            Some(_) => {}
            None => assert!(within(io.read_buf(&mut unread)).await.unwrap() > 0),
        }
    }
}

/// The same from the other side: frames behind the head of the answer.
#[tokio::test(start_paused = true)]
async fn c011_frames_behind_the_head_of_the_answer_are_processed() {
    let (near, mut far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut request = BytesMut::new();
        while !request.ends_with(b"\r\n\r\n") {
            far.read_buf(&mut request).await.unwrap();
        }
        let mut bytes = BytesMut::from(
            "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: spdy/3.1\r\n\r\n",
        );
        // A PING of the server.
        bytes.extend_from_slice(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]);
        far.write_all(&bytes).await.unwrap();
        std::future::pending::<()>().await;
    });
    let (_, mut transport) = within(upgrade::connect(near, ask())).await.unwrap();
    let mut ping = [0; 12];
    within(transport.read_exact(&mut ping)).await.unwrap();
    assert_eq!(ping, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn c012_a_request_that_asks_for_something_else_is_400() {
    for (connection, other) in [
        (Some("Upgrade"), Some("websocket")),
        (Some("Upgrade"), Some("spdy/3")),
        (Some("Upgrade"), Some("spdy/3.11")),
        (Some("Upgrade"), None),
        (Some("close"), Some("spdy/3.1")),
        (None, Some("spdy/3.1")),
        (None, None),
    ] {
        let mut request = ask();
        let headers = request.headers_mut();
        headers.clear();
        headers.insert("host", HeaderValue::from_static("a.test"));
        if let Some(connection) = connection {
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
        }
        if let Some(other) = other {
            headers.insert(UPGRADE, HeaderValue::from_static(other));
        }
        let refused = within(upgrade::connect(echoing(), request))
            .await
            .unwrap_err();
        let ConnectError::Refused(response) = refused else {
            panic!("{refused}")
        };
        assert_eq!(
            response.status(),
            StatusCode::BAD_REQUEST,
            "{connection:?} {other:?}"
        );
        assert_eq!(
            response.body(),
            "request does not ask to upgrade to SPDY/3.1\n"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c012_a_request_with_a_body_is_400() {
    let mut io = echoing();
    let request = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                   Content-Length: 5\r\n\r\nfirst";
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within(io.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

/// Neither side announces windows, and 300,000 bytes pass each way.
#[tokio::test(start_paused = true)]
async fn c013_c014_an_upgraded_session_has_no_windows() {
    let (_, transport) = within(upgrade::connect(echoing(), ask())).await.unwrap();
    let session = begin(transport);
    let sent: Vec<u8> = (0..300_000_u32).map(|place| (place % 251) as u8).collect();
    assert!(exchange(&session, HeaderBlock::new(), sent.clone()).await == sent);
}

#[tokio::test(start_paused = true)]
async fn c166_streams_need_no_meta_headers() {
    let (_, transport) = within(upgrade::connect(echoing(), ask())).await.unwrap();
    let session = begin(transport);
    let headers = HeaderBlock::from_pairs([("streamtype", "stdin")]).unwrap();
    assert_eq!(exchange(&session, headers, b"ls".to_vec()).await, b"ls");
}

#[tokio::test(start_paused = true)]
async fn a_second_upgrade_is_refused() {
    let twice = async |mut request: Request| {
        let (response, _upgraded) = upgrade::accept(&mut request).unwrap();
        match upgrade::accept(&mut request) {
            Ok(_) => response,
            Err(error) => error.into_response(),
        }
    };
    let io = serve(Router::new().route("/", any(twice)));
    let refused = within(upgrade::connect(io, ask())).await.unwrap_err();
    let ConnectError::Refused(response) = refused else {
        panic!("{refused}")
    };
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

/// A client that does not wait for the first answer: what it sends is read as frames, and is
/// invalid.
#[tokio::test(start_paused = true)]
async fn a_second_upgrade_behind_the_first_gets_no_answer() {
    let mut io = echoing();
    let request =
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
    io.write_all(request.repeat(2).as_bytes()).await.unwrap();
    io.shutdown().await.unwrap();
    let mut answer = Vec::new();
    within(io.read_to_end(&mut answer)).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
}

/// A request over SPDY cannot be upgraded: its transport is not its own.
#[tokio::test(start_paused = true)]
async fn a_request_over_spdy_is_not_upgraded() {
    let client = Client::of(Version::V3_1, Router::new().route("/", any(echo)));
    let mut head = client.head("GET", "/");
    head.append("upgrade", "SPDY/3.1").unwrap();
    head.append("connection", "upgrade").unwrap();
    let (receive, _send) = client.open(head, true).await;
    assert_eq!(support::Reply::read(receive).await.unwrap().status(), 400);
}

#[tokio::test(start_paused = true)]
async fn http_may_be_served_over_an_upgraded_transport() {
    let serve_http = async |mut request: Request| {
        let (response, upgraded) = upgrade::accept(&mut request).unwrap();
        tokio::spawn(async move {
            let router = Router::new().route("/page", any(async || "page"));
            let transport = upgraded.await.unwrap();
            Builder::new()
                .serve_connection(transport, Version::V3_1, router)
                .await
        });
        response
    };
    let io = serve(Router::new().route("/", any(serve_http)));
    let (_, transport) = within(upgrade::connect(io, ask())).await.unwrap();
    let (session, _, driver) = spdy_session::client(transport, Version::V3_1, Config::default());
    tokio::spawn(driver);
    let how = OpenOptions::new().fin(true);
    let head = support::head(Version::V3_1, "GET", "/page");
    let (mut receive, _send) = within(session.open(head, how)).await.unwrap().split();
    assert_eq!(
        support::status(&within(receive.response_headers()).await.unwrap()),
        200
    );
    let Some(Ok(Received::Data(bytes))) = within(receive.next()).await else {
        panic!("no page")
    };
    assert_eq!(bytes, "page");
}

/// A server that reads a request head, says `answer` and hangs up.
fn answering(answer: &'static str) -> DuplexStream {
    let (near, mut far) = duplex(4096);
    tokio::spawn(async move {
        let mut request = BytesMut::new();
        while !request.ends_with(b"\r\n\r\n") {
            far.read_buf(&mut request).await.unwrap();
        }
        far.write_all(answer.as_bytes()).await.unwrap();
    });
    near
}

#[tokio::test(start_paused = true)]
async fn a_response_to_an_upgrade_that_is_cut_or_garbled_is_an_error() {
    for answer in ["", "HTTP/1.1 101 Sw", "SPDY\r\n\r\n"] {
        let result = within(upgrade::connect(answering(answer), ask())).await;
        let error = result.unwrap_err();
        assert!(
            matches!(error, ConnectError::Transport(_)),
            "{answer}: {error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_101_without_the_fields_of_spdy_is_refused() {
    for (answer, other) in [
        (
            "HTTP/1.1 101 A\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nxx",
            Some("websocket"),
        ),
        ("HTTP/1.1 101 A\r\n\r\n", None),
    ] {
        let error = within(upgrade::connect(answering(answer), ask()))
            .await
            .unwrap_err();
        let ConnectError::Refused(response) = error else {
            panic!("{error}")
        };
        let named = response
            .headers()
            .get(UPGRADE)
            .map(|named| named.to_str().unwrap());
        assert_eq!(named, other);
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_of_a_refusal_is_cut_at_the_limit() {
    let forbidden = async || (StatusCode::FORBIDDEN, "x".repeat(upgrade::MAX_REFUSAL + 1));
    let io = serve(Router::new().route("/", any(forbidden)));
    let error = within(upgrade::connect(io, ask())).await.unwrap_err();
    let ConnectError::Refused(response) = error else {
        panic!("{error}")
    };
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.body().len(), upgrade::MAX_REFUSAL);
}
