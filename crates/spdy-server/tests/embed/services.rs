//! What can be served: services, make-services, and sockets that are bound already.

use super::*;

#[tokio::test]
async fn a_service_without_axum_is_served_and_its_error_is_answered() {
    let service = service_fn(async |request: Request<Body>| match request.uri().path() {
        "/" => Ok(Response::new(Body::from("plain"))),
        _ => Err::<_, BoxError>("a secret".into()),
    });
    let builder = auto::Builder::new();
    for version in [Version::V2, Version::V3_1] {
        let (near, far) = duplex(65_536);
        tokio::spawn(builder.serve_connection(far, service));
        assert_eq!(spdy(near, version, "/").await.1, "plain".as_bytes());
    }
    let (near, far) = duplex(65_536);
    tokio::spawn(builder.serve_connection(far, service));
    let (status, body) = http2(near, "/other").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body, "the application has failed\n");
}

/// A service in a layer that changes the path before a router sees it, as `NormalizePath` does.
#[tokio::test]
async fn a_router_in_a_layer_is_served() {
    let app = app();
    let service = service_fn(move |mut request: Request<Body>| {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        *request.uri_mut() = format!("/{}", path.trim_matches('/')).parse().unwrap();
        tower::ServiceExt::oneshot(app.clone(), request)
    });
    let (near, far) = duplex(65_536);
    tokio::spawn(auto::Builder::new().serve_connection(far, service));
    assert_eq!(http2(near, "/certificate///").await.1, "none");
}

#[tokio::test]
async fn a_make_service_makes_an_application_for_each_connection() {
    let config = Config {
        binds: vec![Bind::plain(loopback())],
        ..Config::default()
    };
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let made = Arc::new(Mutex::new(0));
    let make = service_fn(move |info: ConnectionInfo| {
        let made = Arc::clone(&made);
        async move {
            let mut made = made.lock().unwrap();
            *made += 1;
            if *made == 3 {
                return Err("no third application");
            }
            let text = format!("{} by application {made}", info.protocol);
            Ok(Router::new().route("/", get(text)))
        }
    });
    tokio::spawn(server.run_make_service(make, std::future::pending()));
    let connect = async || TcpStream::connect(address).await;
    let first = fetch(connect().await, "/").await.unwrap();
    assert_eq!(first, "HTTP/1.1 by application 1");
    assert_eq!(
        http2(connect().await.unwrap(), "/").await.1,
        "HTTP/2 by application 2"
    );
    fetch(connect().await, "/").await.unwrap_err();
    assert!(fetch(connect().await, "/").await.unwrap().ends_with('4'));
}

#[tokio::test]
async fn an_application_that_is_not_made_in_time_is_given_up() {
    let mut config = Config {
        binds: vec![Bind::plain(loopback())],
        ..Config::default()
    };
    config.timeouts.handshake = Duration::from_millis(100);
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let given_up = Arc::new(Notify::new());
    let make = {
        let given_up = Arc::clone(&given_up);
        service_fn(move |_: ConnectionInfo| {
            let dropped = Dropped(Arc::clone(&given_up));
            async move {
                let _dropped = dropped;
                std::future::pending::<Result<Router, BoxError>>().await
            }
        })
    };
    tokio::spawn(server.run_make_service(make, std::future::pending()));
    let answer = fetch(TcpStream::connect(address).await, "/");
    let answer = timeout(LONG, answer).await.expect("it is still made");
    answer.unwrap_err();
    timeout(LONG, given_up.notified()).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_that_is_bound_already_is_served() {
    let path = format!("{}/embed.sock", env!("CARGO_TARGET_TMPDIR"));
    _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let sockets = Inherited::default().unix(listener, Transport::Plain);
    let config = Config {
        binds: Vec::new(),
        ..Config::default()
    };
    let server = Server::bind_with(config, sockets).await.unwrap();
    assert_eq!(server.endpoints()[0].to_string(), format!("unix:{path}"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(app(), async { _ = stopped.await }));
    let io = tokio::net::UnixStream::connect(&path).await;
    assert_eq!(fetch(io, "/").await.unwrap(), "HTTP/1.1");
    drop(stop);
    _ = running.await.unwrap();
    assert!(std::fs::exists(&path).unwrap(), "the file is the caller's");
}

#[tokio::test]
async fn the_make_service_of_axum_is_taken() {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let sockets = Inherited::default().tcp(listener, Transport::Plain);
    assert_eq!(sockets.len(), 1);
    let config = Config {
        binds: Vec::new(),
        ..Config::default()
    };
    let server = Server::bind_with(config, sockets).await.unwrap();
    assert_eq!(server.endpoints()[0].address.tcp(), Some(address));
    tokio::spawn(server.run_make_service(app().into_make_service(), std::future::pending()));
    let io = TcpStream::connect(address).await;
    assert_eq!(fetch(io, "/").await.unwrap(), "HTTP/1.1");
}
