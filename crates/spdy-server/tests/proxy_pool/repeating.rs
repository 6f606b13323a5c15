//! Which requests are sent again, how often, and with what of their body.

use super::*;

/// Returns the next connection that the proxy opens, and fails if it opens none.
async fn next(connections: &mut mpsc::UnboundedReceiver<DuplexStream>) -> DuplexStream {
    let next = timeout(2 * ANSWER, connections.recv()).await;
    next.expect("the proxy opens a connection").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_poison_request_is_sent_once_more_at_most() {
    for (method, wanted) in [("GET", 2), ("PUT", 2), ("POST", 1)] {
        let (options, mut connections) = front("http://a");
        let app = proxy(options);
        let poisoned = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&poisoned);
        tokio::spawn(async move {
            while let Some(io) = connections.recv().await {
                let count = Arc::clone(&count);
                tokio::spawn(answer(io, move |head| {
                    if head.contains("/poison") {
                        count.fetch_add(1, Relaxed);
                        return None;
                    }
                    Some(OK)
                }));
            }
        });
        let all: Vec<_> = (0..40)
            .map(|_| tokio::spawn(status(app.clone(), "/")))
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), StatusCode::OK);
        }
        let body = if method == "GET" { "" } else { "x" };
        let request = Request::builder().method(method).uri("/poison");
        let response = app.oneshot(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(response.unwrap().status(), StatusCode::BAD_GATEWAY);
        assert_eq!(poisoned.load(Relaxed), wanted, "{method}");
    }
}

/// A new connection has not been closed by chance, so the request might be the reason.
#[tokio::test(start_paused = true)]
async fn a_request_that_ends_a_new_connection_is_not_sent_again() {
    let (options, mut connections) = front("http://a");
    let request = tokio::spawn(status(proxy(options), "/poison"));
    let mut io = next(&mut connections).await;
    assert_ne!(io.read(&mut [0; 4096]).await.unwrap(), 0);
    drop(io);
    assert_eq!(request.await.unwrap(), StatusCode::BAD_GATEWAY);
    assert!(connections.try_recv().is_err(), "it was sent again");
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_answer_has_begun_is_not_sent_again() {
    let (options, mut connections) = front("http://a");
    let app = proxy(options);
    let first = tokio::spawn(status(app.clone(), "/"));
    let mut io = next(&mut connections).await;
    _ = io.read(&mut [0; 4096]).await.unwrap();
    io.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(first.await.unwrap(), StatusCode::OK);

    let second = tokio::spawn(status(app, "/"));
    assert_ne!(io.read(&mut [0; 4096]).await.unwrap(), 0);
    io.write_all(b"HTTP/1.1 2").await.unwrap();
    drop(io);
    assert_eq!(second.await.unwrap(), StatusCode::BAD_GATEWAY);
    assert!(connections.try_recv().is_err(), "it was sent again");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_an_http_2_application_has_not_looked_at_is_sent_again() {
    let (options, mut connections) = front("h2://a");
    let app = proxy(options);
    let request = tokio::spawn(status(app, "/"));
    let mut io = next(&mut connections).await;
    _ = io.read(&mut [0; 4096]).await.unwrap();
    drop(io);
    let ok = Router::new().fallback(async || "ok");
    serve(next(&mut connections).await, ok);
    assert_eq!(request.await.unwrap(), StatusCode::OK);
}

/// Announces on an HTTP/2 connection that the application stops and has processed no request.
pub(crate) async fn go_away(mut io: DuplexStream) {
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    io.write_all(settings).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let go_away = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    io.write_all(go_away).await.unwrap();
    while let Ok(1..) = io.read(&mut [0; 4096]).await {}
}

#[tokio::test(start_paused = true)]
async fn any_request_is_sent_again_that_the_application_has_not_looked_at() {
    let cases = [
        (16_384, StatusCode::OK),
        (16_385, StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (length, expected) in cases {
        let (options, mut connections) = front("h2://a");
        let app = proxy(options);
        let (upload, body) = mpsc::unbounded_channel();
        let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
        let answer = tokio::spawn(app.clone().oneshot(request));
        upload.send(vec![1; length].into()).unwrap();
        // It might fail more than once by chance.
        tokio::spawn(go_away(next(&mut connections).await));
        if expected == StatusCode::OK {
            tokio::spawn(go_away(next(&mut connections).await));
        }
        let echo = Router::new().fallback(async |body: Body| body);
        tokio::spawn(async move { serve(next(&mut connections).await, echo) });
        // It continues where it was.
        sleep(Duration::from_secs(4)).await;
        _ = upload.send(Bytes::from_static(b"the end"));
        drop(upload);
        let response = answer.await.unwrap().unwrap();
        assert_eq!(response.status(), expected, "{length}");
        if expected == StatusCode::OK {
            let echo = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(echo.len(), length + 7);
            assert!(echo.ends_with(b"the end"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_silence_of_an_attempt_is_counted_once() {
    let second = Duration::from_secs(1);
    let (mut options, mut connections) = front("h2://a");
    options.answer_timeout = second * 8;
    let request = Request::post("/").body(Body::from("x")).unwrap();
    let answer = tokio::spawn(proxy(options).oneshot(request));
    // Each is silent for a second.
    for _ in 0..3 {
        tokio::spawn(go_away(next(&mut connections).await));
    }
    let slow = Router::new().fallback(move || sleep(second * 4));
    serve(next(&mut connections).await, slow);
    let response = answer.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}
