//! Servers and proxies that break off, never end, or send what was not asked for.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_frame::Version;
use spdy_tower::client::{
    Client, Connector, ConnectorError, FetchError, Plain, Proxy, ReadBody, ReadError,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;

use super::network::{Network, ask, get};

const SECOND: Duration = Duration::from_secs(1);

/// Reads the head of a request. Returns `None` at the end of the connection.
async fn head(io: &mut DuplexStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Waits until the peer closes the connection.
async fn until_closed(mut io: DuplexStream) {
    while let Ok(1..) = io.read(&mut [0; 4096]).await {}
}

/// A body that never ends and always has more.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_request_is_over_although_its_body_always_has_more() {
    let network = Network::new(Duration::ZERO, |mut io, _| async move {
        head(&mut io).await;
        _ = io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while io.write_all(&[b'a'; 1024]).await.is_ok() {}
    });
    let connector = network.connector(Plain::Http1);
    let client = Client::new(connector.request_timeout(Some(30 * SECOND)));
    let mut body = ask(&client, "GET", "/", "").await.unwrap().into_body();
    let began = Instant::now();
    let error = loop {
        match body.frame().await.expect("an endless body") {
            Ok(_) => sleep(SECOND).await,
            Err(error) => break error,
        }
        assert!(began.elapsed() < 60 * SECOND, "it goes on");
    };
    assert!(matches!(error, FetchError::TimedOut(_)), "{error:?}");
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_read_in_time_ends_in_order() {
    let network = Network::new(Duration::ZERO, |mut io, _| async move {
        head(&mut io).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        _ = io.write_all(answer).await;
        until_closed(io).await;
    });
    let connector = network.connector(Plain::Http1);
    let client = Client::new(connector.request_timeout(Some(30 * SECOND)));
    let mut body = ask(&client, "GET", "/", "").await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    sleep(60 * SECOND).await;
    assert!(body.frame().await.is_none());
}

/// A server without SPDY whose page never ends.
#[tokio::test(start_paused = true)]
async fn a_refused_upgrade_does_not_wait_for_the_end_of_the_page() {
    let network = Network::new(Duration::ZERO, |mut io, _| async move {
        let Some(head) = head(&mut io).await else {
            return;
        };
        if head.to_lowercase().contains("upgrade:") {
            _ = io.write_all(b"HTTP/1.1 200 OK\r\n\r\nand so ").await;
            until_closed(io).await;
        } else {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            _ = io.write_all(answer).await;
        }
    });
    let client = network.client(Plain::Upgrade);
    let began = Instant::now();
    assert_eq!(get(&client).await.unwrap(), "ok");
    assert!(began.elapsed() < SECOND);
}

/// A client whose proxy is this network.
fn by_proxy(network: &Network, plain: Plain) -> Client {
    let proxy = Proxy::new(&"http://proxy.test".parse().unwrap()).unwrap();
    let connector = network.connector(plain);
    Client::new(connector.proxies(move |_| Ok(Some(proxy.clone()))))
}

/// What a proxy sends for CONNECT, and whether it then closes the connection.
async fn connect_by(answer: &'static [u8], closes: bool) -> (Result<(), ConnectorError>, u64) {
    let network = Network::new(Duration::ZERO, move |mut io, _| async move {
        head(&mut io).await;
        _ = io.write_all(answer).await;
        if !closes {
            until_closed(io).await;
        }
    });
    let client = by_proxy(&network, Plain::Http1);
    let began = Instant::now();
    let uri = "https://a.test/".parse().unwrap();
    let made = client.connect(&uri).await.map(drop);
    (made, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refuses_is_named_although_its_page_never_ends() {
    let refusals: [&[u8]; 4] = [
        b"HTTP/1.1 407 No\r\n\r\n",
        b"HTTP/1.1 407 No\r\ncontent-length: 99\r\n\r\nN",
        b"HTTP/1.1 407 No\r\ntransfer-encoding: chunked\r\n\r\n1\r\nN",
        b"HTTP/1.1 100 Wait\r\n\r\nHTTP/1.1 103 See\r\n\r\nHTTP/1.1 407 No\r\n\r\n",
    ];
    for refusal in refusals {
        for closes in [false, true] {
            let (made, seconds) = connect_by(refusal, closes).await;
            let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
            assert!(
                matches!(made, Err(ConnectorError::Proxy(found)) if found == status),
                "{made:?}"
            );
            assert_eq!(seconds, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_answers_anything_else_is_an_error() {
    let answers: [&[u8]; 6] = [
        b"",
        b"HTTP/1.1 2",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nNo!",
    ];
    for answer in answers {
        let (made, seconds) = connect_by(answer, true).await;
        let error = made.unwrap_err();
        assert!(matches!(error, ConnectorError::Transport(_)), "{error:?}");
        assert_eq!(seconds, 0, "{error:?}");
        let (made, seconds) = connect_by(answer, false).await;
        assert!(seconds <= 10, "{made:?}");
        made.unwrap_err();
    }
    let (made, _) = connect_by(b"HTTP/1.1 101 Yes\r\n\r\n", false).await;
    assert!(matches!(made, Err(ConnectorError::Proxy(_))), "{made:?}");
}

/// Heads that never end, fast and slowly.
#[tokio::test(start_paused = true)]
async fn a_proxy_whose_head_never_ends_is_given_up() {
    for pause in [Duration::ZERO, SECOND] {
        let network = Network::new(Duration::ZERO, move |mut io, _| async move {
            head(&mut io).await;
            _ = io.write_all(b"HTTP/1.1 200 OK\r\na: ").await;
            while io.write_all(b"a").await.is_ok() {
                if !pause.is_zero() {
                    sleep(pause).await;
                }
            }
        });
        let client = by_proxy(&network, Plain::Http1);
        let began = Instant::now();
        let uri = "https://a.test/".parse().unwrap();
        client.connect(&uri).await.unwrap_err();
        assert!(began.elapsed().as_secs() <= 10);
        sleep(SECOND).await;
        assert_eq!(network.open(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_right_behind_the_answer_of_a_proxy_belong_to_the_tunnel() {
    let network = Network::new(Duration::ZERO, |mut io, _| async move {
        head(&mut io).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n";
        // SETTINGS of SPDY/3 without an entry.
        let frame = b"\x80\x03\0\x04\0\0\0\x04\0\0\0\0";
        _ = io.write_all(&[&head[..], frame].concat()).await;
        let builder = spdy_tower::Builder::new();
        let service = tower::service_fn(async |_: Request<spdy_tower::Body>| {
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
        });
        _ = builder.serve_connection(io, Version::V3, service).await;
    });
    let client = by_proxy(&network, Plain::Spdy(Version::V3));
    assert_eq!(get(&client).await.unwrap(), "ok");
}

/// Serves HTTP/2, and answers with this length, these bytes, END_STREAM or not, and a reset.
async fn cut_short(
    io: DuplexStream,
    announced: Option<u64>,
    bytes: &'static str,
    ends: bool,
    reason: Reason,
) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut response = Response::new(());
        if let Some(length) = announced {
            response
                .headers_mut()
                .insert("content-length", length.into());
        }
        let mut send = respond.send_response(response, false).unwrap();
        if !bytes.is_empty() {
            send.send_data(Bytes::from(bytes), ends).unwrap();
        }
        tokio::spawn(async move {
            sleep(SECOND).await;
            send.send_reset(reason);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_of_http2_that_is_cut_short_is_an_error() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
        for (announced, body) in [(Some(9), ""), (Some(9), "body"), (None, ""), (None, "body")] {
            let network = Network::new(Duration::ZERO, move |io, _| {
                cut_short(io, announced, "part", false, reason)
            });
            let client = network.client(Plain::Http2);
            let response = ask(&client, "POST", "/", body).await.unwrap();
            let read = response.into_body().bytes(99).await;
            let error = read.expect_err(&format!("{reason:?} {announced:?} {body:?}"));
            let ReadError::Body(error) = error else {
                panic!("{error:?}")
            };
            let error = error.downcast::<FetchError>().unwrap();
            let is_disguised = reason == Reason::NO_ERROR;
            assert_eq!(matches!(*error, FetchError::CutShort), is_disguised);
            assert!(error.is_remote() && !error.is_retry_safe() && !error.is_timeout());
            assert!(!error.is_connect());
        }
    }
}

/// After a complete response the server may ask the client to send no more.
#[tokio::test(start_paused = true)]
async fn a_response_of_http2_that_comes_before_the_end_of_its_request_is_whole() {
    // All the announced bytes are enough.
    for (announced, ends) in [(None, true), (Some(4), true), (Some(4), false)] {
        for pause in [Duration::ZERO, 2 * SECOND] {
            let network = Network::new(Duration::ZERO, move |io, _| {
                cut_short(io, announced, "part", ends, Reason::NO_ERROR)
            });
            let client = network.client(Plain::Http2);
            let (_endless, body) = http_body_util::channel::Channel::<Bytes>::new(1);
            let request = Request::post("http://a.test/").body(body).unwrap();
            let response = client.send(request).await.unwrap();
            // The reset may come before the bytes are read.
            sleep(pause).await;
            let read = response.into_body().bytes(99).await;
            assert_eq!(read.unwrap(), "part", "{announced:?} {ends} {pause:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_length_that_a_response_to_head_announces_is_not_that_of_its_body() {
    for plain in [Plain::Http1, Plain::Http2, Plain::Spdy(Version::V3_1)] {
        let network = Network::new(Duration::ZERO, move |mut io, _| async move {
            let response = || {
                let mut response = Response::new(Full::new(Bytes::new()));
                response.headers_mut().insert("content-length", 1000.into());
                response
            };
            match plain {
                Plain::Http2 => {
                    let mut connection = h2::server::handshake(io).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        respond.send_response(response().map(|_| ()), true).unwrap();
                    }
                }
                Plain::Spdy(version) => {
                    let builder = spdy_tower::Builder::new();
                    let service = tower::service_fn(move |_: Request<spdy_tower::Body>| {
                        std::future::ready(Ok::<_, std::convert::Infallible>(response()))
                    });
                    _ = builder.serve_connection(io, version, service).await;
                }
                _ => {
                    head(&mut io).await;
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
                    _ = io.write_all(answer).await;
                    until_closed(io).await;
                }
            }
        });
        let client = network.client(plain);
        let response = ask(&client, "HEAD", "/", "").await.unwrap();
        let body = response.into_body();
        assert_eq!(
            http_body::Body::size_hint(&body).exact(),
            Some(0),
            "{plain:?}"
        );
        assert_eq!(body.bytes(10).await.unwrap(), "", "{plain:?}");
    }
}

/// Without a length, only the end of the connection ends a body.
#[tokio::test]
async fn a_body_that_is_cut_short_under_tls_is_an_error() {
    let (acceptor, trust) = super::acceptor(&["http/1.1"]);
    let server = super::Server::new(move |socket, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut io = acceptor.accept(socket).await.unwrap();
            _ = io.read(&mut [0; 4096]).await;
            _ = io.write_all(b"HTTP/1.1 200 OK\r\n\r\npart").await;
            _ = io.flush().await;
            // The socket is closed without a word of TLS.
            let (mut socket, _) = io.into_inner();
            _ = socket.shutdown().await;
        }
    })
    .await;
    let client = Client::new(Connector::new(trust));
    let response = super::send(&client, &server.uri("https", "/"), "")
        .await
        .unwrap();
    response.into_body().bytes(99).await.unwrap_err();
}

/// A GOAWAY in order that names the request, and then the end of the connection.
#[tokio::test(start_paused = true)]
async fn a_request_that_goaway_names_is_not_repeated_when_its_connection_ends() {
    for (method, most) in [("POST", 1), ("GET", 2)] {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let network = Network::new(Duration::ZERO, move |io, _| {
            let count = Arc::clone(&counted);
            async move {
                let mut connection = h2::server::handshake(io).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if request.uri().path() != "/poison" {
                        let mut send = respond.send_response(Response::new(()), false).unwrap();
                        send.send_data(Bytes::from_static(b"ok"), true).unwrap();
                        continue;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    connection.graceful_shutdown();
                    tokio::select! {
                        _ = connection.accept() => {}
                        () = sleep(SECOND) => {}
                    }
                    return;
                }
            }
        });
        let client = network.client(Plain::Http2);
        assert_eq!(get(&client).await.unwrap(), "ok");
        let poisoned = ask(&client, method, "/poison", "").await;
        let error = poisoned.unwrap_err();
        assert!(!error.is_retry_safe(), "{error:?}");
        assert!(count.load(Ordering::Relaxed) <= most, "{method}");
    }
}

/// Words before the answer are a part of it.
#[tokio::test(start_paused = true)]
async fn a_request_with_an_interim_response_is_not_repeated() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let network = Network::new(Duration::ZERO, move |mut io, _| {
        let count = Arc::clone(&counted);
        async move {
            while let Some(head) = head(&mut io).await {
                if head.contains("/poison") {
                    count.fetch_add(1, Ordering::Relaxed);
                    _ = io.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await;
                    sleep(SECOND).await;
                    return;
                }
                let answer =
                    b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                _ = io.write_all(answer).await;
            }
        }
    });
    let client = network.client(Plain::Http1);
    assert_eq!(get(&client).await.unwrap(), "ok");
    ask(&client, "GET", "/poison", "").await.unwrap_err();
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

/// A second response to one request must not become the response to the next.
#[tokio::test(start_paused = true)]
async fn a_response_without_a_request_answers_nothing() {
    let network = Network::new(Duration::ZERO, |mut io, _| async move {
        while let Some(head) = head(&mut io).await {
            let answer: &[u8] = match head.contains("/twice") {
                true => {
                    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ntwice\
                      HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong"
                }
                false => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            };
            _ = io.write_all(answer).await;
        }
    });
    let client = network.client(Plain::Http1);
    for _ in 0..10 {
        let response = ask(&client, "GET", "/twice", "").await.unwrap();
        assert_eq!(response.into_body().bytes(9).await.unwrap(), "twice");
        if let Ok(body) = get(&client).await {
            assert_eq!(body, "ok");
        }
    }
}

/// Serves this protocol in plain text. `/slow` is answered after a second.
async fn serve(io: DuplexStream, plain: Plain) {
    let slow = async || {
        sleep(SECOND).await;
        "ok"
    };
    let router = axum::Router::new()
        .route("/slow", axum::routing::get(slow))
        .fallback(async || "ok");
    match plain {
        Plain::Http2 => {
            let service =
                hyper::service::service_fn(move |request| router.clone().oneshot(request));
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            _ = builder.serve_connection(TokioIo::new(io), service).await;
        }
        Plain::Spdy(version) => {
            let builder = spdy_tower::Builder::new();
            _ = builder.serve_connection(io, version, router).await;
        }
        _ => super::http1_on(io, router).await,
    }
}

/// A body that panics when it is polled or dropped.
struct Panics {
    polled: bool,
}

impl http_body::Body for Panics {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        assert!(!self.polled, "on purpose: the body panics");
        Poll::Pending
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if !self.polled && !std::thread::panicking() {
            panic!("on purpose: the drop of the body panics");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_ends_no_other_request() {
    for plain in [Plain::Http1, Plain::Http2, Plain::Spdy(Version::V3_1)] {
        for polled in [true, false] {
            let network = Network::new(Duration::ZERO, move |io, _| serve(io, plain));
            let client = network.client(plain);
            assert_eq!(get(&client).await.unwrap(), "ok");
            let (slow, poison) = (client.clone(), client.clone());
            let slow = tokio::spawn(async move {
                let response = ask(&slow, "GET", "/slow", "").await?;
                Ok::<_, FetchError>(response.into_body().bytes(9).await.unwrap())
            });
            sleep(SECOND / 4).await;
            let poisoned = tokio::spawn(async move {
                let request = Request::post("http://a.test/slow").body(Panics { polled });
                _ = timeout(SECOND / 4, poison.send(request.unwrap())).await;
            });
            _ = poisoned.await;
            assert_eq!(slow.await.unwrap().unwrap(), "ok", "{plain:?} {polled}");
            assert_eq!(get(&client).await.unwrap(), "ok", "{plain:?} {polled}");
        }
    }
}
