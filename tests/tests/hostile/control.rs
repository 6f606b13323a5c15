//! Control frames, and numbers in them that are not true: rows 2, 7, 8, 12 and 20.

use std::time::Duration;

use spdy_frame::{GoAwayStatus, RstStatus, Version};
use spdy_session::{Config, Rule, SessionError, Shutdown, Timeout};
use spdy_tests::{
    effort,
    frames::{self, StoredBlocks},
    wire::{Received, Wire},
};
use tokio::io::{AsyncWriteExt, duplex};

use super::{Handler, Served, is_goaway};

#[tokio::test(start_paused = true)]
async fn s02_a_settings_count_of_2_to_the_32_ends_the_session() {
    for version in Version::ALL {
        let mut payload = u32::MAX.to_be_bytes().to_vec();
        payload.extend([0, 0, 0, 4, 0, 0, 0, 1]);
        let mut served = Served::new(version, Handler::Waits);
        served.send(frames::control(version, 4, payload)).await;
        served.peer.recv_until(is_goaway).await;
        assert!(matches!(served.error().await, SessionError::Frame(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn s07_pings_that_are_read_end_the_session_as_well() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let rounds = served
            .flood(|_| vec![frames::ping(version, 1)], 30_000)
            .await;
        assert!((9_000..20_000).contains(&rounds), "{rounds}");
        assert_eq!(served.rule().await, Rule::Pings);
    }
}

#[tokio::test(start_paused = true)]
async fn s07_pings_that_nobody_reads_the_answers_to_stop_the_reading() {
    for version in Version::ALL {
        let (mut near, far) = duplex(16 * 1024);
        let (_session, _incoming, driver) = spdy_session::server(far, version, Config::default());
        let driver = tokio::spawn(driver);
        let ping = frames::ping(version, 1).bytes(&mut StoredBlocks::new(version));
        let mut taken = 0;
        let flood = async {
            loop {
                near.write_all(&ping).await.unwrap();
                taken += 1;
            }
        };
        let stopped = tokio::time::timeout(Duration::from_secs(5), flood).await;
        assert!(stopped.is_err());
        // 256 answers in the session, and what the two directions of the transport hold.
        let held = 2 * 16 * 1024 / ping.len();
        assert!(taken < 256 + held + 4000, "{taken}");
        let end = driver.await.unwrap();
        assert!(
            matches!(end, Err(SessionError::TimedOut(Timeout::Write))),
            "{end:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn s08_settings_are_charged() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let frame = |_| vec![frames::settings(version, &[(4, 100)])];
        let rounds = served.flood(frame, 3000).await;
        assert!(rounds < 100, "{rounds}");
        assert_eq!(served.rule().await, Rule::Settings);
    }
}

/// All that the bucket lets through, with as many streams as there can be, all of them waiting for
/// a window: a change costs the same for any number of streams and writes one frame for each at
/// most.
#[tokio::test(start_paused = true)]
async fn s08_a_flapping_window_over_all_streams_is_cheap() {
    for version in [Version::V3, Version::V3_1] {
        let (few, many) = (flap(version, 10).await, flap(version, 100).await);
        println!("{version}: {few:?} for changes of the window of 10 streams, {many:?} of 100");
        // Ten times as many frames are written. With work for each stream at each frame it would be
        // a hundred times.
        assert!(many < 40 * few, "{version}: {few:?}, {many:?}");
    }
}

/// How long the session works for 400 changes with this number of streams.
async fn flap(version: Version, streams: u32) -> Duration {
    let mut config = Config::default();
    config.limits.settings.burst = 1000;
    let mut served = Served::with(version, Handler::Sends(1 << 20), config);
    served.send(frames::settings(version, &[(7, 0)])).await;
    if version == Version::V3_1 {
        let update = frames::window_update(version, 0, 1 << 30);
        served.send(update).await;
    }
    for n in 0..streams {
        let request = frames::syn_stream(version, 2 * n + 1).get("/").fin();
        served.send(request).await;
    }
    served.assert_usable().await;
    let before = effort::used();
    for n in 0..400 {
        let window = if n % 2 == 0 { n / 2 + 1 } else { 0 };
        served.send(frames::settings(version, &[(7, window)])).await;
        if n % 20 == 0 {
            served.assert_usable().await;
        }
    }
    served.assert_usable().await;
    effort::used() - before
}

#[tokio::test(start_paused = true)]
async fn s08_frames_of_unknown_types_are_charged() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let frame = |_| vec![frames::control(version, 4711, vec![0; 4])];
        let rounds = served.flood(frame, 30_000).await;
        assert!((9_999..20_000).contains(&rounds), "{rounds}");
        assert_eq!(served.rule().await, Rule::IdleFrames);
    }
}

/// Row 8: each looks at all streams, and says nothing that the first one did not.
#[tokio::test(start_paused = true)]
async fn s08_goaways_are_charged() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        // The session goes on as long as a stream does.
        served.send(frames::syn_stream(version, 1).post("/")).await;
        let frame = |_| vec![frames::go_away(version, 0, GoAwayStatus::OK)];
        let rounds = served.flood(frame, 30_000).await;
        assert!((9_999..20_000).contains(&rounds), "{rounds}");
        assert_eq!(served.rule().await, Rule::IdleFrames);
    }
}

/// Row 19: streams that a peer opens after our GOAWAY are ignored, but their header blocks cost as
/// much as all others.
#[tokio::test(start_paused = true)]
async fn s19_streams_after_our_goaway_are_charged() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        served.send(frames::syn_stream(version, 1).post("/")).await;
        served.assert_usable().await;
        served
            .session
            .shutdown(Shutdown::Graceful { deadline: None });
        served.peer.recv_until(is_goaway).await;
        let frame = |n| vec![frames::syn_stream(version, 2 * n + 3).get("/").fin()];
        let rounds = served.flood(frame, 5000).await;
        assert!((999..2000).contains(&rounds), "{rounds}");
        assert_eq!(served.rule().await, Rule::LocalResets);
    }
}

/// Row 12.
#[tokio::test(start_paused = true)]
async fn s12_lengths_that_do_not_fit_the_type_end_the_session() {
    for version in Version::ALL {
        for frame in [
            frames::ping(version, 1).length(3),
            frames::ping(version, 1).more(&[0]),
            frames::rst_stream(version, 1, RstStatus::CANCEL).length(7),
            frames::control(version, 1, vec![0; 9]),
            frames::control(version, 7, vec![0; 3]),
        ] {
            let mut served = Served::new(version, Handler::Waits);
            served.send(frame.clone()).await;
            served.peer.shutdown().await;
            served.peer.recv_until(is_goaway).await;
            let end = served.driver.await.unwrap();
            assert!(
                matches!(end, Err(SessionError::Frame(_))),
                "{frame:?}: {end:?}"
            );
        }
    }
}

/// Row 20.
#[tokio::test(start_paused = true)]
async fn s20_settings_that_a_server_wants_persisted_are_never_echoed() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let (session, _pushes, driver) = spdy_session::client(far, version, Config::default());
        tokio::spawn(driver);
        let mut peer = Wire::new(near, version);
        // PERSIST_VALUE, on a setting that no implementation sends.
        peer.send(frames::settings(version, &[(0x0100_0001, 0x00c0_ffee)]))
            .await;
        peer.send(frames::ping(version, 2)).await;
        peer.recv_until(|frame| matches!(frame, Received::Ping(ping) if ping.id == 2))
            .await;
        session.shutdown(Shutdown::Graceful { deadline: None });
        peer.shutdown().await;
        for frame in peer.recv_all().await {
            if let Received::Settings(settings) = frame {
                assert!(
                    settings
                        .entries
                        .iter()
                        .all(|entry| entry.value != 0x00c0_ffee)
                );
            }
        }
    }
}
