//! NPN, with the client of OpenSSL, and with one of our own that uses SPDY over it.

#[path = "../common/mod.rs"]
mod common;
mod slow;

use std::{net::SocketAddr, pin::Pin, process::Stdio, sync::Arc, time::Duration};

use axum::{Extension, Router, routing::get};
use openssl::ssl::{Ssl, SslContext, SslMethod, SslMode, SslVerifyMode, SslVersion};
use rustls::ServerConfig;
use spdy_server::{Bind, Certificate, Config, ConnectionInfo, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    process::Command,
    time::timeout,
};
use tokio_openssl::SslStream;

use self::common::server::{LONG, Running, http1, spdy, tls};

async fn start(test: &str) -> Running {
    Running::start(tls(test).0, app()).await
}

fn app() -> Router {
    Router::new().route(
        "/",
        get(async |Extension(info): Extension<ConnectionInfo>| {
            format!("{} {:?}", info.protocol, info.tls)
        }),
    )
}

/// What a client offers.
#[derive(Clone, Copy, Default)]
struct Offer {
    /// The protocol to select by NPN, whatever the server lists.
    npn: Option<&'static str>,
    /// One protocol for ALPN, after its length.
    alpn: Option<&'static [u8]>,
}

async fn connect(
    address: SocketAddr,
    offer: Offer,
) -> Result<SslStream<TcpStream>, openssl::ssl::Error> {
    let mut context = SslContext::builder(SslMethod::tls_client()).unwrap();
    context.set_verify(SslVerifyMode::NONE);
    // A client can repeat a write from another buffer, and with more bytes.
    context.set_mode(SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::ENABLE_PARTIAL_WRITE);
    context
        .set_max_proto_version(Some(SslVersion::TLS1_2))
        .unwrap();
    if let Some(npn) = offer.npn {
        client::select(&mut context, npn);
    }
    if let Some(alpn) = offer.alpn {
        context.set_alpn_protos(alpn).unwrap();
    }
    // A small buffer fills soon. It needs small segments: those of the loopback are larger than its
    // window, and the system then waits 200 ms before it sends a part of one.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&socket).set_tcp_mss(1400).unwrap();
    let io = socket.connect(address).await.unwrap();
    let mut io = SslStream::new(Ssl::new(&context.build()).unwrap(), io).unwrap();
    Pin::new(&mut io).connect().await?;
    Ok(io)
}

/// The functions that the crate `openssl` does not wrap.
mod client {
    // OpenSSL's functions for NPN have no safe form.
    #![allow(unsafe_code)]

    use std::ffi::{c_int, c_uchar, c_uint, c_void};

    use openssl::ssl::SslContextBuilder;

    /// Selects a protocol without reading the list of the server.
    pub(super) fn select(context: &mut SslContextBuilder, protocol: &'static str) {
        let argument: *mut c_void = Box::into_raw(Box::new(protocol)).cast();
        // SAFETY: the context is live. The argument has the type that the callback expects, and is
        // never freed.
        unsafe {
            openssl_sys::SSL_CTX_set_next_proto_select_cb(context.as_ptr(), callback, argument);
        }
    }

    extern "C" fn callback(
        _: *mut openssl_sys::SSL,
        out: *mut *mut c_uchar,
        length: *mut c_uchar,
        _: *const c_uchar,
        _: c_uint,
        argument: *mut c_void,
    ) -> c_int {
        // SAFETY: `select` has created the argument, and OpenSSL passes two writable places for the
        // result. OpenSSL only reads the result.
        unsafe {
            let protocol = *argument.cast::<&'static str>();
            *out = protocol.as_ptr().cast_mut();
            *length = protocol.len() as c_uchar;
        }
        openssl_sys::SSL_TLSEXT_ERR_OK
    }
}

#[tokio::test]
async fn c004_the_protocol_that_a_client_selects_by_npn_is_spoken() {
    let server = start("npn").await;
    for version in [Version::V3_1, Version::V3, Version::V2] {
        let npn = str::from_utf8(version.alpn()).unwrap();
        let offer = Offer {
            npn: Some(npn),
            ..Offer::default()
        };
        let io = connect(server.address, offer).await.unwrap();
        let (_, body) = spdy(io, version, "/").await;
        let body = String::from_utf8(body).unwrap();
        let name = npn.to_uppercase();
        let expected =
            format!("{name} Some(TlsInfo {{ version: \"TLS 1.2\", cipher_suite: \"TLS_ECDHE_");
        assert!(body.starts_with(&expected), "{body}");
    }
    let offer = Offer {
        npn: Some("http/1.1"),
        ..Offer::default()
    };
    let io = connect(server.address, offer).await.unwrap();
    assert!(http1(io, "/").await.contains("HTTP/1.1 Some"));
}

/// OpenSSL does not have the certificate then.
#[tokio::test]
async fn a_client_with_npn_alone_gets_http_1_where_only_rustls_has_the_certificate() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], made.signing_key.into())
        .unwrap();
    let config = Config {
        binds: vec![Bind::tls(common::server::loopback())],
        certificate: Certificate::Rustls(Arc::new(tls)),
        ..Config::default()
    };
    let server = Running::start(config, app()).await;
    let offer = Offer {
        npn: Some("spdy/3.1"),
        ..Offer::default()
    };
    let io = connect(server.address, offer).await.unwrap();
    assert!(http1(io, "/").await.contains("HTTP/1.1 Some"));
}

#[tokio::test]
async fn c005_a_protocol_that_was_not_listed_closes_the_connection() {
    let server = start("not_listed").await;
    for npn in ["spdy/4", "h2"] {
        let offer = Offer {
            npn: Some(npn),
            ..Offer::default()
        };
        // The client might complete its part of the handshake before it receives the error.
        let Ok(mut io) = connect(server.address, offer).await else {
            continue;
        };
        let _ = io.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut told = Vec::new();
        let _ = timeout(LONG, io.read_to_end(&mut told))
            .await
            .expect("the connection stays open");
        assert_eq!(told, b"");
    }
}

#[tokio::test]
async fn alpn_wins_where_both_are_offered() {
    let server = start("both").await;
    let offer = Offer {
        npn: Some("spdy/2"),
        alpn: Some(b"\x08spdy/3.1"),
    };
    let io = connect(server.address, offer).await.unwrap();
    assert_eq!(io.ssl().selected_alpn_protocol(), Some(&b"spdy/3.1"[..]));
    let (_, body) = spdy(io, Version::V3_1, "/").await;
    assert!(body.starts_with(b"SPDY/3.1 "));

    // ALPN without a common protocol is still ALPN (protocol.md §3.3).
    let offer = Offer {
        npn: Some("spdy/2"),
        alpn: Some(b"\x02h3"),
    };
    let io = connect(server.address, offer).await.unwrap();
    assert!(http1(io, "/").await.contains("HTTP/1.1 Some"));
}

#[tokio::test]
async fn without_either_http_1_is_spoken() {
    let server = start("neither").await;
    let io = connect(server.address, Offer::default()).await.unwrap();
    assert!(http1(io, "/").await.contains("HTTP/1.1 Some"));
}

#[tokio::test]
async fn the_client_of_openssl_agrees() {
    let server = start("s_client").await;
    let address = server.address.to_string();
    for (flags, expected) in [
        (&["-tls1_2"][..], "Next protocol: (1) spdy/3.1"),
        // If the client offers TLS 1.3, the server selects 1.2, because TLS 1.3 has no NPN.
        (&[], "Next protocol: (1) spdy/3.1"),
        (&["-tls1_2", "-alpn", "spdy/3"], "ALPN protocol: spdy/3"),
    ] {
        let output = Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &address,
                "-nextprotoneg",
                "spdy/3.1",
            ])
            .args(flags)
            .stdin(Stdio::null())
            .output();
        let output = match timeout(LONG, output).await.expect("openssl does not end") {
            Ok(output) => output,
            Err(error) => {
                eprintln!("SKIPPED: openssl cannot be run: {error}");
                return;
            }
        };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(expected), "{flags:?}: {text}");
    }
}

#[tokio::test]
async fn a_certificate_that_changes_changes_for_npn_too() {
    let (mut config, _) = tls("npn_changes");
    config.certificate_check = Duration::from_millis(50);
    let server = Running::start(config, Router::new()).await;
    let offer = Offer {
        npn: Some("spdy/3.1"),
        ..Offer::default()
    };
    let shown = async || {
        let io = connect(server.address, offer).await.unwrap();
        io.ssl().peer_certificate().unwrap().to_der().unwrap()
    };
    let first = shown().await;
    tls("npn_changes");
    let waiting = async {
        while shown().await == first {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, waiting)
        .await
        .expect("the old certificate is still shown");
}
