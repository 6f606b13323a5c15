//! Streams that come and go: rows 5, 6, 18, 19 and 21.

use spdy_frame::{Priority, RstStatus, Version};
use spdy_session::{Config, HeaderBlock, Rule, SessionError};
use spdy_tests::{
    frames::{self, RawFrame},
    wire::{Received, Wire},
};
use tokio::io::duplex;

use super::{Handler, Served, is_goaway, is_reset};

#[tokio::test(start_paused = true)]
async fn s05_rapid_reset_ends_the_session() {
    for version in Version::ALL {
        for handler in [Handler::Waits, Handler::Answers, Handler::Reads] {
            let mut served = Served::new(version, handler);
            let rounds = served
                .flood(
                    |n| {
                        vec![
                            frames::syn_stream(version, 2 * n + 1).get("/"),
                            frames::rst_stream(version, 2 * n + 1, RstStatus::CANCEL),
                        ]
                    },
                    20_000,
                )
                .await;
            assert!(rounds >= 999, "{rounds}");
            let rule = served.rule().await;
            assert!(
                [Rule::PeerResets, Rule::LocalResets].contains(&rule),
                "{rule}"
            );
        }
    }
}

/// What the application does for a stream goes on until it has noticed, so the stream keeps its
/// place.
#[tokio::test(start_paused = true)]
async fn s05_cancelled_streams_count_until_their_handlers_are_gone() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let (_session, mut incoming, driver) =
            spdy_session::server(far, version, Config::default());
        tokio::spawn(driver);
        let mut peer = Wire::new(near, version);
        let mut handlers = Vec::new();
        for n in 0..100 {
            peer.send(frames::syn_stream(version, 2 * n + 1).post("/"))
                .await;
            handlers.push(incoming.accept().await.unwrap().split());
            peer.send(frames::rst_stream(version, 2 * n + 1, RstStatus::CANCEL))
                .await;
        }
        peer.send(frames::syn_stream(version, 201).post("/")).await;
        peer.recv_until(|frame| is_reset(frame, 201, RstStatus::REFUSED_STREAM))
            .await;
        handlers.clear();
        peer.send(frames::syn_stream(version, 203).post("/")).await;
        assert_eq!(incoming.accept().await.unwrap().id().get(), 203);
    }
}

#[tokio::test(start_paused = true)]
async fn s05_resets_of_streams_that_are_gone_are_charged_too() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let frame = |_| vec![frames::rst_stream(version, 1, RstStatus::CANCEL)];
        let rounds = served.flood(frame, 30_000).await;
        assert!((9_999..20_000).contains(&rounds), "{rounds}");
        assert_eq!(served.rule().await, Rule::IdleFrames);
    }
}

#[tokio::test(start_paused = true)]
async fn s06_making_the_session_reset_ends_it() {
    for version in Version::ALL {
        let after_fin = |n| {
            vec![
                frames::syn_stream(version, 2 * n + 1).get("/").fin(),
                frames::data(2 * n + 1, "after FIN"),
            ]
        };
        let over_the_limit = |n| vec![frames::syn_stream(version, 2 * n + 1).post("/")];
        let bad_header = |n| vec![frames::syn_stream(version, 2 * n + 1).field("UPPER", "case")];
        let never_opened = |n| vec![frames::data(2 * n + 1, "6bytes")];
        type Attack<'a> = &'a dyn Fn(u32) -> Vec<RawFrame>;
        let attacks: [Attack<'_>; 4] = [&after_fin, &over_the_limit, &bad_header, &never_opened];
        for (n, attack) in attacks.into_iter().enumerate() {
            let mut served = Served::new(version, Handler::Waits);
            let rounds = served.flood(attack, 3000).await;
            assert!(rounds >= 999, "attack {n}: {rounds}");
            assert_eq!(served.rule().await, Rule::LocalResets);
        }
        if version == Version::V2 {
            continue;
        }
        let overflow = |n| {
            vec![
                frames::syn_stream(version, 2 * n + 1).get("/").fin(),
                frames::window_update(version, 2 * n + 1, 0x7fff_ffff),
            ]
        };
        let nothing = |n| {
            vec![
                frames::syn_stream(version, 2 * n + 1).get("/").fin(),
                frames::window_update(version, 2 * n + 1, 0),
            ]
        };
        let attacks: [Attack<'_>; 2] = [&overflow, &nothing];
        for attack in attacks {
            let mut served = Served::new(version, Handler::Waits);
            let rounds = served.flood(attack, 3000).await;
            assert!(rounds >= 999, "{rounds}");
            assert_eq!(served.rule().await, Rule::LocalResets);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s06_streams_are_charged_after_our_goaway_as_well() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        served.send(frames::syn_stream(version, 1).post("/")).await;
        served.assert_usable().await;
        served
            .session
            .shutdown(spdy_session::Shutdown::Graceful { deadline: None });
        served.peer.recv_until(is_goaway).await;
        // Every block has to be inflated; a frame for a stream that is not open makes work all the
        // same.
        let bytes = frames::headers(version, 4711).field("a", "b");
        let rounds = served.flood(|_| vec![bytes.clone()], 3000).await;
        assert!(rounds >= 999, "{rounds}");
    }
}

#[tokio::test(start_paused = true)]
async fn s19_frames_for_streams_that_are_gone_are_answered_once() {
    for version in [Version::V3, Version::V3_1] {
        let mut served = Served::new(version, Handler::Answers);
        served
            .send(frames::syn_stream(version, 1).get("/").fin())
            .await;
        served
            .peer
            .recv_until(|frame| matches!(frame, Received::SynReply { fin: true, .. }))
            .await;
        for _ in 0..1000 {
            served.send(frames::data(1, "late")).await;
        }
        served.send(frames::ping(version, 1)).await;
        let mut resets = 0;
        loop {
            match served.peer.recv().await {
                Received::RstStream(_) => resets += 1,
                Received::Ping(_) => break,
                _ => {}
            }
        }
        assert_eq!(resets, 1);
    }
}

/// Row 18.
#[tokio::test(start_paused = true)]
async fn s18_ids_that_are_even_or_go_down_end_the_session() {
    for version in [Version::V3, Version::V3_1] {
        for ids in [[1, 2], [5, 3]] {
            let mut served = Served::new(version, Handler::Waits);
            for id in ids {
                served.send(frames::syn_stream(version, id).post("/")).await;
            }
            served.peer.recv_until(is_goaway).await;
        }
    }
}

/// Row 21.
#[tokio::test(start_paused = true)]
async fn s21_pushes_that_nobody_asked_for_are_refused_and_charged() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let (session, mut pushes, driver) = spdy_session::client(far, version, Config::default());
        let driver = tokio::spawn(driver);
        let mut peer = Wire::new(near, version);
        let _stream = session
            .open(HeaderBlock::new(), spdy_session::OpenOptions::default())
            .await
            .unwrap();
        peer.recv_until(|frame| matches!(frame, Received::SynStream { .. }))
            .await;
        for n in 1..2000 {
            let push = frames::syn_stream(version, 2 * n)
                .unidirectional()
                .associated(1)
                .priority_bytes([Priority::HIGHEST.get(), 0]);
            peer.send(push).await;
            if matches!(peer.recv().await, Received::GoAway(_)) {
                assert!(n >= 1000, "{n}");
                break;
            }
        }
        drop(peer);
        assert!(matches!(
            driver.await.unwrap(),
            Err(SessionError::Violation { .. })
        ));
        assert!(pushes.accept().await.is_none());
    }
}
