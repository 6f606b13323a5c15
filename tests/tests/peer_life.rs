//! Whether a peer is still there: the probes after the end of its bytes, and the keep-alive.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use spdy_frame::Version;
use spdy_session::{
    Config, FlowControl, HeaderBlock, Incoming, OpenOptions, Session, SessionError, proto::Phase,
};
use spdy_tests::{
    frames,
    machine::Machine,
    side::within,
    wire::{Received, Wire},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, duplex},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// A session and the transport of its peer.
struct Pair<IO> {
    session: Session,
    incoming: Incoming,
    driver: JoinHandle<Result<(), SessionError>>,
    peer: Wire<IO>,
}

fn server<IO>(near: IO, far: IO, version: Version) -> Pair<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    server_with(near, far, version, Config::default())
}

fn server_with<IO>(near: IO, far: IO, version: Version, config: Config) -> Pair<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (session, incoming, driver) = spdy_session::server(near, version, config);
    Pair {
        session,
        incoming,
        driver: tokio::spawn(driver),
        peer: Wire::new(far, version),
    }
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Has the peer send a request and waits for it.
async fn request<IO: AsyncRead + AsyncWrite + Unpin>(
    pair: &mut Pair<IO>,
    version: Version,
) -> spdy_session::PendingStream {
    let request = frames::syn_stream(version, 1).get("/").fin();
    pair.peer.send(request).await;
    pair.incoming.accept().await.unwrap()
}

fn is_ping(frame: &Received) -> bool {
    matches!(frame, Received::Ping(_))
}

#[tokio::test]
async fn a_client_that_has_closed_its_connection_does_not_keep_a_handler_that_waits() {
    for version in Version::ALL {
        let (near, far) = tcp().await;
        let mut pair = server(near, far, version);
        let stream = request(&mut pair, version).await;
        drop(pair.peer);
        let (_receive, mut reply) = stream.split();
        within(poll_fn(|cx| reply.poll_closed(cx))).await;
        let end = within(pair.driver).await.unwrap();
        assert!(matches!(end, Err(SessionError::Io(_))), "{end:?}");
    }
}

/// The response is complete, the request is not.
#[tokio::test]
async fn a_server_that_has_closed_its_connection_does_not_keep_a_request_that_waits() {
    for version in Version::ALL {
        let (near, far) = tcp().await;
        let (session, _pushes, driver) = spdy_session::client(near, version, Config::default());
        let driver = tokio::spawn(driver);
        let mut peer = Wire::new(far, version);
        let mut stream = session
            .open(HeaderBlock::new(), OpenOptions::default())
            .await
            .unwrap();
        peer.recv_until(|frame| matches!(frame, Received::SynStream { .. }))
            .await;
        peer.send(frames::syn_reply(version, 1).status("200 OK").fin())
            .await;
        within(stream.response_headers()).await.unwrap();
        drop(peer);
        within(stream.closed()).await;
        let end = within(driver).await.unwrap();
        assert!(matches!(end, Err(SessionError::Io(_))), "{end:?}");
    }
}

#[tokio::test]
async fn a_client_that_has_closed_its_direction_and_reads_gets_its_response() {
    for version in Version::ALL {
        let (near, far) = tcp().await;
        let mut pair = server(near, far, version);
        let stream = request(&mut pair, version).await;
        pair.peer.shutdown().await;
        // Probes come and are passed over.
        for _ in 0..3 {
            pair.peer.recv_until(is_ping).await;
        }
        assert!(!pair.session.can_open(), "no peer is left to answer");
        let (_receive, mut send) = stream.send_reply(HeaderBlock::new()).unwrap().split();
        send.send_data(vec![7; 50_000].into(), true).unwrap();
        let last = |frame: &Received| matches!(frame, Received::Data { fin: true, .. });
        pair.peer.recv_until(last).await;
        drop(pair.session);
        within(pair.driver).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_long_for_its_response_is_probed_ever_more_rarely() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let mut pair = server(near, far, version);
        let stream = request(&mut pair, version).await;
        pair.peer.shutdown().await;
        let hour = Duration::from_secs(3600);
        let mut pings = 0;
        let start = tokio::time::Instant::now();
        while let Ok(frame) = timeout(hour - start.elapsed(), pair.peer.recv()).await {
            pings += usize::from(is_ping(&frame));
        }
        // One each five seconds, and some in the beginning.
        assert!((700..740).contains(&pings), "{pings}");
        let (_receive, mut send) = stream.send_reply(HeaderBlock::new()).unwrap().split();
        send.send_data("late".into(), true).unwrap();
        let last = |frame: &Received| matches!(frame, Received::Data { fin: true, .. });
        pair.peer.recv_until(last).await;
        within(pair.driver).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_is_noticed_at_once_over_a_transport_in_memory() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let mut pair = server(near, far, version);
        let _stream = request(&mut pair, version).await;
        let start = tokio::time::Instant::now();
        drop(pair.peer);
        assert!(within(pair.driver).await.unwrap().is_err());
        assert!(start.elapsed() < Duration::from_millis(20));
    }
}

/// Nothing is written meanwhile but what the probe writes.
#[test]
fn the_probes_of_a_peer_that_has_ended_are_written_when_nothing_else_is() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.timeouts.probe = Some(Duration::from_millis(40));
        let mut server = Machine::server(version).with(config);
        server.request(1);
        server.reply(1, false);
        server.sent();
        server.end_of_input();
        let step = |server: &mut Machine, millis| {
            server.advance(Duration::from_millis(millis));
            server.sent().len()
        };
        let probes = [10, 20, 40, 40, 40, 39].map(|wait| step(&mut server, wait));
        assert_eq!(probes, [1, 1, 1, 1, 1, 0]);
        server.send(1, 10, false);
        assert_eq!(step(&mut server, 0), 1, "DATA is as good as a probe");
        assert_eq!([39, 1].map(|wait| step(&mut server, wait)), [0, 1]);
        server.send(1, 10, true);
        assert_eq!(step(&mut server, 39), 1, "DATA alone");
        assert_eq!(server.connection.phase(), Phase::Closing);
    }
}

#[test]
fn a_peer_that_has_ended_is_not_probed_if_that_is_not_wanted() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.timeouts.probe = None;
        let mut server = Machine::server(version).with(config);
        server.request(1);
        server.end_of_input();
        server.advance(Duration::from_secs(100_000));
        assert_eq!(server.sent(), []);
        assert_eq!(server.connection.phase(), Phase::Draining);
    }
}

// --- reading that pauses -------------------------------------------------------------------------

/// Every way in which reading pauses for the application's sake.
fn pausing() -> Vec<(Version, Config)> {
    let mut cases: Vec<_> = Version::ALL
        .map(|version| (version, FlowControl::Off))
        .into();
    cases.extend([Version::V2, Version::V3].map(|version| (version, FlowControl::Enforce)));
    let config = |(version, flow_control)| {
        let mut config = Config::default();
        config.flow_control = flow_control;
        config.limits.session_buffer = 1000;
        config.timeouts.unread = None;
        (version, config)
    };
    cases.into_iter().map(config).collect()
}

fn empty(stream: u32) -> Received {
    Received::Data {
        stream,
        fin: false,
        payload: Bytes::new(),
    }
}

#[test]
fn a_peer_that_is_not_read_is_probed_when_nothing_else_is_written() {
    for (version, config) in pausing() {
        let mut server = Machine::server(version).with(config);
        server.upload(1);
        server.reply(1, false);
        server.feed(frames::data(1, vec![0; 1000]));
        assert!(!server.connection.wants_input());
        server.sent();
        assert_eq!(seconds(&mut server, 4), []);
        assert_eq!(seconds(&mut server, 1), [empty(1)]);
        assert_eq!(seconds(&mut server, 4), []);
        server.send(1, 10, false);
        assert_eq!(seconds(&mut server, 0).len(), 1, "as good as a probe");
        assert_eq!(seconds(&mut server, 4), []);
        assert_eq!(seconds(&mut server, 1), [empty(1)]);
        server.consume(1, 1000);
        assert_eq!(seconds(&mut server, 100), [], "it is read");
        assert_eq!(server.connection.phase(), Phase::Open);
    }
}

/// A client whose request is finished must not send DATA on its stream.
#[test]
fn a_probe_is_a_ping_where_no_stream_is_open_for_data() {
    for (version, config) in pausing() {
        let mut client = Machine::client(version).with(config);
        client.open(OpenOptions::new().fin(true));
        client.sent();
        client.feed(frames::syn_reply(version, 1).status("200 OK"));
        client.feed(frames::data(1, vec![0; 1000]));
        assert!(!client.connection.wants_input());
        assert_eq!(seconds(&mut client, 4), []);
        assert_eq!(pings(&seconds(&mut client, 1)), 1);
        assert_eq!(pings(&seconds(&mut client, 5)), 1);
    }
}

#[test]
fn a_probe_is_written_before_the_end_of_its_stream() {
    for (version, config) in pausing() {
        let mut server = Machine::server(version).with(config);
        server.upload(1);
        server.reply(1, false);
        server.feed(frames::data(1, vec![0; 1000]));
        server.sent();
        server.advance(Duration::from_secs(5));
        server.send(1, 10, true);
        let frames = server.sent();
        let is_end = |frame: &Received| matches!(frame, Received::Data { fin: true, .. });
        assert_eq!(frames[0], empty(1));
        assert!(frames.len() == 2 && is_end(&frames[1]), "{frames:?}");
    }
}

/// With real sockets: nothing is read of the client that is gone, and nothing but probes is written
/// to it.
#[tokio::test]
async fn a_client_that_is_gone_is_noticed_though_it_is_not_read() {
    for (version, mut config) in pausing() {
        config.timeouts.probe = Some(Duration::from_millis(50));
        let (near, far) = tcp().await;
        let mut pair = server_with(near, far, version, config);
        pair.peer.send(frames::syn_stream(version, 1)).await;
        let stream = within(pair.incoming.accept()).await.unwrap();
        let (mut from, _to) = stream.send_reply(HeaderBlock::new()).unwrap().split();
        // What comes after the first thousand is not read.
        for _ in 0..2 {
            pair.peer.send(frames::data(1, vec![0; 1000])).await;
        }
        sleep(Duration::from_millis(200)).await;
        assert!(!pair.driver.is_finished());
        drop(pair.peer);
        let end = within(pair.driver).await.unwrap();
        assert!(matches!(end, Err(SessionError::Io(_))));
        let mut last = from.next().await;
        while matches!(last, Some(Ok(_))) {
            last = from.next().await;
        }
        assert!(last.is_some(), "it is no end of the stream");
    }
}

// --- keep-alive ----------------------------------------------------------------------------------

/// A server that asks after 10 s, and whose peer has a stream open.
fn asking(version: Version, change: impl FnOnce(&mut Config)) -> Machine {
    let mut config = Config::default();
    config.timeouts.keep_alive = Some(Duration::from_secs(10));
    change(&mut config);
    let mut server = Machine::server(version).with(config);
    server.upload(1);
    server
}

fn seconds(server: &mut Machine, seconds: u64) -> Vec<Received> {
    server.advance(Duration::from_secs(seconds));
    server.sent()
}

fn pings(frames: &[Received]) -> usize {
    frames.iter().filter(|frame| is_ping(frame)).count()
}

#[test]
fn no_keep_alive_ping_is_sent_while_reading_pauses() {
    let mut server = asking(Version::V2, |config| {
        config.timeouts.probe = None;
        config.timeouts.unread = None;
        config.timeouts.frame = None;
    });
    server.feed(frames::data(1, vec![0; 300_000]));
    assert!(!server.connection.wants_input());
    assert_eq!(seconds(&mut server, 100_000), []);
    server.consume(1, 300_000);
    assert_eq!(seconds(&mut server, 0), []);
    assert_eq!(seconds(&mut server, 9), []);
    assert_eq!(pings(&seconds(&mut server, 1)), 1);
    assert_eq!(server.connection.phase(), Phase::Open);
}

#[test]
fn an_answer_is_due_once_the_ping_has_left() {
    for version in Version::ALL {
        let mut server = asking(version, |config| config.timeouts.write = None);
        server.reply(1, false);
        assert!(server.unsent_bytes() > 0);
        server.advance(Duration::from_secs(100_000));
        assert_eq!(server.connection.phase(), Phase::Open);
        server.sent();
        assert_eq!(pings(&seconds(&mut server, 10)), 1);
        seconds(&mut server, 19);
        assert_eq!(server.connection.phase(), Phase::Open);
        seconds(&mut server, 1);
        assert_eq!(server.connection.phase(), Phase::Closing);
    }
}

#[test]
fn any_frame_counts_as_the_answer_to_a_keep_alive_ping() {
    for version in Version::ALL {
        let mut server = asking(version, |_| {});
        for _ in 0..100 {
            seconds(&mut server, 29);
            server.feed(frames::data(1, [0]));
        }
        assert_eq!(server.connection.phase(), Phase::Open);
        seconds(&mut server, 10);
        seconds(&mut server, 20);
        assert_eq!(server.connection.phase(), Phase::Closing);
    }
}

/// What is in front of the PING may be read slowly, and nothing tells so.
#[test]
fn bytes_sent_before_a_keep_alive_ping_extend_its_time() {
    for (bytes, least) in [(0, 20), (4096, 21), (40_960, 30), (10_000_000, 140)] {
        let mut server = asking(Version::V2, |_| {});
        server.reply(1, false);
        server.sent();
        server.feed(frames::data(1, [0]));
        server.send(1, bytes, false);
        server.sent();
        assert_eq!(pings(&seconds(&mut server, 10)), 1);
        seconds(&mut server, least - 1);
        assert_eq!(server.connection.phase(), Phase::Open, "{bytes}");
        seconds(&mut server, 1);
        assert_eq!(server.connection.phase(), Phase::Closing, "{bytes}");
    }
}

#[test]
fn a_keep_alive_that_is_answered_keeps_no_session_alive_without_streams() {
    for version in Version::ALL {
        let mut server = asking(version, |_| {});
        server.feed(frames::data(1, []).fin());
        server.reply(1, true);
        server.sent();
        for second in 1..=180 {
            assert_eq!(server.connection.phase(), Phase::Open, "{second}");
            for frame in seconds(&mut server, 1) {
                if let Received::Ping(ping) = frame {
                    server.feed(frames::ping(version, ping.id));
                }
            }
        }
        assert_eq!(server.connection.phase(), Phase::Closing);
        assert!(server.connection.outcome().is_ok());
    }
}

/// Reading pauses since another stream is full; the peer may have sent requests that wait to be
/// read.
#[test]
fn a_session_is_not_idle_while_it_does_not_read() {
    let mut config = Config::default();
    config.timeouts.probe = None;
    config.timeouts.unread = None;
    config.limits.session_buffer = 1000;
    let mut server = Machine::server(Version::V2).with(config);
    server.upload(1);
    server.feed(frames::data(1, vec![0; 2000]).fin());
    server.reply(1, true);
    server.sent();
    assert_eq!(server.connection.stats().remote_streams, 0);
    assert!(!server.connection.wants_input());
    seconds(&mut server, 1000);
    assert_eq!(server.connection.phase(), Phase::Open);
    server.consume(1, 2000);
    seconds(&mut server, 0);
    seconds(&mut server, 179);
    assert_eq!(server.connection.phase(), Phase::Open);
    seconds(&mut server, 1);
    assert_eq!(server.connection.phase(), Phase::Closing);
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_takes_no_answer_from_a_ping_of_the_application() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let mut config = Config::default();
        config.timeouts.keep_alive = Some(Duration::from_secs(10));
        let (session, _incoming, driver) = spdy_session::client(near, version, config);
        tokio::spawn(driver);
        let mut peer = Wire::new(far, version);
        peer.recv_until(is_ping).await;
        let asked = tokio::spawn(async move { session.ping().await });
        peer.recv_until(is_ping).await;
        for ping in [1, 3] {
            peer.send(frames::ping(version, ping)).await;
            sleep(Duration::from_millis(1)).await;
        }
        within(asked).await.unwrap().unwrap();
    }
}
