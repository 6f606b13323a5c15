//! Request bodies that the application does not read, or that the client does not finish.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_early_answer_keeps_its_place_only_while_the_request_moves() {
    let (mut options, mut connections) = front("http://a");
    options.max_connections = 1;
    let app = proxy(options);
    let (upload, body) = mpsc::unbounded_channel();
    let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
    let early = tokio::spawn(app.clone().oneshot(request));
    upload.send(Bytes::from_static(b"hello")).unwrap();
    let mut io = connections.recv().await.unwrap();
    _ = io.read(&mut [0; 4096]).await.unwrap();
    io.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
        .await
        .unwrap();
    let response = early.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    response.into_body().collect().await.unwrap();

    // The application continues to read, so the client can continue to send.
    for _ in 0..10 {
        sleep(Duration::from_secs(2)).await;
        upload.send(Bytes::from_static(b"more")).unwrap();
        assert_ne!(io.read(&mut [0; 4096]).await.unwrap(), 0);
    }
    let start = Instant::now();
    let next = tokio::spawn(status(app, "/"));
    tokio::spawn(async move { while let Ok(1..) = io.read(&mut [0; 4096]).await {} });
    tokio::spawn(answer(connections.recv().await.unwrap(), |_| Some(OK)));
    assert_eq!(next.await.unwrap(), StatusCode::OK);
    assert_eq!(start.elapsed().as_secs(), 3);
}

/// The proxy has to look for the next request once the end of the first one is written.
#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_after_an_early_answer() {
    const BODY: &[u8] = &[b'a'; 200_000];
    let (mut options, mut connections) = front("http://a");
    options.max_connections = 1;
    let app = proxy(options);
    let request = Request::post("/").body(Body::from(BODY)).unwrap();
    let early = tokio::spawn(app.clone().oneshot(request));
    let mut io = connections.recv().await.unwrap();
    _ = io.read_u8().await.unwrap();
    io.write_all(OK.as_bytes()).await.unwrap();
    let response = early.await.unwrap().unwrap();
    response.into_body().collect().await.unwrap();
    let mut rest = vec![];
    while !rest.ends_with(BODY) {
        assert_ne!(io.read_buf(&mut rest).await.unwrap(), 0);
    }
    let start = Instant::now();
    tokio::spawn(answer(io, |_| Some(OK)));
    assert_eq!(status(app, "/").await, StatusCode::OK);
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// A body that fails after its first piece.
struct Broken(bool);

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, &'static str>>> {
        let has_begun = std::mem::replace(&mut self.0, true);
        let piece = http_body::Frame::data(Bytes::from_static(b"begin"));
        std::task::Poll::Ready(Some(if has_begun {
            Err("the client is gone")
        } else {
            Ok(piece)
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_the_clients_fault() {
    for upstream in ["http://a", "h2://a"] {
        let (options, mut connections) = front(upstream);
        let app = proxy(options);
        tokio::spawn(async move {
            while let Some(io) = connections.recv().await {
                serve_either(upstream, io, reads_all_and_waits(Duration::ZERO));
            }
        });
        for _ in 0..3 {
            let request = Request::post("/").body(Body::new(Broken(false))).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{upstream}");
            assert_eq!(status(app.clone(), "/").await, StatusCode::OK, "{upstream}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_lets_go_of_an_upload_that_stands_still() {
    let (options, mut connections) = front("h2://a");
    let app = proxy(options);
    let (upload, body) = mpsc::unbounded_channel();
    let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
    let answer = tokio::spawn(app.oneshot(request));
    for _ in 0..20 {
        upload.send(vec![1; 16_384].into()).unwrap();
    }
    let io = connections.recv().await.unwrap();
    tokio::spawn(async move {
        let mut connection = h2::server::handshake(io).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let early = Response::builder().status(413).body(()).unwrap();
        // It neither reads the rest nor resets the stream.
        let sent = respond.send_response(early, true).unwrap();
        _ = connection.accept().await;
        drop((request, sent));
    });
    let response = answer.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    response.into_body().collect().await.unwrap();
    let start = Instant::now();
    let end = timeout(ANSWER, upload.closed()).await;
    end.expect("the upload is held for nothing");
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_many_uploads_were_not_read_takes_no_more() {
    let (options, connections) = front("h2://a");
    let app = proxy(options);
    let accepted = serve_all(connections, 200, Router::new().fallback(async || "no"));
    for _ in 0..250 {
        let (upload, body) = mpsc::unbounded_channel();
        let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
        for _ in 0..20 {
            upload.send(vec![1; 100].into()).unwrap();
        }
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.expect("it was cut");
        upload.closed().await;
    }
    assert_eq!(accepted.load(Relaxed), 3);
}

/// Pieces of no bytes, in this number, and then one with a byte.
struct Hollow(usize);

impl http_body::Body for Hollow {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let piece = match self.0 {
            0 => None,
            1 => Some(Bytes::from_static(b"x")),
            _ => Some(Bytes::new()),
        };
        self.0 = self.0.saturating_sub(1);
        std::task::Poll::Ready(piece.map(|piece| Ok(http_body::Frame::data(piece))))
    }
}

#[tokio::test(start_paused = true)]
async fn empty_pieces_of_an_upload_do_not_end_the_connection_of_all() {
    let (options, connections) = front("h2://a");
    let app = proxy(options);
    let accepted = serve_all(
        connections,
        200,
        Router::new().fallback(async |body: Bytes| body),
    );
    let request = Request::post("/").body(Body::new(Hollow(300))).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let echo = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(echo, "x");
    assert_eq!(status(app, "/").await, StatusCode::OK);
    assert_eq!(accepted.load(Relaxed), 1);
}
