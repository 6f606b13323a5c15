//! Many requests on one session, and requests that get no response.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{any, post as on_post},
};
use bytes::Bytes;
use spdy_frame::{RstStatus, Version};
use spdy_session::{Config, Count, Counters, OpenError, Shutdown, StreamError};
use spdy_tower::{
    Builder,
    client::{self, Error, SendRequest},
};
use tokio::io::duplex;
use tower::Service;

use crate::support::{
    client::{Server, Whole, body_of, client_of, get, ok, post, reset_of},
    in_all_versions, within,
};

#[tokio::test(start_paused = true)]
async fn each_way_to_fail_has_its_error_and_says_if_a_retry_is_safe() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let refused = requests.send(post("/", "body"));
        server.accept().await.refuse();
        let error = within(refused).await.unwrap_err();
        assert!(
            error.is_retry_safe() && error.is_remote() && error.reset_by_peer().is_none(),
            "{error:?}"
        );

        let reset = requests.send(get("/"));
        server.accept().await.reset(RstStatus::INTERNAL_ERROR);
        let error = within(reset).await.unwrap_err();
        assert_eq!(error.reset_by_peer(), Some(RstStatus::INTERNAL_ERROR));
        assert!(!error.is_retry_safe() && error.is_remote() && !error.is_connect());

        let cut = requests.send(get("/"));
        let _stream = server.accept().await;
        requests.session().shutdown(Shutdown::Now);
        let error = within(cut).await.unwrap_err();
        assert!(
            matches!(error, Error::Stream(StreamError::Session(_))),
            "{error:?}"
        );
        assert!(!error.is_retry_safe());

        within(server.client).await.unwrap().unwrap();
        let error = within(requests.send(get("/"))).await.unwrap_err();
        assert!(
            matches!(error, Error::NotSent(OpenError::Session(_))),
            "{error:?}"
        );
        assert!(error.is_retry_safe() && error.is_connect() && !error.is_remote());
    })
    .await;
}

async fn ready(requests: &mut SendRequest) -> Result<(), Error> {
    std::future::poll_fn(|cx| Service::<http::Request<Whole>>::poll_ready(requests, cx)).await
}

#[tokio::test(start_paused = true)]
async fn after_goaway_a_request_is_not_sent() {
    in_all_versions(async |version| {
        let (mut requests, mut server) = Server::new(version);
        let under_way = requests.send(get("/"));
        let (_receive, reply) = server.accept().await.split();
        assert!(within(ready(&mut requests)).await.is_ok());
        server
            .session
            .shutdown(Shutdown::Graceful { deadline: None });
        while requests.is_ready() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let error = within(ready(&mut requests)).await.unwrap_err();
        assert!(error.is_retry_safe(), "{error:?}");
        let error = within(requests.send(get("/"))).await.unwrap_err();
        assert!(
            matches!(error, Error::NotSent(OpenError::GoingAway)),
            "{error:?}"
        );
        // What was under way is answered.
        reply.send_reply(ok(version, &[]), true).unwrap();
        assert_eq!(within(under_way).await.unwrap().status(), 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_of_a_session_that_times_out_fails_with_a_timeout() {
    let (requests, mut server) = {
        let (near, far) = duplex(1024);
        let mut config = Config::default();
        config.timeouts.keep_alive = Some(Duration::from_millis(10));
        config.timeouts.keep_alive_reply = Duration::from_millis(10);
        let (requests, _, driver) = client::handshake(near, Version::V3_1, config);
        tokio::spawn(driver);
        (requests, far)
    };
    let error = within(requests.send(get("/"))).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    tokio::io::AsyncWriteExt::shutdown(&mut server)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_resets_its_stream() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        for request in [get("/"), post("/", "body")] {
            let mut response = requests.send(request);
            assert!(
                tokio::time::timeout(Duration::from_millis(10), &mut response)
                    .await
                    .is_err()
            );
            let (_receive, reply) = server.accept().await.split();
            drop(response);
            assert_eq!(reset_of(reply).await, RstStatus::CANCEL);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_free_stream() {
    in_all_versions(async |version| {
        let mut config = Config::default();
        config.limits.max_streams = 1;
        let (mut requests, mut server) = Server::with(version, config);
        // The limit is known from the first answer on.
        let first = requests.send(get("/"));
        let (_, reply) = server.accept().await.split();
        reply.send_reply(ok(version, &[]), true).unwrap();
        within(first).await.unwrap();

        let second = requests.send(get("/2"));
        let stream = server.accept().await;
        ready(&mut requests).await.unwrap();
        let mut third = requests.call(get("/3"));
        assert!(
            tokio::time::timeout(Duration::from_millis(20), &mut third)
                .await
                .is_err()
        );
        for (response, stream) in [(second, Some(stream)), (third, None)] {
            let stream = match stream {
                Some(stream) => stream,
                None => server.accept().await,
            };
            let (_, reply) = stream.split();
            reply.send_reply(ok(version, &[]), true).unwrap();
            assert_eq!(within(response).await.unwrap().status(), 200);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_a_session() {
    in_all_versions(async |version| {
        let requests = client_of(
            version,
            Router::new().route("/", any(async |body: Bytes| body)),
        );
        // The server's limit is known from the first answer on.
        within(requests.send(get("/"))).await.unwrap();
        let all = (0..300_u32).map(|number| {
            let response = requests.send(post("/", number.to_string()));
            tokio::spawn(async move { body_of(response.await.unwrap().into_body()).await })
        });
        for (number, body) in all.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(within(body).await.unwrap(), number.to_string());
        }
    })
    .await;
}

/// The limits of a server arrive after the first requests of a client that has
/// many.
#[tokio::test(start_paused = true)]
async fn a_burst_before_the_first_frame_of_the_server_is_not_refused() {
    in_all_versions(async |version| {
        let counters = Arc::new(Counters::default());
        let mut config = Config::default();
        config.counters = Some(Arc::clone(&counters));
        let (near, far) = duplex(1024 * 1024);
        let (requests, _, driver) = client::handshake(near, version, Config::default());
        tokio::spawn(driver);
        let burst: Vec<_> = (0..150)
            .map(|_| tokio::spawn(requests.send(post("/echo", "body"))))
            .collect();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let router = Router::new().route("/echo", on_post(async |body: Bytes| body));
        let builder = Builder::new().config(config);
        tokio::spawn(builder.serve_connection(far, version, router));
        for response in burst {
            let response = within(response).await.unwrap().unwrap();
            assert_eq!(body_of(response.into_body()).await, "body");
        }
        let refused = Count::ResetsSent(RstStatus::REFUSED_STREAM);
        assert_eq!(counters.get(refused), 0);
        assert_eq!(counters.get(Count::StreamsReceived), 150);
    })
    .await;
}
