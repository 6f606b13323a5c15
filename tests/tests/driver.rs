//! The driver of `spdy-session` over a transport in memory, with a peer that sends what it likes.

use std::time::Duration;

use spdy_frame::Version;
use spdy_session::{
    Config, HeaderBlock, OpenOptions, SessionError, Shutdown, StreamError, Timeout, Timeouts,
};
use spdy_tests::{frames, side::serve_over, wire::Received};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// More answers than may be queued pause the reading. It has to go on when they are written, which
/// may be in the same turn.
#[tokio::test(start_paused = true)]
async fn c087_a_burst_of_pings_is_answered_to_the_last_one() {
    for version in Version::ALL {
        let mut served = serve_over(64 * 1024, version, Config::default());
        let mut blocks = frames::StoredBlocks::new(version);
        let burst: Vec<u8> = (0..3000)
            .flat_map(|n| frames::ping(version, 2 * n + 1).bytes(&mut blocks))
            .collect();
        served.peer.send_bytes(&burst).await;
        for n in 0..3000 {
            let answer = served
                .peer
                .recv_until(|frame| matches!(frame, Received::Ping(_)))
                .await;
            assert!(
                matches!(answer, Received::Ping(ping) if ping.id == 2 * n + 1),
                "{answer:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c092_pings_that_nobody_reads_the_answers_to_end_the_session_in_time() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.timeouts.write = Some(Duration::from_millis(100));
        let (mut peer, far) = duplex(4096);
        let (_session, _incoming, driver) = spdy_session::server(far, version, config);
        let driver = tokio::spawn(driver);
        let mut blocks = frames::StoredBlocks::new(version);
        let ping = frames::ping(version, 1).bytes(&mut blocks);
        // Nothing is read: the session stops reading too, and this blocks until the transport is
        // closed.
        let mut taken = 0;
        while taken < 3000 && peer.write_all(&ping).await.is_ok() {
            taken += 1;
        }
        assert!(taken < 3000, "3,000 PINGs were taken");
        let end = driver.await.unwrap();
        assert!(
            matches!(end, Err(SessionError::TimedOut(Timeout::Write))),
            "{end:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c045_c120_a_raw_request_is_answered_frame_by_frame() {
    for version in Version::ALL {
        let mut served = serve_over(64 * 1024, version, Config::default());
        served
            .peer
            .send(frames::syn_stream(version, 1).get("/"))
            .await;
        served.peer.send(frames::data(1, "body")).await;
        served.peer.send(frames::data(1, "").fin()).await;
        let stream = served.incoming.accept().await.unwrap();
        let mut stream = stream.send_reply(HeaderBlock::new()).unwrap();
        let mut body = String::new();
        stream.read_to_string(&mut body).await.unwrap();
        assert_eq!(body, "body");
        stream.write_all(b"answer").await.unwrap();
        stream.shutdown().await.unwrap();
        served
            .peer
            .recv_until(|frame| matches!(frame, Received::SynReply { stream: 1, .. }))
            .await;
        let mut answer = Vec::new();
        loop {
            if let Received::Data {
                stream: 1,
                fin,
                payload,
            } = served.peer.recv().await
            {
                answer.extend_from_slice(&payload);
                if fin {
                    break;
                }
            }
        }
        assert_eq!(answer, b"answer");
    }
}

#[tokio::test(start_paused = true)]
async fn c209_bytes_of_no_protocol_end_the_session_with_an_error() {
    for version in Version::ALL {
        let mut served = serve_over(64 * 1024, version, Config::default());
        served
            .peer
            .send_bytes(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
            .await;
        served.peer.shutdown().await;
        let end = served.driver.await.unwrap();
        assert!(end.is_err(), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c103_a_session_at_rest_ends_with_goaway() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.timeouts = Timeouts::default();
        let mut served = serve_over(64 * 1024, version, config);
        served.peer.send(frames::ping(version, 1)).await;
        // Time passes by itself when no task has anything to do. The peer waits in steps shorter
        // than its patience.
        tokio::time::sleep(Duration::from_secs(179)).await;
        assert!(!served.driver.is_finished());
        let goaway = served
            .peer
            .recv_until(|frame| matches!(frame, Received::GoAway(_)))
            .await;
        assert!(
            matches!(goaway, Received::GoAway(frame) if frame.status.0 == 0),
            "{goaway:?}"
        );
        served.peer.shutdown().await;
        served.driver.await.unwrap().unwrap();
    }
}

/// A session that is ended at once does not wait for a peer that takes nothing, however long
/// writing may take.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_ended_at_once_does_not_wait_to_write() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.timeouts.write = Some(Duration::from_secs(4 * 3600));
        let linger = config.timeouts.linger;
        let (_peer, far) = duplex(64);
        let (session, _incoming, driver) = spdy_session::client(far, version, config);
        let driver = tokio::spawn(driver);
        let opened = session
            .open(HeaderBlock::new(), OpenOptions::default())
            .await;
        let mut stream = opened.unwrap();
        stream.write_all(&[0; 4096]).await.unwrap();
        let start = tokio::time::Instant::now();
        session.shutdown(Shutdown::Now);
        driver.await.unwrap().unwrap();
        assert!(start.elapsed() <= 2 * linger, "{:?}", start.elapsed());
        let end = stream.closed().await;
        assert!(matches!(end, StreamError::Session(_)), "{end:?}");
    }
}
