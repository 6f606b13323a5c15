//! Peers that take their time, or are gone: rows 15 and 24.

use std::time::Duration;

use spdy_frame::{GoAwayStatus, Version};
use spdy_session::{Config, SessionError, StreamError, Timeout};
use spdy_tests::{
    frames::{self, StoredBlocks},
    wire::{Received, Wire},
};
use tokio::{io::duplex, time::sleep};

use super::{Handler, Served, is_goaway};

#[tokio::test(start_paused = true)]
async fn s15_a_session_without_a_first_frame_ends_after_ten_seconds() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let start = tokio::time::Instant::now();
        served.peer.recv_until(is_goaway).await;
        assert_eq!(start.elapsed().as_secs(), 10);
        let error = served.error().await;
        assert!(
            matches!(error, SessionError::TimedOut(Timeout::FirstFrame)),
            "{error:?}"
        );
    }
}

/// One byte now and then does not help: the first frame has its time, and so has every other.
#[tokio::test(start_paused = true)]
async fn s15_a_frame_that_drips_is_not_waited_for() {
    for version in Version::ALL {
        for (before, timeout, seconds) in
            [(false, Timeout::FirstFrame, 10), (true, Timeout::Frame, 30)]
        {
            let mut served = Served::new(version, Handler::Waits);
            let mut blocks = StoredBlocks::new(version);
            if before {
                served.send(frames::ping(version, 1)).await;
                served.assert_usable().await;
            }
            let start = tokio::time::Instant::now();
            let frame = frames::syn_stream(version, 1).get("/").bytes(&mut blocks);
            for byte in frame {
                if served.driver.is_finished() {
                    break;
                }
                let peer = &mut served.peer;
                if tokio::time::timeout(Duration::from_secs(1), peer.recv_until(is_goaway))
                    .await
                    .is_ok()
                {
                    break;
                }
                peer.send_bytes(&[byte]).await;
            }
            let waited = start.elapsed().as_secs();
            assert!(
                (seconds..=seconds + 1).contains(&waited),
                "{timeout:?}: {waited}"
            );
            let error = served.error().await;
            assert!(
                matches!(error, SessionError::TimedOut(found) if found == timeout),
                "{error:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s15_a_session_at_rest_ends_after_three_minutes() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Answers);
        served
            .send(frames::syn_stream(version, 1).get("/").fin())
            .await;
        served.assert_usable().await;
        let start = tokio::time::Instant::now();
        // The patience of the peer is shorter.
        sleep(Duration::from_secs(175)).await;
        let goaway = served.peer.recv_until(is_goaway).await;
        assert!(matches!(goaway, Received::GoAway(frame) if frame.status == GoAwayStatus::OK));
        assert_eq!(start.elapsed().as_secs(), 180);
        served.peer.shutdown().await;
        served.driver.await.unwrap().unwrap();
    }
}

/// A session that has failed reads on for a moment, so that GOAWAY is not lost, and no longer than
/// that.
#[tokio::test(start_paused = true)]
async fn s15_a_peer_that_goes_on_after_goaway_is_not_listened_to_for_long() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        served.send(frames::ping(version, 1).length(3)).await;
        served.peer.recv_until(is_goaway).await;
        let start = tokio::time::Instant::now();
        let end = served.driver.await.unwrap();
        assert!(matches!(end, Err(SessionError::Frame(_))), "{end:?}");
        assert_eq!(start.elapsed().as_secs(), 1);
    }
}

/// With the keep-alive, a peer that is gone without a word is found out though a stream is open.
#[tokio::test(start_paused = true)]
async fn s15_s24_a_keep_alive_finds_a_peer_that_is_gone() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.timeouts.keep_alive = Some(Duration::from_secs(15));
        let mut served = Served::with(version, Handler::Reads, config);
        served.send(frames::syn_stream(version, 1).post("/")).await;
        served.send(frames::data(1, "half")).await;
        let start = tokio::time::Instant::now();
        let end = served.driver.await.unwrap();
        assert!(
            matches!(end, Err(SessionError::TimedOut(Timeout::KeepAlive))),
            "{end:?}"
        );
        let waited = start.elapsed().as_secs();
        assert!((35..=37).contains(&waited), "{waited}");
    }
}

/// Row 24.
#[tokio::test(start_paused = true)]
async fn s24_a_transport_that_breaks_is_an_error_to_every_reader() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let (session, mut incoming, driver) = spdy_session::server(far, version, Config::default());
        tokio::spawn(driver);
        let mut peer = Wire::new(near, version);
        peer.send(frames::syn_stream(version, 1).post("/")).await;
        peer.send(frames::data(1, "half")).await;
        let (mut receive, _reply) = incoming.accept().await.unwrap().split();
        drop(peer);
        assert!(matches!(
            receive.next().await,
            Some(Ok(spdy_session::Received::Data(half))) if half == "half"
        ));
        for _ in 0..2 {
            let end = receive.next().await;
            assert!(
                matches!(
                    end,
                    Some(Err(StreamError::Session(SessionError::ConnectionLost)))
                ),
                "{end:?}"
            );
        }
        assert!(matches!(
            session.closed().await,
            Err(SessionError::ConnectionLost)
        ));
    }
}
