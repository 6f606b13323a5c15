//! Sessions whose server is gone without a word, and sessions that are only slow.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_frame::Version;
use spdy_tower::{
    Builder,
    client::{Client, Connector, FetchError, Plain},
};
use tokio::{
    io::DuplexStream,
    time::{Instant, sleep, timeout},
};

use super::{
    acceptor,
    network::{Network, ask, get},
};
use crate::support::{client::ok, in_all_versions};

/// A session whose server answers one stream at once, and then either goes on or is gone: nothing
/// is read or written, and the connection stays open.
async fn one_answer(io: DuplexStream, version: Version, is_gone_then: bool) {
    let (_session, mut incoming, driver) =
        spdy_session::server(io, version, spdy_session::Config::default());
    let mut driver = Box::pin(driver);
    let answers = async {
        while let Some(stream) = incoming.accept().await {
            let (_, reply) = stream.split();
            _ = reply.send_reply_with(ok(version, &[]), Bytes::from_static(b"ok"));
            if is_gone_then {
                sleep(Duration::from_millis(1)).await;
                return;
            }
        }
    };
    tokio::select! {
        _ = &mut driver => {}
        () = answers => sleep(Duration::from_secs(1_000_000)).await,
    }
}

#[tokio::test(start_paused = true)]
async fn new_requests_avoid_a_session_that_does_not_answer() {
    in_all_versions(|version| async move {
        let network = Network::new(Duration::ZERO, move |io, number| {
            one_answer(io, version, number == 0)
        });
        let client = network.client(Plain::Spdy(version));
        assert_eq!(get(&client).await.unwrap(), "ok");
        sleep(Duration::from_millis(10)).await;
        let second = timeout(Duration::from_secs(1), get(&client)).await;
        assert!(second.is_err(), "the server is gone");
        for _ in 0..3 {
            let third = timeout(Duration::from_millis(1), get(&client)).await;
            assert_eq!(third.unwrap().unwrap(), "ok");
        }
        assert_eq!(network.made(), 2);
        // The dead one is closed before long.
        sleep(Duration::from_secs(55)).await;
        assert_eq!(network.open(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_does_not_answer_is_cut_when_its_place_is_needed() {
    in_all_versions(|version| async move {
        let network = Network::new(Duration::ZERO, move |io, number| {
            one_answer(io, version, number == 0)
        });
        let connector = network.connector(Plain::Spdy(version)).max_connections(1);
        let client = Client::new(connector);
        assert_eq!(get(&client).await.unwrap(), "ok");
        sleep(Duration::from_millis(10)).await;
        let long = tokio::spawn({
            let client = client.clone();
            async move { timeout(Duration::from_secs(3), get(&client)).await }
        });
        let second = timeout(Duration::from_secs(1), get(&client)).await;
        assert!(second.is_err(), "the server is gone");
        // The session is not cut as long as another request may be answered on it.
        let third = timeout(Duration::from_secs(1), get(&client)).await;
        assert!(third.is_err(), "there is no place for another session");
        assert_eq!(network.made(), 1);
        let fourth = timeout(Duration::from_millis(1100), get(&client)).await;
        assert_eq!(fourth.unwrap().unwrap(), "ok");
        assert!(long.await.unwrap().is_err(), "the server is gone");
        assert_eq!((network.made(), network.open()), (2, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_that_does_not_answer_is_cut_when_its_place_is_needed() {
    let (network, connector) = http2_network();
    let client = Client::new(connector.max_connections(1));
    assert_eq!(get_by_tls(&client).await.unwrap(), "ok");
    sleep(Duration::from_millis(100)).await;
    // More than the transport takes: the connection cannot end by itself.
    let long = Full::new(Bytes::from(vec![0; 60_000]));
    let second = Request::post("https://a.test/").body(long).unwrap();
    let second = timeout(Duration::from_secs(1), client.send(second)).await;
    assert!(second.is_err(), "the server is gone");
    let third = timeout(Duration::from_millis(1), get_by_tls(&client)).await;
    assert_eq!(third.unwrap().unwrap(), "ok");
    assert_eq!((network.made(), network.open()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_is_noticed_without_a_timeout_of_the_caller() {
    in_all_versions(|version| async move {
        let network = Network::new(Duration::ZERO, move |io, number| {
            one_answer(io, version, number == 0)
        });
        let client = network.client(Plain::Spdy(version));
        assert_eq!(get(&client).await.unwrap(), "ok");
        sleep(Duration::from_millis(10)).await;
        let begun = Instant::now();
        // It may have been processed, so it is not sent again.
        let error = ask(&client, "POST", "/", "").await.unwrap_err();
        assert!(
            matches!(&error, FetchError::Spdy(_)) && error.is_timeout(),
            "{error:?}"
        );
        assert!(begun.elapsed() <= Duration::from_secs(41));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_slow_is_used_again() {
    in_all_versions(|version| async move {
        let network = Network::new(Duration::from_millis(100), move |io, _| async move {
            let router = axum::Router::new()
                .route("/", axum::routing::get(async || "ok"))
                .fallback(async || {
                    sleep(Duration::from_secs(100)).await;
                });
            _ = Builder::new().serve_connection(io, version, router).await;
        });
        let client = network.client(Plain::Spdy(version));
        for _ in 0..5 {
            let slow = ask(&client, "GET", "/slow", "");
            timeout(Duration::from_secs(1), slow).await.unwrap_err();
            // The PING is answered before there is another connection.
            let begun = Instant::now();
            assert_eq!(get(&client).await.unwrap(), "ok");
            assert_eq!(begun.elapsed(), Duration::ZERO);
        }
        sleep(Duration::from_secs(5)).await;
        assert_eq!(network.open(), 1);
        let before = network.made();
        assert_eq!(get(&client).await.unwrap(), "ok");
        assert_eq!(network.made(), before);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_stops_half_way_casts_doubt_on_its_session() {
    let network = Network::new(Duration::ZERO, |io, number| async move {
        if number > 0 {
            return one_answer(io, Version::V3_1, false).await;
        }
        let (_session, mut incoming, driver) =
            spdy_session::server(io, Version::V3_1, spdy_session::Config::default());
        let mut driver = Box::pin(driver);
        let stops = async {
            let stream = incoming.accept().await.unwrap();
            let (_, reply) = stream.split();
            let head = ok(Version::V3_1, &[]);
            let mut send = reply.send_reply(head, false).unwrap();
            send.send_data(Bytes::from_static(b"half"), false).unwrap();
            sleep(Duration::from_millis(1)).await;
            send
        };
        tokio::select! {
            _ = &mut driver => {}
            send = stops => {
                sleep(Duration::from_secs(1_000_000)).await;
                drop(send);
            }
        }
    });
    let client = network.client(Plain::Spdy(Version::V3_1));
    let mut response = ask(&client, "GET", "/", "").await.unwrap();
    let half = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(half.into_data().unwrap(), "half");
    let rest = timeout(Duration::from_secs(5), response.body_mut().frame()).await;
    assert!(rest.is_err());
    drop(response);
    let again = timeout(Duration::from_millis(1), get(&client)).await;
    assert_eq!(again.unwrap().unwrap(), "ok");
    assert_eq!(network.made(), 2);
}

/// A network of TLS and HTTP/2, whose first server is gone after 50 ms.
fn http2_network() -> (Network, Connector) {
    let (acceptor, trust) = acceptor(&["h2"]);
    let network = Network::new(Duration::ZERO, move |io, number| {
        let accepting = acceptor.accept(io);
        async move {
            let service = service_fn(async |_: Request<Incoming>| {
                let body = Full::new(Bytes::from_static(b"ok"));
                Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
            });
            let io = TokioIo::new(accepting.await.unwrap());
            let builder = http2::Builder::new(TokioExecutor::new());
            let serving = builder.serve_connection(io, service);
            let mut serving = pin!(serving);
            let life = Duration::from_millis(if number == 0 { 50 } else { 1_000_000 });
            _ = timeout(life, &mut serving).await;
            sleep(Duration::from_secs(1_000_000)).await;
        }
    });
    let connector = Connector::new(trust).dial(network.clone());
    (network, connector)
}

#[tokio::test(start_paused = true)]
async fn new_requests_avoid_an_http2_connection_that_does_not_answer() {
    let (network, connector) = http2_network();
    let client = Client::new(connector);
    assert_eq!(get_by_tls(&client).await.unwrap(), "ok");
    sleep(Duration::from_millis(100)).await;
    let second = timeout(Duration::from_secs(1), get_by_tls(&client)).await;
    assert!(second.is_err(), "the server is gone");
    let third = timeout(Duration::from_millis(1), get_by_tls(&client)).await;
    assert_eq!(third.unwrap().unwrap(), "ok");
    assert_eq!(network.made(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_of_http2_that_is_gone_is_noticed_and_an_idempotent_request_finds_another() {
    let (network, connector) = http2_network();
    let client = Client::new(connector);
    assert_eq!(get_by_tls(&client).await.unwrap(), "ok");
    sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    assert_eq!(get_by_tls(&client).await.unwrap(), "ok");
    assert!(begun.elapsed() <= Duration::from_secs(41));
    assert_eq!(network.made(), 2);

    // Without keep-alive nothing ends the wait but the caller.
    let (_network, connector) = http2_network();
    let client = Client::new(connector.keep_alive(None));
    assert_eq!(get_by_tls(&client).await.unwrap(), "ok");
    sleep(Duration::from_millis(100)).await;
    let waits = timeout(Duration::from_secs(3600), get_by_tls(&client)).await;
    assert!(waits.is_err());
}

/// A network of TLS and HTTP/2 whose servers answer `/` alone. The first is gone after this time.
fn slow_http2(life: Duration) -> (Network, Client) {
    let (acceptor, trust) = acceptor(&["h2"]);
    let network = Network::new(Duration::ZERO, move |io, number| {
        let accepting = acceptor.accept(io);
        async move {
            let service = service_fn(async |request: Request<Incoming>| {
                if request.uri().path() != "/" {
                    std::future::pending::<()>().await;
                }
                let body = Full::new(Bytes::from_static(b"ok"));
                Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
            });
            let io = TokioIo::new(accepting.await.unwrap());
            let builder = http2::Builder::new(TokioExecutor::new());
            let mut serving = pin!(builder.serve_connection(io, service));
            let life = if number == 0 { life } else { FOREVER };
            _ = timeout(life, &mut serving).await;
            sleep(FOREVER).await;
        }
    });
    let connector = Connector::new(trust).dial(network.clone());
    let connector = connector.max_connections(1).timeout(MINUTE);
    (network, Client::new(connector))
}

async fn get_slowly(client: Client) -> Result<(), FetchError> {
    let request = Request::get("https://a.test/slow").body(Full::new(Bytes::new()));
    client.send(request.unwrap()).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_http2_that_is_slow_is_used_again_when_its_server_speaks() {
    let (network, client) = slow_http2(FOREVER);
    assert_eq!(get_by_tls(&client).await.unwrap(), "ok");
    let long = tokio::spawn(get_slowly(client.clone()));
    let given_up = timeout(Duration::from_secs(5), get_slowly(client.clone())).await;
    assert!(given_up.is_err());
    // The next PING is answered, and there is no place for another connection.
    let begun = Instant::now();
    assert_eq!(get_by_tls(&client).await.unwrap(), "ok");
    assert!(begun.elapsed() <= Duration::from_secs(20));
    assert_eq!((network.made(), network.open()), (1, 1));
    assert!(!long.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_http2_that_is_dead_ends_with_its_requests_when_no_ping_is_answered() {
    let (network, client) = slow_http2(Duration::from_millis(50));
    assert_eq!(get_by_tls(&client).await.unwrap(), "ok");
    sleep(Duration::from_millis(100)).await;
    let long = tokio::spawn(get_slowly(client.clone()));
    let given_up = timeout(Duration::from_secs(5), get_slowly(client.clone())).await;
    assert!(given_up.is_err());
    let begun = Instant::now();
    assert_eq!(get_by_tls(&client).await.unwrap(), "ok");
    assert!(begun.elapsed() <= Duration::from_secs(40));
    assert_eq!((network.made(), network.open()), (2, 1));
    // It was sent again, and is as slow there.
    assert!(!long.is_finished());
}

const MINUTE: Duration = Duration::from_secs(60);
const FOREVER: Duration = Duration::from_secs(1_000_000);

async fn get_by_tls(client: &Client) -> Result<String, FetchError> {
    let request = Request::get("https://a.test/").body(Full::new(Bytes::new()));
    let response = client.send(request.unwrap()).await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}
