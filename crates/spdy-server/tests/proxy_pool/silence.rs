//! How long an application can be silent, and whose time it is that passes.

use super::*;

/// A body that yields this many pieces and then stays silent.
struct Pieces(u32);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        if self.0 == 0 {
            return std::task::Poll::Pending;
        }
        self.0 -= 1;
        let piece = Bytes::from_static(&[7; 65536]);
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_falls_silent_in_an_answer_is_noticed_in_time() {
    for upstream in ["http://a", "h2://a"] {
        let (options, mut connections) = front(upstream);
        let app = proxy(options);
        let answer = tokio::spawn(async move { get(app, "/").await });
        let application = Router::new().fallback(async || Body::new(Pieces(1)));
        let io = connections.recv().await.unwrap();
        if upstream == "h2://a" {
            serve(io, application);
        } else {
            let service = hyper_util::service::TowerToHyperService::new(application);
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(io), service),
            );
        }
        let mut body = answer.await.unwrap().into_body();
        let mut begin = 0;
        while begin < 65536 {
            begin += body
                .frame()
                .await
                .unwrap()
                .unwrap()
                .into_data()
                .unwrap()
                .len();
        }
        // The client waits before it reads more. That time does not count for the application.
        sleep(ANSWER * 3).await;
        let start = Instant::now();
        let end = timeout(ANSWER * 3, body.frame()).await;
        assert!(end.expect("it is waited for").unwrap().is_err());
        assert_eq!(start.elapsed().as_secs(), ANSWER.as_secs(), "{upstream}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_clients_cost_nobody_an_answer() {
    for upstream in ["http://a", "h2://a"] {
        let (options, mut connections) = front(upstream);
        let app = proxy(options);
        tokio::spawn(async move {
            let application = Router::new()
                .route(
                    "/large",
                    axum::routing::get(async || Body::from(vec![7; 1 << 20])),
                )
                .fallback(async || "ok");
            while let Some(io) = connections.recv().await {
                if upstream == "h2://a" {
                    serve(io, application.clone());
                    continue;
                }
                let service = hyper_util::service::TowerToHyperService::new(application.clone());
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(io), service),
                );
            }
        });
        let mut slow = Vec::new();
        for _ in 0..50 {
            slow.push(get(app.clone(), "/large").await.into_body());
        }
        sleep(ANSWER * 2).await;
        let quick = timeout(Duration::from_secs(1), status(app, "/")).await;
        assert_eq!(quick.expect("it waits for the slow ones"), StatusCode::OK);
        for body in slow {
            let whole = body.collect().await.expect("the answer was cut").to_bytes();
            assert_eq!(whole.len(), 1 << 20, "{upstream}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_its_upload_is_no_silence_of_the_application() {
    for upstream in ["http://a", "h2://a"] {
        for (quiet, expected) in [
            (ANSWER * 9 / 10, StatusCode::OK),
            (ANSWER * 2, StatusCode::GATEWAY_TIMEOUT),
        ] {
            let (options, mut connections) = front(upstream);
            let (upload, body) = mpsc::unbounded_channel();
            let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
            let answer = tokio::spawn(proxy(options).oneshot(request));
            let io = connections.recv().await.unwrap();
            serve_either(upstream, io, reads_all_and_waits(quiet));
            for _ in 0..2 {
                upload.send(Bytes::from_static(b"more")).unwrap();
                sleep(ANSWER * 5 / 2).await;
            }
            drop(upload);
            let start = Instant::now();
            let status = answer.await.unwrap().unwrap().status();
            assert_eq!(status, expected, "{upstream}");
            // The time of the application begins with the end of the request.
            let most = quiet.min(ANSWER);
            assert_eq!(start.elapsed().as_secs(), most.as_secs(), "{upstream}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_pause_while_the_application_waits_for_the_client() {
    for upstream in ["http://a", "h2://a"] {
        let (options, mut connections) = front(upstream);
        let (upload, body) = mpsc::unbounded_channel();
        let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
        let answer = tokio::spawn(proxy(options).oneshot(request));
        let io = connections.recv().await.unwrap();
        serve_either(
            upstream,
            io,
            Router::new().fallback(async |body: Body| body),
        );
        let mut echo = answer.await.unwrap().unwrap().into_body();
        tokio::spawn(async move {
            sleep(ANSWER * 5 / 2).await;
            upload.send(Bytes::from_static(b"more")).unwrap();
        });
        let piece = echo.frame().await.unwrap();
        let piece = piece.expect("the answer was cut").into_data().unwrap();
        assert_eq!(piece, "more", "{upstream}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_http_2_connection_is_not_used_again_and_again() {
    let (mut options, mut connections) = front("h2://a");
    options.answer_timeout = Duration::from_secs(1);
    let app = proxy(options);
    let request = tokio::spawn(status(app.clone(), "/"));
    let _dead = connections.recv().await.unwrap();
    assert_eq!(request.await.unwrap(), StatusCode::GATEWAY_TIMEOUT);
    let request = tokio::spawn(status(app, "/"));
    let ok = Router::new().fallback(async || "ok");
    serve(connections.recv().await.unwrap(), ok);
    assert_eq!(request.await.unwrap(), StatusCode::OK);
}
