//! SYN_REPLY, and what must not come before it (protocol.md §23.3).

use spdy_frame::{GoAwayStatus, RstStatus, Version};
use spdy_session::proto::OpenOptions;
use spdy_tests::{
    frames,
    machine::{End, Happened, Machine, block, id, payload_of, reset},
    wire::Received,
};

#[test]
fn c048_a_syn_reply_of_the_peer_to_its_own_stream_resets_the_stream() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::syn_reply(version, 1).status("200 OK"));
        assert_eq!(server.sent(), [reset(1, RstStatus::INVALID_STREAM)]);
        server.assert_usable();

        let mut client = Machine::client(version);
        client.feed(frames::syn_reply(version, 1).status("200 OK"));
        assert_eq!(client.sent(), [reset(1, RstStatus::INVALID_STREAM)]);
        client.assert_usable();
    }
}

#[test]
fn c049_c050_a_second_syn_reply_resets_the_stream() {
    for (version, status) in [
        (Version::V2, RstStatus::PROTOCOL_ERROR),
        (Version::V3, RstStatus::STREAM_IN_USE),
        (Version::V3_1, RstStatus::STREAM_IN_USE),
    ] {
        let mut client = Machine::client(version);
        let stream = client.exchange();
        client.feed(frames::syn_reply(version, stream).status("200 OK"));
        assert_eq!(client.sent(), [reset(stream, status)]);
        let end = End::Library(status);
        assert_eq!(client.events(), [Happened::Reset { id: stream, end }]);
        client.assert_usable();
    }
}

#[test]
fn c051_a_syn_reply_after_fin_resets_the_stream() {
    for (version, open, closed) in [
        (
            Version::V2,
            RstStatus::PROTOCOL_ERROR,
            RstStatus::INVALID_STREAM,
        ),
        (
            Version::V3,
            RstStatus::STREAM_ALREADY_CLOSED,
            RstStatus::INVALID_STREAM,
        ),
        (
            Version::V3_1,
            RstStatus::STREAM_ALREADY_CLOSED,
            RstStatus::INVALID_STREAM,
        ),
    ] {
        for (fin, status) in [(false, open), (true, closed)] {
            let mut client = Machine::client(version);
            let stream = client.open(OpenOptions::new().fin(fin));
            client.sent();
            client.feed(frames::syn_reply(version, stream).status("200 OK").fin());
            client.feed(frames::syn_reply(version, stream).status("200 OK").fin());
            assert_eq!(client.sent(), [reset(stream, status)]);
            client.assert_usable();
        }
    }
}

#[test]
fn c052_c053_data_before_syn_reply_resets_the_stream_or_ends_a_session_of_spdy_2() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let stream = client.open(OpenOptions::default());
        client.sent();
        client.feed(frames::data(stream, "early"));
        if version == Version::V2 {
            client.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
            continue;
        }
        assert_eq!(client.sent(), [reset(stream, RstStatus::PROTOCOL_ERROR)]);
        client.assert_usable();
    }
}

#[test]
fn headers_before_syn_reply_reset_the_stream() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let stream = client.open(OpenOptions::default());
        client.sent();
        client.feed(frames::headers(version, stream).field("a", "b"));
        assert_eq!(client.sent(), [reset(stream, RstStatus::PROTOCOL_ERROR)]);
        client.assert_usable();
    }
}

#[test]
fn c054_a_body_without_headers_gets_a_syn_reply_in_front() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.send(1, 4, true);
        let sent = server.sent();
        let fields = vec![];
        let reply = Received::SynReply {
            stream: 1,
            fin: false,
            fields,
        };
        assert_eq!(sent[0], reply);
        assert_eq!(payload_of(1, &sent), 4);
        assert_eq!(server.connection.stats(), Default::default());
    }
}

#[test]
fn a_header_block_that_the_version_cannot_write_ends_only_its_stream() {
    let long = "x".repeat(70_000);
    let block = || block(&[("x-long", &long)]);
    let mut client = Machine::client(Version::V2);
    let now = client.now();
    let stream = client
        .connection
        .open(now, block(), OpenOptions::default())
        .unwrap();
    client
        .connection
        .send_data(stream, "body".into(), true)
        .unwrap();
    assert_eq!(client.sent(), [], "the peer never learns of the stream");
    assert_eq!(
        client.events(),
        [Happened::Reset {
            id: 1,
            end: End::Encode
        }]
    );
    assert_eq!(client.connection.stats(), Default::default());
    client.assert_usable();

    let stream = client.open(OpenOptions::default());
    client
        .connection
        .send_headers(id(stream), block(), true)
        .unwrap();
    let sent = client.sent();
    assert_eq!(
        sent[1..],
        [reset(stream, RstStatus::INTERNAL_ERROR)],
        "this one the peer knows"
    );
    client.assert_usable();

    let mut server = Machine::server(Version::V2);
    server.request(1);
    server.connection.send_reply(id(1), block(), true).unwrap();
    assert_eq!(server.sent(), [reset(1, RstStatus::INTERNAL_ERROR)]);
    server.assert_usable();
}
