//! L11: large sends are cut up, and take turns.

use spdy_frame::{RstStatus, Version};
use spdy_session::Config;
use spdy_tests::{
    frames,
    machine::{Machine, payload_of},
    wire::Received,
};
use tokio::io::AsyncWriteExt;

use crate::support::{serve, settle, within};

/// Opens the windows of a server wide.
fn open_windows(server: &mut Machine) {
    let version = server.connection.version();
    if version != Version::V2 {
        server.feed(frames::settings(version, &[(7, 0x7fff_ffff)]));
        server.feed(frames::window_update(version, 0, 1 << 30));
    }
}

#[tokio::test]
async fn l11_1_twenty_mebibytes_are_frames_of_the_configured_size() {
    let octets: Vec<u8> = (0..20_usize << 20).map(|n| (n / 5) as u8).collect();
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
        let sent = octets.clone();
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
        assert!(received == octets);
        within(sending).await.unwrap().unwrap();
    }
}

/// What is prepared is ahead, four frames and a part, and then every stream is served in its turn.
#[test]
fn l11_2_a_small_response_overtakes_a_large_one() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        open_windows(&mut server);
        server.request(1);
        server.request(3);
        server.respond(1, 20 << 20);
        server.unsent_octets();
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
        assert!(ahead <= 6 * 16_384, "{ahead} octets are ahead");
        assert_eq!(payload_of(1, &sent), 20 << 20);
    }
}

#[tokio::test]
async fn l11_5_a_cancelled_send_stops_and_its_caller_is_told() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let (_recv, mut send) = side.upload(1).await.split();
        let sending = tokio::spawn(async move {
            let error = send.write_all(&vec![0; 20 << 20]).await.unwrap_err();
            (send, error)
        });
        settle().await;
        assert!(!sending.is_finished());
        side.peer
            .send(frames::rst_stream(version, 1, RstStatus::CANCEL))
            .await;
        let (_send, error) = within(sending).await.unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        // What the transport holds and what is prepared comes, and no more.
        side.peer.send(frames::ping(version, 1)).await;
        let mut octets = 0;
        loop {
            match side.peer.recv().await {
                Received::Data { payload, .. } => octets += payload.len(),
                Received::Ping(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(octets <= crate::support::PIPE + 6 * 16_384, "{octets}");
    }
}
