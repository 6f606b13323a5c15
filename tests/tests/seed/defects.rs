//! X1 to X17: defects that the seed had beside its limitations.

use std::time::Duration;

use spdy_frame::{HeaderBlock, RstStatus, Version};
use spdy_session::{Config, Open};
use spdy_tests::{
    frames::{self, StoredBlocks},
    machine::{Machine, id, reset},
    wire::Received,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{connect, serve, within};

#[test]
fn x01_every_status_has_its_number() {
    let statuses = [
        (RstStatus::PROTOCOL_ERROR, 1),
        (RstStatus::INVALID_STREAM, 2),
        (RstStatus::REFUSED_STREAM, 3),
        (RstStatus::UNSUPPORTED_VERSION, 4),
        (RstStatus::CANCEL, 5),
        (RstStatus::INTERNAL_ERROR, 6),
        (RstStatus::FLOW_CONTROL_ERROR, 7),
        (RstStatus::STREAM_IN_USE, 8),
        (RstStatus::STREAM_ALREADY_CLOSED, 9),
        (RstStatus::FRAME_TOO_LARGE, 11),
    ];
    for version in Version::ALL {
        for (status, number) in statuses {
            if version == Version::V2 && number > 7 {
                continue;
            }
            let frame =
                frames::rst_stream(version, 1, status).bytes(&mut StoredBlocks::new(version));
            assert_eq!(frame[8..], [0, 0, 0, 1, 0, 0, 0, number]);
            let mut server = Machine::server(version);
            server.upload(1);
            server.connection.reset(id(1), status);
            // The machine of the tests reads it with the codec, which `frames` does not know.
            assert_eq!(server.sent(), [reset(1, RstStatus(number.into()))]);
        }
    }
}

#[test]
fn x02_three_values_of_a_name_are_three() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let stream = client.open(Open::default());
        client.sent();
        let reply = frames::syn_reply(version, stream).status("200 OK");
        client.feed(reply.field("set-cookie", "a=1\0b=2\0c=3"));
        client.events();
        client.assert_usable();
    }
    let mut block = HeaderBlock::new();
    for value in ["a=1", "b=2", "c=3"] {
        block.append("set-cookie", value).unwrap();
    }
    let values: Vec<&[u8]> = block.fields().flat_map(|field| field.values()).collect();
    assert_eq!(values, [b"a=1", b"b=2", b"c=3"]);
}

#[tokio::test(start_paused = true)]
async fn x03_what_is_left_at_the_end_is_delivered() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let mut stream = side.upload(1).await;
        side.peer.send(frames::data(1, "5 oct").fin()).await;
        let mut bytes = [0; 10];
        let mut read = 0;
        loop {
            match within(stream.read(&mut bytes[read..])).await.unwrap() {
                0 => break,
                more => read += more,
            }
        }
        assert_eq!(bytes[..read], *b"5 oct");
    }
}

#[tokio::test(start_paused = true)]
async fn x05_a_read_that_timed_out_has_lost_nothing() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let mut stream = side.upload(1).await;
        let mut bytes = [0; 10];
        let began = tokio::time::Instant::now();
        let time = Duration::from_millis(50);
        assert!(
            tokio::time::timeout(time, stream.read(&mut bytes))
                .await
                .is_err()
        );
        assert_eq!(began.elapsed(), time);
        side.peer.send(frames::data(1, "late")).await;
        let read = within(stream.read(&mut bytes)).await.unwrap();
        assert_eq!(bytes[..read], *b"late");
    }
}

#[tokio::test(start_paused = true)]
async fn x06_a_client_gets_the_headers_of_the_reply() {
    for version in Version::ALL {
        let mut side = connect(version, Config::default());
        let mut stream = side.open().await;
        let reply = frames::syn_reply(version, 1)
            .status("200 OK")
            .field("x-answer", "42");
        side.peer.send(reply.fin()).await;
        let headers = within(stream.headers()).await.unwrap();
        assert_eq!(headers.get("x-answer"), Some(&b"42"[..]));
    }
}

#[test]
fn x08_an_id_with_bad_headers_is_used_and_counts() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(frames::syn_stream(version, 1).field("", "empty"));
        let status = RstStatus::PROTOCOL_ERROR;
        assert_eq!(server.sent(), [reset(1, status)]);
        server.feed(frames::syn_stream(version, 1).get("/"));
        assert_eq!(server.sent(), [reset(1, status)]);
        assert_eq!(server.events(), []);
        server.assert_usable();
    }
}

/// Streams of the client and pushes, all of which are closed by FIN alone.
#[test]
fn x12_ten_thousand_streams_that_end_with_fin_leave_nothing() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let mut server = Machine::server(version);
        for n in 0..5000 {
            let stream = client.open(Open {
                fin: true,
                ..Open::default()
            });
            client.sent();
            client.feed(frames::syn_reply(version, stream).status("200 OK").fin());
            client.connection.release(id(stream));

            server.feed(frames::syn_stream(version, 2 * n + 1).get("/").fin());
            let push = Open {
                fin: true,
                unidirectional: true,
                associated: Some(id(2 * n + 1)),
                ..Open::default()
            };
            server.reply(2 * n + 1, false);
            let push = server.open(push);
            server.connection.finish(id(2 * n + 1)).unwrap();
            server.sent();
            server.connection.release(id(push));
            server.connection.release(id(2 * n + 1));
            let none = Default::default();
            assert_eq!(
                (client.connection.stats(), server.connection.stats()),
                (none, none)
            );
        }
    }
}

/// A client may end its direction when it has asked for everything.
#[tokio::test(start_paused = true)]
async fn x13_a_client_that_half_closes_gets_its_answer_over_the_driver() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        side.peer
            .send(frames::syn_stream(version, 1).get("/").fin())
            .await;
        side.peer.shutdown().await;
        let stream = within(side.incoming.accept()).await.unwrap();
        let mut stream = stream.reply(HeaderBlock::new()).unwrap();
        stream.write_all(&[7; 10_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let frames = side.peer.recv_all().await;
        let bytes: usize = frames
            .iter()
            .map(|frame| match frame {
                Received::Data { payload, .. } => payload.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(bytes, 10_000);
        within(side.driver).await.unwrap().unwrap();
    }
}
