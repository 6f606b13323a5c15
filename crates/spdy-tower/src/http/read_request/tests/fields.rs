//! The fields, and what they announce.

use bytes::BytesMut;
use spdy_frame::{
    Frame, HeaderCompression, HeaderDecoder, HeaderEncoder, HeaderLimits, Headers, Side, StreamId,
    parse,
};

use super::*;

#[test]
fn c153_fields_of_one_connection_are_dropped_or_refused() {
    for version in Version::ALL {
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        ] {
            let mut fields = fields(version);
            fields.push((name, "close"));
            let block = block(&fields);
            let request = read(version, &block, true, ConnectionFields::Drop)
                .unwrap()
                .request;
            assert!(!request.headers().contains_key(name), "{name}");
            let strict = read(version, &block, true, ConnectionFields::Refuse);
            assert_eq!(strict.unwrap_err(), Malformed::ConnectionField, "{name}");
        }
    }
}

#[test]
fn te_keeps_only_the_value_trailers() {
    assert_eq!(
        read_changed(Version::V3_1, &[("te", "trailers")])
            .unwrap()
            .request
            .headers()["te"],
        "trailers"
    );
    assert!(
        !read_changed(Version::V3_1, &[("te", "gzip")])
            .unwrap()
            .request
            .headers()
            .contains_key("te")
    );
}

#[test]
fn c163_cookies_become_one_line_and_other_values_several() {
    for version in Version::ALL {
        let request = read_changed(
            version,
            &[("cookie", "a=1\0b=2\0c=3"), ("x-multi", "alpha\0beta")],
        )
        .unwrap()
        .request;
        let lines = |name| request.headers().get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(lines("cookie"), ["a=1; b=2; c=3"]);
        assert_eq!(lines("x-multi"), ["alpha", "beta"]);
    }
}

/// The block as it comes out of a session.
fn received(block: &HeaderBlock) -> HeaderBlock {
    let (version, mut bytes) = (Version::V3_1, BytesMut::new());
    let stream = StreamId::first(Side::Client);
    let frame = Headers {
        stream,
        fin: false,
        block,
    };
    HeaderEncoder::new(version, HeaderCompression::Stored)
        .encode_headers(&frame, &mut bytes)
        .unwrap();
    let Some((Frame::Headers(frame), _)) = parse(version, &bytes).unwrap() else {
        panic!("no HEADERS");
    };
    HeaderDecoder::new(version, HeaderLimits::default())
        .decode(frame.block)
        .unwrap()
}

#[test]
fn values_share_the_memory_of_the_block() {
    let block = received(&block(
        &[&fields(Version::V3_1)[..], &[("x-multi", "alpha\0beta")]].concat(),
    ));
    let source = block.get("x-multi").unwrap().as_ptr_range();
    let head = read(Version::V3_1, &block, false, ConnectionFields::Drop).unwrap();
    for value in head.request.headers().get_all("x-multi") {
        assert!(
            source.contains(&value.as_bytes().as_ptr()),
            "{value:?} was copied"
        );
    }
}

#[test]
fn values_that_http_1_cannot_carry_unchanged_are_malformed() {
    for version in Version::ALL {
        for bad in [
            " a", "a ", "\ta", "a\t", " ", "a\x01b", "a\x7f", "\x1b", "a\0 b",
        ] {
            assert_eq!(
                read_changed(version, &[("x-a", bad)]).unwrap_err(),
                Malformed::FieldValue,
                "{bad:?}"
            );
        }
        for good in ["", "a b\tc", "\u{e9}", "\"'\\"] {
            let request = read_changed(version, &[("x-a", good)]).unwrap().request;
            assert_eq!(request.headers()["x-a"].as_bytes(), good.as_bytes());
        }
    }
}

#[test]
fn names_are_tokens() {
    for bad in [
        "a b", "a\tb", "a\"b", "a(b)", "a/b", "a@b", "\u{e9}", "a\x7f", "{a}",
    ] {
        assert_eq!(
            read_changed(Version::V3_1, &[(bad, "x")]).unwrap_err(),
            Malformed::FieldName,
            "{bad:?}"
        );
    }
}

#[test]
fn content_length_that_is_not_one_number_is_malformed() {
    for version in Version::ALL {
        for bad in [
            "",
            "-1",
            "+1",
            "1x",
            "0x1",
            "1.0",
            "1, 1",
            "1\x001",
            "18446744073709551616",
        ] {
            let malformed = read_changed(version, &[("content-length", bad)]).unwrap_err();
            assert_eq!(malformed, Malformed::ContentLength, "{bad:?}");
        }
        assert_eq!(
            read_changed(version, &[("content-length", "18446744073709551615")])
                .unwrap()
                .content_length,
            Some(u64::MAX)
        );
    }
}

#[test]
fn c156_content_length_without_a_body_is_malformed() {
    for version in Version::ALL {
        let mut fields = fields(version);
        fields.push(("content-length", "10"));
        let missing = read(version, &block(&fields), false, ConnectionFields::Drop);
        assert_eq!(missing.unwrap_err(), Malformed::BodyMissing);
        fields.pop();
        fields.push(("content-length", "0"));
        assert!(read(version, &block(&fields), false, ConnectionFields::Drop).is_ok());
    }
}

#[test]
fn names_that_begin_like_a_special_field_are_ordinary_fields() {
    for version in Version::ALL {
        for name in [
            "connectio",
            "connections",
            "keep-aliv",
            "upgrade-",
            "upgrad",
            "hos",
            "hosts",
            "t",
            "tea",
            "cookies",
            "content-lengt",
            "content-length2",
            "proxy-connectio",
            "metho",
            "methods",
            "urls",
            "schemes",
            "versions",
        ] {
            let request = read_changed(version, &[(name, "gzip")]).unwrap().request;
            assert_eq!(request.headers()[name], "gzip");
        }
    }
}
