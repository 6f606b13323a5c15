//! Streams that are opened, accepted or refused, and the ends of sessions.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use spdy_session::{
    Config, HeaderBlock, Initiator, OpenError, OpenOptions, RstStatus, SessionError, Shutdown,
    StreamError, Timeout, Version,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::Builder,
    sync::oneshot,
};

use crate::support::{block, bytes, in_all_versions, pair, pair_with, stream, within};

#[tokio::test(start_paused = true)]
async fn a_pending_stream_that_is_dropped_is_safe_to_retry() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let mut mine = near
            .session
            .open(HeaderBlock::new(), OpenOptions::default())
            .await
            .unwrap();
        drop(within(far.incoming.accept()).await.unwrap());
        let error = within(mine.response_headers()).await.unwrap_err();
        assert!(matches!(error, StreamError::NotProcessed), "{error:?}");

        let mut mine = near
            .session
            .open(HeaderBlock::new(), OpenOptions::default())
            .await
            .unwrap();
        let (_receive, reply) = within(far.incoming.accept()).await.unwrap().split();
        drop(reply);
        let error = within(mine.response_headers()).await.unwrap_err();
        let StreamError::Reset {
            status,
            initiator: Initiator::Remote,
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(status, RstStatus::CANCEL, "something may have been done");
    })
    .await;
}

/// The near side is the client here, and accepts pushes.
#[tokio::test(start_paused = true)]
async fn a_push_that_is_dropped_is_refused_or_cancelled() {
    in_all_versions(async |version| {
        let mut taking = Config::default();
        taking.accept_push = true;
        let (mut near, mut far) = pair_with(version, taking, Config::default());
        let (_request, page) = stream(&near, &mut far).await;
        let how = OpenOptions::new()
            .unidirectional(true)
            .associated(page.id());
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

#[tokio::test(start_paused = true)]
async fn a_stream_is_noted_before_its_future_is_polled_and_goaway_is_seen() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (noted, mut ids) = tokio::sync::mpsc::unbounded_channel();
        let opening =
            near.session
                .open_noting(HeaderBlock::new(), OpenOptions::default(), move |id| {
                    noted.send(id).unwrap();
                });
        let theirs = within(far.incoming.accept()).await.unwrap();
        assert_eq!(within(ids.recv()).await, Some(theirs.id()));
        assert_eq!(within(opening).await.unwrap().id(), theirs.id());

        assert!(near.session.can_open() && near.session.is_same(&near.session.clone()));
        assert!(!near.session.is_same(&far.session));
        far.session.shutdown(Shutdown::Graceful { deadline: None });
        assert!(!far.session.can_open());
        while near.session.can_open() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// The near side is the client here, and accepts pushes.
#[tokio::test(start_paused = true)]
async fn pushes_that_wait_are_refused_when_no_handle_can_accept_them_any_more() {
    in_all_versions(async |version| {
        let mut taking = Config::default();
        taking.accept_push = true;
        let (near, mut far) = pair_with(version, taking, Config::default());
        let (_request, page) = stream(&near, &mut far).await;
        let how = OpenOptions::new()
            .unidirectional(true)
            .associated(page.id());
        let push = async || within(far.session.open(HeaderBlock::new(), how)).await;
        let mut pushes = vec![push().await.unwrap(), push().await.unwrap()];
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(near.incoming);
        pushes.push(push().await.unwrap());
        for push in &mut pushes {
            let error = within(push.closed()).await;
            assert!(matches!(error, StreamError::NotProcessed), "{error:?}");
        }
    })
    .await;
}

/// The application gives a stream up when the driver has opened it: before the driver hands it
/// over, when nothing is written yet, and after the peer has accepted it.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_wanted_any_more_when_it_is_open_is_cancelled() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let place = Arc::new(Mutex::new(None));
        let given_up = Arc::clone(&place);
        let (noted, id) = oneshot::channel();
        let note = move |id| {
            drop(given_up.lock().unwrap().take());
            noted.send(id).unwrap();
        };
        let how = OpenOptions::default();
        let opening = near.session.open_noting(HeaderBlock::new(), how, note);
        *place.lock().unwrap() = Some(opening);
        let unwanted = within(id).await.unwrap();

        let opening = near.session.open(HeaderBlock::new(), how);
        let late = within(far.incoming.accept()).await.unwrap();
        assert_ne!(late.id(), unwanted);
        drop(opening);
        let (_recv, mut reply) = late.split();
        let error = within(poll_fn(|cx| reply.poll_closed(cx))).await;
        assert_eq!(error.to_string(), "peer reset the stream with CANCEL");
        // The driver keeps nothing of either, so the session ends.
        near.session.shutdown(Shutdown::Graceful { deadline: None });
        within(near.session.closed()).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_an_incoming_handle_streams_are_refused() {
    in_all_versions(async |version| {
        let (near, far) = pair(version);
        let mut waiting = near
            .session
            .open(HeaderBlock::new(), OpenOptions::default())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(far.incoming);
        let mut later = near
            .session
            .open(HeaderBlock::new(), OpenOptions::default())
            .await
            .unwrap();
        for stream in [&mut waiting, &mut later] {
            let error = within(stream.response_headers()).await.unwrap_err();
            assert!(matches!(error, StreamError::NotProcessed), "{error:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn opening_waits_for_a_free_place_and_can_be_given_up() {
    in_all_versions(async |version| {
        let mut config = Config::default();
        config.limits.max_streams = 2;
        let (near, mut far) = pair_with(version, Config::default(), config);
        // The limit has arrived when a PING behind it is answered.
        within(near.session.ping()).await.unwrap();
        let first = stream(&near, &mut far).await;
        let _second = stream(&near, &mut far).await;
        let given_up = near
            .session
            .open(block(&[("n", "3")]), OpenOptions::default());
        let mut third = Box::pin(
            near.session
                .open(block(&[("n", "4")]), OpenOptions::default()),
        );
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

#[tokio::test(start_paused = true)]
async fn c101_a_session_that_ends_opens_nothing_more() {
    in_all_versions(async |version| {
        let (near, _far) = pair(version);
        near.session.shutdown(Shutdown::Graceful { deadline: None });
        let error = within(
            near.session
                .open(HeaderBlock::new(), OpenOptions::default()),
        )
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

#[tokio::test(start_paused = true)]
async fn a_graceful_shutdown_lets_streams_finish() {
    in_all_versions(async |version| {
        let (near, mut far) = pair(version);
        let (mut mine, mut theirs) = stream(&near, &mut far).await;
        far.session.shutdown(Shutdown::Graceful { deadline: None });
        tokio::time::sleep(Duration::from_millis(5)).await;
        theirs.write_all(&bytes(200_000)).await.unwrap_or_default();
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

#[tokio::test(start_paused = true)]
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
            matches!(error, SessionError::TimedOut(Timeout::Drain)),
            "{error:?}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_without_handles_ends_when_its_streams_have() {
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

#[tokio::test(start_paused = true)]
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

/// The runtime that polls the driver has no clock here, but the driver is woken.
#[test]
fn deadlines_may_be_watched_by_another_runtime() {
    let timers = Builder::new_current_thread().enable_time().build().unwrap();
    let watcher = timers.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = thread::spawn(move || timers.block_on(stopped));
    let ended = Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(async {
            let mut config = Config::default();
            config.timeouts.first_frame = Some(Duration::from_millis(20));
            config.timeouts.linger = Duration::from_millis(20);
            let (io, _peer) = duplex(1000);
            let (_session, _incoming, driver) = spdy_session::server(io, Version::V3_1, config);
            driver.timers(watcher).await
        });
    let Err(SessionError::TimedOut(timeout)) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(timeout, Timeout::FirstFrame);
    drop(stop);
    assert!(thread.join().unwrap().is_err());
}

/// A duration that a clock cannot express means no limit.
#[tokio::test(start_paused = true)]
async fn the_longest_possible_timeouts_do_not_overflow() {
    in_all_versions(async |version| {
        let mut patient = Config::default();
        let (longest, timeouts) = (Some(Duration::MAX), &mut patient.timeouts);
        timeouts.first_frame = longest;
        timeouts.frame = longest;
        timeouts.idle = longest;
        timeouts.trickle = longest;
        timeouts.write = longest;
        timeouts.blocked = longest;
        timeouts.unread = longest;
        timeouts.discard = longest;
        timeouts.close = Duration::MAX;
        timeouts.linger = Duration::MAX;
        timeouts.keep_alive = longest;
        timeouts.keep_alive_reply = Duration::MAX;
        timeouts.probe = longest;
        let (near, mut far) = pair_with(version, patient.clone(), patient);
        let (mut mine, mut theirs) = stream(&near, &mut far).await;
        mine.write_all(b"some").await.unwrap();
        within(theirs.read_exact(&mut [0; 4])).await.unwrap();
        drop((mine, theirs));
        near.session.shutdown(Shutdown::Graceful {
            deadline: Some(Duration::MAX),
        });
        assert!(within(far.session.closed()).await.is_ok());
    })
    .await;
}

/// The peer would take a reset for the end of the stream.
#[tokio::test(start_paused = true)]
async fn after_shutdown_now_a_dropped_or_reset_stream_sends_no_reset() {
    in_all_versions(async |version| {
        for is_dropped in [true, false] {
            let (near, mut far) = pair(version);
            let (mine, theirs) = stream(&near, &mut far).await;
            let (_receive, mut mine) = mine.split();
            let (mut from, _reply) = theirs.split();
            // The stream has orders already, which are carried out first.
            mine.send_data(bytes(4).into(), false).unwrap();
            near.session.shutdown(Shutdown::Now);
            match is_dropped {
                true => drop(mine),
                false => mine.reset(RstStatus::CANCEL),
            }
            near.session.shutdown(Shutdown::Now);
            let error = loop {
                if let Err(error) = within(from.next()).await.expect("it breaks off") {
                    break error;
                }
            };
            assert!(matches!(error, StreamError::Session(_)), "{error:?}");
        }
    })
    .await;
}
