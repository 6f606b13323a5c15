//! The header blocks that are decoded and rejected, and the effects of errors.

use flate2::{Compress, Compression, FlushCompress};
use spdy_frame::{HeaderDecoder, HeaderError, HeaderLimits, Version};

mod compressed;
mod limits;
mod pairs;
#[path = "../support/mod.rs"]
mod support;
mod vectors;

use support::{decode_block, number, stored, zlib_header};

type Fields = &'static [(&'static str, &'static str)];

const REQUEST_V3: Fields = &[
    (":method", "GET"),
    (":path", "/"),
    (":version", "HTTP/1.1"),
    (":host", "a.test"),
    (":scheme", "https"),
];

const TRAILERS: Fields = &[("x-t", "1")];

fn decoder(version: Version) -> HeaderDecoder {
    HeaderDecoder::new(version, HeaderLimits::default())
}

/// Returns a decoder that has read its zlib header, so that stored blocks can follow.
fn started(version: Version) -> HeaderDecoder {
    started_with(version, HeaderLimits::default())
}

fn started_with(version: Version, limits: HeaderLimits) -> HeaderDecoder {
    let mut decoder = HeaderDecoder::new(version, limits);
    let first = [zlib_header(version), &stored(&number(version, 0))].concat();
    assert!(decode_block(&mut decoder, &first).unwrap().is_empty());
    decoder
}

/// Checks that a block loses the context, and that every later call returns the same error.
fn lost(mut decoder: HeaderDecoder, bytes: &[u8]) -> HeaderError {
    let error = decode_block(&mut decoder, bytes).unwrap_err();
    assert!(error.is_context_lost());
    for next in [&b""[..], &stored(&number(Version::V3, 0)), bytes] {
        assert_eq!(decode_block(&mut decoder, next), Err(error.clone()));
    }
    error
}

/// Blocks compressed as zlib does, without the dictionary.
struct Zlib(Compress);

impl Zlib {
    fn new() -> Self {
        Self(Compress::new(Compression::best(), true))
    }

    fn block(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(bytes.len() / 2 + 1000);
        let status = self.0.compress_vec(bytes, &mut block, FlushCompress::Sync);
        assert!(status.is_ok() && block.len() < block.capacity());
        block
    }
}
