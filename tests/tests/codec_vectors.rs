//! The recorded conversations in `fixtures/` decode to what was seen in them when they were
//! recorded.

use std::{fs, path::Path};

use bytes::BytesMut;
use serde_json::Value;
use sha2::{Digest, Sha256};
use spdy_frame::{
    DecodeLimits, Decoder, Frame, GoAway, GoAwayStatus, Ping, Priority, RstStatus, RstStream,
    Setting, SettingFlags, SettingId, Settings, StreamId, Version, WindowIncrement, WindowTarget,
    WindowUpdate, parse,
};
use spdy_tests::wire::{Fields, Reader, Received};

/// One direction of a recorded conversation.
struct Direction {
    name: String,
    version: Version,
    bytes: Vec<u8>,
    frames: Vec<Recorded>,
}

/// A frame as the description of a recording has it.
struct Recorded {
    /// Where it is in the bytes of its direction, head and all.
    start: usize,
    end: usize,
    frame: Described,
}

#[derive(Debug, PartialEq)]
enum Described {
    Data {
        stream: u32,
        fin: bool,
        length: usize,
        sha256: String,
    },
    Control(Received),
}

#[test]
fn every_conversation_decodes_to_its_description() {
    for direction in directions() {
        let received = read(&direction, direction.bytes.len());
        assert_eq!(received.len(), direction.frames.len(), "{}", direction.name);
        for (received, recorded) in received.into_iter().zip(&direction.frames) {
            assert_eq!(
                described(received),
                recorded.frame,
                "{} at {}",
                direction.name,
                recorded.start
            );
        }
    }
}

#[test]
fn it_does_not_matter_in_which_pieces_a_conversation_arrives() {
    for direction in directions() {
        let whole = read(&direction, direction.bytes.len());
        for size in [1, 7, 1460] {
            assert!(
                read(&direction, size) == whole,
                "{} in pieces of {size} bytes",
                direction.name
            );
        }
    }
}

#[test]
fn borrowed_and_shared_frames_are_the_same_and_end_at_the_same_byte() {
    for direction in directions() {
        for recorded in &direction.frames {
            let bytes = &direction.bytes[recorded.start..];
            let (frame, length) = parse(direction.version, bytes).unwrap().unwrap();
            assert_eq!(
                length,
                recorded.end - recorded.start,
                "{} at {}",
                direction.name,
                recorded.start
            );
            assert_eq!(
                format!("{frame}"),
                format!("{}", decode_one(&direction, recorded)),
                "{} at {}",
                direction.name,
                recorded.start
            );
        }
    }
}

#[test]
fn what_was_decoded_encodes_to_the_same_bytes() {
    for direction in directions() {
        for recorded in &direction.frames {
            let mut encoded = BytesMut::new();
            decode_one(&direction, recorded)
                .encode(direction.version, &mut encoded)
                .unwrap();
            let bytes = &direction.bytes[recorded.start..recorded.end];
            assert!(
                encoded == canonical(direction.version, bytes),
                "{} at {}",
                direction.name,
                recorded.start
            );
        }
    }
}

fn read(direction: &Direction, piece: usize) -> Vec<Received> {
    let mut reader = Reader::new(direction.version);
    let mut received = Vec::new();
    for bytes in direction.bytes.chunks(piece) {
        reader.buffer().extend_from_slice(bytes);
        while let Some(frame) = reader
            .next_frame()
            .unwrap_or_else(|error| panic!("{}: {error}", direction.name))
        {
            received.push(frame);
        }
    }
    assert!(!reader.is_mid_frame(), "{}", direction.name);
    received
}

/// Decodes the bytes of one frame. Its header block, if any, stays compressed.
fn decode_one(direction: &Direction, recorded: &Recorded) -> Frame {
    let mut bytes = BytesMut::from(&direction.bytes[recorded.start..recorded.end]);
    let mut decoder = Decoder::new(direction.version, DecodeLimits::default());
    let frame = decoder.decode(&mut bytes).unwrap().unwrap();
    assert!(
        bytes.is_empty() && !decoder.is_mid_frame(),
        "{} at {}",
        direction.name,
        recorded.start
    );
    frame
}

/// The frame as this project writes it. node-spdy sets unused bits, and adds a status to the GOAWAY
/// of SPDY/2.
fn canonical(version: Version, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes[0] & 0x80 == 0 {
        return bytes;
    }
    match (bytes[3], version) {
        (SYN_STREAM, _) => {
            bytes[16] = Priority::from_byte(version, bytes[16]).to_byte(version);
            bytes[17] = 0;
        }
        (SYN_REPLY | HEADERS, Version::V2) => bytes[12..14].fill(0),
        (GOAWAY, Version::V2) => {
            bytes[7] = 4;
            bytes.truncate(12);
        }
        _ => {}
    }
    bytes
}

fn described(received: Received) -> Described {
    match received {
        Received::Data {
            stream,
            fin,
            payload,
        } => {
            let digest = Sha256::digest(&payload);
            let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            Described::Data {
                stream,
                fin,
                length: payload.len(),
                sha256,
            }
        }
        other => Described::Control(other),
    }
}

/// All directions of all conversations.
fn directions() -> Vec<Direction> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut directions = Vec::new();
    for entry in fs::read_dir(&fixtures).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let description: Value =
                serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let version =
                Version::from_alpn(format!("spdy/{}", text(&description["spdy"])).as_bytes())
                    .unwrap();
            for (name, file) in description["files"].as_object().unwrap() {
                let bytes = fs::read(fixtures.join(name)).unwrap();
                assert_eq!(bytes.len(), number(&file["bytes"]) as usize, "{name}");
                let frames = file["frames"].as_array().unwrap();
                let frames = frames
                    .iter()
                    .map(|frame| recorded(version, frame))
                    .collect();
                directions.push(Direction {
                    name: name.clone(),
                    version,
                    bytes,
                    frames,
                });
            }
        }
    }
    assert_eq!(directions.len(), 78, "39 conversations of two directions");
    directions
}

fn recorded(version: Version, frame: &Value) -> Recorded {
    let start = number(&frame["offset"]) as usize;
    let length = number(&frame["length"]) as usize;
    Recorded {
        start,
        end: start + 8 + length,
        frame: description(version, frame),
    }
}

fn description(version: Version, frame: &Value) -> Described {
    let stream = || number(&frame["stream"]);
    let fin = flag(frame, 1);
    Described::Control(match text(&frame["type"]) {
        "DATA" => {
            return Described::Data {
                stream: stream(),
                fin,
                length: number(&frame["length"]) as usize,
                sha256: text(&frame["sha256"]).to_owned(),
            };
        }
        "SYN_STREAM" => {
            let priority =
                Priority::from_byte(version, number(&frame["priority_byte"]) as u8).get();
            assert_eq!(u32::from(priority), number(&frame["priority"]));
            Received::SynStream {
                stream: stream(),
                associated: number(&frame["associated"]),
                priority,
                fin,
                unidirectional: flag(frame, 2),
                fields: fields(frame),
            }
        }
        "SYN_REPLY" => Received::SynReply {
            stream: stream(),
            fin,
            fields: fields(frame),
        },
        "HEADERS" => Received::Headers {
            stream: stream(),
            fin,
            fields: fields(frame),
        },
        "RST_STREAM" => Received::RstStream(RstStream {
            stream: StreamId::new(stream()).unwrap(),
            status: RstStatus(number(&frame["status"])),
        }),
        "SETTINGS" => Received::Settings(Settings {
            clear: flag(frame, 1),
            entries: frame["settings"]
                .as_array()
                .unwrap()
                .iter()
                .map(setting)
                .collect(),
        }),
        "PING" => Received::Ping(Ping {
            id: number(&frame["id"]),
        }),
        "GOAWAY" => Received::GoAway(GoAway {
            last_good: StreamId::new(number(&frame["last_good_stream"])),
            status: GoAwayStatus(number(&frame["status"])),
        }),
        "WINDOW_UPDATE" => Received::WindowUpdate(WindowUpdate {
            target: WindowTarget::from_field(stream()),
            increment: WindowIncrement::new(number(&frame["delta"])).unwrap(),
        }),
        other => panic!("no recording has a frame of type {other}"),
    })
}

fn setting(entry: &Value) -> Setting {
    Setting {
        id: SettingId(number(&entry["id"])),
        flags: SettingFlags(number(&entry["flags"]) as u8),
        value: number(&entry["value"]),
    }
}

fn fields(frame: &Value) -> Fields {
    let pairs = frame["headers"]["pairs"].as_array().unwrap();
    pairs
        .iter()
        .map(|pair| (text(&pair[0]).to_owned(), text(&pair[1]).to_owned()))
        .collect()
}

fn flag(frame: &Value, bit: u32) -> bool {
    number(&frame["flags"]) & bit != 0
}

fn number(value: &Value) -> u32 {
    value
        .as_u64()
        .and_then(|number| number.try_into().ok())
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

const SYN_STREAM: u8 = 1;
const SYN_REPLY: u8 = 2;
const GOAWAY: u8 = 7;
const HEADERS: u8 = 8;
