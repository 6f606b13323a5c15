//! What a stream carries: headers, bytes, ends, errors and back-pressure.

use std::time::Duration;

use bytes::Bytes;
use spdy_session::{
    Config, FlowControl, HeaderBlock, Initiator, OpenOptions, Received, RstStatus, SessionError,
    StreamError, Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::support::{Drip, block, bytes, in_all_versions, join, pair, pair_with, stream, within};

#[tokio::test(start_paused = true)]
async fn headers_and_payload_go_both_ways_and_end_with_fin() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let mut mine = near
            .session
            .open(block(&[("ask", "1")]), OpenOptions::default())
            .await
            .unwrap();
        let pending = within(far.incoming.accept()).await.unwrap();
        assert_eq!(pending.headers().get("ask"), Some(&b"1"[..]));
        assert!(pending.has_body());
        let mut theirs = pending.send_reply(block(&[("answer", "2")])).unwrap();

        mine.write_all(b"question").await.unwrap();
        within(mine.shutdown()).await.unwrap();
        let mut question = String::new();
        within(theirs.read_to_string(&mut question)).await.unwrap();
        assert_eq!(question, "question");

        theirs.write_all(b"answer").await.unwrap();
        theirs.send_headers(block(&[("late", "3")]), true).unwrap();
        assert_eq!(
            within(mine.response_headers()).await.unwrap().get("answer"),
            Some(&b"2"[..])
        );
        let late = within(mine.next_headers()).await.unwrap().unwrap();
        assert_eq!(late.get("late"), Some(&b"3"[..]));
        let mut answer = String::new();
        within(mine.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer, "answer");
        assert!(within(mine.next_headers()).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn every_byte_arrives_over_a_transport_of_single_bytes() {
    in_all_versions(async |version| {
        let (a, b) = duplex(64);
        let config = Config::default;
        let (near, mut far) = join(version, config(), Drip::new(a), config(), Drip::new(b));
        let (mine, theirs) = stream(&near, &mut far).await;
        let sent = bytes(20_000);
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

/// In this scenario other implementations lose bytes and end with a clean EOF.
#[tokio::test(start_paused = true)]
async fn c205_a_slow_reader_loses_nothing_with_windows_and_without() {
    for flow_control in [FlowControl::Enforce, FlowControl::Off] {
        in_all_versions(async |version| {
            let mut config = Config::default();
            config.flow_control = flow_control;
            let (near, mut far) = pair_with(version, config.clone(), config);
            let (mine, mut theirs) = stream(&near, &mut far).await;
            let sent = bytes(3_000_000);
            let expected = sent.clone();
            let (_receive, mut send) = mine.split();
            let upload = tokio::spawn(async move {
                send.write_all(&sent).await?;
                send.shutdown().await
            });
            // The reader starts only after the writer has filled everything.
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(!upload.is_finished());
            let mut received = Vec::new();
            let mut buffer = [0; 7000];
            loop {
                match within(theirs.read(&mut buffer)).await.unwrap() {
                    0 => break,
                    bytes => received.extend_from_slice(&buffer[..bytes]),
                }
                if received.len() % 50 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            assert!(received == expected, "{} bytes", received.len());
            within(upload).await.unwrap().unwrap();
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
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
                initiator: Initiator::Remote
            }
        ));
        assert!(
            mine.write_all(b"x").await.is_err(),
            "the other half has ended too"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
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

#[tokio::test(start_paused = true)]
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
        // The peer's window or buffer, our send queue, the transport, and the bytes on their way to
        // it.
        let most = 256 * 1024 + 64 * 1024 + 16 * 1024 + 128 * 1024;
        assert!(queued < most, "{queued} bytes were taken");
    })
    .await;
}

#[tokio::test(start_paused = true)]
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
        mine.write_all(&bytes(500_000)).await?;
        mine.shutdown().await
    };
    within(async { tokio::try_join!(write, theirs.read_to_end(&mut received)) })
        .await
        .unwrap();
    assert!(received == bytes(500_000));
}

#[tokio::test(start_paused = true)]
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

#[tokio::test(start_paused = true)]
async fn many_small_writes_arrive_joined_and_whole() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mine, mut theirs) = stream(&near, &mut far).await;
        let (_receive, mut send) = mine.split();
        let writing = tokio::spawn(async move {
            for byte in bytes(50_000) {
                send.write_all(&[byte]).await?;
            }
            send.shutdown().await
        });
        let mut received = Vec::new();
        within(theirs.read_to_end(&mut received)).await.unwrap();
        assert!(received == bytes(50_000));
        writing.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn header_blocks_that_are_read_do_not_count_for_ever() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mine, theirs) = stream(&near, &mut far).await;
        let (_receive, mut send) = mine.split();
        let (mut receive, _send) = theirs.split();
        for n in 0..20_000 {
            send.send_headers(block(&[("n", &n.to_string())]), false)
                .unwrap();
            let received = if n % 2 == 0 {
                match within(receive.next()).await {
                    Some(Ok(Received::Headers(block))) => block,
                    other => panic!("{n}: {other:?}"),
                }
            } else {
                within(receive.next_headers()).await.unwrap().unwrap()
            };
            assert_eq!(received.get("n"), Some(n.to_string().as_bytes()));
        }
    })
    .await;
}

/// Streams are closed one after the other, and the application does not read their blocks.
#[tokio::test(start_paused = true)]
async fn header_blocks_that_are_not_read_count_also_when_their_streams_are_closed() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let long = "v".repeat(30_000);
        let mut kept = Vec::new();
        let refused = loop {
            assert!(kept.len() < 100, "{version}: nothing bounds them");
            let opened = near
                .session
                .open(HeaderBlock::new(), OpenOptions::default());
            let (mut reply, mut send) = within(opened).await.unwrap().split();
            let (receive, answer) = within(far.incoming.accept()).await.unwrap().split();
            kept.push(receive);
            send.send_headers(block(&[("long", &long)]), true).unwrap();
            match within(send.written()).await {
                Ok(()) => {}
                Err(error) => break error,
            }
            within(near.session.ping()).await.unwrap();
            let Ok(answer) = answer.send_reply(HeaderBlock::new(), true) else {
                break within(reply.response_headers()).await.unwrap_err();
            };
            drop(answer);
            if let Err(error) = within(reply.response_headers()).await {
                break error;
            }
        };
        assert!(matches!(refused, StreamError::Reset { .. }), "{refused:?}");
        assert!((30..40).contains(&kept.len()), "{}", kept.len());
        drop(kept);
        let (mut mine, theirs) = stream(&near, &mut far).await;
        mine.send_headers(block(&[("long", &long)]), true).unwrap();
        let (mut receive, _send) = theirs.split();
        assert!(within(receive.next_headers()).await.unwrap().is_some());
    })
    .await;
}
