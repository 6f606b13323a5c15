//! An accept loop of one's own, and transports that are not sockets.

use super::*;

#[tokio::test]
async fn every_protocol_is_served_on_a_pipe() {
    let builder = auto::Builder::new();
    let serve = |io| tokio::spawn(builder.serve_connection(io, app()));
    let (near, far) = duplex(65_536);
    serve(far);
    assert!(http1(near, "/").await.ends_with("\r\n\r\nHTTP/1.1"));
    let (near, far) = duplex(65_536);
    serve(far);
    assert_eq!(http2(near, "/").await.1, "HTTP/2");
    let (near, far) = duplex(65_536);
    serve(far);
    assert_eq!(
        spdy(near, Version::V3_1, "/").await.1,
        "SPDY/3.1".as_bytes()
    );
}

#[tokio::test]
async fn alpn_selects_the_protocol_in_an_accept_loop_with_tls() {
    let authority = Made::authority();
    let server = authority.sign("localhost", VALID);
    let mut config = authority.mutual(&server);
    config.alpn_protocols = Protocol::ALL.map(|it| it.alpn().to_vec()).into();
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let builder = auto::Builder::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (tls, builder) = (tls.clone(), builder.clone());
            tokio::spawn(async move {
                let io = tls.accept(socket).await?;
                builder.serve_tls_connection(io, app()).await
            });
        }
    });
    let person = authority.sign("someone", VALID);
    let connect = async |offered| {
        let client = Client {
            offered,
            ..Client::new(authority.roots(), "localhost").with(&person)
        };
        client.at(address).await.unwrap()
    };
    let io = connect("spdy/3").await;
    assert_eq!(spdy(io, Version::V3, "/").await.1, "SPDY/3".as_bytes());
    let io = connect("h2").await;
    assert_eq!(http2(io, "/").await.1, "HTTP/2");
    let io = connect("http/1.1").await;
    let us = io.get_ref().0.local_addr().unwrap();
    assert_eq!(fetch(Ok(io), "/peer").await.unwrap(), us.to_string());
    let io = connect("http/1.1").await;
    let shown = fetch(Ok(io), "/certificate").await.unwrap();
    assert_eq!(shown.len(), "00:".len() * 32 - 1, "{shown}");
}

#[tokio::test]
async fn what_the_caller_knows_of_a_connection_is_what_handlers_see() {
    let (near, far) = duplex(65_536);
    let info = ConnectionInfo {
        protocol: Protocol::Spdy(Version::V3),
        peer: Some(([192, 0, 2, 1], 4711).into()),
        tls: None,
        is_tls_of_proxy: false,
    };
    let builder = auto::Builder::new();
    tokio::spawn(builder.serve_known_connection(far, info, app()));
    assert_eq!(
        spdy(near, Version::V3, "/peer").await.1,
        "192.0.2.1:4711".as_bytes()
    );
}

#[tokio::test]
async fn the_address_of_a_tcp_client_needs_no_caller() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let connection = auto::Builder::new().serve_connection(accepted.unwrap().0, app());
    tokio::spawn(connection);
    let client = client.unwrap();
    let us = client.local_addr().unwrap();
    assert_eq!(fetch(Ok(client), "/peer").await.unwrap(), us.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_asked_to_finish_answers_first() {
    let (mut near, far) = duplex(65_536);
    let app = Router::new().route(
        "/",
        get(async || {
            tokio::time::sleep(Duration::from_secs(5)).await;
            "late"
        }),
    );
    let mut connection = Box::pin(auto::Builder::new().serve_connection(far, app));
    near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let asked = tokio::time::sleep(Duration::from_secs(1));
    tokio::select! {
        _ = &mut connection => panic!("the request is not answered yet"),
        () = asked => connection.as_mut().graceful_shutdown(),
    }
    let mut answer = String::new();
    let (end, read) = tokio::join!(connection, near.read_to_string(&mut answer));
    end.unwrap();
    read.unwrap();
    assert!(answer.ends_with("\r\n\r\nlate"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_shows_no_protocol_is_an_error_that_says_so() {
    let kind = |error: BoxError| error.downcast_ref::<io::Error>().unwrap().kind();
    let builder = auto::Builder::new();
    let (_silent, far) = duplex(64);
    let error = builder.serve_connection(far, app()).await.unwrap_err();
    assert_eq!(kind(error), io::ErrorKind::TimedOut);
    let (gone, far) = duplex(64);
    drop(gone);
    let error = builder.serve_connection(far, app()).await.unwrap_err();
    assert_eq!(kind(error), io::ErrorKind::UnexpectedEof);
    let (mut strange, far) = duplex(64);
    strange.write_all(b"\x16\x03\x01").await.unwrap();
    let error = builder.serve_connection(far, app()).await.unwrap_err();
    assert_eq!(kind(error), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_connection_can_be_upgraded_and_needs_no_other_method_for_it() {
    let service = service_fn(async |mut request: Request<Body>| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            io.write_all(b"upgraded").await.unwrap();
        });
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let response = response
            .header("connection", "upgrade")
            .header("upgrade", "x");
        response.body(Body::empty())
    });
    let (mut near, far) = duplex(65_536);
    tokio::spawn(auto::Builder::new().serve_connection(far, service));
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    near.write_all(request).await.unwrap();
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nupgraded"), "{answer}");
}
