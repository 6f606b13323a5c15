//! `spdy inspect`: the frames of a recording. The codec alone.

use std::{
    fmt::Write as _,
    fs,
    io::{self, BufWriter, Read, Write},
};

use serde_json::json;
use spdy_frame::{
    DecodeLimits, Decoder, Frame, HeaderBlock, HeaderDecoder, HeaderError, HeaderLimits,
    bytes::BytesMut,
};

use crate::{
    failure::{Exit, Failure},
    flags::Inspect,
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
    // What comes before a mistake in a recording is of use, too.
    let flushed = out.flush().map_err(|error| unwritable(&error));
    outcome.and(flushed)
}

fn read(inspect: &Inspect) -> Result<BytesMut, Failure> {
    let octets = if inspect.file.as_os_str() == "-" {
        let mut octets = Vec::new();
        io::stdin().read_to_end(&mut octets).map(|_| octets)
    } else {
        fs::read(&inspect.file)
    };
    octets
        .map(|octets| BytesMut::from(&octets[..]))
        .map_err(|error| {
            Failure::local(
                format_args!("cannot read {}", inspect.file.display()),
                &error,
            )
        })
}

fn show(inspect: &Inspect, mut octets: BytesMut, out: &mut impl Write) -> Result<(), Failure> {
    let whole = octets.len();
    let mut decoder = Decoder::new(inspect.version, DecodeLimits::default());
    let mut headers = HeaderDecoder::new(inspect.version, HeaderLimits::default());
    loop {
        let place = whole - octets.len();
        let malformed = |error: &dyn std::error::Error| {
            Failure::exchange(
                format_args!("the frame at octet {place} is malformed"),
                error,
            )
        };
        let Some(frame) = decoder
            .decode(&mut octets)
            .map_err(|error| malformed(&error))?
        else {
            break;
        };
        let (kind, text) = (frame.kind(), frame.to_string());
        let block = fields(&mut headers, frame).map_err(|error| malformed(&error))?;
        let line = if inspect.json {
            let fields = block.as_ref().map(pairs);
            let frame = json!({
                "octet": place,
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
    if decoder.is_mid_frame() || !octets.is_empty() {
        let message = "the recording ends inside a frame";
        return Err(Failure::new(Exit::Exchange, message));
    }
    Ok(())
}

/// The header block of a frame. All have to be inflated, in order: they share one compression context.
fn fields(headers: &mut HeaderDecoder, frame: Frame) -> Result<Option<HeaderBlock>, HeaderError> {
    match frame {
        Frame::SynStream(frame) => headers.decode(frame.block).map(Some),
        Frame::SynReply(frame) => headers.decode(frame.block).map(Some),
        Frame::Headers(frame) => headers.decode(frame.block).map(Some),
        _ => Ok(None),
    }
}

/// Names and values, one pair for each value.
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
