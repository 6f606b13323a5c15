//! `spdy` with other servers than `spdy-server`: servers without SPDY, servers with HTTP/1.1
//! Upgrade, and servers that fail.

mod common;

use std::{
    future::pending,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response, routing::any};
use bytes::Bytes;
use http_body::Frame;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use spdy_frame::{HeaderBlock, Version};
use spdy_tower::{
    Builder,
    session::{self, Shutdown},
    upgrade,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::{Sleep, sleep},
};

use self::common::{Running, Site, run, spdy, tls};

/// Starts a TLS server without SPDY that supports these ALPN protocols. Returns its URL and task.
async fn without_spdy(alpn: &'static [&str]) -> (String, JoinHandle<()>) {
    let (acceptor, _) = tls(alpn);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // The handshake fails if the client offers only SPDY.
                let Ok(io) = acceptor.accept(io).await else {
                    return;
                };
                let is_h2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
                let answer = service_fn(|_: hyper::Request<hyper::body::Incoming>| async {
                    Ok::<_, io::Error>(Response::new("no SPDY here\n".to_owned()))
                });
                let io = TokioIo::new(io);
                _ = if is_h2 {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.serve_connection(io, answer).await
                } else {
                    let builder = hyper::server::conn::http1::Builder::new();
                    builder.serve_connection(io, answer).await
                };
            });
        }
    });
    (url, task)
}

#[tokio::test]
async fn get_falls_back_to_http_unless_a_version_is_required() {
    for (alpn, title) in [
        (&["h2", "http/1.1"][..], "HTTP/2 200 OK"),
        (&["http/1.1"], "HTTP/1.1 200 OK"),
        (&[], "HTTP/1.1 200 OK"),
    ] {
        let (url, server) = without_spdy(alpn).await;
        // HTTP/1.1 sends the two requests one after the other.
        let text = run(&["get", "-ki", &url, &url]).await.success();
        assert_eq!(text.matches(title).count(), 2, "{text}");
        assert_eq!(text.matches("no SPDY here\n").count(), 2, "{text}");
        let ran = run(&["get", "-kv", "-H", "x-a: b", &url]).await;
        let protocol = if title.starts_with("HTTP/2") {
            "h2"
        } else {
            "http/1.1"
        };
        for shown in [
            format!("* server has chosen protocol={protocol} "),
            format!("> {protocol} GET "),
            " x-a: b\n".to_owned(),
            format!("< {protocol} 200 OK\n"),
            " content-length: 13\n".to_owned(),
        ] {
            assert!(ran.stderr.contains(&shown), "{shown}: {}", ran.stderr);
        }

        let ran = run(&["get", "-k", "--version", "3.1", &url]).await;
        assert!(
            ran.failure(3).contains(
                " does not support spdy/3.1: try --http2 or --http1, or leave out --version"
            ),
            "{ran:?}"
        );
        for command in ["ping", "load"] {
            let ran = run(&[command, "-k", &url]).await;
            let said = ran.failure(3);
            assert!(
                said.contains(" does not support spdy/3.1, spdy/3, spdy/2: "),
                "{said}"
            );
        }
        server.abort();
    }
}

#[tokio::test]
async fn upgrade_speaks_spdy_after_http1() {
    let app = Router::new().fallback(any(async |mut request: Request| {
        let (response, upgraded) = match upgrade::accept(&mut request) {
            Ok(accepted) => accepted,
            Err(error) => return error.into_response().map(Body::from),
        };
        tokio::spawn(async move {
            let io = upgraded.await?;
            let site = spdy_server::app::site();
            let session = Builder::new().serve_connection(io, Version::V3_1, site);
            session.await.map_err(io::Error::other)
        });
        response.map(Body::from)
    }));
    let server = Running::start(app).await;
    let url = format!("http://{}/bytes/1000000", server.address);
    for flags in [&[][..], &["--version", "3.1"]] {
        let ran = run(&[&["get", "--upgrade", "--json"], flags, &[&url]].concat()).await;
        assert_eq!((ran.code, &*ran.stderr), (0, ""));
        let told = &ran.json()[0];
        assert_eq!(told["protocol"], "spdy/3.1");
        assert_eq!(told["bytes"], 1_000_000);
    }
    let ran = run(&["get", "--upgrade", "-v", "-o", "/dev/null", &url]).await;
    let upgraded = "* upgraded protocol=spdy/3.1\n";
    let (before, after) = ran.stderr.split_once(upgraded).unwrap();
    assert!(before.contains("* connected to "), "{before}");
    assert!(after.contains("> SYN_STREAM stream=1 "), "{after}");
    let text = run(&["ping", "--upgrade", "-n", "1", &url]).await.success();
    assert!(text.contains("spdy/3.1, 1 round trips"), "{text}");
    assert_eq!(server.end().await.cut, 0);
}

/// The built-in site does not upgrade to SPDY/3.1.
#[test]
fn a_refused_upgrade_falls_back_unless_a_version_is_required() {
    let site = Site::start("upgrade");
    for url in [site.http("/hello"), site.https("/hello")] {
        let text = spdy(&["get", "-ki", "--upgrade", &url]).success();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        let ran = spdy(&["get", "-k", "--upgrade", "--version", "3.1", &url]);
        let said = ran.failure(3);
        let why = " does not upgrade to SPDY/3.1: leave out --upgrade, or try --http1";
        assert!(said.ends_with(why), "{said}");
        let ran = spdy(&["load", "-k", "--upgrade", &url]);
        assert!(ran.failure(3).ends_with(why), "{ran:?}");
        let ran = spdy(&["ping", "-k", "--upgrade", &url]);
        let said = ran.failure(3);
        let why = " does not upgrade to SPDY/3.1: PING is a frame of SPDY, so try a server that has \
                   it, or leave out --upgrade";
        assert!(said.ends_with(why), "{said}");
        let ran = spdy(&["get", "-kv", "--upgrade", &url]);
        let why = "* server does not upgrade status=200\n";
        assert!(ran.stderr.contains(why), "{ran:?}");
    }
}

/// GOAWAY announces that a server stops. The client sends a request again if the server has
/// certainly not processed it.
#[tokio::test]
async fn a_request_that_was_certainly_not_processed_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hello", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let config = session::Config::default();
        let (ending, incoming, driver) = session::server(io, Version::V3_1, config);
        ending.shutdown(Shutdown::Graceful { deadline: None });
        drop((ending, incoming));
        driver.await.unwrap();
        let (io, _) = listener.accept().await.unwrap();
        let site = spdy_server::app::site();
        let session = Builder::new().serve_connection(io, Version::V3_1, site);
        session.await.unwrap();
    });
    assert_eq!(run(&["get", &url]).await.success().len(), 100);
    server.await.unwrap();
}

/// A load balancer may answer in another protocol while its server restarts. The server
/// has spoken the right one before, so another attempt is worth it.
#[tokio::test]
async fn a_server_that_has_answered_is_asked_again_after_another_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let redirect = any(async || {
            let response = Response::builder().status(302).header("location", "/next");
            response.body(Body::empty()).unwrap()
        });
        let app = Router::new().route("/", redirect);
        let lost = Arc::new(Notify::new());
        let loses = Arc::clone(&lost);
        let next = any(async move || {
            loses.notify_one();
            pending::<()>().await;
        });
        let first = app.clone().route("/next", next);
        let (io, _) = listener.accept().await.unwrap();
        tokio::select! {
            _ = Builder::new().serve_connection(io, Version::V3_1, first) => return,
            () = lost.notified() => {}
        }
        let (mut io, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        // The client must have sent its request: otherwise it connects again by itself.
        let mut got = Vec::new();
        while !got.windows(4).any(|bytes| bytes == SYN_STREAM) {
            assert!(io.read_buf(&mut got).await.unwrap() > 0);
        }
        io.write_all(answer).await.unwrap();
        drop(io);
        let app = app.route("/next", any(async || "here\n"));
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let session = Builder::new().serve_connection(io, Version::V3_1, app.clone());
            _ = session.await;
        }
    });
    let words = ["get", "-L", "--retry", "2", "--retry-delay", "1ms", &url];
    let ran = run(&words).await;
    assert_eq!((ran.code, &*ran.stdout), (0, &b"here\n"[..]), "{ran:?}");
    let why = "the server speaks HTTP/1.1 and not ";
    assert!(ran.stderr.contains(why), "{ran:?}");
    server.abort();
}

/// How a request begins in SPDY/3.1.
const SYN_STREAM: [u8; 4] = [0x80, 3, 0, 1];

/// A body that fails 100 ms after its first piece.
#[derive(Default)]
struct Broken(Option<Pin<Box<Sleep>>>);

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(end) = &mut self.0 else {
            self.0 = Some(Box::pin(sleep(Duration::from_millis(100))));
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"beginning")))));
        };
        ready!(end.as_mut().poll(cx));
        Poll::Ready(Some(Err(io::Error::other("broken"))))
    }
}

/// A server that ends each connection in order after some requests gets the others over new ones.
/// Every request is answered, whether it was sent by the handles of a session or by the client.
#[tokio::test]
async fn load_goes_on_over_new_connections() {
    for flags in [&["--version", "3.1"][..], &["--version", "2"], &["--h2"]] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let version = match flags {
            [_, "2"] => Some(Version::V2),
            [_, _] => Some(Version::V3_1),
            _ => None,
        };
        let server = tokio::spawn(async move {
            loop {
                let (io, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(ten_requests(io, version));
            }
        });
        for more in [&[][..], &["-H", "cookie: a=b"]] {
            let before = connections.load(Ordering::Relaxed);
            let usual = ["load", "-m", "4", "-n", "100", "--json", &url];
            let ran = run(&[&usual[..], flags, more].concat()).await;
            let told = &ran.json()[0];
            assert_eq!(told["statuses"]["2xx"], 100, "{told}");
            assert_eq!((ran.code, &*ran.stderr), (0, ""));
            // A connection may serve a few more than ten, which were sent before it said that it
            // ends.
            let connections = connections.load(Ordering::Relaxed) - before;
            assert!((5..=12).contains(&connections), "{connections}: {flags:?}");
        }
        server.abort();
    }
}

/// Serves a connection of SPDY, or of HTTP/2 without a version, and ends it after ten requests.
async fn ten_requests(io: TcpStream, version: Option<Version>) {
    let (served, end) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let (served, tenth) = (Arc::new(served), Arc::clone(&end));
    let app = Router::new().fallback(any(async move || {
        if served.fetch_add(1, Ordering::Relaxed) == 9 {
            tenth.notify_one();
        }
    }));
    if let Some(version) = version {
        let mut connection = pin!(Builder::new().serve_connection(io, version, app));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = end.notified() => {}
        }
        connection.as_mut().graceful_shutdown();
        _ = connection.await;
    } else {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let app = TowerToHyperService::new(app);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io), app));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = end.notified() => {}
        }
        connection.as_mut().graceful_shutdown();
        _ = connection.await;
    }
}

#[tokio::test]
async fn an_incomplete_response_is_a_failure() {
    let app = Router::new().fallback(any(async || Response::new(Body::new(Broken::default()))));
    let server = Running::start(app).await;
    let url = format!("http://{}/", server.address);
    for flags in [
        &["--version", "2"][..],
        &["--version", "3.1"],
        &["--http1"],
        &["--http2"],
    ] {
        let ran = run(&[&["get"], flags, &[&url]].concat()).await;
        assert!(
            ran.failure(1)
                .contains("incomplete response after 9 bytes: "),
            "{ran:?}"
        );
        assert_eq!(ran.stdout, b"beginning");
    }
    assert_eq!(server.end().await.cut, 0);
}

/// RFC 9112, section 6.3.
#[tokio::test]
async fn a_length_beside_chunks_counts_for_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        _ = io.read(&mut [0; 4096]).await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = format!("{head}4\r\nhere\r\n0\r\n\r\n");
        io.write_all(answer.as_bytes()).await.unwrap();
        while let Ok(1..) = io.read(&mut [0; 4096]).await {}
    });
    assert_eq!(run(&["get", "--http1", &url]).await.success(), "here");
    server.await.unwrap();
}

/// A response that ends before the length in its head is not complete, although the stream or the
/// connection ends in order; nor is one whose TLS connection is cut.
#[tokio::test]
async fn a_response_that_is_too_short_is_a_failure() {
    for version in [Version::V2, Version::V3, Version::V3_1] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (io, _) = listener.accept().await.unwrap();
            let (_session, mut incoming, driver) =
                session::server(io, version, session::Config::default());
            tokio::spawn(driver);
            let stream = incoming.accept().await.unwrap();
            let names = match version {
                Version::V2 => ["status", "version"],
                _ => [":status", ":version"],
            };
            let head = names.into_iter().zip(["200 OK", "HTTP/1.1"]);
            let head = head.chain([("content-length", "20")]);
            let (_receive, reply) = stream.split();
            let head = HeaderBlock::from_pairs(head).unwrap();
            let mut send = reply.send_reply(head, false).unwrap();
            send.send_data(Bytes::from_static(b"beginning"), true)
                .unwrap();
            pending::<()>().await;
        });
        let ran = run(&[
            "get",
            "--version",
            &version.to_string().replace("SPDY/", ""),
            &url,
        ])
        .await;
        let said = ran.failure(1);
        assert!(
            said.contains("incomplete response after 9 of 20 bytes: "),
            "{said}"
        );
        server.abort();
    }
    for head in ["content-length: 20\r\n", "connection: close\r\n"] {
        let (url, server) = raw_tls(format!("HTTP/1.1 200 OK\r\n{head}\r\nbeginning")).await;
        let ran = run(&["get", "-k", "--http1", &url]).await;
        let said = ran.failure(1);
        assert!(said.contains("incomplete response after 9 "), "{said}");
        server.abort();
    }
}

/// Starts a TLS server that answers each connection with these bytes, and cuts it.
async fn raw_tls(answer: String) -> (String, JoinHandle<()>) {
    let (acceptor, _) = tls(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let mut io = acceptor.accept(io).await.unwrap();
            _ = io.read(&mut [0; 4096]).await;
            io.write_all(answer.as_bytes()).await.unwrap();
            io.flush().await.unwrap();
        }
    });
    (url, task)
}
