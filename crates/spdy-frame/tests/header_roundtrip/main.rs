//! Reads what the encoder writes: with our decoder, with a plain inflater, and with a small
//! inflater that records each match. No match contains a secret.

use flate2::{Decompress, FlushDecompress, Status};
use spdy_frame::{
    HeaderBlock, HeaderCompression, HeaderDecoder, HeaderEncoder, HeaderLimits, Headers, Priority,
    StreamId, SynReply, SynStream, Version, bytes::BytesMut,
};

mod blocks;
#[path = "../../src/headers/dictionary.rs"]
#[allow(dead_code, unreachable_pub)] // A private module of the crate.
mod dictionary;
mod inflater;
mod refused;
mod secrets;
#[path = "../support/mod.rs"]
mod support;

use blocks::Blocks;
use dictionary::Dictionary;
use inflater::Inflater;
use support::{decode_block, encode_block, pairs, serialized};

use HeaderCompression::{Indexed, Stored};

/// A decoder that accepts every block in this file.
fn decoder(version: Version) -> HeaderDecoder {
    let mut limits = HeaderLimits::default();
    limits.max_size = 1 << 20;
    limits.max_inflated = 1 << 20;
    limits.max_fields = 100_000;
    HeaderDecoder::new(version, limits)
}

fn block(fields: &[(&str, &str)]) -> HeaderBlock {
    HeaderBlock::from_pairs(fields.iter().copied()).unwrap()
}

/// Inflates a block with `flate2`, as a peer with zlib does.
fn inflate(inflater: &mut Decompress, version: Version, mut deflated: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 << 20);
    loop {
        let before = inflater.total_in();
        let result = inflater.decompress_vec(deflated, &mut bytes, FlushDecompress::Sync);
        deflated = &deflated[(inflater.total_in() - before) as usize..];
        match result {
            Ok(Status::StreamEnd) => panic!("the stream ends"),
            Ok(_) => {
                assert!(deflated.is_empty() && bytes.len() < bytes.capacity());
                return bytes;
            }
            Err(error) => {
                let dictionary = Dictionary::of(version);
                assert_eq!(error.needs_dictionary(), Some(dictionary.id));
                inflater.set_dictionary(dictionary.bytes).unwrap();
            }
        }
    }
}

#[test]
fn c128_thousands_of_blocks_on_one_session_are_read_again() {
    for version in Version::ALL {
        for mode in [Indexed, Stored] {
            let mut encoder = HeaderEncoder::new(version, mode);
            let mut decoder = decoder(version);
            let mut inflater = Decompress::new(true);
            let mut blocks = Blocks::new(version, 11);
            for round in 0..3000 {
                let block = blocks.next();
                let written = encode_block(&mut encoder, version, &block);
                assert!(written.ends_with(b"\0\0\xff\xff"));
                let bytes = inflate(&mut inflater, version, &written);
                assert!(
                    bytes == serialized(version, &pairs(&block)),
                    "{version} {round}"
                );
                let read = decode_block(&mut decoder, &written).unwrap();
                assert!(read == block && !read.is_truncated(), "{version} {round}");
            }
        }
    }
}

#[test]
fn c128_a_thousand_requests_and_replies_are_short_and_read_again() {
    let request = |round: usize| {
        let mut request = block(&[
            (":method", "GET"),
            (":version", "HTTP/1.1"),
            (":host", "a.test"),
            (":scheme", "https"),
            ("user-agent", &"Mozilla ".repeat(20)),
        ]);
        request.append(":path", format!("/item/{round}")).unwrap();
        request.append("cookie", "session=0123456789").unwrap();
        request
    };
    let reply = |round: usize| {
        let status = if round.is_multiple_of(7) {
            "404 Not Found"
        } else {
            "200 OK"
        };
        let mut reply = block(&[(":status", status), (":version", "HTTP/1.1")]);
        reply.append("content-length", round.to_string()).unwrap();
        reply
    };
    for version in Version::ALL {
        for (block, most) in [
            (&request as &dyn Fn(usize) -> HeaderBlock, 60),
            (&reply, 30),
        ] {
            let mut encoder = HeaderEncoder::new(version, Indexed);
            let mut decoder = decoder(version);
            for round in 0..1000 {
                let block = block(round);
                let written = encode_block(&mut encoder, version, &block);
                assert!(round < 2 || written.len() <= most, "{}", written.len());
                assert_eq!(decode_block(&mut decoder, &written), Ok(block));
            }
        }
    }
}

#[test]
fn a_repeated_block_is_written_as_one_match() {
    let response = block(&[
        (":status", "200 OK"),
        (":version", "HTTP/1.1"),
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "5120"),
        ("cache-control", "private, max-age=0"),
        ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("server", "spdy-server"),
        ("vary", "accept-encoding"),
    ]);
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let mut inflater = Inflater::new(version);
        let bytes = serialized(version, &pairs(&response));
        let first = encode_block(&mut encoder, version, &response);
        assert_eq!(inflater.block(&first), bytes);
        assert!(first.len() < bytes.len());
        for _ in 0..100 {
            let again = encode_block(&mut encoder, version, &response);
            assert!(again.len() <= 12, "{}", again.len());
            let before = inflater.matches.len();
            assert_eq!(inflater.block(&again), bytes);
            let matches = &inflater.matches[before..];
            let length: usize = matches.iter().map(|(from, _)| from.len()).sum();
            assert_eq!(length, bytes.len(), "nothing but matches");
        }
    }
}

#[test]
fn a_changed_value_is_written_behind_a_match_for_its_name() {
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let date =
            |second: usize| block(&[("date", &format!("Tue, 15 Nov 1994 08:12:{second} GMT"))]);
        encode_block(&mut encoder, version, &date(10));
        for second in 11..60 {
            let written = encode_block(&mut encoder, version, &date(second));
            assert!(written.len() <= 29 + 4 + 4 + 6, "{}", written.len());
        }
    }
}

#[test]
fn a_block_that_does_not_shrink_is_stored_and_later_blocks_refer_to_it() {
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let mut plain = HeaderEncoder::new(version, Stored);
        let mut decoder = decoder(version);
        let mut inflater = Decompress::new(true);
        for length in [300, 3000, 60_000] {
            let name = format!("x-{length}");
            let mut wide = block(&[("accept", "*/*")]);
            wide.append(&name, vec![0xe4; length]).unwrap();
            // A new field is stored. Then it becomes a copy.
            for round in 0..3 {
                let written = encode_block(&mut encoder, version, &wide);
                let stored = encode_block(&mut plain, version, &wide);
                assert!(written.len() <= stored.len(), "{version} {length} {round}");
                assert!(round == 0 || length > 2000 || written.len() < 40);
                let bytes = inflate(&mut inflater, version, &written);
                assert!(bytes == serialized(version, &pairs(&wide)));
                assert_eq!(decode_block(&mut decoder, &written).unwrap(), wide);
            }
        }
    }
}

#[test]
fn fields_that_are_used_stay_short_among_thousands_of_others() {
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let mut decoder = decoder(version);
        let agent = "a long and constant value, as that of a user-agent".repeat(4);
        let mut long = 0;
        for round in 0..5000 {
            let mut block = block(&[("user-agent", &agent), ("accept", "*/*")]);
            block
                .append("x-trace", format!("{round}{}", "-".repeat(60)))
                .unwrap();
            let written = encode_block(&mut encoder, version, &block);
            assert_eq!(decode_block(&mut decoder, &written), Ok(block));
            long += usize::from(written.len() > 90);
        }
        assert_eq!(long, 1, "the first block is long");
    }
}

#[test]
fn fields_come_back_from_the_edge_of_the_window() {
    for version in Version::ALL {
        for size in (32_000..33_200).step_by(13) {
            let mut encoder = HeaderEncoder::new(version, Indexed);
            let mut inflater = Decompress::new(true);
            let mut decoder = decoder(version);
            let early = block(&[("early", "0123456789"), ("via", "x")]);
            for block in [
                &early,
                &block(&[("filler", &"f".repeat(size))]),
                &early,
                &early,
            ] {
                let written = encode_block(&mut encoder, version, block);
                let bytes = inflate(&mut inflater, version, &written);
                assert!(
                    bytes == serialized(version, &pairs(block)),
                    "{version} {size}"
                );
                assert_eq!(decode_block(&mut decoder, &written).unwrap(), *block);
            }
        }
    }
}

#[test]
fn all_three_frames_carry_the_block() {
    let fields = block(&[(":path", "/"), ("x", "y")]);
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let mut decoder = decoder(version);
        let mut dst = BytesMut::new();
        let stream = StreamId::new(2).unwrap();
        let syn_stream = SynStream {
            stream,
            associated: StreamId::new(1),
            priority: Priority::LOWEST,
            fin: false,
            unidirectional: true,
            block: &fields,
        };
        encoder.encode_syn_stream(&syn_stream, &mut dst).unwrap();
        let reply = SynReply {
            stream,
            fin: true,
            block: &fields,
        };
        encoder.encode_syn_reply(&reply, &mut dst).unwrap();
        let headers = Headers {
            stream,
            fin: false,
            block: &fields,
        };
        encoder.encode_headers(&headers, &mut dst).unwrap();

        let lines: Vec<String> = support::decode_at_once(version, &dst)
            .frames
            .into_iter()
            .map(|frame| {
                let line = frame.to_string();
                let block = match frame {
                    spdy_frame::Frame::SynStream(frame) => frame.block,
                    spdy_frame::Frame::SynReply(frame) => frame.block,
                    spdy_frame::Frame::Headers(frame) => frame.block,
                    other => panic!("{other}"),
                };
                assert_eq!(decoder.decode(block).unwrap(), fields);
                line.rsplit_once(" block").unwrap().0.to_owned()
            })
            .collect();
        let priority = if version == Version::V2 { 3 } else { 7 };
        assert_eq!(
            lines,
            [
                &format!(
                    "SYN_STREAM stream=2 associated=1 priority={priority} flags=UNIDIRECTIONAL"
                ),
                "SYN_REPLY stream=2 flags=FIN",
                "HEADERS stream=2 flags=0",
            ]
        );
    }
}
