//! Blocks that a version cannot carry.

use spdy_frame::{
    EncodeError, HeaderBlock, HeaderCompression, HeaderEncoder, Headers, StreamId, Version,
    bytes::{Bytes, BytesMut},
};

use crate::{
    Indexed, Stored, block, decoder,
    support::{decode_block, encode_block},
};

/// Checks that a block is rejected, and that the session continues as if it had not been written.
fn refused(version: Version, mode: HeaderCompression, bad: &HeaderBlock) -> EncodeError {
    let good = block(&[("a", "b"), ("c", "d")]);
    let mut encoder = HeaderEncoder::new(version, mode);
    let mut decoder = decoder(version);
    let mut error = None;
    for _ in 0..3 {
        let frame = Headers {
            stream: StreamId::MAX,
            fin: false,
            block: bad,
        };
        let mut dst = BytesMut::from("before");
        error = encoder.encode_headers(&frame, &mut dst).err();
        assert_eq!(dst, "before");
        let written = encode_block(&mut encoder, version, &good);
        assert_eq!(decode_block(&mut decoder, &written).as_ref(), Ok(&good));
    }
    error.expect("the block is refused")
}

#[test]
fn a_block_that_does_not_fit_is_rejected_and_changes_nothing() {
    for mode in [Indexed, Stored] {
        for (name, value) in [(1, 65_536), (65_536, 1)] {
            let long = block(&[("a", "b"), (&"n".repeat(name), &"v".repeat(value))]);
            let error = refused(Version::V2, mode, &long);
            assert_eq!(error, EncodeError::FieldTooLong { length: 65_536 });
            let mut encoder = HeaderEncoder::new(Version::V3, mode);
            let written = encode_block(&mut encoder, Version::V3, &long);
            assert_eq!(decode_block(&mut decoder(Version::V3), &written), Ok(long));
        }

        let mut long = HeaderBlock::new();
        for name in 0..257 {
            long.append(format!("{name}"), Bytes::from(vec![b'v'; 65_500]))
                .unwrap();
        }
        for version in Version::ALL {
            let error = refused(version, mode, &long);
            assert!(matches!(error, EncodeError::TooLarge { length } if length > 0x00ff_ffff));
        }
    }
}

#[test]
fn v2_rejects_more_fields_than_it_can_count() {
    let fields = (0..65_536).map(|index| (format!("{index}"), ""));
    let block = HeaderBlock::from_pairs(fields).unwrap();
    let error = refused(Version::V2, Indexed, &block);
    assert_eq!(error, EncodeError::TooManyFields { count: 65_536 });
}
