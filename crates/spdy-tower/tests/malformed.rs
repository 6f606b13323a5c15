//! A server can be notified of requests that never reach the service.

mod support;

use std::sync::{Arc, Mutex};

use axum::{Router, routing::get as on_get};
use spdy_frame::StreamId;
use spdy_session::Config;
use spdy_tower::Builder;

use self::support::{Client, in_all_versions};

#[tokio::test(start_paused = true)]
async fn a_hook_is_told_of_each_request_that_is_malformed() {
    in_all_versions(async |version| {
        let told = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&told);
        let mut config = Config::default();
        config.limits.headers.max_size = 1000;
        let builder = Builder::new().config(config).on_malformed(move |request| {
            assert!(!format!("{request:?}").contains("secret"));
            let agent = request.headers.get("user-agent").map(<[u8]>::to_vec);
            notes.lock().unwrap().push((
                request.stream,
                request.version,
                request.status.as_u16(),
                request.reason.to_string(),
                agent,
            ));
        });
        let router = Router::new().route("/", on_get(async || "page"));
        let client = Client::with(version, &builder, router);

        assert_eq!(client.ask("GET", "/").await.status(), 200);
        let mut head = client.head("G T", "/");
        head.append("user-agent", "test").unwrap();
        head.append("cookie", "secret").unwrap();
        let (receive, _send) = client.open(head, true).await;
        let reply = support::Reply::read(receive).await.unwrap();
        assert_eq!(reply.status(), 400);
        let mut head = client.head("GET", "/");
        head.append("x-long", "x".repeat(1000)).unwrap();
        let (receive, _send) = client.open(head, true).await;
        let reply = support::Reply::read(receive).await.unwrap();
        assert_eq!(reply.status(), 431);
        assert_eq!(client.ask("GET", "/missing").await.status(), 404);

        let id = |raw| StreamId::new(raw).unwrap();
        let expected = [
            (
                id(3),
                version,
                400,
                "invalid method".to_owned(),
                Some(b"test".to_vec()),
            ),
            (
                id(5),
                version,
                431,
                "header block exceeds a limit".to_owned(),
                None,
            ),
        ];
        assert_eq!(*told.lock().unwrap(), expected);
    })
    .await;
}
