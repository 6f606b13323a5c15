//! Sessions that the server ends: shutdown, idle time, and outputs that stay open.

use std::sync::Mutex;

use futures_util::StreamExt;
use http::HeaderValue;
use spdy_kube::{
    Exit, Status,
    client::{Remote, Transport},
    cri::{Ended, PrepareError, Server},
};
use spdy_session::{Config, HeaderBlock, Incoming, OpenOptions, Session, Version};
use spdy_tower::upgrade;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufWriter, duplex},
    time::{Instant, sleep, timeout},
};

use super::{ALL, BOTH, Bench, Duration, Fake, OUT, Streams, bench, exec, failure, outcome, ports};

const HOUR: Duration = Duration::from_secs(3600);

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_shutdown_tells_each_client_the_reason() {
    for transport in BOTH {
        let mut bench = bench(|server| server);
        let remote = bench.exec(transport, exec(&["hang"], ALL)).await;
        let forward = bench.forward(transport).await;
        let mut connection = forward.open(80).await.unwrap();
        connection.write_all(b"hello").await.unwrap();
        let mut echo = [0; 5];
        connection.read_exact(&mut echo).await.unwrap();
        let ready = bench.server.prepare_exec(exec(&["cat"], OUT)).unwrap();
        assert_eq!(bench.server.sessions(), 2);

        let server = bench.server.clone();
        let begin = Instant::now();
        let shutdown = server.shutdown("node reboots", 30 * SECOND);
        let reading = async {
            let told = outcome(remote).await;
            let mut rest = Vec::new();
            (told, connection.read_to_end(&mut rest).await)
        };
        let (left, ((status, ..), error)) = tokio::join!(shutdown, reading);
        let expected = failure(503, "ServiceUnavailable", "node reboots");
        assert_eq!((left, &status), (0, &expected), "{transport:?}");
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("error forwarding port 80 to pod s1: node reboots"),
            "{error}"
        );
        assert!(begin.elapsed() < 5 * SECOND, "{:?}", begin.elapsed());
        assert_eq!(bench.server.sessions(), 0);
        for _ in 0..2 {
            let (_, ended) = bench.ended.try_recv().expect("it was reported before");
            assert_eq!(
                (ended.outcome.as_ref(), ended.is_told),
                (Some(&expected), true)
            );
            assert!(["exec", "port"].contains(&bench.dropped().await));
        }

        // No session begins any more.
        let refused = bench.server.prepare_exec(exec(&["cat"], OUT));
        assert_eq!(refused, Err(PrepareError::ShuttingDown));
        let mut request = http::Request::new(());
        *request.uri_mut() = ready.parse().unwrap();
        assert_eq!(bench.server.answer(&mut request).status(), 503);
        assert_eq!(bench.server.shutdown("again", SECOND).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tells_the_ports_of_a_websocket() {
    let mut bench = bench(|server| server);
    let url = bench.server.prepare_port_forward(ports(&[80])).unwrap();
    let mut socket = bench.web_socket(&url, "v4.channel.k8s.io").await;
    for _ in 0..2 {
        socket.next().await.unwrap().unwrap();
    }
    let server = bench.server.clone();
    let reading = async {
        let told = socket.next().await.unwrap().unwrap().into_data();
        while let Some(Ok(_)) = socket.next().await {}
        told
    };
    let (left, told) = tokio::join!(server.shutdown("bye", 30 * SECOND), reading);
    assert_eq!(told, "\x01error forwarding port 80 to pod s1: bye");
    assert_eq!(left, 0);
    assert!(bench.ended().await.1.is_told);
}

/// Starts a session over SPDY whose client opens its streams itself.
async fn bare(
    bench: &Bench,
    url: &str,
    protocol: &'static str,
    config: Config,
) -> (Session, Incoming) {
    let mut request = upgrade::request(&url.parse().unwrap());
    let protocol = HeaderValue::from_static(protocol);
    let headers = request.headers_mut();
    headers.insert("x-stream-protocol-version", protocol);
    let (_, transport) = upgrade::connect(bench.connect(), request).await.unwrap();
    let (session, incoming, driver) = spdy_session::client(transport, Version::V3_1, config);
    tokio::spawn(driver);
    (session, incoming)
}

/// The client has opened only the first of its streams.
#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_streams_that_are_missing() {
    let mut bench = bench(|server| server);
    let url = bench.server.prepare_exec(exec(&["cat"], ALL)).unwrap();
    let (session, _incoming) = bare(&bench, &url, "v4.channel.k8s.io", spdy_kube::config()).await;
    let headers = HeaderBlock::from_pairs([("streamtype", "error")]).unwrap();
    let opening = session.open(headers, OpenOptions::default());
    let mut error = opening.await.unwrap();
    error.response_headers().await.unwrap();
    let mut told = String::new();
    let server = bench.server.clone();
    let reading = async {
        error.read_to_string(&mut told).await.unwrap();
        // The server waits until the client has closed its connection.
        drop((error, session));
    };
    let (left, ()) = tokio::join!(server.shutdown("bye", 5 * SECOND), reading);
    assert_eq!(left, 0);
    let expected = failure(503, "ServiceUnavailable", "bye");
    assert_eq!(Status::from_json(told.as_bytes()), Ok(expected));
    assert!(bench.ended().await.1.is_told);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_breaks_off_clients_that_do_not_read() {
    for transport in BOTH {
        let mut bench = bench(|server| server);
        let unread = bench.exec(transport, exec(&["flood"], OUT)).await;
        sleep(SECOND).await;
        let begin = Instant::now();
        let left = bench.server.shutdown("bye", 5 * SECOND).await;
        assert_eq!((left, bench.server.sessions()), (1, 0), "{transport:?}");
        assert!((5 * SECOND..6 * SECOND).contains(&begin.elapsed()));
        let (_, ended) = bench.ended().await;
        assert!(ended.outcome.is_some() && !ended.is_told);
        drop(unread);
    }
}

/// It holds a thread, so the clock is that of the machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_returns_though_a_report_does_not() {
    let mut bench = bench(|server| server);
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    bench.server = bench.server.on_end(move |_, _| {
        _ = held.lock().unwrap().recv();
    });
    let remote = bench.exec(Transport::Spdy, exec(&["hang"], OUT)).await;
    let left = bench.server.shutdown("bye", SECOND / 10).await;
    assert_eq!((left, bench.server.sessions()), (1, 1));
    drop((let_go, remote));
}

/// Returns how long a silent command lasts, and what is reported.
async fn idle(
    transport: Transport,
    ping: Option<Duration>,
    set: impl FnOnce(Server<Fake>) -> Server<Fake>,
) -> (Status, Ended) {
    let mut bench = bench(set);
    let url = bench
        .server
        .prepare_exec(exec(&["sleep", "36000"], ALL))
        .unwrap();
    let remote = bench.ask_with(transport, &url, ALL, ping).await.unwrap();
    let status = output(remote).await;
    (status, bench.ended().await.1)
}

/// Keeps the input open while the outputs are read.
async fn output(mut remote: Remote) -> Status {
    let _stdin = remote.stdin.take();
    let outcome = timeout(20 * HOUR, outcome(remote)).await;
    outcome.expect("it ends").0
}

#[tokio::test(start_paused = true)]
async fn a_session_may_be_idle_for_four_hours() {
    for transport in BOTH {
        let (status, ended) = idle(transport, None, |server| server).await;
        let message = "session was idle for 14400 s";
        assert_eq!(status, failure(504, "Timeout", message), "{transport:?}");
        assert_eq!((ended.outcome, ended.is_told), (Some(status), true));
        let lasted = ended.duration;
        assert!(
            (4 * HOUR..4 * HOUR + 3 * SECOND).contains(&lasted),
            "{lasted:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn pings_keep_a_session_alive_unless_they_do_not_count() {
    let ping = Some(Duration::from_secs(60));
    for transport in BOTH {
        let (status, _) = idle(transport, ping, |server| server).await;
        assert_eq!(status, Status::Success, "{transport:?}");
        let (status, ended) = idle(transport, ping, |server| server.pings_count(false)).await;
        assert_eq!(
            status,
            failure(504, "Timeout", "session was idle for 14400 s")
        );
        assert!(ended.duration < 4 * HOUR + 3 * SECOND);
        let (status, _) = idle(transport, None, |server| server.idle(None)).await;
        assert_eq!(status, Status::Success, "{transport:?}");
    }
}

/// Where there is no output, the server sends PINGs. The client answers them, which is no use.
#[tokio::test(start_paused = true)]
async fn answers_to_pings_of_the_server_do_not_keep_a_session_alive() {
    let mut bench = bench(|server| server);
    let input = Streams {
        stdin: true,
        ..Streams::default()
    };
    let ports = bench.server.prepare_port_forward(ports(&[80])).unwrap();
    let command = bench.server.prepare_exec(exec(&["hang"], input)).unwrap();
    for url in [ports, command] {
        let mut socket = bench.web_socket(&url, "v4.channel.k8s.io").await;
        let mut pings = 0;
        let reading = async {
            while let Some(Ok(message)) = socket.next().await {
                pings += usize::from(message.is_ping());
            }
        };
        timeout(10 * HOUR, reading).await.expect("it ends");
        assert!(pings > 1000);
        let (_, ended) = bench.ended().await;
        let lasted = ended.duration;
        assert!(
            (4 * HOUR..4 * HOUR + 3 * SECOND).contains(&lasted),
            "{lasted:?}"
        );
        assert!(ended.is_told);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_of_one_direction_keep_a_session_alive() {
    for transport in BOTH {
        let bench = bench(|server| server.pings_count(false));
        let remote = bench.exec(transport, exec(&["tick"], ALL)).await;
        assert_eq!(output(remote).await, Status::Success, "{transport:?}");
        let mut remote = bench.exec(transport, exec(&["read"], ALL)).await;
        let mut stdin = remote.stdin.take().unwrap();
        for _ in 0..4 {
            sleep(3 * HOUR).await;
            stdin.write_all(b"x").await.unwrap();
        }
        stdin.shutdown().await.unwrap();
        assert_eq!(output(remote).await, Status::Success, "{transport:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_of_a_port_keep_its_session_alive() {
    for transport in BOTH {
        let mut bench = bench(|server| server.pings_count(false));
        let forward = bench.forward(transport).await;
        let mut connection = forward.open(80).await.unwrap();
        let mut echo = [0; 1];
        for _ in 0..4 {
            sleep(2 * HOUR).await;
            connection.write_all(b"x").await.unwrap();
            connection.read_exact(&mut echo).await.unwrap();
        }
        let end = timeout(5 * HOUR, connection.read_exact(&mut echo)).await;
        let error = end.expect("it ends").unwrap_err();
        assert!(
            error.to_string().contains("session was idle for 14400 s"),
            "{error}"
        );
        let (_, ended) = bench.ended().await;
        assert!((12 * HOUR..12 * HOUR + 3 * SECOND).contains(&ended.duration));
        assert!(ended.is_told);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_without_connections_is_closed() {
    for transport in BOTH {
        let mut bench = bench(|server| server);
        let forward = bench.forward(transport).await;
        timeout(5 * HOUR, forward.closed()).await.unwrap();
        let (_, ended) = bench.ended().await;
        assert!(ended.outcome.is_some() && !ended.is_told);
        assert!((4 * HOUR..4 * HOUR + 3 * SECOND).contains(&ended.duration));
    }
}

#[tokio::test(start_paused = true)]
async fn pings_keep_a_session_without_connections_alive() {
    let bench = bench(|server| server);
    let url = bench.server.prepare_port_forward(ports(&[])).unwrap();
    let mut config = spdy_kube::config();
    config.timeouts.idle = None;
    config.timeouts.keep_alive = Some(60 * SECOND);
    let (session, _incoming) = bare(&bench, &url, "portforward.k8s.io", config).await;
    let closed = timeout(10 * HOUR, session.closed()).await;
    assert!(closed.is_err());
}

/// Nothing moves, because the client does not read.
#[tokio::test(start_paused = true)]
async fn an_idle_client_that_does_not_read_is_not_waited_for() {
    for transport in BOTH {
        let mut bench = bench(|server| server.idle(Some(HOUR)).pings_count(false));
        let unread = bench.exec(transport, exec(&["flood"], OUT)).await;
        sleep(HOUR - SECOND).await;
        assert_eq!(bench.server.sessions(), 1);
        let (_, ended) = bench.ended().await;
        let lasted = ended.duration;
        assert!((HOUR..HOUR + 15 * SECOND).contains(&lasted), "{lasted:?}");
        assert!(ended.outcome.is_some() && !ended.is_told);
        drop(unread);
    }
}

#[tokio::test(start_paused = true)]
async fn outputs_that_stay_open_are_read_for_the_time_to_drain() {
    for transport in BOTH {
        let streams = spdy_kube::Server::new().drain(Some(3 * SECOND));
        let bench = bench(|server| server.streams(streams));
        let begin = Instant::now();
        let remote = bench.exec(transport, exec(&["daemon"], OUT)).await;
        let (status, stdout, _) = outcome(remote).await;
        assert_eq!(
            (status, stdout.len()),
            (Status::from(Exit::code(3)), 100_000)
        );
        let lasted = begin.elapsed();
        assert!((3 * SECOND..4 * SECOND).contains(&lasted), "{lasted:?}");
    }
}

/// The time while the client does not read does not count, so it gets everything.
#[tokio::test(start_paused = true)]
async fn a_slow_client_loses_nothing_of_an_output_that_stays_open() {
    for transport in BOTH {
        let streams = spdy_kube::Server::new().drain(Some(3 * SECOND));
        let bench = bench(|server| server.streams(streams));
        let mut remote = bench.exec(transport, exec(&["daemon"], OUT)).await;
        let mut stdout = remote.stdout.take().unwrap();
        let mut count = 0;
        let mut piece = [0; 1000];
        while let Ok(bytes @ 1..) = stdout.read(&mut piece).await {
            count += bytes;
            sleep(SECOND).await;
        }
        assert_eq!(count, 100_000, "{transport:?}");
        let status = remote.outcome().await.unwrap();
        assert_eq!(status, Status::from(Exit::code(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn outputs_are_read_to_their_ends_unless_there_is_a_time() {
    let bench = bench(|server| server);
    let mut remote = bench.exec(Transport::Spdy, exec(&["daemon"], OUT)).await;
    let mut stdout = remote.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100_000]).await.unwrap();
    let more = timeout(3 * HOUR, stdout.read(&mut [0; 1])).await;
    assert!(more.is_err(), "{more:?}");
}

/// The transport holds the outcome, as TLS does, when the server is done with it.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_the_transport_holds_is_told_when_the_client_has_taken_it() {
    for (pause, is_told) in [(1, true), (20, true), (60, false)] {
        let mut bench = bench(|server| server);
        let url = bench.server.prepare_exec(exec(&["late"], OUT)).unwrap();
        let (near, far) = duplex(4096);
        let server = bench.server.clone();
        let far = BufWriter::with_capacity(80 * 1024, far);
        tokio::spawn(async move { server.serve_connection(far).await });
        let mut request = upgrade::request(&url.parse().unwrap());
        let protocol = HeaderValue::from_static("v4.channel.k8s.io");
        let headers = request.headers_mut();
        headers.insert("x-stream-protocol-version", protocol);
        let (_, transport) = upgrade::connect(near, request).await.unwrap();
        let (session, _, mut driver) =
            spdy_session::client(transport, Version::V3_1, spdy_kube::config());
        tokio::spawn(async move {
            _ = timeout(SECOND, &mut driver).await;
            sleep(pause * SECOND).await;
            driver.await
        });
        for name in ["error", "stdout"] {
            let headers = HeaderBlock::from_pairs([("streamtype", name)]).unwrap();
            let opened = session.open(headers, OpenOptions::default()).await;
            let (mut from, to) = opened.unwrap().split();
            tokio::spawn(async move {
                _ = from.read_to_end(&mut Vec::new()).await;
                drop(to);
            });
        }
        let (_, ended) = bench.ended().await;
        assert_eq!(ended.is_told, is_told, "{pause} s");
        assert_eq!(ended.outcome, Some(Status::from(Exit::code(3))));
    }
}
