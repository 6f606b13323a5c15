//! DATA, windows, and readers and transports that take nothing: rows 3, 9, 10, 13, 14 and 23.

use std::time::Duration;

use bytes::Bytes;
use spdy_frame::{RstStatus, Version};
use spdy_session::{Config, FlowControl, HeaderBlock, Rule, SessionError, StreamError, Timeout};
use spdy_tests::{
    frames::{self, StoredBlocks},
    wire::{Received, Wire},
};
use tokio::{io::duplex, time::sleep};

use super::{Handler, Served, is_goaway, is_reset};

#[tokio::test(start_paused = true)]
async fn s03_a_stream_that_is_granted_no_window_is_reset() {
    for version in [Version::V3, Version::V3_1] {
        let mut served = Served::new(version, Handler::Sends(100_000));
        served.send(frames::settings(version, &[(7, 0)])).await;
        served
            .send(frames::syn_stream(version, 1).get("/").fin())
            .await;
        let start = tokio::time::Instant::now();
        served.assert_usable().await;
        sleep(Duration::from_secs(29)).await;
        served.assert_usable().await;
        served
            .peer
            .recv_until(|frame| is_reset(frame, 1, RstStatus::CANCEL))
            .await;
        assert_eq!(start.elapsed().as_secs(), 30);
        let (stream, end) = served.ends.recv().await.unwrap();
        assert_eq!(stream, 1);
        assert!(
            matches!(end, StreamError::TimedOut(Timeout::Blocked)),
            "{end:?}"
        );
        served.assert_usable().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s09_empty_data_ends_the_session() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Reads);
        let frame = |n| match n {
            0 => vec![frames::syn_stream(version, 1).post("/")],
            _ => vec![frames::data(1, "")],
        };
        let rounds = served.flood(frame, 5000).await;
        assert!(rounds >= 1000, "{rounds}");
        assert_eq!(served.rule().await, Rule::EmptyFrames);
    }
}

#[tokio::test(start_paused = true)]
async fn s09_headers_without_fields_end_the_session() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Reads);
        let frame = |n| match n {
            0 => vec![frames::syn_stream(version, 1).post("/")],
            _ => vec![frames::headers(version, 1)],
        };
        let rounds = served.flood(frame, 5000).await;
        assert!(rounds >= 1000, "{rounds}");
        assert_eq!(served.rule().await, Rule::EmptyFrames);
    }
}

/// Real traffic has small frames: they are no offence.
#[tokio::test(start_paused = true)]
async fn s09_data_frames_of_single_bytes_are_accepted() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Reads);
        served.send(frames::syn_stream(version, 1).post("/")).await;
        let byte = frames::data(1, "x").bytes(&mut StoredBlocks::new(version));
        for _ in 0..50 {
            served.peer.send_bytes(&byte.repeat(1000)).await;
        }
        served.assert_usable().await;
        served.send(frames::data(1, "").fin()).await;
        served
            .peer
            .recv_until(|frame| matches!(frame, Received::SynReply { fin: true, .. }))
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn s10_a_transport_that_takes_nothing_ends_the_session() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Sends(10 << 20));
        if version != Version::V2 {
            let wide = frames::settings(version, &[(7, 0x7fff_ffff)]);
            served.send(wide).await;
            served
                .send(frames::window_update(version, 0, 1 << 30))
                .await;
        }
        for n in 0..20 {
            served
                .send(frames::syn_stream(version, 2 * n + 1).get("/").fin())
                .await;
        }
        let start = tokio::time::Instant::now();
        let end = served.driver.await.unwrap();
        assert!(
            matches!(end, Err(SessionError::TimedOut(Timeout::Write))),
            "{end:?}"
        );
        assert_eq!(start.elapsed().as_secs(), 30);
        for _ in 0..20 {
            let (_, end) = served.ends.recv().await.unwrap();
            assert!(
                matches!(
                    end,
                    StreamError::Session(SessionError::TimedOut(Timeout::Write))
                ),
                "{end:?}"
            );
        }
    }
}

/// With the transport shut, what writers can queue is bounded over all streams.
#[tokio::test(start_paused = true)]
async fn s10_writers_wait_when_the_queues_are_full() {
    for version in Version::ALL {
        let (near, far) = duplex(1024);
        let config = Config::default();
        let limits = config.limits.clone();
        let (_session, mut incoming, driver) = spdy_session::server(far, version, config);
        tokio::spawn(driver);
        let mut peer = Wire::new(near, version);
        let mut queued = 0;
        let mut senders = Vec::new();
        for n in 0..50 {
            peer.send(frames::syn_stream(version, 2 * n + 1).get("/").fin())
                .await;
            let (_, reply) = incoming.accept().await.unwrap().split();
            let mut send = reply.send_reply(HeaderBlock::new(), false).unwrap();
            while let Ok(Ok(())) =
                tokio::time::timeout(Duration::from_millis(1), send.ready()).await
            {
                send.send_data(Bytes::from_static(&[0; 1024]), false)
                    .unwrap();
                queued += 1024;
            }
            senders.push(send);
        }
        let most =
            limits.session_send_queue + limits.stream_send_queue + 50 * limits.min_send_queue;
        // A turn is on its way to the transport.
        assert!(queued <= most + 80 * 1024, "{queued}");
        assert!(queued >= 256 * 1024, "{queued}");
    }
}

/// Whatever happens to bytes that arrived, the session's window becomes whole again.
#[tokio::test(start_paused = true)]
async fn s14_credit_comes_back_from_streams_that_are_refused_reset_or_dropped() {
    let version = Version::V3_1;
    for handler in [Handler::Discards, Handler::Waits, Handler::Reads] {
        let mut served = Served::new(version, handler);
        let mut granted = 65_536_i64;
        let mut sent = 0;
        for n in 0..100 {
            let stream = 2 * n + 1;
            served
                .send(frames::syn_stream(version, stream).post("/"))
                .await;
            for _ in 0..4 {
                served.send(frames::data(stream, vec![0; 10_000])).await;
                sent += 10_000;
            }
            served
                .send(frames::rst_stream(version, stream, RstStatus::CANCEL))
                .await;
            // And some for a stream that is gone.
            served.send(frames::data(stream, vec![0; 1000])).await;
            sent += 1000;
            served.send(frames::ping(version, 2 * n + 1)).await;
            loop {
                match served.peer.recv().await {
                    Received::WindowUpdate(frame)
                        if frame.target == spdy_frame::WindowTarget::Session =>
                    {
                        granted += i64::from(frame.increment.get());
                    }
                    Received::Ping(_) => break,
                    _ => {}
                }
            }
        }
        // Grants are owed for at most half of the window.
        let open = granted - sent;
        assert!(
            open >= 512 * 1024,
            "{handler:?}: {open} bytes of the window are open"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn s23_the_stream_that_holds_up_all_others_is_reset_where_there_are_no_windows() {
    for (version, flow_control) in [
        (Version::V2, FlowControl::Enforce),
        (Version::V3, FlowControl::Off),
        (Version::V3_1, FlowControl::Off),
    ] {
        let mut config = Config::default();
        config.flow_control = flow_control;
        let mut served = Served::with(version, Handler::Waits, config);
        served.send(frames::syn_stream(version, 1).post("/")).await;
        let start = tokio::time::Instant::now();
        for _ in 0..16 {
            served.send(frames::data(1, vec![0; 16 * 1024])).await;
        }
        // Nothing is read any more.
        served.send(frames::ping(version, 1)).await;
        sleep(Duration::from_secs(50)).await;
        served
            .peer
            .recv_until(|frame| is_reset(frame, 1, RstStatus::CANCEL))
            .await;
        assert_eq!(start.elapsed().as_secs(), 60);
        let (_, end) = served.ends.recv().await.unwrap();
        assert!(
            matches!(end, StreamError::TimedOut(Timeout::Unread)),
            "{end:?}"
        );
        served.assert_usable().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s23_unwanted_bytes_are_discarded_up_to_a_limit() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Discards);
        served.send(frames::syn_stream(version, 1).post("/")).await;
        served.assert_usable().await;
        let piece = frames::data(1, vec![0; 16 * 1024]);
        for _ in 0..64 {
            served.send(piece.clone()).await;
            served.assert_usable().await;
        }
        assert!(served.ends.try_recv().is_err(), "one MiB is thrown away");
        served.send(piece).await;
        served
            .peer
            .recv_until(|frame| is_reset(frame, 1, RstStatus::CANCEL))
            .await;
        served.assert_usable().await;
    }
}

/// Row 13.
#[tokio::test(start_paused = true)]
async fn s13_windows_that_overflow_end_the_stream_or_the_session() {
    for version in [Version::V3, Version::V3_1] {
        let mut served = Served::new(version, Handler::Waits);
        served.send(frames::syn_stream(version, 1).post("/")).await;
        served
            .send(frames::window_update(version, 1, 0x7fff_ffff))
            .await;
        served
            .peer
            .recv_until(|frame| is_reset(frame, 1, RstStatus::FLOW_CONTROL_ERROR))
            .await;
        served.assert_usable().await;
        if version == Version::V3_1 {
            served
                .send(frames::window_update(version, 0, 0x7fff_ffff))
                .await;
            served.peer.recv_until(is_goaway).await;
        }
    }
}
