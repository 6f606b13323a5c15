//! L10: errors are kept, and can be waited for.

use spdy_frame::{FrameError, GoAwayStatus, RstStatus, Version};
use spdy_session::{Config, Initiator, SessionError, StreamError};
use spdy_tests::{
    frames,
    machine::{Happened, Machine},
    side::{Side, serve, settle, within},
};
use tokio::io::AsyncReadExt;

#[tokio::test(start_paused = true)]
async fn l10_1_a_reset_can_be_waited_for_and_is_told_again_and_again() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let (_recv, mut send) = side.upload(1).await.split();
        side.peer
            .send(frames::rst_stream(version, 1, RstStatus::CANCEL))
            .await;
        let is_cancel = |error: &StreamError| {
            let (status, origin) = (RstStatus::CANCEL, Initiator::Remote);
            matches!(error, StreamError::Reset { status: found, initiator: by } if *found == status && *by == origin)
        };
        assert!(is_cancel(&within(send.closed()).await));
        for _ in 0..2 {
            let error = send.send_data("more".into(), false).unwrap_err();
            assert!(is_cancel(&error), "{error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l10_2_a_transport_that_fails_is_told_to_senders_and_receivers() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let (mut recv, mut send) = side.upload(1).await.split();
        send.send_data("first".into(), false).unwrap();
        settle().await;
        drop(side.peer);
        let error = within(send.closed()).await;
        assert!(matches!(error, StreamError::Session(_)), "{error:?}");
        let second = send.send_data("second".into(), false).unwrap_err();
        let received = within(recv.next()).await.unwrap().unwrap_err();
        for other in [second, received] {
            assert_eq!(format!("{other:?}"), format!("{error:?}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l10_3_a_broken_rule_of_the_session_is_the_error_of_every_stream() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let mut streams = [side.upload(1).await, side.upload(3).await];
        side.peer.send(frames::data(0, "what")).await;
        for stream in &mut streams {
            let mut bytes = [0; 1];
            let error = within(stream.read(&mut bytes)).await.unwrap_err();
            let cause = error.get_ref().unwrap().downcast_ref::<StreamError>();
            let Some(StreamError::Session(SessionError::Frame(error))) = cause else {
                panic!("{cause:?}");
            };
            assert_eq!(
                FrameError::go_away(error),
                Some(GoAwayStatus::PROTOCOL_ERROR)
            );
        }
        drop(side.peer);
        assert!(within(side.driver).await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn l10_4_a_response_that_was_not_written_is_not_done() {
    for version in Version::ALL {
        // A stream that is written: the transport accepts all of it.
        let Side {
            mut peer,
            mut incoming,
            driver,
            session: _session,
        } = serve(version, Config::default());
        peer.send(frames::syn_stream(version, 1).get("/").fin())
            .await;
        let stream = within(incoming.accept()).await.unwrap();
        let (_recv, mut send) = stream.send_reply(Default::default()).unwrap().split();
        send.send_data(vec![0; 1000].into(), true).unwrap();
        within(send.written()).await.unwrap();

        // A stream that the transport does not accept.
        peer.send(frames::syn_stream(version, 3).get("/").fin())
            .await;
        let stream = within(incoming.accept()).await.unwrap();
        let (_recv, mut send) = stream.send_reply(Default::default()).unwrap().split();
        send.send_data(vec![0; 1_000_000].into(), true).unwrap();
        settle().await;
        drop(peer);
        let error = within(send.written()).await.unwrap_err();
        assert!(matches!(error, StreamError::Session(_)), "{error:?}");
        assert!(within(driver).await.unwrap().is_err());
    }
}

#[test]
fn l10_5_each_fatal_error_is_one_event() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        for stream in [1, 3, 5] {
            server.upload(stream);
            server.respond(stream, 100);
        }
        server.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
        server.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
        server
            .connection
            .reset(spdy_tests::machine::id(3), RstStatus::CANCEL);
        server.feed(frames::rst_stream(version, 3, RstStatus::CANCEL));
        server.feed(frames::data(0, []));
        server.end_of_input();
        let resets: Vec<Option<u32>> = server
            .events()
            .iter()
            .filter(|event| matches!(event, Happened::Reset { .. }))
            .map(Happened::stream)
            .collect();
        assert_eq!(resets, [Some(1), Some(3), Some(5)]);
    }
}
