//! The errors with which a stream or a session ends for the application: each cause differs from
//! every other.

use std::{error::Error, io, time::Duration};

use spdy_frame::{GoAwayStatus, RstStatus, Version};
use spdy_session::{
    Config, ForeignProtocol, HeaderBlock, Incoming, Initiator, OpenError, OpenOptions, Rule,
    Session, SessionError, Shutdown, Stream, StreamError, Timeout,
};
use spdy_tests::{
    frames,
    wire::{Received, Wire},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// A client whose peer is the test.
struct Client {
    session: Session,
    peer: Wire<DuplexStream>,
    driver: JoinHandle<Result<(), SessionError>>,
    _pushes: Incoming,
}

impl Client {
    fn new(version: Version) -> Self {
        Self::with(version, Config::default())
    }

    fn with(version: Version, config: Config) -> Self {
        let (near, far) = duplex(64 * 1024);
        let (session, pushes, driver) = spdy_session::client(near, version, config);
        Self {
            session,
            peer: Wire::new(far, version),
            driver: tokio::spawn(driver),
            _pushes: pushes,
        }
    }

    /// A stream whose SYN_STREAM the peer has seen.
    async fn stream(&mut self) -> Stream {
        let stream = self
            .session
            .open(HeaderBlock::new(), OpenOptions::default())
            .await;
        self.peer
            .recv_until(|frame| matches!(frame, Received::SynStream { .. }))
            .await;
        stream.unwrap()
    }
}

/// Everything that can be asked of a stream gives the same error, without an end of the stream.
async fn told_everywhere(mut stream: Stream) -> StreamError {
    let closed = within(stream.closed()).await;
    let headers = within(stream.response_headers()).await.unwrap_err();
    assert_eq!(shown(&headers), shown(&closed));
    let read = within(stream.read_to_end(&mut Vec::new()))
        .await
        .unwrap_err();
    assert_eq!(shown(&of(&read)), shown(&closed));
    let written = within(stream.write_all(b"more")).await.unwrap_err();
    assert_eq!(shown(&of(&written)), shown(&closed));
    let (mut receive, mut send) = stream.split();
    let next = within(receive.next()).await.expect("no end of the stream");
    assert_eq!(shown(&next.unwrap_err()), shown(&closed));
    let finished = send.finish().unwrap_err();
    assert_eq!(shown(&finished), shown(&closed));
    closed
}

/// The stream's error inside an `io::Error`.
fn of(error: &io::Error) -> StreamError {
    let inner = error.get_ref().expect("there is an error inside");
    inner
        .downcast_ref::<StreamError>()
        .expect("it is a StreamError")
        .clone()
}

fn shown(error: &StreamError) -> String {
    format!("{error:?}")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(100), future)
        .await
        .expect("it ends")
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_is_safe_to_retry() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        let stream = client.stream().await;
        let refusal = frames::rst_stream(version, 1, RstStatus::REFUSED_STREAM);
        client.peer.send(refusal).await;
        let error = told_everywhere(stream).await;
        assert!(matches!(error, StreamError::NotProcessed), "{error:?}");
        assert!(error.is_retry_safe());
        assert_eq!(
            io::Error::from(error).kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_goaway_says_which_streams_are_safe_to_retry() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        let (first, second) = (client.stream().await, client.stream().await);
        let goaway = frames::go_away(version, 1, GoAwayStatus::OK);
        client.peer.send(goaway).await;
        let error = told_everywhere(second).await;
        assert!(error.is_retry_safe(), "{error:?}");
        // The other one goes on.
        client
            .peer
            .send(frames::syn_reply(version, 1).status("200").fin())
            .await;
        let (mut receive, mut send) = first.split();
        receive.response_headers().await.unwrap();
        assert!(receive.next().await.is_none());
        let refused = client
            .session
            .open(HeaderBlock::new(), OpenOptions::default())
            .await;
        assert!(matches!(refused, Err(OpenError::GoingAway)), "{refused:?}");
        send.finish().unwrap();
        client.peer.recv_all().await;
        drop(client.peer);
        client.session.closed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_the_peer_has_its_status() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        let stream = client.stream().await;
        let reset = frames::rst_stream(version, 1, RstStatus::INTERNAL_ERROR);
        client.peer.send(reset).await;
        let error = told_everywhere(stream).await;
        assert!(
            matches!(
                error,
                StreamError::Reset {
                    status: RstStatus::INTERNAL_ERROR,
                    initiator: Initiator::Remote
                }
            ),
            "{error:?}"
        );
        assert!(!error.is_retry_safe());
        assert_eq!(
            io::Error::from(error).kind(),
            io::ErrorKind::ConnectionReset
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_ours_says_that_it_is_ours_and_why() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        // By the rules: HEADERS before SYN_REPLY.
        let stream = client.stream().await;
        client
            .peer
            .send(frames::headers(version, 1).field("a", "b"))
            .await;
        let error = told_everywhere(stream).await;
        let StreamError::Reset {
            status,
            initiator: Initiator::Library { rule },
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(status, RstStatus::PROTOCOL_ERROR);
        assert_eq!(rule, Rule::HeadersBeforeReply);
        assert_eq!(rule.to_string(), "HEADERS came before SYN_REPLY");

        // By the application.
        let (mut receive, send) = client.stream().await.split();
        send.reset(RstStatus::CANCEL);
        let error = within(receive.next()).await.unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                StreamError::Reset {
                    status: RstStatus::CANCEL,
                    initiator: Initiator::Local
                }
            ),
            "{error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_peer_ends_has_its_status_and_its_last_stream() {
    for version in [Version::V3, Version::V3_1] {
        let mut client = Client::new(version);
        let (stream, other) = (client.stream().await, client.stream().await);
        let goaway = frames::go_away(version, 1, GoAwayStatus::INTERNAL_ERROR);
        client.peer.send(goaway).await;
        drop(client.peer);
        assert!(told_everywhere(other).await.is_retry_safe());
        let error = told_everywhere(stream).await;
        assert!(matches!(error, StreamError::Session(_)), "{error:?}");
        assert!(!error.is_retry_safe());
        assert!(error.source().is_some());
        let end = within(client.session.closed()).await.unwrap_err();
        let SessionError::GoAway { last_good, status } = end else {
            panic!("{end:?}");
        };
        assert_eq!(status, GoAwayStatus::INTERNAL_ERROR);
        assert_eq!(last_good.map(|id| id.get()), Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_this_side_ends_says_which_rule_was_broken() {
    for version in [Version::V3, Version::V3_1] {
        let mut client = Client::new(version);
        let stream = client.stream().await;
        // A stream with an id of the client.
        client.peer.send(frames::syn_stream(version, 3)).await;
        let error = told_everywhere(stream).await;
        let StreamError::Session(SessionError::Violation { status, rule }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(status, GoAwayStatus::PROTOCOL_ERROR);
        assert_eq!(rule, Rule::WrongParity);
        client.peer.shutdown().await;
        let end = within(client.session.closed()).await.unwrap_err();
        assert!(matches!(end, SessionError::Violation { .. }), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_another_protocol_is_named_in_the_error() {
    let answers: [(&[u8], _); 3] = [
        (
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            ForeignProtocol::Http1,
        ),
        (
            b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64",
            ForeignProtocol::Http2,
        ),
        (b"\x15\x03\x01\0\x02\x02\x46", ForeignProtocol::Tls),
    ];
    for version in Version::ALL {
        for (answer, protocol) in answers {
            let mut client = Client::new(version);
            let stream = client.stream().await;
            // However it is cut.
            for piece in answer.chunks(5) {
                client.peer.send_bytes(piece).await;
            }
            let error = told_everywhere(stream).await;
            let StreamError::Session(SessionError::Foreign(spoken)) = error else {
                panic!("{error:?}");
            };
            assert_eq!(spoken, protocol);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn frames_and_header_blocks_that_cannot_be_read_are_the_source() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        client.peer.send(frames::ping(version, 1).length(3)).await;
        client.peer.shutdown().await;
        let end = within(client.session.closed()).await.unwrap_err();
        assert!(matches!(end, SessionError::Frame(_)), "{end:?}");
        assert!(end.source().is_some());

        let mut client = Client::new(version);
        let _stream = client.stream().await;
        let broken = frames::syn_reply(version, 1).compressed_block([7; 30]);
        client.peer.send(broken).await;
        client.peer.shutdown().await;
        let end = within(client.session.closed()).await.unwrap_err();
        assert!(matches!(end, SessionError::Headers(_)), "{end:?}");
        assert!(end.source().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_is_closed_and_one_that_fails_are_told_apart() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        let stream = client.stream().await;
        drop(client.peer);
        let error = told_everywhere(stream).await;
        assert!(
            matches!(error, StreamError::Session(SessionError::ConnectionLost)),
            "{error:?}"
        );
        let end = within(client.session.closed()).await;
        assert!(matches!(end, Err(SessionError::ConnectionLost)), "{end:?}");

        let io = failing();
        let (session, _pushes, driver) = spdy_session::client(io, version, Config::default());
        let opening = session.open(HeaderBlock::new(), OpenOptions::default());
        tokio::spawn(driver);
        let stream = within(opening).await.unwrap();
        let error = told_everywhere(stream).await;
        let StreamError::Session(SessionError::Io(cause)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(cause.kind(), io::ErrorKind::ConnectionReset);
        assert!(matches!(session.closed().await, Err(SessionError::Io(_))));
    }
}

/// A transport that takes everything, and fails when it is read for the second time.
fn failing() -> impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {
    tokio::io::join(Failing(false), tokio::io::sink())
}

struct Failing(bool);

impl tokio::io::AsyncRead for Failing {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        if std::mem::replace(&mut self.0, true) {
            return std::task::Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let waker = cx.waker().clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(20)).await;
            waker.wake();
        });
        std::task::Poll::Pending
    }
}

/// Which timeout it was, for each of those that a stream or a session can end with.
#[tokio::test(start_paused = true)]
async fn a_timeout_says_which_one_it_was() {
    for version in Version::ALL {
        let of_stream = |error: StreamError| match error {
            StreamError::TimedOut(timeout)
            | StreamError::Session(SessionError::TimedOut(timeout)) => timeout,
            error => panic!("{error:?}"),
        };
        // No window.
        if version != Version::V2 {
            let mut client = Client::new(version);
            client.peer.send(frames::settings(version, &[(7, 0)])).await;
            let mut stream = client.stream().await;
            stream.write_all(b"6bytes").await.unwrap();
            assert_eq!(of_stream(told_everywhere(stream).await), Timeout::Blocked);
        }
        // Nothing is read of what this side writes.
        let mut client = Client::new(version);
        let mut stream = client.stream().await;
        if version != Version::V2 {
            client
                .peer
                .send(frames::window_update(version, 1, 1 << 20))
                .await;
        }
        if version == Version::V3_1 {
            client
                .peer
                .send(frames::window_update(version, 0, 1 << 20))
                .await;
        }
        _ = timeout(Duration::from_secs(1), stream.write_all(&[0; 500_000])).await;
        assert_eq!(of_stream(within(stream.closed()).await), Timeout::Write);
        // A frame that is not complete.
        let mut client = Client::new(version);
        let stream = client.stream().await;
        client.peer.send_bytes(&[0x80, 0]).await;
        assert_eq!(of_stream(told_everywhere(stream).await), Timeout::Frame);
        // A peer that is gone.
        let mut config = Config::default();
        config.timeouts.keep_alive = Some(Duration::from_secs(5));
        let mut client = Client::with(version, config);
        let stream = client.stream().await;
        assert_eq!(of_stream(told_everywhere(stream).await), Timeout::KeepAlive);
        // A shutdown that is not over in time.
        let mut client = Client::new(version);
        let stream = client.stream().await;
        let deadline = Some(Duration::from_secs(5));
        client.session.shutdown(Shutdown::Graceful { deadline });
        assert_eq!(of_stream(told_everywhere(stream).await), Timeout::Drain);
        let error = io::Error::from(StreamError::TimedOut(Timeout::Drain));
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_on_this_side_is_told_apart_from_one_of_the_peer() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        let stream = client.stream().await;
        client.session.shutdown(Shutdown::Now);
        let error = told_everywhere(stream).await;
        assert!(
            matches!(error, StreamError::Session(SessionError::Closed)),
            "{error:?}"
        );
        client.peer.shutdown().await;
        within(client.session.closed()).await.unwrap();

        let mut client = Client::new(version);
        let stream = client.stream().await;
        client.driver.abort();
        let error = told_everywhere(stream).await;
        assert!(
            matches!(error, StreamError::Session(SessionError::Closed)),
            "{error:?}"
        );
        let end = within(client.session.closed()).await;
        assert!(matches!(end, Err(SessionError::Closed)), "{end:?}");
    }
}

/// Neither half is read or written, and the end is noticed as it happens; in order it is no error.
#[tokio::test(start_paused = true)]
async fn the_end_can_be_awaited_without_reading_or_writing() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        let mut reset = client.stream().await;
        let (mut receive, mut send) = client.stream().await.split();
        let waiting = tokio::spawn(async move { reset.closed().await });
        let finishing = tokio::spawn(async move {
            send.finish().unwrap();
            send.closed().await
        });
        sleep(Duration::from_millis(10)).await;
        assert!(!waiting.is_finished() && !finishing.is_finished());
        client
            .peer
            .send(frames::rst_stream(version, 1, RstStatus::CANCEL))
            .await;
        let end = within(waiting).await.unwrap();
        assert!(matches!(end, StreamError::Reset { .. }), "{end:?}");

        client
            .peer
            .send(frames::syn_reply(version, 3).status("200"))
            .await;
        client.peer.send(frames::data(3, "all").fin()).await;
        let end = within(finishing).await.unwrap();
        assert!(matches!(end, StreamError::Finished), "{end:?}");
        // What came is there all the same.
        let mut all = Vec::new();
        within(receive.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all, b"all");
    }
}

/// What has come is given first. Without FIN there is no end of the stream, whatever ended it.
#[tokio::test(start_paused = true)]
async fn a_clean_end_comes_after_fin_only() {
    let ends = |version| {
        [
            (frames::data(1, "").fin(), true),
            (frames::rst_stream(version, 1, RstStatus::CANCEL), false),
            (frames::ping(version, 1).length(3), false),
            (frames::noop(version), false),
        ]
    };
    for version in Version::ALL {
        for (frame, is_clean) in ends(version) {
            let mut client = Client::new(version);
            let mut stream = client.stream().await;
            client
                .peer
                .send(frames::syn_reply(version, 1).status("200"))
                .await;
            client.peer.send(frames::data(1, "6bytes")).await;
            client.peer.send(frame.clone()).await;
            // Then the transport goes as well: that changes nothing.
            drop(client.peer);
            if !is_clean {
                within(stream.closed()).await;
            }
            let mut bytes = Vec::new();
            let read = within(stream.read_to_end(&mut bytes)).await;
            assert_eq!(bytes, b"6bytes");
            assert_eq!(read.is_ok(), is_clean, "{frame:?}: {read:?}");
        }
    }
}
