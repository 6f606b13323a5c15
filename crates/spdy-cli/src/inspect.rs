//! `spdy inspect`: shows the frames of a recording. It uses the codec alone, without a session.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write},
};

use serde_json::json;
use spdy_frame::{
    DecodeLimits, Decoder, Frame, HeaderBlock, HeaderDecoder, HeaderError, HeaderLimits,
    bytes::{Bytes, BytesMut},
};

use crate::{
    failure::{Exit, Failure},
    flags::Inspect,
    whole::whole,
};

pub(crate) fn run(inspect: &Inspect) -> Result<Exit, Failure> {
    match read(inspect).and_then(|recording| show_all(inspect, recording)) {
        Ok(()) => Ok(Exit::Success),
        Err(failure) => failure.told(inspect.json, ("file", inspect.file.display())),
    }
}

fn show_all(inspect: &Inspect, recording: BytesMut) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let outcome = show(inspect, recording, &mut out);
    // The frames before an error in the recording are still useful.
    let flushed = out.flush().map_err(|error| unwritable(&error));
    outcome.and(flushed)
}

fn read(inspect: &Inspect) -> Result<BytesMut, Failure> {
    let bytes = Bytes::from(whole(&inspect.file, "inspect its beginning")?);
    Ok(bytes.into())
}

/// Writes each frame of the recording, with its header fields.
fn show(inspect: &Inspect, mut bytes: BytesMut, out: &mut impl Write) -> Result<(), Failure> {
    let whole = bytes.len();
    let mut decoder = Decoder::new(inspect.version, DecodeLimits::default());
    let mut headers = HeaderDecoder::new(inspect.version, HeaderLimits::default());
    loop {
        let offset = whole - bytes.len();
        let malformed = |error: &dyn std::error::Error| {
            Failure::exchange(format_args!("malformed frame at byte {offset}"), error)
        };
        let Some(frame) = decoder
            .decode(&mut bytes)
            .map_err(|error| malformed(&error))?
        else {
            break;
        };
        let (kind, text) = (frame.kind(), frame.to_string());
        let block = fields(&mut headers, frame).map_err(|error| malformed(&error))?;
        let line = if inspect.json {
            let fields = block.as_ref().map(pairs);
            let frame = json!({
                "offset": offset,
                "kind": kind.to_string(),
                "text": text,
                "fields": fields,
            });
            format!("{frame}\n")
        } else {
            let mut lines = format!("{text}\n");
            for [name, value] in block.as_ref().map(pairs).unwrap_or_default() {
                writeln!(lines, "    {name}: {value}").expect("a String takes any text");
            }
            lines
        };
        out.write_all(line.as_bytes())
            .map_err(|error| unwritable(&error))?;
    }
    if decoder.is_mid_frame() || !bytes.is_empty() {
        let message = "the recording ends inside a frame";
        return Err(Failure::new(Exit::Exchange, message));
    }
    Ok(())
}

/// Returns the header block of a frame, if it has one.
///
/// All blocks of a recording must be inflated in order, because they share one compression context.
fn fields(headers: &mut HeaderDecoder, frame: Frame) -> Result<Option<HeaderBlock>, HeaderError> {
    match frame {
        Frame::SynStream(frame) => headers.decode(frame.block).map(Some),
        Frame::SynReply(frame) => headers.decode(frame.block).map(Some),
        Frame::Headers(frame) => headers.decode(frame.block).map(Some),
        _ => Ok(None),
    }
}

/// Returns the names and values of a block, as one pair for each value.
fn pairs(block: &HeaderBlock) -> Vec<[String; 2]> {
    let mut pairs = Vec::new();
    for field in block {
        for value in field.values() {
            pairs
                .push([field.name(), value].map(|text| String::from_utf8_lossy(text).into_owned()));
        }
    }
    pairs
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::local("cannot write to standard output", error)
}
