//! How connections are opened, how many there are, and when they are closed.

use super::*;

#[tokio::test(start_paused = true)]
async fn connect_timeouts_do_not_add_up() {
    for upstream in ["http://a", "h2://a"] {
        let dials = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dials);
        let mut options = Proxy::new(upstream.parse().unwrap()).connector(move || {
            count.fetch_add(1, Relaxed);
            pending::<io::Result<DuplexStream>>()
        });
        options.max_connections = 12;
        let app = proxy(options);
        let mut tasks = Vec::new();
        for _ in 0..12 {
            let app = app.clone();
            tasks.push(tokio::spawn(async move {
                let start = Instant::now();
                (status(app, "/").await, start.elapsed())
            }));
            sleep(Duration::from_millis(100)).await;
        }
        for task in tasks {
            let (status, after) = task.await.unwrap();
            assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{upstream}");
            assert_eq!(after.as_secs(), CONNECT.as_secs(), "{upstream}");
        }
        let wanted = if upstream == "http://a" { 12 } else { 2 };
        assert_eq!(dials.load(Relaxed), wanted, "{upstream}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_place_and_for_the_connection_are_one() {
    let mut options =
        Proxy::new("http://a".parse().unwrap()).connector(pending::<io::Result<DuplexStream>>);
    options.max_connections = 1;
    let app = proxy(options);
    let first = tokio::spawn(status(app.clone(), "/"));
    sleep(CONNECT / 2).await;
    let start = Instant::now();
    assert_eq!(status(app, "/").await, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(start.elapsed(), CONNECT);
    first.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_is_closed_in_time() {
    for upstream in ["http://a", "h2://a"] {
        let (options, mut connections) = front(upstream);
        let app = proxy(options);
        for _ in 0..2 {
            let request = tokio::spawn(status(app.clone(), "/"));
            let io = connections.recv().await.unwrap();
            let (closed, mut when) = mpsc::unbounded_channel();
            if upstream == "http://a" {
                tokio::spawn(async move {
                    answer(io, |_| Some(OK)).await;
                    _ = closed.send(Instant::now());
                });
            } else {
                let app = Router::new().fallback(async || "ok");
                let service = hyper_util::service::TowerToHyperService::new(app);
                tokio::spawn(async move {
                    _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(io), service)
                        .await;
                    _ = closed.send(Instant::now());
                });
            }
            assert_eq!(request.await.unwrap(), StatusCode::OK, "{upstream}");
            let start = Instant::now();
            let end = timeout(Duration::from_secs(100), when.recv()).await;
            let rest = end.expect("the connection stays open").unwrap() - start;
            assert!(rest.as_secs().abs_diff(30) <= 1, "{upstream}: {rest:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_takes_no_request_is_given_up() {
    for upstream in ["http://a", "h2://a"] {
        let dials = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dials);
        let options = Proxy::new(upstream.parse().unwrap()).connector(move || {
            count.fetch_add(1, Relaxed);
            // The other end is gone at once.
            async { Ok(duplex(64).0) }
        });
        assert_eq!(status(proxy(options), "/").await, StatusCode::BAD_GATEWAY);
        assert!((1..=5).contains(&dials.load(Relaxed)), "{upstream}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_connections_are_made_where_an_application_takes_few_requests_on_each() {
    let (mut options, connections) = front("h2://a");
    options.max_connections = 3;
    let app = proxy(options);
    let release = Arc::new(tokio::sync::Notify::new());
    let handlers = Arc::new(AtomicUsize::new(0));
    let (count, released) = (Arc::clone(&handlers), Arc::clone(&release));
    let application = Router::new().fallback(async move || {
        let _counted = Counted::new(&count);
        released.notified().await;
        "ok"
    });
    let accepted = serve_all(connections, 2, application);
    let waiting: Vec<_> = (0..8)
        .map(|_| tokio::spawn(status(app.clone(), "/")))
        .collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((handlers.load(Relaxed), accepted.load(Relaxed)), (6, 3));
    // A free place is for the request that waits.
    release.notify_one();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(handlers.load(Relaxed), 6);
    sleep(CONNECT).await;
    let mut outcomes = Vec::new();
    for _ in 0..6 {
        release.notify_one();
        sleep(Duration::from_millis(10)).await;
    }
    for request in waiting {
        outcomes.push(request.await.unwrap());
    }
    let busy = outcomes
        .iter()
        .filter(|status| **status == StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(busy.count(), 1, "{outcomes:?}");
    let ok = outcomes.iter().filter(|status| **status == StatusCode::OK);
    assert_eq!(ok.count(), 7, "{outcomes:?}");
}

/// Returns a proxy whose application refuses connections for this time from now on.
fn refusing(upstream: &'static str, time: Duration, dials: &Arc<AtomicUsize>) -> Proxy {
    let (start, count) = (Instant::now(), Arc::clone(dials));
    Proxy::new(upstream.parse().unwrap()).connector(move || {
        count.fetch_add(1, Relaxed);
        async move {
            if start.elapsed() < time {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = duplex(65536);
            if upstream == "http://a" {
                tokio::spawn(answer(far, |_| Some(OK)));
            } else {
                let app = Router::new().fallback(async || "ok");
                let service = hyper_util::service::TowerToHyperService::new(app);
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(far), service),
                );
            }
            Ok(near)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn an_application_that_starts_again_is_waited_for() {
    for upstream in ["http://a", "h2://a"] {
        let dials = Arc::default();
        let app = proxy(refusing(upstream, Duration::from_millis(2500), &dials));
        let waiting: Vec<_> = ["GET", "POST"]
            .repeat(10)
            .into_iter()
            .map(|method| {
                let request = Request::builder().method(method).uri("/");
                let asking = app.clone().oneshot(request.body(Body::empty()).unwrap());
                tokio::spawn(async move { asking.await.unwrap().status() })
            })
            .collect();
        for one in waiting {
            assert_eq!(one.await.unwrap(), StatusCode::OK, "{upstream}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_refuses_is_asked_for_its_time_alone() {
    for upstream in ["http://a", "h2://a"] {
        for (retry, least, most) in [(3, 2600, 3000), (60, 4600, 5000), (0, 0, 0)] {
            let (dials, start) = (Arc::default(), Instant::now());
            let mut options = refusing(upstream, CONNECT * 10, &dials);
            assert_eq!(options.retry_refused, Duration::from_secs(3));
            options.retry_refused = Duration::from_secs(retry);
            assert_eq!(status(proxy(options), "/").await, StatusCode::BAD_GATEWAY);
            let (took, dials) = (start.elapsed().as_millis(), dials.load(Relaxed));
            assert!((least..=most).contains(&took), "{upstream} {retry}: {took}");
            assert_eq!(dials == 1, retry == 0, "{upstream} {retry}: {dials}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_refusal_is_not_waited_for() {
    for upstream in ["http://a", "h2://a"] {
        let dials = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dials);
        let options = Proxy::new(upstream.parse().unwrap()).connector(move || {
            count.fetch_add(1, Relaxed);
            // A Unix socket that is missing is a refusal; nothing else that is missing is.
            std::future::ready(Err::<DuplexStream, _>(io::ErrorKind::NotFound.into()))
        });
        let begun = Instant::now();
        assert_eq!(status(proxy(options), "/").await, StatusCode::BAD_GATEWAY);
        assert_eq!(begun.elapsed(), Duration::ZERO, "{upstream}");
        assert_eq!(dials.load(Relaxed), 1, "{upstream}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_unix_socket_that_is_missing_is_waited_for() {
    let start = Instant::now();
    let options = Proxy::new("unix:/run/a.sock".parse().unwrap()).connector(move || async move {
        if start.elapsed() < Duration::from_secs(1) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (near, far) = duplex(65536);
        tokio::spawn(answer(far, |_| Some(OK)));
        Ok(near)
    });
    assert_eq!(status(proxy(options), "/").await, StatusCode::OK);
}
