//! Applications that fail, and connections that are dropped or asked to finish at any time.

use super::*;

const PROTOCOLS: [Protocol; 5] = [
    Protocol::Spdy(Version::V2),
    Protocol::Spdy(Version::V3),
    Protocol::Spdy(Version::V3_1),
    Protocol::Http2,
    Protocol::Http1,
];

/// Sends a request in this protocol and returns the status.
async fn status<IO>(protocol: Protocol, io: IO, path: &str) -> String
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match protocol {
        Protocol::Spdy(version) => {
            let (fields, _) = spdy(io, version, path).await;
            let name = match version {
                Version::V2 => "status",
                _ => ":status",
            };
            String::from_utf8(fields.get(name).unwrap()[..3].to_vec()).unwrap()
        }
        Protocol::Http2 => http2(io, path).await.0.as_str().to_owned(),
        Protocol::Http1 => http1(io, path).await[9..12].to_owned(),
    }
}

/// A service that panics when it is called, or when its future is polled.
async fn panicking(path: String) -> Result<Response<Body>, BoxError> {
    tokio::task::yield_now().await;
    assert_eq!(path, "/", "the application of this test panics");
    Ok(Response::new(Body::from("fine")))
}

#[tokio::test]
async fn a_panic_and_an_error_of_an_application_are_answered_and_counted_as_500() {
    let path = format!("{}/embed-panics.log", env!("CARGO_TARGET_TMPDIR"));
    _ = std::fs::remove_file(&path);
    let service = service_fn(|request: Request<Body>| {
        let path = request.uri().path().to_owned();
        assert_ne!(path, "/call", "the application of this test panics");
        async move {
            match &path[..] {
                "/error" => Err("an error".into()),
                _ => panicking(path).await,
            }
        }
    });
    let server = Server::bind(Config {
        binds: vec![Bind::plain(loopback()), Bind::plain(loopback())],
        access_log: Some(AccessLog::File(path.clone().into())),
        ..Config::default()
    });
    let server = server.await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(service, async { _ = stopped.await }));
    for protocol in PROTOCOLS {
        // In plain text it would be SPDY/3.1.
        if protocol == Protocol::Spdy(Version::V3) {
            continue;
        }
        for (path, expected) in [
            ("/call", "500"),
            ("/future", "500"),
            ("/error", "500"),
            ("/", "200"),
        ] {
            let io = TcpStream::connect(address).await.unwrap();
            assert_eq!(
                status(protocol, io, path).await,
                expected,
                "{protocol} {path}"
            );
        }
    }
    drop(stop);
    _ = running.await.unwrap();
    let log = std::fs::read_to_string(path).unwrap();
    let count = |status| log.matches(status).count();
    assert_eq!((count("\" 500 "), count("\" 200 ")), (12, 4), "{log}");
}

#[tokio::test]
async fn a_connection_that_is_dropped_takes_its_requests_along() {
    for protocol in PROTOCOLS {
        let (entered, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let service = {
            let (entered, left) = (Arc::clone(&entered), Arc::clone(&left));
            service_fn(move |_: Request<Body>| {
                let dropped = Dropped(Arc::clone(&left));
                entered.notify_one();
                async move {
                    let _dropped = dropped;
                    std::future::pending::<Result<Response<Body>, BoxError>>().await
                }
            })
        };
        let info = ConnectionInfo {
            protocol,
            peer: None,
            tls: None,
            is_tls_of_proxy: false,
        };
        let (near, far) = duplex(65_536);
        let mut connection = auto::Builder::new().serve_known_connection(far, info, service);
        let client = tokio::spawn(async move { status(protocol, near, "/").await });
        tokio::select! {
            _ = &mut connection => panic!("{protocol}: there is no answer"),
            () = entered.notified() => drop(connection),
        }
        timeout(LONG, left.notified()).await.unwrap();
        client.await.unwrap_err();
    }
}

/// A service that is never ready, and one whose readiness fails.
#[derive(Clone)]
struct Unready(Option<&'static str>);

impl tower::Service<Request<Body>> for Unready {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.0 {
            Some(error) => Poll::Ready(Err(error.into())),
            None => Poll::Pending,
        }
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        unreachable!("it is not ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_to_be_ready_is_a_500_and_one_that_never_is_can_be_dropped() {
    for protocol in PROTOCOLS {
        let info = ConnectionInfo {
            protocol,
            peer: None,
            tls: None,
            is_tls_of_proxy: false,
        };
        let builder = auto::Builder::new();
        let (near, far) = duplex(65_536);
        let failing = Unready(Some("not today"));
        tokio::spawn(builder.serve_known_connection(far, info, failing));
        assert_eq!(status(protocol, near, "/").await, "500", "{protocol}");

        let (near, far) = duplex(65_536);
        let connection = builder.serve_known_connection(far, info, Unready(None));
        let connection = tokio::spawn(connection);
        let client = tokio::spawn(async move { status(protocol, near, "/").await });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(
            !connection.is_finished() && !client.is_finished(),
            "{protocol}"
        );
        connection.abort();
        client.await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_can_be_asked_to_finish_at_any_time_and_twice() {
    let config = Config {
        proxy_protocol: true,
        ..Config::default()
    };
    for (config, begun) in [
        (&Config::default(), ""),
        (&Config::default(), "PRI * "),
        (&config, "PROXY "),
        (&config, "PROXY UNKNOWN\r\nPRI"),
    ] {
        let (mut near, far) = duplex(65_536);
        near.write_all(begun.as_bytes()).await.unwrap();
        let builder = auto::Builder::with_config(config);
        let mut connection = Box::pin(builder.serve_connection(far, app()));
        connection.as_mut().graceful_shutdown();
        connection.as_mut().graceful_shutdown();
        let start = tokio::time::Instant::now();
        timeout(LONG, connection).await.unwrap().unwrap();
        assert!(start.elapsed() <= Duration::from_secs(1), "{begun}");
    }
    for protocol in PROTOCOLS {
        let info = ConnectionInfo {
            protocol,
            peer: None,
            tls: None,
            is_tls_of_proxy: false,
        };
        let (_near, far) = duplex(65_536);
        let builder = auto::Builder::new();
        let mut connection = Box::pin(builder.serve_known_connection(far, info, app()));
        connection.as_mut().graceful_shutdown();
        connection.as_mut().graceful_shutdown();
        // HTTP/2 waits for the preface of the client, until the connection counts as idle.
        let end = timeout(10 * LONG, connection).await;
        _ = end.unwrap_or_else(|_| panic!("{protocol} does not finish"));
    }
}

#[tokio::test]
async fn an_application_that_is_still_made_ends_with_the_server() {
    for is_dropped in [true, false] {
        let mut config = Config {
            binds: vec![Bind::plain(loopback())],
            ..Config::default()
        };
        config.timeouts.handshake = 2 * LONG;
        config.timeouts.drain = Duration::from_millis(100);
        let server = Server::bind(config).await.unwrap();
        let address = server.endpoints()[0].address.tcp().unwrap();
        let (begun, given_up) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let make = {
            let (begun, given_up) = (Arc::clone(&begun), Arc::clone(&given_up));
            service_fn(move |_: ConnectionInfo| {
                let dropped = Dropped(Arc::clone(&given_up));
                begun.notify_one();
                async move {
                    let _dropped = dropped;
                    std::future::pending::<Result<Router, BoxError>>().await
                }
            })
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(server.run_make_service(make, async { _ = stopped.await }));
        let client =
            tokio::spawn(async move { fetch(TcpStream::connect(address).await, "/").await });
        begun.notified().await;
        if is_dropped {
            running.abort();
        } else {
            drop(stop);
            assert_eq!(running.await.unwrap().cut, 1);
        }
        let given_up = timeout(LONG, given_up.notified());
        given_up.await.expect("the connection outlives its server");
        client.await.unwrap().unwrap_err();
    }
}
