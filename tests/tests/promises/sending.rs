//! L11: large sends are cut up, and take turns.

use spdy_frame::{GoAwayStatus, RstStatus, Side, Version};
use spdy_session::{Config, OpenOptions, Shutdown};
use spdy_tests::{
    frames,
    machine::{Happened, Machine, block, id, payload_of, reply_block, request_block},
    pair::Pair,
    side::{PIPE, serve, settle, within},
    wire::Received,
};
use tokio::io::AsyncWriteExt;

/// Opens the windows of a server far.
fn open_windows(server: &mut Machine) {
    let version = server.connection.version();
    if version != Version::V2 {
        server.feed(frames::settings(version, &[(7, 0x7fff_ffff)]));
        server.feed(frames::window_update(version, 0, 1 << 30));
    }
}

#[tokio::test(start_paused = true)]
async fn l11_1_twenty_mebibytes_are_frames_of_the_configured_size() {
    let bytes: Vec<u8> = (0..20_usize << 20).map(|n| (n / 5) as u8).collect();
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        if version != Version::V2 {
            side.peer
                .send(frames::settings(version, &[(7, 0x7fff_ffff)]))
                .await;
            side.peer
                .send(frames::window_update(version, 0, 1 << 30))
                .await;
        }
        let (_recv, mut send) = side.upload(1).await.split();
        let sent = bytes.clone();
        let sending = tokio::spawn(async move {
            send.write_all(&sent).await?;
            send.shutdown().await
        });
        let mut received = Vec::new();
        loop {
            let Received::Data {
                stream: 1,
                fin,
                payload,
            } = side.peer.recv().await
            else {
                panic!("only data comes");
            };
            assert!(payload.len() <= 16_384);
            received.extend_from_slice(&payload);
            if fin {
                break;
            }
        }
        assert!(received == bytes);
        within(sending).await.unwrap().unwrap();
    }
}

/// First goes what is prepared: four frames and a part. Then the streams take turns.
#[test]
fn l11_2_a_small_response_overtakes_a_large_one() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        open_windows(&mut server);
        server.request(1);
        server.request(3);
        server.respond(1, 20 << 20);
        server.unsent_bytes();
        server.respond(3, 100);
        let sent = server.sent();
        let end = sent
            .iter()
            .position(|frame| {
                matches!(
                    frame,
                    Received::Data {
                        stream: 3,
                        fin: true,
                        ..
                    }
                )
            })
            .unwrap();
        let ahead = payload_of(1, &sent[..end]);
        assert!(ahead <= 6 * 16_384, "{ahead} bytes are ahead");
        assert_eq!(payload_of(1, &sent), 20 << 20);
    }
}

/// A stream is reset, by either side, while frames of it are ready. Only the frame that has begun
/// to leave is completed, however much the transport has accepted before. The session gets the
/// credit of the others back.
#[test]
fn l11_5_a_reset_takes_back_all_but_the_frame_that_has_begun() {
    const FRAME: usize = 8 + 16_384;
    const RST_STREAM: usize = 16;
    for version in Version::ALL {
        for by in [Side::Server, Side::Client] {
            for (request_is_complete, bytes) in [(false, 300_000), (true, 300_000), (true, 50_000)]
            {
                for taken in [0, 1, FRAME - 1, FRAME, FRAME + 9, 3 * FRAME] {
                    let mut pair = wide(version);
                    let fin = request_is_complete;
                    let how = OpenOptions::new().fin(fin);
                    let stream = id(pair.open(request_block(version), how));
                    pair.run();
                    let reply = pair.server.send_reply(stream, reply_block(version), false);
                    reply.expect("it can be answered");
                    pair.run();
                    let sent = pair.server.send_data(stream, vec![0; bytes].into(), true);
                    sent.expect("it takes data");
                    assert_eq!(pair.transmit(Side::Server, taken), taken);
                    pair.all_events(Side::Server);

                    pair.side(by).reset(stream, RstStatus::CANCEL);
                    let mut rest = (FRAME - taken % FRAME) % FRAME;
                    match by {
                        Side::Server => rest += RST_STREAM,
                        Side::Client => {
                            pair.transmit(Side::Client, usize::MAX);
                            pair.deliver(Side::Server, usize::MAX);
                        }
                    }
                    let told = pair.server_events();
                    assert!(
                        matches!(told[..], [Happened::Reset { .. }]),
                        "{version}: {told:?}"
                    );
                    assert_eq!(
                        pair.transmit(Side::Server, usize::MAX),
                        rest,
                        "{version}, by the {by}, {taken} of {bytes} bytes were taken"
                    );
                    pair.run_reading();
                    pair.server.release(stream);
                    pair.client.release(stream);
                    pair.assert_clean();
                }
            }
        }
    }
}

/// A header block cannot be taken back, nor the bytes in front of it: the peer would see a
/// response with a gap.
#[test]
fn l11_5_what_trailers_follow_is_not_taken_back() {
    for version in Version::ALL {
        let mut pair = wide(version);
        let how = OpenOptions::new().fin(true);
        let stream = id(pair.open(request_block(version), how));
        pair.run();
        let server = &mut pair.server;
        server
            .send_reply(stream, reply_block(version), false)
            .and_then(|()| server.send_data(stream, vec![0; 20_000].into(), false))
            .and_then(|()| server.send_headers(stream, block(&[("x-trailer", "1")]), true))
            .expect("it takes them");
        pair.transmit(Side::Server, 1);
        pair.server.reset(stream, RstStatus::CANCEL);
        pair.run_reading();
        let events = pair.client_events();
        let payload: usize = events
            .iter()
            .filter_map(|event| match event {
                Happened::Data { payload, fin, .. } => Some(payload.len()).filter(|_| !fin),
                _ => None,
            })
            .sum();
        assert_eq!(payload, 20_000, "{version}: {events:?}");
        assert!(matches!(
            events[events.len() - 2..],
            [Happened::Headers { fin: false, .. }, Happened::Reset { .. }]
        ));
        pair.assert_clean();
    }
}

/// A pair whose sides grant each other large windows.
fn wide(version: Version) -> Pair {
    let mut config = Config::default();
    config.limits.stream_window = 1 << 20;
    Pair::with(version, config.clone(), config)
}

#[tokio::test(start_paused = true)]
async fn l11_5_a_cancelled_send_stops_and_its_caller_is_told() {
    for version in Version::ALL {
        for by_the_peer in [true, false] {
            let mut side = serve(version, Config::default());
            let (_recv, send) = side.upload(1).await.split();
            let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
            let sending = tokio::spawn(async move {
                let mut send = send;
                tokio::select! {
                    error = async { send.write_all(&vec![0; 20 << 20]).await.unwrap_err() } => {
                        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                    }
                    Ok(()) = cancelled => send.reset(RstStatus::CANCEL),
                }
            });
            settle().await;
            assert!(!sending.is_finished());
            let cancel = if by_the_peer {
                side.peer
                    .send(frames::rst_stream(version, 1, RstStatus::CANCEL))
                    .await;
                Some(cancel)
            } else {
                cancel.send(()).expect("it waits");
                None
            };
            within(sending).await.unwrap();
            drop(cancel);
            settle().await;
            // The bytes in the transport arrive, and the rest of the frame whose first part is
            // among them.
            side.peer.send(frames::ping(version, 1)).await;
            let (mut bytes, mut resets) = (0, 0);
            loop {
                match side.peer.recv().await {
                    Received::Data { payload, .. } => bytes += payload.len(),
                    Received::RstStream(_) => resets += 1,
                    Received::Ping(_) => break,
                    other => panic!("{other:?}"),
                }
            }
            assert!(bytes <= PIPE + 16_384, "{bytes} bytes after the reset");
            assert_eq!(resets, usize::from(!by_the_peer));
        }
    }
}

/// A stream is reset, and then the session is ended: RST_STREAM goes first, because the peer might
/// not read it after GOAWAY.
#[tokio::test(start_paused = true)]
async fn a_reset_before_shutdown_now_is_sent_before_goaway() {
    let graceful = Shutdown::Graceful { deadline: None };
    for version in Version::ALL {
        for how in [Shutdown::Now, graceful] {
            let mut side = serve(version, Config::default());
            let (_recv, send) = side.upload(1).await.split();
            send.reset(RstStatus::INTERNAL_ERROR);
            side.session.shutdown(how);
            let Received::RstStream(reset) = side.peer.recv().await else {
                panic!("RST_STREAM comes first");
            };
            assert_eq!(
                (reset.stream.get(), reset.status),
                (1, RstStatus::INTERNAL_ERROR)
            );
            let Received::GoAway(end) = side.peer.recv().await else {
                panic!("GOAWAY follows");
            };
            assert_eq!(end.status, GoAwayStatus::OK);
            side.peer.shutdown().await;
            within(side.driver).await.unwrap().unwrap();
        }
    }
}

/// After the end was ordered, nothing more is sent but the end of the session.
#[tokio::test(start_paused = true)]
async fn after_shutdown_now_no_reset_is_sent() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let (_recv, send) = side.upload(1).await.split();
        side.session.shutdown(Shutdown::Now);
        send.reset(RstStatus::INTERNAL_ERROR);
        assert!(matches!(side.peer.recv().await, Received::GoAway(_)));
        side.peer.shutdown().await;
        within(side.driver).await.unwrap().unwrap();
        assert_eq!(side.peer.recv_or_end().await, None);
    }
}
