//! Clients that leave before the response.

use super::*;

#[tokio::test(start_paused = true)]
async fn clients_that_ask_and_leave_cost_the_others_nothing() {
    let (options, connections) = front("h2://a");
    let app = proxy(options);
    let handlers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handlers);
    let application = Router::new()
        .route(
            "/pending",
            axum::routing::get(async move || {
                let _counted = Counted::new(&count);
                pending::<()>().await;
            }),
        )
        .route("/large", axum::routing::get(async || vec![7; 1 << 20]))
        .fallback(async || "ok");
    let accepted = serve_all(connections, 200, application);
    let under_way = get(app.clone(), "/large").await.into_body();
    for round in 0..60 {
        let leaving: Vec<_> = (0..25)
            .map(|_| tokio::spawn(status(app.clone(), "/pending")))
            .collect();
        for _ in 0..round % 6 {
            tokio::task::yield_now().await;
        }
        for request in leaving {
            request.abort();
        }
        for _ in 0..4 {
            assert_eq!(status(app.clone(), "/").await, StatusCode::OK);
        }
    }
    // Abandoned requests continue for a while, on connections that take no others.
    let left = handlers.load(Relaxed);
    assert!(left > 20, "no request has waited to be reset: {left}");
    let whole = under_way.collect().await.expect("the answer was cut");
    assert_eq!(whole.to_bytes().len(), 1 << 20);
    assert!(accepted.load(Relaxed) > 10);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(handlers.load(Relaxed), 0);
}
