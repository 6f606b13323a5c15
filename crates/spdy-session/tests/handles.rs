//! What the handles of sessions and streams promise, over the real driver.

mod support;

use std::time::Duration;

use bytes::Bytes;
use spdy_session::{
    Config, FlowControl, HeaderBlock, Open, OpenError, Origin, Received, RstStatus, SessionError,
    Shutdown, StreamError, Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use self::support::{Drip, block, in_all_versions, join, octets, pair, pair_with, stream, within};

#[tokio::test]
async fn headers_and_payload_go_both_ways_and_end_with_fin() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let mut mine = near
            .session
            .open(block(&[("ask", "1")]), Open::default())
            .await
            .unwrap();
        let pending = within(far.incoming.accept()).await.unwrap();
        assert_eq!(pending.headers().get("ask"), Some(&b"1"[..]));
        assert!(pending.has_body());
        let mut theirs = pending.reply(block(&[("answer", "2")])).unwrap();

        mine.write_all(b"question").await.unwrap();
        within(mine.shutdown()).await.unwrap();
        let mut question = String::new();
        within(theirs.read_to_string(&mut question)).await.unwrap();
        assert_eq!(question, "question");

        theirs.write_all(b"answer").await.unwrap();
        theirs.send_headers(block(&[("late", "3")]), true).unwrap();
        assert_eq!(
            within(mine.headers()).await.unwrap().get("answer"),
            Some(&b"2"[..])
        );
        let late = within(mine.more_headers()).await.unwrap().unwrap();
        assert_eq!(late.get("late"), Some(&b"3"[..]));
        let mut answer = String::new();
        within(mine.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer, "answer");
        assert!(within(mine.more_headers()).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn every_octet_arrives_through_a_transport_that_drips() {
    in_all_versions(async |version| {
        let (a, b) = duplex(64);
        let config = Config::default;
        let (near, mut far) = join(version, config(), Drip::new(a), config(), Drip::new(b));
        let (mine, theirs) = stream(&near, &mut far).await;
        let sent = octets(20_000);
        let (mut receive, mut send) = mine.split();
        let (mut far_receive, mut far_send) = theirs.split();
        let mut back = Vec::new();
        let echo = async {
            tokio::io::copy(&mut far_receive, &mut far_send).await?;
            far_send.shutdown().await
        };
        let upload = async {
            send.write_all(&sent).await?;
            send.shutdown().await
        };
        let all = async { tokio::try_join!(echo, upload, receive.read_to_end(&mut back)) };
        within(all).await.unwrap();
        assert!(back == sent);
    })
    .await;
}

/// The scenario in which other implementations lose octets and end with a clean EOF.
#[tokio::test]
async fn c205_a_slow_reader_loses_nothing_with_windows_and_without() {
    for flow_control in [FlowControl::Enforce, FlowControl::Off] {
        in_all_versions(async |version| {
            let mut config = Config::default();
            config.flow_control = flow_control;
            let (near, mut far) = pair_with(version, config.clone(), config);
            let (mine, mut theirs) = stream(&near, &mut far).await;
            let sent = octets(3_000_000);
            let expected = sent.clone();
            let (_receive, mut send) = mine.split();
            let upload = tokio::spawn(async move {
                send.write_all(&sent).await?;
                send.shutdown().await
            });
            // Nothing is read until the writer has filled everything that it may fill.
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(!upload.is_finished());
            let mut received = Vec::new();
            let mut buffer = [0; 7000];
            loop {
                match within(theirs.read(&mut buffer)).await.unwrap() {
                    0 => break,
                    octets => received.extend_from_slice(&buffer[..octets]),
                }
                if received.len() % 50 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            assert!(received == expected, "{} octets", received.len());
            within(upload).await.unwrap().unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_is_an_error_after_what_came_before() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mut mine, mut theirs) = stream(&near, &mut far).await;
        theirs.write_all(b"half").await.unwrap();
        theirs.flush().await.unwrap();
        let mut half = [0; 4];
        within(mine.read_exact(&mut half)).await.unwrap();
        theirs.reset(RstStatus::INTERNAL_ERROR);
        let error = within(mine.read(&mut half)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let source = error
            .get_ref()
            .unwrap()
            .downcast_ref::<StreamError>()
            .unwrap();
        assert!(matches!(
            source,
            StreamError::Reset {
                status: RstStatus::INTERNAL_ERROR,
                origin: Origin::Remote
            }
        ));
        assert!(
            mine.write_all(b"x").await.is_err(),
            "the other half has ended too"
        );
    })
    .await;
}

#[tokio::test]
async fn c210_a_lost_transport_is_an_error_on_both_halves_and_no_end_of_stream() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mut mine, mut theirs) = stream(&near, &mut far).await;
        theirs.write_all(b"part").await.unwrap();
        theirs.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        far.driver.abort();
        let mut received = Vec::new();
        let error = within(mine.read_to_end(&mut received)).await.unwrap_err();
        assert_eq!(received, b"part", "what came before the end is there");
        let source = error
            .get_ref()
            .unwrap()
            .downcast_ref::<StreamError>()
            .unwrap();
        assert!(
            matches!(source, StreamError::Session(SessionError::ConnectionLost)),
            "{source:?}"
        );
        assert!(matches!(
            within(near.session.closed()).await,
            Err(SessionError::ConnectionLost)
        ));
        assert!(matches!(
            within(far.session.closed()).await,
            Err(SessionError::Closed)
        ));
        assert!(theirs.write_all(b"more").await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_pending_stream_that_is_dropped_is_safe_to_retry() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let mut mine = near
            .session
            .open(HeaderBlock::new(), Open::default())
            .await
            .unwrap();
        drop(within(far.incoming.accept()).await.unwrap());
        let error = within(mine.headers()).await.unwrap_err();
        assert!(matches!(error, StreamError::NotProcessed), "{error:?}");

        let mut mine = near
            .session
            .open(HeaderBlock::new(), Open::default())
            .await
            .unwrap();
        let (_receive, reply) = within(far.incoming.accept()).await.unwrap().split();
        drop(reply);
        let error = within(mine.headers()).await.unwrap_err();
        let StreamError::Reset {
            status,
            origin: Origin::Remote,
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(status, RstStatus::CANCEL, "something may have been done");
    })
    .await;
}

/// The near side is the client here: it takes pushes.
#[tokio::test]
async fn a_push_that_is_dropped_is_refused_or_cancelled() {
    in_all_versions(async |version| {
        let mut taking = Config::default();
        taking.accept_push = true;
        let (mut near, mut far) = pair_with(version, taking, Config::default());
        let (_request, page) = stream(&near, &mut far).await;
        let how = Open {
            unidirectional: true,
            associated: Some(page.id()),
            ..Open::default()
        };
        for is_taken in [false, true] {
            let push = within(far.session.open(HeaderBlock::new(), how)).await;
            let (_, mut send) = push.unwrap().split();
            let pending = within(near.incoming.accept()).await.unwrap();
            let expected = if is_taken {
                drop(pending.into_recv().unwrap());
                "peer reset the stream with CANCEL"
            } else {
                drop(pending);
                "peer did not process the stream"
            };
            assert_eq!(within(send.closed()).await.to_string(), expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_noted_before_its_future_is_polled_and_goaway_is_seen() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (noted, mut ids) = tokio::sync::mpsc::unbounded_channel();
        let opening = near
            .session
            .open_noting(HeaderBlock::new(), Open::default(), move |id| {
                noted.send(id).unwrap();
            });
        let theirs = within(far.incoming.accept()).await.unwrap();
        assert_eq!(within(ids.recv()).await, Some(theirs.id()));
        assert_eq!(within(opening).await.unwrap().id(), theirs.id());

        assert!(near.session.takes_streams() && near.session.is_same(&near.session.clone()));
        assert!(!near.session.is_same(&far.session));
        far.session.shutdown(Shutdown::Graceful { deadline: None });
        assert!(!far.session.takes_streams());
        while near.session.takes_streams() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_an_incoming_handle_streams_are_refused() {
    in_all_versions(async |version| {
        let (near, far) = pair(version);
        let mut waiting = near
            .session
            .open(HeaderBlock::new(), Open::default())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(far.incoming);
        let mut later = near
            .session
            .open(HeaderBlock::new(), Open::default())
            .await
            .unwrap();
        for stream in [&mut waiting, &mut later] {
            let error = within(stream.headers()).await.unwrap_err();
            assert!(matches!(error, StreamError::NotProcessed), "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn opening_waits_for_a_free_place_and_can_be_given_up() {
    in_all_versions(async |version| {
        let mut config = Config::default();
        config.limits.max_streams = 2;
        let (near, mut far) = pair_with(version, Config::default(), config);
        // The limit is known once an answer to a PING has come behind it.
        within(near.session.ping()).await.unwrap();
        let first = stream(&near, &mut far).await;
        let _second = stream(&near, &mut far).await;
        let given_up = near.session.open(block(&[("n", "3")]), Open::default());
        let mut third = Box::pin(near.session.open(block(&[("n", "4")]), Open::default()));
        assert!(
            tokio::time::timeout(Duration::from_millis(20), &mut third)
                .await
                .is_err()
        );
        drop(given_up);
        drop(first);
        let _third = within(third).await.unwrap();
        let accepted = within(far.incoming.accept()).await.unwrap();
        assert_eq!(
            accepted.headers().get("n"),
            Some(&b"4"[..]),
            "the one given up was not opened"
        );
    })
    .await;
}

#[tokio::test]
async fn c101_a_session_that_ends_opens_nothing_more() {
    in_all_versions(async |version| {
        let (near, _far) = pair(version);
        near.session.shutdown(Shutdown::Graceful { deadline: None });
        let error = within(near.session.open(HeaderBlock::new(), Open::default()))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::GoingAway | OpenError::Session(SessionError::Closed)
            ),
            "{error:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_graceful_shutdown_lets_streams_finish() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mut mine, mut theirs) = stream(&near, &mut far).await;
        far.session.shutdown(Shutdown::Graceful { deadline: None });
        tokio::time::sleep(Duration::from_millis(5)).await;
        theirs.write_all(&octets(200_000)).await.unwrap_or_default();
        let writing = tokio::spawn(async move {
            theirs.write_all(b"the end").await?;
            theirs.shutdown().await?;
            let mut rest = Vec::new();
            theirs.read_to_end(&mut rest).await
        });
        let mut received = Vec::new();
        within(mine.read_to_end(&mut received)).await.unwrap();
        assert!(received.ends_with(b"the end"));
        mine.shutdown().await.unwrap();
        assert_eq!(within(writing).await.unwrap().unwrap(), 0);
        within(near.session.closed()).await.unwrap();
        within(far.session.closed()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_with_a_deadline_cuts_what_has_not_finished() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mut mine, _theirs) = stream(&near, &mut far).await;
        let deadline = Some(Duration::from_millis(20));
        far.session.shutdown(Shutdown::Graceful { deadline });
        let mut received = Vec::new();
        within(mine.read_to_end(&mut received)).await.unwrap_err();
        let error = within(far.session.closed()).await.unwrap_err();
        assert!(
            matches!(error, SessionError::TimedOut(spdy_session::Timeout::Drain)),
            "{error:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_session_that_nobody_holds_ends_when_its_streams_have() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mut mine, mut theirs) = stream(&near, &mut far).await;
        drop((near.session, near.incoming));
        theirs.write_all(b"still here").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut received = String::new();
        within(mine.read_to_string(&mut received)).await.unwrap();
        assert_eq!(received, "still here");
        mine.shutdown().await.unwrap();
        within(near.driver).await.unwrap().unwrap();
        within(far.session.closed()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_ping_is_answered_and_fails_with_its_session() {
    in_all_versions(async |version| {
        let (near, far) = pair(version);
        assert!(within(near.session.ping()).await.unwrap() < Duration::from_secs(5));
        assert!(within(far.session.ping()).await.unwrap() < Duration::from_secs(5));
        near.driver.abort();
        let error = within(near.session.ping()).await.unwrap_err();
        assert!(matches!(error, SessionError::Closed), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_writer_waits_while_the_peer_does_not_read() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mine, _theirs) = stream(&near, &mut far).await;
        let (_receive, mut send) = mine.split();
        let mut queued = 0;
        let fill = async {
            loop {
                send.ready().await.unwrap();
                send.send_data(Bytes::from(vec![0; 10_000]), false).unwrap();
                queued += 10_000;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_millis(50), fill)
                .await
                .is_err()
        );
        // The peer's window or buffer, our send queue, the transport, and what is on its way to it.
        let most = 256 * 1024 + 64 * 1024 + 16 * 1024 + 128 * 1024;
        assert!(queued < most, "{queued} octets were taken");
    })
    .await;
}

#[tokio::test]
async fn what_is_dropped_unread_gives_its_credit_back() {
    // 40 streams of 64 KiB each would fill the window of the session twice.
    let version = Version::V3_1;
    let (near, mut far) = pair(version);
    for _ in 0..40 {
        let (mine, theirs) = stream(&near, &mut far).await;
        let (_receive, mut send) = mine.split();
        send.write_all(&[7; 64 * 1024]).await.unwrap();
        within(send.shutdown()).await.unwrap();
        drop(theirs);
    }
    let (mut mine, mut theirs) = stream(&near, &mut far).await;
    let mut received = Vec::new();
    let write = async {
        mine.write_all(&octets(500_000)).await?;
        mine.shutdown().await
    };
    within(async { tokio::try_join!(write, theirs.read_to_end(&mut received)) })
        .await
        .unwrap();
    assert!(received == octets(500_000));
}

#[tokio::test]
async fn pieces_are_given_as_they_came_and_headers_between_them() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mine, theirs) = stream(&near, &mut far).await;
        let (_receive, mut send) = mine.split();
        let (mut receive, _send) = theirs.split();
        send.send_data("one".into(), false).unwrap();
        send.send_headers(block(&[("between", "x")]), false)
            .unwrap();
        send.send_data("two".into(), true).unwrap();
        within(send.written()).await.unwrap();
        let mut log = Vec::new();
        while let Some(received) = within(receive.next()).await {
            log.push(match received.unwrap() {
                Received::Data(piece) => String::from_utf8(piece.to_vec()).unwrap(),
                Received::Headers(block) => format!("{} fields", block.len()),
            });
        }
        assert_eq!(log, ["one", "1 fields", "two"]);
        assert!(receive.is_finished());
    })
    .await;
}

#[tokio::test]
async fn many_small_writes_arrive_joined_and_whole() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mine, mut theirs) = stream(&near, &mut far).await;
        let (_receive, mut send) = mine.split();
        let writing = tokio::spawn(async move {
            for octet in octets(50_000) {
                send.write_all(&[octet]).await?;
            }
            send.shutdown().await
        });
        let mut received = Vec::new();
        within(theirs.read_to_end(&mut received)).await.unwrap();
        assert!(received == octets(50_000));
        writing.await.unwrap().unwrap();
    })
    .await;
}
