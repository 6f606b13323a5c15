//! Each protocol of the client with each protocol of a server that speaks only that one: what is
//! wrong, and what to try.

mod common;

use std::{convert::Infallible, net::SocketAddr};

use axum::response::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_frame::Version;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use self::common::{run, tls};

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Spdy(Version),
    Http2,
    Http1,
    /// HTTP/1.1 by a server that closes the connection of a request that it cannot read.
    Http1WithoutWords,
    /// HTTP/1.1 by a server that answers a request that it cannot read in HTTP/0.9, as that of
    /// Python does.
    Http1WithPage,
    Tls,
    /// No protocol that the client knows.
    Ssh,
}

/// A server in plain text that speaks one protocol and knows no other.
async fn server(speaks: Speaks) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (acceptor, _) = tls(&[]);
    tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match speaks {
                    // The client has only an alert of it.
                    Speaks::Tls => _ = acceptor.accept(io).await.map(drop),
                    speaks => serve(io, speaks).await,
                }
            });
        }
    });
    address
}

async fn serve<IO>(io: IO, speaks: Speaks)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(|_: hyper::Request<hyper::body::Incoming>| async {
        Ok::<_, Infallible>(Response::new("here\n".to_owned()))
    });
    match speaks {
        Speaks::Spdy(version) => {
            let app = axum::Router::new().fallback(async || "here\n");
            let builder = spdy_tower::Builder::new();
            _ = builder.serve_connection(io, version, app).await;
        }
        Speaks::Http2 => {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            _ = builder.serve_connection(TokioIo::new(io), answer).await;
        }
        Speaks::Http1 => http1(io, REFUSAL).await,
        Speaks::Ssh => say(io, b"SSH-2.0-OpenSSH_9.6\r\n").await,
        Speaks::Http1WithPage => http1(io, b"<!DOCTYPE HTML>\n<html lang=\"en\"></html>\n").await,
        Speaks::Http1WithoutWords | Speaks::Tls => {
            let builder = hyper::server::conn::http1::Builder::new();
            _ = builder.serve_connection(TokioIo::new(io), answer).await;
        }
    }
}

const REFUSAL: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Answers one request, or refuses it if it cannot read it.
async fn http1<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO, refusal: &[u8]) {
    let mut request = [0; 4096];
    let bytes = io.read(&mut request).await.unwrap_or(0);
    let first = request[..bytes].split(|byte| *byte == b'\r').next();
    let answer: &[u8] = match first.is_some_and(|line| line.ends_with(b" HTTP/1.1")) {
        true => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhere\n",
        false => refusal,
    };
    say(io, answer).await;
}

async fn say<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO, words: &[u8]) {
    _ = io.write_all(words).await;
    _ = io.shutdown().await;
    while let Ok(1..) = io.read(&mut [0; 4096]).await {}
}

const SPEAKS: [(Speaks, &str); 9] = [
    (Speaks::Spdy(Version::V3_1), "SPDY/3 "),
    (Speaks::Spdy(Version::V3), "SPDY/3 "),
    (Speaks::Spdy(Version::V2), "SPDY/2 "),
    (Speaks::Http2, "HTTP/2 "),
    (Speaks::Http1, "HTTP/1.1 "),
    (Speaks::Http1WithoutWords, "HTTP/1.1 "),
    (Speaks::Http1WithPage, "HTTP/1.1 "),
    (Speaks::Tls, "TLS "),
    (Speaks::Ssh, "something else "),
];

/// The flags of each protocol, its name, and what it understands.
const FLAGS: [(&[&str], &str, &[&str]); 6] = [
    (&["--version", "3.1"], "SPDY/3.1", &["SPDY/3 "]),
    (&["--version", "3"], "SPDY/3", &["SPDY/3 "]),
    (&["--version", "2"], "SPDY/2", &["SPDY/2 "]),
    (&["--http2"], "HTTP/2", &["HTTP/2 "]),
    (&["--http1"], "HTTP/1.1", &["HTTP/1.1 "]),
    (&["--upgrade"], "HTTP/1.1", &["HTTP/1.1 "]),
];

fn cure(name: &str) -> &str {
    match name {
        "SPDY/3 " => "try --version 3.1, or --version 3",
        "SPDY/2 " => "try --version 2",
        "HTTP/2 " => "try --http2",
        "HTTP/1.1 " => "try --http1",
        "something else " => "check the port",
        _ => "try https://",
    }
}

#[tokio::test]
async fn in_plain_text_each_pair_that_does_not_fit_is_one_sentence_with_the_cure() {
    for (speaks, name) in SPEAKS {
        let url = format!("http://{}/", server(speaks).await);
        for (flags, wanted, understood) in FLAGS {
            let ran = run(&[&["get", "--json"], flags, &[&url]].concat()).await;
            if understood.contains(&name) {
                assert_eq!((ran.code, &*ran.stderr), (0, ""), "{speaks:?} {flags:?}");
                continue;
            }
            let what = format!("{speaks:?} {flags:?}: {ran:?}");
            assert!([1, 3].contains(&ran.code), "{what}");
            assert_eq!(ran.stderr.lines().count(), 1, "{what}");
            let why = match (speaks, ran.stderr.contains("has sent nothing")) {
                // The end of a connection can overtake the last words of the server.
                (Speaks::Http1WithoutWords | Speaks::Tls, true) => format!(
                    "the server has sent nothing, so it might not speak {wanted} without TLS: try \
                     --http1 or https://"
                ),
                _ => format!("the server speaks {name}and not {wanted}: {}", cure(name)),
            };
            assert!(ran.stderr.trim_end().ends_with(&why), "{what}");
            let told = ran.json().remove(0);
            assert!(told["error"].as_str().unwrap().ends_with(&why), "{what}");
        }
    }
}

#[tokio::test]
async fn load_names_the_cure_too() {
    for (speaks, flags, cure) in [
        (Speaks::Http1, &["--h2"][..], "try --http1"),
        (Speaks::Http1WithoutWords, &["--h2"], "try --http1"),
        (Speaks::Http1WithPage, &["--h2"], "try --http1"),
        (Speaks::Http1WithPage, &[], "try --http1"),
        (Speaks::Http2, &["--http1"], "try --http2"),
        (Speaks::Http1, &["--version", "3"], "try --http1"),
        (Speaks::Spdy(Version::V2), &["--h2"], "try --version 2"),
        (Speaks::Ssh, &["--h2"], "check the port"),
    ] {
        let url = format!("http://{}/", server(speaks).await);
        let words = ["-n", "1", "--json", "--connect-timeout", "1", &url];
        let ran = run(&[&["load"], flags, &words].concat()).await;
        let text = String::from_utf8(ran.stdout.clone()).unwrap() + &ran.stderr;
        assert!(text.contains(cure), "{speaks:?} {flags:?}: {text}");
    }
}

/// PING is a frame of SPDY, so no other protocol is a cure.
#[tokio::test]
async fn ping_names_what_the_server_speaks() {
    for (speaks, name) in SPEAKS {
        let url = format!("http://{}/", server(speaks).await);
        for (flags, wanted, understood) in &FLAGS[..3] {
            let words = [&["ping", "-n", "1", "--json"], *flags, &[&url]].concat();
            let ran = run(&words).await;
            if understood.contains(&name) {
                assert_eq!((ran.code, &*ran.stderr), (0, ""), "{speaks:?} {flags:?}");
                continue;
            }
            let what = format!("{speaks:?} {flags:?}: {ran:?}");
            let why = match (speaks, ran.stderr.contains("has sent nothing")) {
                (Speaks::Http1WithoutWords | Speaks::Tls, true) => format!(
                    "the server has sent nothing, so it might not speak {wanted} without TLS: try \
                     https://, or a server that has SPDY"
                ),
                _ if name.starts_with("HTTP") => {
                    format!("the server speaks {name}and not {wanted}: try a server that has SPDY")
                }
                _ => format!("the server speaks {name}and not {wanted}: {}", cure(name)),
            };
            assert!(ran.failure(1).ends_with(&why), "{what}");
            let told = ran.json().remove(0);
            assert!(told["error"].as_str().unwrap().ends_with(&why), "{what}");
        }
    }
}

/// A server can wait for more of what it takes for a request.
#[tokio::test]
async fn a_server_that_says_nothing_in_time_might_speak_another_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut all = Vec::new();
        loop {
            all.push(listener.accept().await.unwrap());
        }
    });
    let begins = |flags: &&(&[&str], &str, _)| flags.1 != "SPDY/2";
    for (flags, wanted, _) in FLAGS[..4].iter().filter(begins) {
        let why = format!(
            "the server has sent nothing, so it might not speak {wanted} without TLS: try --http1 \
             or https://"
        );
        let ran = run(&[&["get", "-m", "300ms"], *flags, &[&url]].concat()).await;
        let said = ran.failure(1);
        assert!(
            said.contains("timed out by --max-time before the"),
            "{said}"
        );
        assert!(said.ends_with(&why), "{said}");
        let words = ["-n", "1", "--timeout", "300ms", &url];
        let ran = run(&[&["load"], *flags, &words].concat()).await;
        let text = String::from_utf8(ran.stdout).unwrap();
        assert!(text.contains(&why), "{flags:?}: {text}");
    }
    // In these a server need not speak first.
    for flags in [&["--version", "2"][..], &["--http1"]] {
        let ran = run(&[&["get", "-m", "300ms"], flags, &[&url]].concat()).await;
        assert!(ran.failure(1).ends_with(" before the response"), "{ran:?}");
    }
    silent.abort();
}

/// Over TLS the server chooses, or nothing.
#[tokio::test]
async fn over_tls_a_server_without_the_protocol_is_one_sentence_with_the_cure() {
    for (alpn, speaks) in [
        (&["spdy/3.1"][..], Speaks::Spdy(Version::V3_1)),
        (&["h2"], Speaks::Http2),
        (&["http/1.1"], Speaks::Http1),
        (&[], Speaks::Http1),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let (acceptor, _) = tls(alpn);
        tokio::spawn(async move {
            loop {
                let (io, _) = listener.accept().await.unwrap();
                let accepting = acceptor.accept(io);
                tokio::spawn(async move {
                    if let Ok(mut io) = accepting.await {
                        _ = io.flush().await;
                        serve(io, speaks).await;
                    }
                });
            }
        });
        for (flags, spoken, cure) in [
            (
                &["--version", "3.1"][..],
                "spdy/3.1",
                "try --http2 or --http1, or leave out --version",
            ),
            (
                &["--version", "2"],
                "spdy/2",
                "try --http2 or --http1, or leave out --version",
            ),
            (&["--http2"], "h2", "try --http1, or leave out --http2"),
            (
                &["--http1"],
                "http/1.1",
                "try --http2, or leave out --http1",
            ),
        ] {
            let fits = alpn.contains(&spoken) || (alpn.is_empty() && spoken == "http/1.1");
            let ran = run(&[&["get", "-k", "--json"], flags, &[&url]].concat()).await;
            let what = format!("{alpn:?} {flags:?}: {ran:?}");
            if fits {
                assert_eq!((ran.code, &*ran.stderr), (0, ""), "{what}");
                continue;
            }
            let why = format!(" does not support {spoken}: {cure}");
            assert!(ran.failure(3).ends_with(&why), "{what}");
            let told = ran.json().remove(0);
            assert!(told["error"].as_str().unwrap().ends_with(&why), "{what}");
        }
        // Without a flag, there is always one.
        assert_eq!(run(&["get", "-k", &url]).await.success(), "here\n");
    }
}
