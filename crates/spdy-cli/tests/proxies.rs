//! Proxies: `--proxy` and its companions, and the variables of the environment.

mod common;

use std::{
    fs,
    net::SocketAddr,
    process::Output,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::Request, routing::any};
use tokio::{
    io::{
        AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
        copy_bidirectional,
    },
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
};
use tokio_rustls::TlsAcceptor;

use self::common::{PROTOCOLS, Ran, Running, Site, directory, tls, tool};

/// A proxy, and the heads of the requests that it got.
struct Proxy {
    scheme: &'static str,
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Heads,
}

type Heads = Arc<Mutex<Vec<String>>>;

impl Proxy {
    /// A proxy that answers with this status, or else opens a tunnel for CONNECT to where that
    /// says, and sends on everything else to the host of the URI.
    async fn start(status: Option<&'static str>) -> Self {
        Self::on("http", move |io, seen| serve(io, status, seen)).await
    }

    /// A proxy that opens tunnels and sends requests on as well, over TLS.
    async fn tls(acceptor: TlsAcceptor) -> Self {
        let serve = move |io, seen| {
            let accepting = acceptor.accept(io);
            async move {
                // A client that does not trust it leaves.
                if let Ok(io) = accepting.await {
                    serve(io, None, seen).await;
                }
            }
        };
        Self::on("https", serve).await
    }

    async fn on<F: Future<Output = ()> + Send + 'static>(
        scheme: &'static str,
        serve: impl Fn(TcpStream, Heads) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Heads::default();
        let connections = Arc::<AtomicUsize>::default();
        let (count, seen) = (Arc::clone(&connections), Arc::clone(&heads));
        tokio::spawn(async move {
            loop {
                let (io, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(io, Arc::clone(&seen)));
            }
        });
        Self {
            scheme,
            address,
            connections,
            heads,
        }
    }

    fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Returns the heads, and forgets them.
    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut self.heads.lock().unwrap())
    }
}

async fn serve<IO>(io: IO, status: Option<&str>, heads: Heads)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut io = BufReader::new(io);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if io.read_line(&mut head).await.unwrap() == 0 {
            return;
        }
    }
    heads.lock().unwrap().push(head.clone());
    if let Some(status) = status {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\nNo.");
        io.write_all(answer.as_bytes()).await.unwrap();
        _ = io.read(&mut [0; 1]).await;
        return;
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let host = target.strip_prefix("http://").unwrap_or(target);
    let host = host.split('/').next().unwrap();
    let mut server = TcpStream::connect(host).await.unwrap();
    if method == "CONNECT" {
        io.write_all(b"HTTP/1.1 200 Here you are\r\n\r\n")
            .await
            .unwrap();
    } else {
        server.write_all(head.as_bytes()).await.unwrap();
    }
    io.flush().await.unwrap();
    _ = copy_bidirectional(&mut io, &mut server).await;
}

/// Runs the tool with variables.
async fn run_in(variables: &[(&str, &str)], words: &[&str]) -> Ran {
    let mut tool = tool();
    tool.args(words).envs(variables.iter().copied());
    let output: Output = spawn_blocking(move || tool.output().unwrap())
        .await
        .unwrap();
    output.into()
}

async fn run(words: &[&str]) -> Ran {
    run_in(&[], words).await
}

async fn start() -> (Running, String) {
    let app = Router::new().fallback(any(async || "here\n"));
    let server = Running::start(app).await;
    let url = format!("http://{}/x", server.address);
    (server, url)
}

#[tokio::test]
async fn only_http1_in_plain_text_goes_without_a_tunnel() {
    let (server, url) = start().await;
    let (proxy, address) = (Proxy::start(None).await, server.address);
    let connect = format!("CONNECT {address} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let by = ["-x", &proxy.url(), &url, &url];
    for protocol in PROTOCOLS {
        let text = run(&[&["get"], protocol, &by].concat()).await.success();
        assert_eq!(text, "here\nhere\n");
        let heads = proxy.heads();
        if protocol == ["--http1"] {
            let line = format!("GET {url} HTTP/1.1\r\n");
            assert!(heads[0].starts_with(&line), "{heads:?}");
        } else {
            assert_eq!(heads, [&*connect]);
        }
    }
    let words = [&["get", "-p", "--http1"], &by[..]].concat();
    assert_eq!(run(&words).await.success(), "here\nhere\n");
    assert_eq!(proxy.heads(), [&*connect]);
    let words = ["ping", "-n", "1", "-x", &proxy.url(), &url];
    assert!(run(&words).await.success().contains("1 round trips"));
    assert_eq!(proxy.heads(), [&*connect]);
    let ran = run(&["get", "-v", "-x", &proxy.url(), &url]).await;
    let tunnel = format!("* proxy has opened a tunnel to={address}\n");
    assert!(ran.stderr.contains(&tunnel), "{}", ran.stderr);
    assert_eq!(server.end().await.cut, 0);
}

/// The server gets the host of a field, and the proxy nothing that could mislead it.
#[tokio::test]
async fn a_request_with_a_host_of_its_own_goes_through_a_tunnel() {
    let host = any(async |request: Request| match request.uri().authority() {
        Some(authority) => authority.to_string(),
        None => request.headers()["host"].to_str().unwrap().to_owned(),
    });
    let server = Running::start(Router::new().fallback(host)).await;
    let (proxy, address) = (Proxy::start(None).await, server.address);
    let url = format!("http://{address}/x");
    let connect = format!("CONNECT {address} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    for protocol in PROTOCOLS {
        let words = ["-H", "Host: b.test", "-u", "me:secret", "-x", &proxy.url()];
        let words = [&["get"], protocol, &words, &[&url, &url]].concat();
        assert_eq!(run(&words).await.success(), "b.testb.test");
        assert_eq!(proxy.heads(), [&*connect], "{protocol:?}");
        assert_eq!(proxy.connections.swap(0, Ordering::Relaxed), 1);
    }
    // What takes the field away is no host.
    let words = ["get", "--http1", "-H", "Host:", "-x", &proxy.url(), &url];
    assert_eq!(run(&words).await.success(), address.to_string());
    let line = format!("GET {url} HTTP/1.1\r\n");
    assert!(proxy.heads()[0].starts_with(&line));
    assert_eq!(server.end().await.cut, 0);
}

/// As with curl, the flags for the certificate of the server say nothing about that of a proxy.
#[tokio::test]
async fn a_proxy_with_tls_is_trusted_by_flags_of_its_own() {
    let (server, url) = start().await;
    let (acceptor, pem) = tls(&[]);
    let proxy = Proxy::tls(acceptor).await;
    let cacert = format!("{}/cacert", directory("proxies-cacert"));
    fs::write(&cacert, pem).unwrap();
    // A system may have no certificates at all.
    let other = format!("{}/cacert", directory("proxies-other"));
    fs::write(&other, tls(&[]).1).unwrap();
    let at = proxy.url();
    for protocol in PROTOCOLS {
        for trust in [&["--proxy-insecure"][..], &["--proxy-cacert", &cacert]] {
            let words = [&["get"], protocol, trust, &["-x", &at, &url]].concat();
            assert_eq!(run(&words).await.success(), "here\n");
            assert_eq!(proxy.heads().len(), 1);
        }
        for trust in [&[][..], &["-k"], &["--cacert", &cacert]] {
            let others = ["--proxy-cacert", &other, "-x", &at, &url];
            let ran = run(&[&["get"], protocol, trust, &others].concat()).await;
            let why = format!(
                "through the proxy {at}: TLS with the proxy failed: invalid peer certificate: \
                 BadSignature: trust it by --proxy-cacert FILE, or accept any certificate by \
                 --proxy-insecure"
            );
            assert!(ran.failure(3).ends_with(&why), "{ran:?}");
            assert!(proxy.heads().is_empty());
        }
    }
    let words = ["ping", "-n", "1", "--proxy-insecure", "-x", &at, &url];
    assert!(run(&words).await.success().contains("1 round trips"));
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let site = spawn_blocking(|| Site::start("proxies-tls"));
    let site = site.await.unwrap();
    let proxy = Proxy::start(None).await;
    let url = site.https("/hello");
    let host = url.strip_prefix("https://").unwrap();
    let host = host.split('/').next().unwrap();
    for protocol in [&[][..], &["--http2"], &["--http1"]] {
        let words = ["--cacert", &site.cacert, "-x", &proxy.url(), &url];
        let text = run(&[&["get"], protocol, &words].concat()).await.success();
        assert_eq!(text.len(), 100);
        assert!(proxy.heads()[0].starts_with(&format!("CONNECT {host} HTTP/1.1\r\n")));
    }
    // A proxy with TLS is trusted apart from the server, and the server apart from it.
    let (acceptor, pem) = tls(&[]);
    let proxy = Proxy::tls(acceptor).await;
    let of_proxy = format!("{}/cacert", directory("proxies-both"));
    fs::write(&of_proxy, pem).unwrap();
    let trusting = |server, at| ["--cacert", server, "--proxy-cacert", at];
    for (trust, cure) in [
        (trusting(&site.cacert, &of_proxy), None),
        (trusting(&of_proxy, &of_proxy), Some("trust it by --cacert")),
        (
            trusting(&site.cacert, &site.cacert),
            Some("trust it by --proxy-cacert"),
        ),
    ] {
        let ran = run(&[&["get"], &trust[..], &["-x", &proxy.url(), &url]].concat()).await;
        match cure {
            None => assert_eq!(ran.success().len(), 100),
            Some(cure) => assert!(ran.failure(3).contains(cure), "{ran:?}"),
        }
    }
    spawn_blocking(move || drop(site)).await.unwrap();
}

#[tokio::test]
async fn the_environment_names_proxies_and_hosts_without_one() {
    let (server, url) = start().await;
    let proxy = Proxy::start(None).await;
    let it = proxy.url();
    let port = format!("127.0.0.1:{}", server.address.port());
    for (variables, flags, expected) in [
        (&[("http_proxy", &*it)][..], &[][..], 1),
        (&[("ALL_PROXY", &it)], &[], 1),
        (&[("HTTP_PROXY", &it)], &[], 0),
        (&[("https_proxy", &it), ("HTTPS_PROXY", &it)], &[], 0),
        (&[("http_proxy", &it), ("NO_PROXY", "127.0.0.0/8")], &[], 0),
        (&[("http_proxy", &it), ("NO_PROXY", &port)], &[], 0),
        (&[("http_proxy", &it), ("no_proxy", "127.0.0.1:1")], &[], 1),
        (
            &[("http_proxy", &it), ("NO_PROXY", "*")],
            &["--noproxy", ""],
            1,
        ),
        (&[("http_proxy", &it)], &["--noproxy", "127.0.0.1"], 0),
        (&[("http_proxy", &it)], &["-x", ""], 0),
        (&[("http_proxy", "socks5://127.0.0.1:1")], &["-x", &it], 1),
    ] {
        let words = [&["get"], flags, &[&*url]].concat();
        let text = run_in(variables, &words).await.success();
        assert_eq!(text, "here\n");
        let heads = proxy.heads();
        assert_eq!(heads.len(), expected, "{variables:?} {flags:?} {heads:?}");
    }
    // Load has no proxies.
    let words = ["load", "-n", "10", &url];
    run_in(&[("http_proxy", "http://127.0.0.1:1")], &words)
        .await
        .success();
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn what_a_proxy_refuses_is_one_sentence_with_the_cure() {
    let url = "https://a.invalid/";
    for (status, cure) in [
        (
            "407 Proxy Authentication Required",
            "give the right user and password by --proxy-user",
        ),
        (
            "403 Forbidden",
            "it does not allow this host and port: ask those who run it, or go without it by \
             --noproxy HOST",
        ),
        (
            "502 Bad Gateway",
            "it does not reach this host and port: check them, or go without it by --noproxy HOST",
        ),
        (
            "405 Method Not Allowed",
            "it may be no proxy, or one without tunnels: check --proxy",
        ),
    ] {
        let proxy = Proxy::start(Some(status)).await;
        let at = proxy.url();
        let why = format!(
            "cannot connect to a.invalid:443 through the proxy {at}: proxy refused the tunnel: \
             {status}: {cure}"
        );
        let ran = run(&["get", "-k", "--json", "-x", &at, url]).await;
        assert_eq!(ran.failure(3), format!("{url}: {why}"));
        assert_eq!(ran.json()[0]["error"], why);
        let ran = run(&["ping", "-k", "-x", &at, url]).await;
        assert_eq!(ran.failure(3), why);
    }
    let ran = run(&["get", "-x", "127.0.0.1:1", "http://a.invalid/"]).await;
    let why = "cannot connect to a.invalid:80 through the proxy http://127.0.0.1:1: \
               Connection refused";
    assert!(ran.failure(3).contains(why), "{ran:?}");
    // What is sent on without a tunnel has an answer.
    let proxy = Proxy::start(Some("407 Proxy Authentication Required")).await;
    let words = [
        "get",
        "--http1",
        "-f",
        "-x",
        &proxy.url(),
        "http://a.invalid/",
    ];
    let why = "http://a.invalid/: the proxy answers 407 Proxy Authentication Required: give the \
               right user and password by --proxy-user";
    assert_eq!(run(&words).await.failure(5), why);
    let socks = [("ALL_PROXY", "socks5://me:secret@a.test")];
    let ran = run_in(&socks, &["get", "http://a.invalid/"]).await;
    let why = "cannot connect to a.invalid:80: the proxy is no http:// or https:// URL: write \
               http://HOST:PORT into http_proxy, HTTPS_PROXY or ALL_PROXY, or use --proxy; SOCKS \
               is not supported";
    assert!(ran.failure(3).ends_with(why), "{ran:?}");
}

/// It is not as if there were no variable.
#[cfg(unix)]
#[tokio::test]
async fn a_variable_that_is_no_text_names_no_proxy() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let (server, url) = start().await;
    let mut tool = tool();
    let value = OsStr::from_bytes(b"http://127.0.0.1:1\xff");
    tool.args(["get", &url]).env("http_proxy", value);
    let output = spawn_blocking(move || tool.output().unwrap());
    let ran = Ran::from(output.await.unwrap());
    assert!(
        ran.failure(3)
            .contains("the proxy is no http:// or https:// URL"),
        "{ran:?}"
    );
    assert_eq!(server.end().await.cut, 0);
}

/// A failure of a proxy that may pass is tried again, and one that stays is not.
#[tokio::test]
async fn a_proxy_that_may_reach_the_server_later_is_asked_again() {
    for (status, attempts) in [("503 Service Unavailable", 3), ("403 Forbidden", 1)] {
        let proxy = Proxy::start(Some(status)).await;
        let words = [
            "get",
            "--retry",
            "2",
            "--retry-delay",
            "1ms",
            "-x",
            &proxy.url(),
        ];
        let ran = run(&[&words[..], &["http://a.invalid/"]].concat()).await;
        assert_eq!(ran.code, 3, "{ran:?}");
        assert_eq!(proxy.heads().len(), attempts, "{status}");
    }
}

/// The name and the password reach the proxy, and nothing else.
#[tokio::test]
async fn credentials_are_shown_nowhere() {
    let (server, url) = start().await;
    let (good, bad) = (
        Proxy::start(None).await,
        Proxy::start(Some("407 Not you")).await,
    );
    // The base64 form of `me:Qz7~open`.
    let field = "proxy-authorization: Basic bWU6UXo3fm9wZW4=\r\n";
    for (proxy, code) in [(&good, 0), (&bad, 3)] {
        let at = proxy.address;
        let in_url = format!("http://me:Qz7~open@{at}");
        let plain = proxy.url();
        for (variables, words) in [
            (vec![], vec!["-x", &*in_url]),
            (vec![], vec!["-x", &plain, "-U", "me:Qz7~open"]),
            (vec![("http_proxy", &*in_url)], vec![]),
            (
                vec![("http_proxy", &*plain)],
                vec!["--proxy-user", "me:Qz7~open"],
            ),
        ] {
            for protocol in [&["--version", "3"][..], &["--http2"], &["-p", "--http1"]] {
                let words = [&["get", "-v", "--json"], protocol, &words, &[&*url]].concat();
                let ran = run_in(&variables, &words).await;
                assert_eq!(ran.code, code, "{ran:?}");
                let shown = ran.stderr.clone() + str::from_utf8(&ran.stdout).unwrap();
                for secret in ["Qz7", "open@", "bWU6"] {
                    assert!(!shown.contains(secret), "{words:?}: {shown}");
                }
                let heads = proxy.heads();
                assert!(heads[0].contains(field), "{heads:?}");
            }
        }
    }
    // Neither is what the server gets.
    for protocol in PROTOCOLS {
        let words = ["-v", "-u", "me:Qz7~open", "-H", "cookie: a=Qz7", &url];
        let ran = run(&[&["get"], protocol, &words].concat()).await;
        assert!(ran.stderr.contains("authorization: <sensitive>"), "{ran:?}");
        assert!(
            !ran.stderr.contains("Qz7") && !ran.stderr.contains("bWU6"),
            "{ran:?}"
        );
    }
    assert_eq!(server.end().await.cut, 0);
}
