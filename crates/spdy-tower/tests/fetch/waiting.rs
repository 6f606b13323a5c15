//! How long requests wait for connections, and for what: on a paused clock, so that every bound is
//! exact.

use std::{future::poll_fn, task::Poll, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, channel::Channel};
use spdy_frame::Version;
use spdy_tests::frames;
use spdy_tower::client::{Client, Connector, ConnectorError, FetchError, Plain};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::network::{Network, ask, get};
use crate::support::in_all_versions;

/// Answers requests of HTTP/1.1, each after a while.
async fn http1(mut io: DuplexStream, pause: Duration) {
    let mut request = [0; 4096];
    while let Ok(1..) = io.read(&mut request).await {
        sleep(pause).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        if io.write_all(answer).await.is_err() {
            return;
        }
    }
}

async fn silent(io: DuplexStream, _: usize) {
    sleep(ms(1_000_000)).await;
    drop(io);
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn assert_timed_out<T>(result: Result<T, FetchError>) {
    match result {
        Err(FetchError::Connect(ConnectorError::Transport(error))) => {
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        }
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("there is a response"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_connect_timeout_holds_for_each_of_many_requests() {
    // Nothing, and what may be shared: TLS, and an upgrade.
    for (plain, scheme) in [(Plain::Http1, "https"), (Plain::Upgrade, "http")] {
        let network = Network::new(Duration::ZERO, silent);
        let client = Client::new(network.connector(plain).timeout(ms(300)));
        let mut requests = JoinSet::new();
        for number in 0..10 {
            let client = client.clone();
            requests.spawn(async move {
                sleep(ms(70 * number)).await;
                let begun = Instant::now();
                let request = http::Request::get(format!("{scheme}://a.test/"));
                let body = http_body_util::Empty::<Bytes>::new();
                assert_timed_out(client.send(request.body(body).unwrap()).await);
                assert_eq!(begun.elapsed().as_millis(), 300, "request {number}");
            });
        }
        while let Some(request) = requests.join_next().await {
            request.unwrap();
        }
        // The requests have shared the attempts.
        assert_eq!(network.most(), 1, "{plain:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_uses_a_connection_that_becomes_free_while_its_own_connects() {
    // Connection 0: the upgrade is refused. 1: answers after 300 ms. 2 says nothing.
    let network = Network::new(Duration::ZERO, |io, number| async move {
        match number {
            0 => http1(io, Duration::ZERO).await,
            1 => http1(io, ms(300)).await,
            _ => silent(io, 0).await,
        }
    });
    let client = Client::new(network.connector(Plain::Upgrade).timeout(ms(4000)));
    let begun = Instant::now();
    let first = tokio::spawn({
        let client = client.clone();
        async move { get(&client).await.unwrap() }
    });
    sleep(ms(150)).await;
    let second = tokio::spawn(async move { get(&client).await.unwrap() });
    assert_eq!(first.await.unwrap(), "ok");
    assert_eq!(begun.elapsed(), ms(300));
    // The connection of the first is free for the second, whose own is not there.
    assert_eq!(second.await.unwrap(), "ok");
    assert_eq!(begun.elapsed(), ms(600));
    assert_eq!(network.made(), 3);
}

/// Sends this number of requests at once, and returns how long they took together.
async fn at_once(client: &Client, count: usize) -> Duration {
    let begun = Instant::now();
    let mut requests = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        requests.spawn(async move { get(&client).await.unwrap() });
    }
    while let Some(body) = requests.join_next().await {
        assert_eq!(body.unwrap(), "ok");
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn connections_of_http1_are_opened_at_the_same_time() {
    let network = Network::new(ms(100), |io, _| http1(io, ms(1000)));
    let client = network.client(Plain::Http1);
    assert_eq!(at_once(&client, 20).await, ms(1100));
    assert_eq!(network.made(), 20);

    // Where an upgrade is asked for, the first connection shows that the server does not upgrade;
    // each takes two.
    let network = Network::new(ms(100), |io, _| http1(io, Duration::ZERO));
    let client = network.client(Plain::Upgrade);
    let took = at_once(&client, 20).await;
    assert!(took <= ms(400), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn many_requests_at_once_open_one_session() {
    in_all_versions(|version| async move {
        let network = Network::new(ms(100), move |io, _| async move {
            let router = axum::Router::new().fallback(async || "ok");
            let builder = spdy_tower::Builder::new();
            _ = builder.serve_connection(io, version, router).await;
        });
        let client = network.client(Plain::Spdy(version));
        assert_eq!(at_once(&client, 50).await, ms(100));
        assert_eq!(network.made(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_stream_is_sent_when_an_upload_ends() {
    in_all_versions(|version| async move {
        let network = Network::new(Duration::ZERO, move |io, _| async move {
            let mut config = spdy_session::Config::default();
            config.limits.max_streams = 1;
            let router = axum::Router::new()
                .route("/early", axum::routing::any(async || "early"))
                .fallback(async || "ok");
            let builder = spdy_tower::Builder::new().config(config);
            _ = builder.serve_connection(io, version, router).await;
        });
        let client = network.client(Plain::Spdy(version));
        assert_eq!(get(&client).await.unwrap(), "ok");
        let (mut upload, body) = Channel::<Bytes>::new(4);
        upload
            .send_data(Bytes::from_static(b"begin"))
            .await
            .unwrap();
        let early = http::Request::post("http://a.test/early").body(body);
        let early = client.send(early.unwrap()).await.unwrap();
        let early = early.into_body().collect().await.unwrap();
        assert_eq!(early.to_bytes(), "early");
        let second = tokio::spawn(async move { get(&client).await });
        sleep(ms(100)).await;
        assert!(!second.is_finished(), "there is one stream at once");
        upload.send_data(Bytes::from_static(b"end")).await.unwrap();
        drop(upload);
        let second = timeout(ms(5000), second).await;
        assert_eq!(second.unwrap().unwrap().unwrap(), "ok");
    })
    .await;
}

/// What a server sends: SETTINGS for one stream, SETTINGS for three, and the answers on them.
type Script = [Vec<u8>; 3];

fn spdy_script(version: Version) -> Script {
    let mut blocks = frames::StoredBlocks::new(version);
    let places = |places| frames::settings(version, &[(4, places)]);
    let answer = |stream| frames::syn_reply(version, stream).status("200 OK").fin();
    let mut bytes = |frame: frames::RawFrame| frame.bytes(&mut blocks);
    let (one, three) = (bytes(places(1)), bytes(places(3)));
    [
        one,
        three,
        [1, 3, 5].map(|stream| bytes(answer(stream))).concat(),
    ]
}

fn http2_script() -> Script {
    let places = |places| vec![0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, places];
    // HEADERS with `:status: 200` that end the stream.
    let answer = |stream| [0, 0, 1, 1, 5, 0, 0, 0, stream, 0x88];
    [places(1), places(3), [1, 3, 5].map(answer).concat()]
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_a_stream_are_sent_when_the_server_allows_more() {
    let _panics = spdy_tests::panics::watch();
    let spdy = Version::ALL.map(|version| (Plain::Spdy(version), spdy_script(version)));
    for (plain, script) in spdy.into_iter().chain([(Plain::Http2, http2_script())]) {
        let network = Network::new(Duration::ZERO, move |mut io, _| {
            let script = script.clone();
            async move {
                for bytes in script {
                    io.write_all(&bytes).await.unwrap();
                    sleep(ms(1000)).await;
                }
                silent(io, 0).await;
            }
        });
        let client = network.client(plain);
        client
            .connect(&"http://a.test".parse().unwrap())
            .await
            .unwrap();
        sleep(ms(500)).await;
        let request = || ask(&client, "GET", "/", "");
        let answers = async { tokio::join!(request(), request(), request()).into() };
        let answers: [_; 3] = timeout(ms(2000), answers).await.expect("all are sent");
        for answer in answers {
            assert_eq!(answer.unwrap().status(), 200, "{plain:?}");
        }
        assert_eq!(network.made(), 1, "{plain:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_stream_of_a_session_that_ends_finds_another() {
    in_all_versions(|version| async move {
        let network = Network::new(Duration::ZERO, move |io, number| async move {
            let mut config = spdy_session::Config::default();
            config.limits.max_streams = 1;
            let router = axum::Router::new()
                .route("/slow", axum::routing::any(std::future::pending::<()>))
                .fallback(async || "ok");
            let builder = spdy_tower::Builder::new().config(config);
            let life = ms(if number == 0 { 100 } else { 1_000_000 });
            _ = timeout(life, builder.serve_connection(io, version, router)).await;
        });
        let client = network.client(Plain::Spdy(version));
        assert_eq!(get(&client).await.unwrap(), "ok");
        let slow = ask(&client, "POST", "/slow", "");
        // It was not sent, so its method does not matter.
        let waits = ask(&client, "POST", "/", "body");
        let (slow, waits) = tokio::join!(slow, waits);
        assert!(slow.is_err());
        assert_eq!(waits.unwrap().status(), 200);
        assert_eq!(network.made(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_fails_only_the_requests_that_came_before_it() {
    // The first connection is closed at once, the second speaks SPDY.
    let network = Network::new(ms(100), |io, number| async move {
        if number > 0 {
            http1(io, Duration::ZERO).await;
        }
    });
    let client = network.client(Plain::Upgrade);
    let early = tokio::spawn({
        let client = client.clone();
        async move {
            let begun = Instant::now();
            let failed = get(&client).await;
            assert_eq!(begun.elapsed(), ms(100));
            failed
        }
    });
    sleep(ms(50)).await;
    // It has waited for half of an attempt that fails, and gets a whole one.
    assert_eq!(get(&client).await.unwrap(), "ok");
    assert!(matches!(
        early.await.unwrap(),
        Err(FetchError::Connect(ConnectorError::Transport(_)))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_connection_attempt_continues_when_its_request_is_given_up() {
    let network = Network::new(ms(5000), |io, _| http1(io, Duration::ZERO));
    for plain in [Plain::Http1, Plain::Upgrade] {
        let client = network.client(plain);
        for _ in 0..3 {
            let request = timeout(ms(2000), get(&client)).await;
            assert!(request.is_err() || plain == Plain::Http1);
        }
        // After 6 s it is through, or refused: then the next one begins.
        assert_eq!(get(&client).await.unwrap(), "ok");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_connections_than_allowed_are_open() {
    let network = Network::new(ms(10), |io, _| http1(io, ms(100)));
    for plain in [Plain::Http1, Plain::Upgrade] {
        let client = Client::new(network.connector(plain).max_connections(3));
        at_once(&client, 30).await;
        assert_eq!(network.most(), 3);
        drop(client);
        sleep(ms(1)).await;
        assert_eq!(network.open(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_place_fails_at_the_timeout_and_one_too_many_at_once() {
    let network = Network::new(Duration::ZERO, silent);
    let connector = network.connector(Plain::Http1).timeout(ms(500));
    let client = Client::new(connector.max_connections(2).max_waiting(1));
    let mut busy = Vec::new();
    for _ in 0..2 {
        let client = client.clone();
        busy.push(tokio::spawn(async move { get(&client).await }));
        sleep(ms(1)).await;
    }
    let begun = Instant::now();
    let (waits, refused) = tokio::join!(get(&client), async {
        let refused = get(&client).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        refused
    });
    assert!(matches!(
        refused,
        Err(FetchError::Connect(ConnectorError::Waiting(1)))
    ));
    let waits = waits.unwrap_err();
    assert!(
        matches!(waits, FetchError::Connect(ConnectorError::Connections(2))),
        "{waits:?}"
    );
    assert!(waits.is_timeout() && waits.is_connect());
    assert_eq!(begun.elapsed(), ms(500));
    // A place is free as soon as a request is given up.
    busy[0].abort();
    sleep(ms(1)).await;
    assert_eq!(network.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_not_used_are_closed() {
    let idle = ms(10_000);
    let spdy = |version| {
        Network::new(Duration::ZERO, move |io, _| async move {
            let router = axum::Router::new().fallback(async || "ok");
            let builder = spdy_tower::Builder::new();
            _ = builder.serve_connection(io, version, router).await;
        })
    };
    let http1 = Network::new(Duration::ZERO, |io, _| http1(io, Duration::ZERO));
    for (network, plain) in [
        (http1, Plain::Http1),
        (spdy(Version::V2), Plain::Spdy(Version::V2)),
        (spdy(Version::V3_1), Plain::Spdy(Version::V3_1)),
    ] {
        let client = Client::new(network.connector(plain).idle_timeout(idle));
        for _ in 0..3 {
            get(&client).await.unwrap();
            sleep(idle - ms(10)).await;
            assert_eq!(network.open(), 1, "{plain:?}");
        }
        sleep(idle + ms(2000)).await;
        assert_eq!((network.made(), network.open()), (1, 0), "{plain:?}");
        get(&client).await.unwrap();
        assert_eq!(network.made(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn few_connections_rest_for_one_origin_and_none_for_too_many() {
    let network = Network::new(ms(10), |io, _| http1(io, ms(10)));
    let client = network.client(Plain::Http1);
    at_once(&client, 20).await;
    sleep(ms(3100)).await;
    assert_eq!((network.most(), network.open()), (20, 8));

    for number in 0..200 {
        let request = http::Request::get(format!("http://{number}.test/"));
        let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
        let response = client.send(request).await.unwrap();
        response.into_body().collect().await.unwrap();
        sleep(ms(1)).await;
        // One for each of 64 origins, and those of the first.
        assert!(network.open() <= 64 + 8, "{}", network.open());
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_connections_rest_as_the_connector_allows() {
    for (max_idle, expected) in [(0, 0), (1, 1), (15, 15), (500, 20)] {
        let network = Network::new(ms(10), |io, _| http1(io, ms(10)));
        let connector = network.connector(Plain::Http1).max_idle(max_idle);
        let client = Client::new(connector);
        for _ in 0..2 {
            at_once(&client, 20).await;
            sleep(ms(3100)).await;
            assert_eq!((network.most(), network.open()), (20, expected));
        }
    }
}

/// Those that rest above the limit stay for a while, and the requests of the next burst use them.
#[tokio::test(start_paused = true)]
async fn a_burst_finds_the_connections_of_the_one_before() {
    for (max_idle, pause, made) in [
        (8, 1, 20),
        (8, 2900, 20),
        (8, 3100, 32),
        (1, 2900, 20),
        (0, 1, 40),
    ] {
        let network = Network::new(ms(10), |io, _| http1(io, ms(10)));
        let connector = network.connector(Plain::Http1).max_idle(max_idle);
        let client = Client::new(connector);
        at_once(&client, 20).await;
        sleep(ms(pause)).await;
        at_once(&client, 20).await;
        assert_eq!(network.made(), made, "{max_idle} {pause}");
    }
}

/// A few requests at a time do not keep what a burst has left.
#[tokio::test(start_paused = true)]
async fn connections_above_the_limit_go_although_others_are_used() {
    let network = Network::new(ms(10), |io, _| http1(io, ms(10)));
    let client = network.client(Plain::Http1);
    at_once(&client, 20).await;
    for _ in 0..40 {
        at_once(&client, 2).await;
        sleep(ms(90)).await;
    }
    assert_eq!(network.open(), 8);
}

/// What closes them ends with its runtime. The requests of another runtime start it again.
#[test]
fn connections_above_the_limit_go_although_a_runtime_has_ended() {
    let network = Network::new(ms(10), |io, _| http1(io, ms(10)));
    let client = network.client(Plain::Http1);
    for _ in 0..2 {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            at_once(&client, 20).await;
            assert_eq!(network.open(), 20);
            if network.made() == 40 {
                sleep(ms(3100)).await;
                assert_eq!(network.open(), 8);
            }
        });
    }
    assert_eq!(network.made(), 40);
}

#[tokio::test(start_paused = true)]
async fn few_connections_rest_that_were_made_for_requests_that_were_given_up() {
    let network = Network::new(ms(10), |io, _| http1(io, Duration::ZERO));
    let client = network.client(Plain::Http1);
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        requests.spawn(async move { timeout(ms(5), get(&client)).await.is_err() });
    }
    assert_eq!(requests.join_all().await, [true; 20]);
    sleep(ms(3100)).await;
    assert_eq!((network.made(), network.open()), (20, 8));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_reads_nothing_does_not_keep_a_connection_that_was_given_up() {
    let network = Network::new(Duration::ZERO, silent);
    for plain in [Plain::Http1, Plain::Spdy(Version::V3_1)] {
        let client = network.client(plain);
        static LONG: [u8; 100_000] = [b'a'; 100_000];
        let body = std::str::from_utf8(&LONG).unwrap();
        let request = timeout(ms(1000), ask(&client, "POST", "/", body)).await;
        assert!(request.is_err());
        drop(client);
        sleep(ms(31_000)).await;
        assert_eq!(network.open(), 0, "{plain:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_whenever_another_one_is_given_up() {
    let network = Network::new(ms(3), |io, _| http1(io, ms(3)));
    for plain in [Plain::Http1, Plain::Upgrade] {
        // One place: what is not given back is missed by the next request.
        let client = Client::new(network.connector(plain).max_connections(1));
        for given_up_after in 0..30 {
            let gone = timeout(ms(given_up_after), get(&client));
            let (gone, stays) = tokio::join!(gone, get(&client));
            assert_eq!(stays.unwrap(), "ok", "{given_up_after}: {gone:?}");
        }
    }
    assert_eq!(network.most(), 1);
    sleep(ms(1)).await;
    assert_eq!(network.open(), 0, "the clients are dropped");
}

#[tokio::test(start_paused = true)]
async fn a_connection_for_a_request_that_was_given_up_goes_to_the_next() {
    for plain in [Plain::Http1, Plain::Upgrade] {
        let network = Network::new(ms(3), |io, _| http1(io, ms(3)));
        let client = Client::new(network.connector(plain).max_connections(1));
        let mut given_up = Box::pin(get(&client));
        let polled = poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx).is_ready()));
        assert!(!polled.await);
        // The connection is there, and the request does not know it yet.
        sleep(ms(20)).await;
        let (made, begun) = (network.made(), Instant::now());
        drop(given_up);
        assert_eq!(get(&client).await.unwrap(), "ok");
        assert_eq!((network.made(), begun.elapsed()), (made, ms(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_names_the_origin_and_the_time() {
    let network = Network::new(Duration::ZERO, silent);
    let connector: Connector = network.connector(Plain::Upgrade).timeout(ms(300));
    let error = get(&Client::new(connector)).await.unwrap_err();
    let FetchError::Connect(ConnectorError::Transport(error)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        error.to_string(),
        "no connection to a.test port 80 within 300ms"
    );
}

/// The end of the request waits in the buffer of hyper when the response has come. The client has
/// to look for the next request once the buffer is written.
#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_after_a_response_that_came_early() {
    let body: &'static str = "a".repeat(200_000).leak();
    let network = Network::new(Duration::ZERO, move |mut io, _| async move {
        let head = io.read(&mut [0; 1]).await;
        assert_eq!(head.unwrap(), 1);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        io.write_all(answer).await.unwrap();
        sleep(ms(1000)).await;
        let mut rest = vec![];
        while !rest.ends_with(body.as_bytes()) {
            assert_ne!(io.read_buf(&mut rest).await.unwrap(), 0);
        }
        http1(io, ms(1)).await;
    });
    let client = Client::new(network.connector(Plain::Http1).max_connections(1));
    let early = ask(&client, "POST", "/", body).await.unwrap();
    assert_eq!(early.into_body().collect().await.unwrap().to_bytes(), "ok");
    sleep(ms(2000)).await;
    let next = timeout(ms(1000), get(&client)).await;
    assert_eq!(next.expect("the connection is stuck").unwrap(), "ok");
    assert_eq!(network.made(), 1);
}
