//! Proxies: tunnels through them, requests that they send on, and those of the environment.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderValue, StatusCode, Uri};
use spdy_frame::Version;
use spdy_tower::{
    Builder,
    client::{Client, Connector, ConnectorError, FetchError, InvalidTarget, Plain, Proxy},
};
use tokio::{
    io::{
        AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
        copy_bidirectional,
    },
    net::TcpStream,
};
use tokio_rustls::rustls::RootCertStore;

use super::{Server, fetch, router, send, tls, tls_of, trusting};

/// The heads of the requests that a proxy got.
pub(super) type Heads = Arc<Mutex<Vec<String>>>;

/// A proxy that opens a tunnel to `target` for every CONNECT that has the right password, if there
/// is one, and answers everything else itself.
pub(super) async fn proxy(target: SocketAddr, password: Option<&'static str>) -> (Server, Heads) {
    let heads = Heads::default();
    let seen = Arc::clone(&heads);
    let serve = move |socket, _| proxy_on(socket, target, password, Arc::clone(&seen));
    (Server::new(serve).await, heads)
}

pub(super) async fn proxy_on<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    target: SocketAddr,
    password: Option<&str>,
    heads: Heads,
) {
    let mut io = BufReader::new(io);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if io.read_line(&mut head).await.unwrap() == 0 {
            return;
        }
    }
    let is_known = password.is_none_or(|password| head.contains(password));
    let is_connect = head.starts_with("CONNECT ");
    heads.lock().unwrap().push(head);
    if !is_known {
        let refusal = b"HTTP/1.1 407 Not you\r\ncontent-length: 3\r\n\r\nNo.";
        io.write_all(refusal).await.unwrap();
    } else if is_connect {
        io.write_all(b"HTTP/1.1 200 Here you are\r\n\r\n")
            .await
            .unwrap();
        let mut target = TcpStream::connect(target).await.unwrap();
        _ = copy_bidirectional(&mut io, &mut target).await;
    } else {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nforwarded";
        io.write_all(answer).await.unwrap();
    }
}

/// Returns a proxy for every request.
pub(super) fn through(uri: &str) -> Proxy {
    Proxy::new(&uri.parse().unwrap()).unwrap()
}

pub(super) fn by(connector: Connector, proxy: Proxy) -> Client {
    Client::new(connector.proxies(move |_| Ok(Some(proxy.clone()))))
}

pub(super) fn untrusting() -> Connector {
    Connector::new(trusting(RootCertStore::empty()))
}

#[tokio::test]
async fn requests_over_tls_go_through_a_tunnel_that_they_share() {
    let (server, connector) = tls(&["spdy/3.1"]).await;
    let (proxy, heads) = proxy(server.address, None).await;
    let client = by(connector, through(&proxy.uri("http", "/")));
    for _ in 0..2 {
        // Only the proxy knows where that is.
        assert_eq!(fetch(&client, "https://localhost:1/").await, "spdy/3.1");
    }
    let expected = "CONNECT localhost:1 HTTP/1.1\r\nhost: localhost:1\r\n\r\n";
    assert_eq!(*heads.lock().unwrap(), [expected]);
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn requests_in_plain_text_are_sent_on_by_the_proxy() {
    let (proxy, heads) = proxy(([127, 0, 0, 1], 1).into(), None).await;
    let through = through(&proxy.uri("http", "/")).authorization(HeaderValue::from_static("me"));
    let client = by(untrusting(), through);
    assert_eq!(fetch(&client, "http://a.test/page?a=b").await, "forwarded");
    let expected =
        "GET http://a.test/page?a=b HTTP/1.1\r\nproxy-authorization: me\r\nhost: a.test\r\n\r\n";
    assert_eq!(*heads.lock().unwrap(), [expected]);
}

/// A proxy of HTTP/1.1 cannot send on what is not HTTP/1.1.
#[tokio::test]
async fn spdy_in_plain_text_goes_through_a_tunnel() {
    let server = Server::new(async |socket, _| {
        let builder = Builder::new();
        _ = builder
            .serve_connection(socket, Version::V3, router())
            .await;
    })
    .await;
    let (proxy, heads) = proxy(server.address, None).await;
    let connector = untrusting().plain(Plain::Spdy(Version::V3));
    let client = by(connector, through(&proxy.uri("http", "/")));
    assert_eq!(fetch(&client, "http://localhost:80/").await, "spdy/3");
    let expected = "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n";
    assert_eq!(*heads.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_an_error_of_connecting() {
    let (server, connector) = tls(&["spdy/3.1"]).await;
    let (proxy, _) = proxy(server.address, Some("open sesame")).await;
    let through = through(&proxy.uri("http", "/"));
    let client = by(connector.clone(), through.clone());
    let error = send(&client, "https://localhost:1/", "body")
        .await
        .unwrap_err();
    assert!(error.is_connect() && error.is_remote() && error.is_retry_safe());
    assert!(!error.is_timeout());
    let FetchError::Connect(error) = error else {
        panic!("{error:?}")
    };
    let expected = "proxy refused the tunnel: 407 Proxy Authentication Required";
    assert_eq!(error.to_string(), expected);
    let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
    assert!(matches!(error, ConnectorError::Proxy(found) if found == status));

    let client = by(
        connector,
        through.authorization(HeaderValue::from_static("open sesame")),
    );
    assert_eq!(fetch(&client, "https://localhost:1/").await, "spdy/3.1");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_answer_is_given_up_by_name() {
    let connector = untrusting().timeout(Duration::from_secs(3));
    let connector = connector.service(tower::service_fn(async |uri: Uri| {
        assert_eq!(uri, "http://proxy.test:80/");
        let (near, mut far) = tokio::io::duplex(1024);
        tokio::spawn(async move { far.read_to_end(&mut Vec::new()).await });
        std::io::Result::Ok(near)
    }));
    let client = by(connector, through("http://proxy.test"));
    let error = client
        .connect(&Uri::from_static("https://a.test/"))
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    let reason = std::error::Error::source(&error).unwrap().to_string();
    let expected =
        "no connection to a.test port 443 through the proxy proxy.test port 80 within 3s";
    assert_eq!(reason, expected);
}

#[tokio::test]
async fn connections_by_different_proxies_are_not_shared() {
    let (server, connector) = tls_of(&["spdy/3.1"], router()).await;
    let (one, _) = proxy(server.address, None).await;
    let (other, _) = proxy(server.address, None).await;
    let proxies = [&one, &other].map(|proxy| through(&proxy.uri("http", "/")));
    let turn = Arc::new(Mutex::new(0));
    let client = Client::new(connector.proxies(move |_| {
        let mut turn = turn.lock().unwrap();
        *turn += 1;
        Ok(proxies.get(*turn - 1).cloned())
    }));
    // By the one, by the other, and by none.
    for _ in 0..3 {
        let uri = server.uri("https", "/");
        assert_eq!(fetch(&client, &uri).await, "spdy/3.1");
    }
    assert_eq!((one.count(), other.count(), server.count()), (1, 1, 3));
}

/// As with curl's `--proxytunnel`.
#[tokio::test]
async fn requests_in_plain_text_have_a_tunnel_if_that_is_wanted() {
    let server = Server::new(async |socket, _| super::http1_on(socket, router()).await).await;
    let (proxy, heads) = proxy(server.address, None).await;
    let through = through(&proxy.uri("http", "/")).always_tunnel();
    let client = by(untrusting(), through);
    for _ in 0..2 {
        assert_eq!(fetch(&client, "http://localhost:80/").await, "HTTP/1.1");
    }
    let expected = "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n";
    assert_eq!(*heads.lock().unwrap(), [expected]);
}

#[test]
fn a_proxy_is_read_as_users_write_it() {
    for (text, expected) in [
        ("http://a.test:3128", "http://a.test:3128"),
        ("a.test:3128", "http://a.test:3128"),
        ("https://A.test/", "https://a.test:443"),
        ("http://me:open%20sesame@a.test:1", "http://a.test:1"),
        ("http://[::1]:1", "http://[::1]:1"),
    ] {
        let proxy = Proxy::parse(text).unwrap();
        assert_eq!(proxy.to_string(), expected, "{text}");
        assert!(!format!("{proxy:?} {proxy:#?}").contains("sesame"));
    }
    for text in [
        "socks5://me:sesame@a.test",
        "ftp://a.test",
        "",
        "http://",
        "a b",
    ] {
        let error = Proxy::parse(text).unwrap_err();
        let expected = ConnectorError::Target(InvalidTarget::Proxy);
        assert_eq!(format!("{error:?}"), format!("{expected:?}"), "{text}");
    }
}

#[test]
fn a_proxy_has_a_scheme_of_http_and_no_user() {
    for (uri, expected) in [
        ("socks5://a.test", InvalidTarget::Scheme),
        ("http://me:secret@a.test", InvalidTarget::UserInfo),
        ("/", InvalidTarget::NotAbsolute),
    ] {
        match Proxy::new(&uri.parse().unwrap()) {
            Err(ConnectorError::Target(reason)) => assert_eq!(reason, expected, "{uri}"),
            other => panic!("{uri}: {other:?}"),
        }
    }
    let proxy = through("http://a.test").authorization(HeaderValue::from_static("secret"));
    assert!(!format!("{proxy:?}").contains("secret"));
}

/// The variables of a process cannot be changed while it has threads. So this test runs itself
/// again, as a process that has them.
#[tokio::test]
async fn the_environment_names_proxies() {
    if let Ok(direct) = std::env::var("SPDY_TEST_DIRECT") {
        return ask_by_the_environment(&direct).await;
    }
    let (server, _) = tls(&["spdy/3.1"]).await;
    let (proxy, heads) = proxy(server.address, None).await;
    let port = proxy.address.port();
    let name = "proxies::the_environment_names_proxies";
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env("SPDY_TEST_DIRECT", server.uri("https", "/"))
        .env(
            "HTTPS_PROXY",
            format!("http://me:open%20sesame@127.0.0.1:{port}"),
        )
        .env("HTTP_PROXY", "socks5://127.0.0.1:1")
        .env(
            "NO_PROXY",
            format!("a.test:8, localhost:{}", server.address.port()),
        )
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // The base64 form of `me:open sesame`.
    let expected = "CONNECT a.test:7 HTTP/1.1\r\nhost: a.test:7\r\n\
                    proxy-authorization: Basic bWU6b3BlbiBzZXNhbWU=\r\n\r\n";
    assert_eq!(*heads.lock().unwrap(), [expected]);
}

async fn ask_by_the_environment(direct: &str) {
    let connector = untrusting()
        .danger_accept_invalid_certs()
        .proxies_from_env();
    let client = Client::new(connector);
    assert_eq!(fetch(&client, direct).await, "spdy/3.1");
    let by_proxy = client.connect(&Uri::from_static("https://a.test:7/")).await;
    by_proxy.unwrap();
    let error = send(&client, "http://a.test/", "").await.unwrap_err();
    let expected = ConnectorError::Target(InvalidTarget::Proxy);
    assert_eq!(format!("{error:?}"), format!("Connect({expected:?})"));
}
