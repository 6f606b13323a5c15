//! Shows one direction of a recorded conversation, frame by frame, with the header fields inside.
//! The codec alone.
//!
//! Run with `cargo run -p spdy-examples --example decode_capture -- VERSION FILE`, where VERSION is
//! spdy/2, spdy/3 or spdy/3.1 and FILE has the bytes of one direction, such as
//! `tests/fixtures/v31-node-node-tour.c2s.bin`.

use std::{env, error::Error, fs};

use spdy_frame::{
    CompressedBlock, DecodeLimits, Decoder, Frame, HeaderDecoder, HeaderLimits, Version,
    bytes::{Bytes, BytesMut},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(version), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: decode_capture spdy/2|spdy/3|spdy/3.1 FILE".into());
    };
    let version = Version::from_alpn(version.as_bytes())
        .ok_or("unknown version: use spdy/2, spdy/3 or spdy/3.1")?;
    let mut bytes = BytesMut::from(&fs::read(file)?[..]);

    // ANCHOR: decode
    let mut decoder = Decoder::new(version, DecodeLimits::default());
    let mut headers = HeaderDecoder::new(version, HeaderLimits::default());
    while let Some(frame) = decoder.decode(&mut bytes)? {
        println!("{frame}");
        match frame {
            Frame::SynStream(frame) => print_fields(&mut headers, frame.block)?,
            Frame::SynReply(frame) => print_fields(&mut headers, frame.block)?,
            Frame::Headers(frame) => print_fields(&mut headers, frame.block)?,
            _ => {}
        }
    }
    // ANCHOR_END: decode
    if decoder.is_mid_frame() {
        println!("the recording ends inside a frame");
    }
    Ok(())
}

/// Every block has to be inflated, in order: they share one compression context.
fn print_fields(
    headers: &mut HeaderDecoder,
    block: CompressedBlock<Bytes>,
) -> Result<(), Box<dyn Error>> {
    for field in &headers.decode(block)? {
        let values: Vec<_> = field.values().map(String::from_utf8_lossy).collect();
        println!(
            "    {}: {}",
            String::from_utf8_lossy(field.name()),
            values.join(" | ")
        );
    }
    Ok(())
}
