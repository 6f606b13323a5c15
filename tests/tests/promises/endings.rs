//! L4 and L7: GOAWAY, and the end of the ids.

use std::time::Duration;

use spdy_frame::{GoAwayStatus, RstStatus, StreamId, Version};
use spdy_session::{
    Config, HeaderBlock, OpenError, OpenOptions, SessionError, Shutdown, Stream, StreamError,
    proto::Phase,
};
use spdy_tests::{
    frames,
    machine::{End, Happened, Machine, id, payload_of, request_block},
    side::{connect, drain, serve, settle, within},
    wire::Received,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn cause(error: &std::io::Error) -> &StreamError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    cause.unwrap_or_else(|| panic!("it has no cause: {error:?}"))
}

async fn assert_not_processed(stream: &mut Stream) {
    let mut bytes = [0; 10];
    for _ in 0..2 {
        let error = within(stream.read(&mut bytes)).await.unwrap_err();
        assert!(cause(&error).is_retry_safe(), "{error:?}");
        let error = within(stream.write(b"more")).await.unwrap_err();
        assert!(cause(&error).is_retry_safe(), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn l04_1_l04_2_streams_above_the_last_good_are_known_not_to_be_processed() {
    for version in Version::ALL {
        let mut side = connect(version, Config::default());
        let mut first = side.open().await;
        let mut third = side.open().await;
        let (mut recv, mut send) = side.open().await.split();
        // A call that waits for each direction.
        let reading = tokio::spawn(async move {
            let error = recv.next().await.unwrap().unwrap_err();
            (recv, error)
        });
        let writing = tokio::spawn(async move {
            // More than all windows and queues hold.
            let error = send.write_all(&vec![0; 1 << 20]).await.unwrap_err();
            (send, error)
        });
        settle().await;
        if version != Version::V2 {
            assert!(!writing.is_finished());
        }
        let status = GoAwayStatus::OK;
        // The write of SPDY/2 waits for the transport alone, so it is not read yet.
        side.peer.send(frames::go_away(version, 3, status)).await;
        let (mut recv, error) = within(reading).await.unwrap();
        assert!(error.is_retry_safe(), "{error:?}");
        let (mut send, error) = within(writing).await.unwrap();
        assert!(cause(&error).is_retry_safe(), "{error:?}");
        assert!(
            send.send_data("more".into(), false)
                .unwrap_err()
                .is_retry_safe()
        );

        for stream in [1, 3] {
            side.peer
                .send(frames::syn_reply(version, stream).status("200 OK"))
                .await;
        }
        side.peer.send(frames::data(1, "all").fin()).await;
        let mut text = String::new();
        within(first.read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, "all");
        let write = async {
            first.shutdown().await.unwrap();
        };
        let reader = async {
            side.peer
                .recv_until(|frame| {
                    matches!(
                        frame,
                        Received::Data {
                            stream: 1,
                            fin: true,
                            ..
                        }
                    )
                })
                .await;
        };
        within(async { tokio::join!(write, reader) }).await;

        side.peer.shutdown().await;
        drop(side.peer);
        let mut bytes = [0; 1];
        let error = within(third.read(&mut bytes)).await.unwrap_err();
        let lost = StreamError::Session(SessionError::ConnectionLost);
        assert_eq!(format!("{:?}", cause(&error)), format!("{lost:?}"));
        assert!(!cause(&error).is_retry_safe());
        let error = recv.next().await.unwrap().unwrap_err();
        assert!(error.is_retry_safe(), "still");
    }
}

#[tokio::test(start_paused = true)]
async fn l04_3_a_last_good_of_0_leaves_no_stream() {
    for version in Version::ALL {
        let mut side = connect(version, Config::default());
        let mut streams = [side.open().await, side.open().await];
        side.peer
            .send(frames::go_away(version, 0, GoAwayStatus::OK))
            .await;
        for stream in &mut streams {
            assert_not_processed(stream).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l04_4_a_refused_stream_is_not_processed() {
    for version in Version::ALL {
        let mut side = connect(version, Config::default());
        let mut stream = side.open().await;
        side.peer
            .send(frames::rst_stream(version, 1, RstStatus::REFUSED_STREAM))
            .await;
        assert_not_processed(&mut stream).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c101_l04_5_after_goaway_nothing_is_opened() {
    for version in Version::ALL {
        let mut side = connect(version, Config::default());
        let _open = side.open().await;
        side.peer
            .send(frames::go_away(version, 1, GoAwayStatus::OK))
            .await;
        settle().await;
        let error = within(side.session.open(side.request(), OpenOptions::default()))
            .await
            .unwrap_err();
        assert!(matches!(error, OpenError::GoingAway), "{error:?}");
        assert_eq!(drain(&mut side.peer).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn c094_c095_l04_6_a_graceful_end_finishes_what_was_given_to_the_application() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let mut streams = [side.upload(1).await, side.upload(3).await];
        side.session.shutdown(Shutdown::Graceful { deadline: None });
        let frame = side
            .peer
            .recv_until(|frame| matches!(frame, Received::GoAway(_)))
            .await;
        let Received::GoAway(frame) = frame else {
            unreachable!()
        };
        assert_eq!(frame.last_good, Some(id(3)));
        side.peer
            .send(frames::syn_stream(version, 5).get("/late").fin())
            .await;
        for stream in &mut streams {
            side.peer
                .send(frames::data(stream.id().get(), []).fin())
                .await;
            stream.write_all(b"done").await.unwrap();
            stream.shutdown().await.unwrap();
        }
        let frames = side.peer.recv_all().await;
        assert_eq!((payload_of(1, &frames), payload_of(3, &frames)), (4, 4));
        assert!(side.incoming.accept().await.is_none());
        drop(side.peer);
        within(side.driver).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn l04_7_handles_that_outlive_their_session_give_errors() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let mut stream = side.upload(1).await;
        side.peer
            .send(frames::syn_stream(version, 3).get("/"))
            .await;
        let mut pending = Vec::from([within(side.incoming.accept()).await.unwrap()]);
        side.driver.abort();
        assert!(side.driver.await.unwrap_err().is_cancelled());
        let mut bytes = [0; 1];
        assert!(within(stream.read(&mut bytes)).await.is_err());
        assert!(within(stream.write(b"x")).await.is_err());
        assert!(within(stream.flush()).await.is_err());
        assert!(within(stream.shutdown()).await.is_err());
        assert!(stream.send_headers(HeaderBlock::new(), true).is_err());
        stream.reset(RstStatus::CANCEL);
        assert!(
            pending
                .pop()
                .unwrap()
                .send_reply(HeaderBlock::new())
                .is_err()
        );
        assert!(within(side.incoming.accept()).await.is_none());
        let opened = within(
            side.session
                .open(HeaderBlock::new(), OpenOptions::default()),
        )
        .await;
        assert!(matches!(
            opened,
            Err(OpenError::Session(SessionError::Closed))
        ));
        assert!(within(side.session.ping()).await.is_err());
        side.session.shutdown(Shutdown::Now);
        assert!(matches!(
            within(side.session.closed()).await,
            Err(SessionError::Closed)
        ));
    }
}

#[test]
fn c042_l07_1_the_last_two_ids_are_used_and_then_none() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        client.connection.skip_to(id(0x7fff_fffd));
        let streams = [
            client.open(OpenOptions::default()),
            client.open(OpenOptions::default()),
        ];
        assert_eq!(streams, [2_147_483_645, 2_147_483_647]);
        client.sent();
        let now = client.now();
        let third = client
            .connection
            .open(now, request_block(version), OpenOptions::default());
        assert!(matches!(third, Err(OpenError::IdsExhausted)));
        assert!(
            matches!(client.sent()[..], [Received::GoAway(_)]),
            "no SYN_STREAM"
        );
        for stream in streams {
            client.feed(frames::syn_reply(version, stream).status("200 OK").fin());
            client.send(stream, 10, true);
            assert_eq!(
                payload_of(stream, &client.sent()),
                10,
                "what is open finishes"
            );
        }
        assert_eq!(client.connection.phase(), Phase::Closing);
        assert!(client.connection.outcome().is_ok());
    }
}

#[test]
fn l07_3_a_server_without_ids_just_stops_pushing() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, false);
        server
            .connection
            .skip_to(StreamId::new(0x7fff_fffe).unwrap());
        let push = OpenOptions::new().unidirectional(true).associated(id(1));
        assert_eq!(server.open(push), 2_147_483_646);
        let now = server.now();
        let second = server.connection.open(now, request_block(version), push);
        assert!(matches!(second, Err(OpenError::IdsExhausted)));
        server.send(0x7fff_fffe, 5, true);
        server.send(1, 5, true);
        let sent = server.sent();
        assert!(
            !sent
                .iter()
                .any(|frame| matches!(frame, Received::GoAway(_)))
        );
        server.advance(Duration::from_secs(1));
        server.assert_usable();
    }
}

/// One of them is not more than 2^31 - 1 PINGs away.
#[test]
fn a_stream_that_was_refused_by_goaway_is_told_once() {
    let mut client = Machine::client(Version::V3_1);
    let stream = client.open(OpenOptions::default());
    client.sent();
    for last_good in [0, 0] {
        client.feed(frames::go_away(Version::V3_1, last_good, GoAwayStatus::OK));
    }
    let events = client.events();
    let lost = Happened::Reset {
        id: stream,
        end: End::NotProcessed,
    };
    assert_eq!(events.iter().filter(|event| **event == lost).count(), 1);
}
