//! How forwarded connections end, on a virtual clock.

mod support;

use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use spdy_kube::{
    BoxError, Exit, Options, Relay, Server,
    client::{self, Client, Connection, Forward, Transport},
};
use spdy_session::{HeaderBlock, RstStatus, Version};
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use self::support::{
    SOON,
    wires::{Wires, in_memory},
};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a connection whose target has ended its output, and the far end of that target.
async fn half_closed(transport: Transport) -> (Forward, Connection, DuplexStream) {
    let (made, mut targets) = mpsc::unbounded_channel();
    let way = in_memory(&Wires::default(), move |mut request| {
        let made = made.clone();
        async move {
            Server::new().port_forward(&mut request, "demo", move |_| {
                let (near, far) = duplex(1024);
                made.send(far).unwrap();
                async { Ok::<_, BoxError>(near) }
            })
        }
    });
    let client = Client::new(way).transport(transport).ping(None);
    let request = client::request(&"http://pod/forward".parse().unwrap());
    let forward = client.forward(request).await.unwrap();
    let mut connection = forward.open(80).await.unwrap();
    let mut target = targets.recv().await.unwrap();
    target.shutdown().await.unwrap();
    let mut output = Vec::new();
    connection.read_to_end(&mut output).await.unwrap();
    assert_eq!(output, b"");
    (forward, connection, target)
}

#[tokio::test(start_paused = true)]
async fn a_target_that_has_ended_gets_the_input_as_long_as_it_takes_some() {
    for transport in [Transport::Spdy, Transport::WebSocket] {
        let (_forward, mut connection, mut target) = half_closed(transport).await;
        let sending = async {
            for _ in 0..20 {
                sleep(20 * SECOND).await;
                connection.write_all(&[b'x'; 100]).await.unwrap();
            }
            connection.shutdown().await.unwrap();
        };
        let mut input = Vec::new();
        let ((), read) = tokio::join!(sending, target.read_to_end(&mut input));
        read.unwrap();
        assert_eq!(input.len(), 2000, "{transport:?}");
    }
}

/// Its input would be lost in silence otherwise.
#[tokio::test(start_paused = true)]
async fn a_client_is_told_that_a_target_takes_no_more() {
    for transport in [Transport::Spdy, Transport::WebSocket] {
        let (_forward, mut connection, _target) = half_closed(transport).await;
        let begin = Instant::now();
        let writing = async {
            while connection.write_all(&[b'x'; 1000]).await.is_ok() {
                sleep(SECOND / 10).await;
            }
        };
        timeout(100 * SECOND, writing).await.expect("it fails");
        let lasted = begin.elapsed();
        assert!(
            (30 * SECOND..61 * SECOND).contains(&lasted),
            "{transport:?}: {lasted:?}"
        );
    }
}

/// Returns what a target gets that takes 1,000 bytes in 20 s. The client leaves as soon as it has
/// written everything.
async fn taken_after_the_client(transport: Transport, is_finished: bool) -> usize {
    let (forward, mut connection, mut target) = half_closed(transport).await;
    connection.write_all(&[b'x'; 10_000]).await.unwrap();
    connection.flush().await.unwrap();
    if is_finished {
        connection.shutdown().await.unwrap();
    }
    drop((connection, forward));
    let (mut taken, mut piece) = (0, [0; 1000]);
    loop {
        match timeout(100 * SECOND, target.read(&mut piece)).await {
            Ok(Ok(0)) => return taken,
            Ok(Ok(read)) => taken += read,
            other => panic!("{other:?}"),
        }
        sleep(20 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_target_gets_an_input_whose_client_has_finished_it_and_left() {
    for transport in [Transport::Spdy, Transport::WebSocket] {
        let taken = taken_after_the_client(transport, true).await;
        assert_eq!(taken, 10_000, "{transport:?}");
        // What is in the pipe is still taken.
        let taken = taken_after_the_client(transport, false).await;
        assert!(taken <= 2024, "{transport:?}: {taken}");
    }
}

/// It would keep its session for as long as its input lasts.
#[tokio::test(start_paused = true)]
async fn a_target_that_takes_little_at_a_time_does_not_stay_for_ever() {
    for transport in [Transport::Spdy, Transport::WebSocket] {
        let (forward, mut connection, mut target) = half_closed(transport).await;
        connection.write_all(&[b'x'; 200_000]).await.unwrap();
        connection.shutdown().await.unwrap();
        drop((connection, forward));
        let begin = Instant::now();
        let mut piece = [0; 100];
        while target.read(&mut piece).await.is_ok_and(|read| read > 0) {
            sleep(29 * SECOND).await;
        }
        let lasted = begin.elapsed();
        assert!(
            (14_390 * SECOND..15_000 * SECOND).contains(&lasted),
            "{transport:?}: {lasted:?}"
        );
    }
}

/// Returns how long a client is listened to that has sent GOAWAY and then sends PINGs.
async fn dribbling<H, R>(handler: H, protocol: &'static str) -> Duration
where
    H: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<String>> + Send + 'static,
{
    let way = in_memory(&Wires::default(), handler);
    let mut request = client::request(&"http://pod/x?command=x&stdout=1".parse().unwrap());
    let name = HeaderValue::from_static(protocol);
    request
        .headers_mut()
        .append("x-stream-protocol-version", name);
    let wire = way().await.unwrap().into_inner();
    let (_, mut transport) = upgrade::connect(wire, request).await.unwrap();
    let begin = Instant::now();
    let go_away = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    transport.write_all(&go_away).await.unwrap();
    let (mut from, mut to) = tokio::io::split(transport);
    let sending = async {
        let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
        while to.write_all(&ping).await.is_ok() {
            sleep(4 * SECOND).await;
        }
    };
    // The server ends its own direction at once.
    let mut read = Vec::new();
    _ = tokio::join!(sending, from.read_to_end(&mut read));
    begin.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_on_after_goaway_is_not_listened_to_for_long() {
    let forward = dribbling(
        |mut request| async move {
            let connect = |_| async { Err::<DuplexStream, BoxError>("no port".into()) };
            Server::new().port_forward(&mut request, "demo", connect)
        },
        "portforward.k8s.io",
    );
    let exec = dribbling(
        |mut request| async move {
            let streams = Options::from_query("command=x&stdout=1").unwrap().streams;
            Server::new().exec(&mut request, streams, |_| async { Ok(Exit::SUCCESS) })
        },
        "v4.channel.k8s.io",
    );
    let server = in_memory(&Wires::default(), |mut request| async move {
        let connect = |_| async { Err::<DuplexStream, BoxError>("no port".into()) };
        Server::new().port_forward(&mut request, "demo", connect)
    });
    let server = Client::new(server).transport(Transport::Spdy);
    let relay = Relay::new(Server::new(), server);
    let relayed = dribbling(
        move |mut request| {
            let relay = relay.clone();
            async move {
                let onward = client::request(&"http://pod/forward".parse().unwrap());
                relay.port_forward(&mut request, onward, ()).await
            }
        },
        "portforward.k8s.io",
    );
    for lasted in [forward.await, exec.await, relayed.await] {
        assert!(lasted < 40 * SECOND, "{lasted:?}");
    }
}

/// Sends a text on the error stream of each connection, which stays open, and resets the data. With
/// `is_late` the reset comes first.
async fn resetting(
    mut request: Request<Incoming>,
    text: &'static str,
    is_late: bool,
) -> Response<String> {
    let (mut response, upgraded) = upgrade::accept(&mut request).unwrap();
    let name = HeaderValue::from_static("portforward.k8s.io");
    let headers = response.headers_mut();
    headers.insert("x-stream-protocol-version", name);
    tokio::spawn(async move {
        let transport = upgraded.await.unwrap();
        let (session, mut incoming, driver) =
            spdy_session::server(transport, Version::V3_1, spdy_kube::config());
        tokio::spawn(driver);
        let error = incoming.accept().await.unwrap();
        let mut error = error.send_reply(HeaderBlock::new()).unwrap();
        let data = incoming.accept().await.unwrap();
        let data = data.send_reply(HeaderBlock::new()).unwrap();
        session.ping().await.unwrap();
        if is_late {
            data.reset(RstStatus::CANCEL);
            sleep(Duration::from_millis(500)).await;
            error.write_all(text.as_bytes()).await.unwrap();
            error.shutdown().await.unwrap();
        } else {
            error.write_all(text.as_bytes()).await.unwrap();
            data.reset(RstStatus::CANCEL);
        }
        _ = incoming.accept().await;
    });
    response
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_an_error_each_time_though_the_error_stream_goes_on() {
    for (text, shown) in [("", "reset"), ("no \u{9b}port", "no \\u{9b}port")] {
        let way = in_memory(&Wires::default(), move |request| {
            resetting(request, text, false)
        });
        let client = Client::new(way).transport(Transport::Spdy).ping(None);
        let request = client::request(&"http://pod/forward".parse().unwrap());
        let forward = client.forward(request).await.unwrap();
        let mut connection = forward.open(80).await.unwrap();
        for _ in 0..2 {
            let read = timeout(SOON, connection.read(&mut [0])).await;
            let error = read.expect("it ends").unwrap_err();
            assert!(error.to_string().contains(shown), "{error}");
        }
    }
}

/// The streams of a relay are copied one by one, so that the reset can overtake the message.
#[tokio::test(start_paused = true)]
async fn a_message_that_comes_after_the_reset_is_the_error() {
    let way = in_memory(&Wires::default(), |request| {
        resetting(request, "no port", true)
    });
    let client = Client::new(way).transport(Transport::Spdy).ping(None);
    let request = client::request(&"http://pod/forward".parse().unwrap());
    let forward = client.forward(request).await.unwrap();
    let mut connection = forward.open(80).await.unwrap();
    for _ in 0..2 {
        let read = timeout(SOON, connection.read(&mut [0])).await;
        let error = read.expect("it ends").unwrap_err();
        assert_eq!(error.to_string(), "no port");
    }
}

/// Serves one connection, whose text on the error stream comes before the bytes. The error stream
/// stays open.
async fn telling(mut request: Request<Incoming>, text: usize) -> Response<String> {
    let (mut response, upgraded) = upgrade::accept(&mut request).unwrap();
    let name = HeaderValue::from_static("portforward.k8s.io");
    let headers = response.headers_mut();
    headers.insert("x-stream-protocol-version", name);
    tokio::spawn(async move {
        let transport = upgraded.await.unwrap();
        let (_session, mut incoming, driver) =
            spdy_session::server(transport, Version::V3_1, spdy_kube::config());
        tokio::spawn(driver);
        let error = incoming.accept().await.unwrap();
        let mut error = error.send_reply(HeaderBlock::new()).unwrap();
        let data = incoming.accept().await.unwrap();
        let mut data = data.send_reply(HeaderBlock::new()).unwrap();
        error.write_all(&vec![b'x'; text]).await.unwrap();
        error.flush().await.unwrap();
        data.write_all(&[7; 100_000]).await.unwrap();
        data.shutdown().await.unwrap();
        _ = incoming.accept().await;
    });
    response
}

/// Returns what is read of a connection to such a server, the error at its end, and how long it
/// took.
async fn told(text: usize) -> (usize, std::io::Error, Duration) {
    let way = in_memory(&Wires::default(), move |request| telling(request, text));
    let client = Client::new(way).transport(Transport::Spdy).ping(None);
    let request = client::request(&"http://pod/forward".parse().unwrap());
    let forward = client.forward(request).await.unwrap();
    let mut connection = forward.open(80).await.unwrap();
    let (begin, mut bytes) = (Instant::now(), Vec::new());
    let read = timeout(100 * SECOND, connection.read_to_end(&mut bytes)).await;
    let error = read.expect("it ends").unwrap_err();
    (bytes.len(), error, begin.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_tell_how_a_connection_has_ended_is_not_waited_for() {
    let (bytes, error, lasted) = told(0).await;
    assert_eq!(
        (bytes, error.kind()),
        (100_000, std::io::ErrorKind::TimedOut)
    );
    assert_eq!(lasted.as_secs(), 30);
}

/// It is longer than what a session holds of streams that are not read.
#[tokio::test(start_paused = true)]
async fn a_long_message_does_not_stop_the_bytes() {
    let (bytes, error, _) = told(1_000_000).await;
    assert_eq!(bytes, 100_000);
    let text = error.to_string();
    assert!(
        text.len() == 65_536 && text.starts_with("xxx"),
        "{}",
        text.len()
    );
}

/// Serves connections of two ports. The second one sends bytes without an end before the first one
/// has told how it has ended.
async fn flooding(mut request: Request<Incoming>) -> Response<String> {
    let (mut response, upgraded) = upgrade::accept(&mut request).unwrap();
    let name = HeaderValue::from_static("portforward.k8s.io");
    let headers = response.headers_mut();
    headers.insert("x-stream-protocol-version", name);
    tokio::spawn(async move {
        let transport = upgraded.await.unwrap();
        let (_session, mut incoming, driver) =
            spdy_session::server(transport, Version::V3_1, spdy_kube::config());
        tokio::spawn(driver);
        let mut streams = Vec::new();
        for _ in 0..4 {
            let stream = incoming.accept().await.unwrap();
            streams.push(stream.send_reply(HeaderBlock::new()).unwrap());
        }
        streams[1].shutdown().await.unwrap();
        for _ in 0..10 {
            streams[3].write_all(&[7; 100_000]).await.unwrap();
        }
        streams[0].shutdown().await.unwrap();
        streams[3].shutdown().await.unwrap();
        streams[2].shutdown().await.unwrap();
        _ = incoming.accept().await;
    });
    response
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_tell_how_a_connection_has_ended_is_waited_for() {
    let way = in_memory(&Wires::default(), flooding);
    let client = Client::new(way).transport(Transport::Spdy).ping(None);
    let request = client::request(&"http://pod/forward".parse().unwrap());
    let forward = client.forward(request).await.unwrap();
    let mut first = forward.open(1).await.unwrap();
    let mut second = forward.open(2).await.unwrap();
    let reading = async {
        sleep(100 * SECOND).await;
        let mut bytes = Vec::new();
        second.read_to_end(&mut bytes).await.map(|_| bytes.len())
    };
    let mut nothing = [0];
    let (ended, read) = tokio::join!(first.read(&mut nothing), reading);
    assert_eq!((ended.unwrap(), read.unwrap()), (0, 1_000_000));
}
