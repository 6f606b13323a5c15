//! The recorded conversations in `fixtures/` through a live session: what the peer of another
//! implementation said happens to the application as it was described when it was recorded, and the
//! machine reports no broken rule.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use spdy_frame::{GoAwayStatus, Priority, RstStatus, Side, Version};
use spdy_session::{
    Config, FlowControl,
    proto::{OpenOptions, Phase},
};
use spdy_tests::{
    machine::{End, Happened, Machine, id},
    wire::{Fields, Received},
};

/// A recorded conversation.
struct Recording {
    name: String,
    version: Version,
    description: Value,
}

/// An event as a description has it: DATA of one frame by its length and digest.
#[derive(Debug, PartialEq)]
enum Expected {
    Event(Happened),
    Data {
        id: u32,
        fin: bool,
        length: usize,
        sha256: String,
    },
}

#[test]
fn a_server_understands_every_recorded_client() {
    let mut frames = 0;
    for recording in recordings() {
        for piece in [usize::MAX, 1000, 1] {
            let mut server = Machine::new(Side::Server, recording.version, recording.config());
            let events = feed(&mut server, &recording.bytes("c2s"), piece);
            recording.assert_expected("c2s", Side::Server, &events);
            recording.assert_unaccused(&mut server);
            frames += events.len();
        }
        assert_usable_after(&recording);
    }
    assert!(frames > 1000, "{frames}");
}

#[test]
fn a_client_understands_every_recorded_server() {
    let mut frames = 0;
    for recording in recordings() {
        for piece in [usize::MAX, 1000, 1] {
            let mut client = Machine::new(Side::Client, recording.version, recording.config());
            recording.open_streams(&mut client);
            client.sent();
            client.all_events();
            let events = feed(&mut client, &recording.bytes("s2c"), piece);
            recording.assert_expected("s2c", Side::Client, &events);
            recording.assert_unaccused(&mut client);
            frames += events.len();
        }
    }
    assert!(frames > 1000, "{frames}");
}

/// After the conversation every stream that is open can be answered.
fn assert_usable_after(recording: &Recording) {
    let mut server = Machine::new(Side::Server, recording.version, recording.config());
    let events = feed(&mut server, &recording.bytes("c2s"), usize::MAX);
    for event in events {
        let Happened::Opened { id: stream, .. } = event else {
            continue;
        };
        if server
            .connection
            .send_reply(id(stream), Default::default(), true)
            .is_ok()
        {
            let sent = server.sent();
            assert!(
                sent.iter().any(
                    |frame| matches!(frame, Received::SynReply { stream: found, .. } if *found == stream)
                ),
                "{}: {sent:?}",
                recording.name
            );
        }
    }
    if server.connection.phase() == Phase::Open
        && recording
            .frames("c2s")
            .all(|frame| frame["type"] != "GOAWAY")
    {
        server.continue_blocks();
        server.assert_usable();
    }
}

/// Feeds bytes in pieces of `piece`; gives what happened, with the DATA of a stream joined up to
/// its FIN.
fn feed(machine: &mut Machine, bytes: &[u8], piece: usize) -> Vec<Happened> {
    for bytes in bytes.chunks(piece) {
        machine.feed_bytes(bytes);
    }
    machine.events()
}

impl Recording {
    /// Peers of these names know no windows (protocol.md §3.5).
    fn config(&self) -> Config {
        let mut config = Config::default();
        if self.name.contains("-go-") || self.name.contains("-mux-") {
            config.flow_control = FlowControl::Off;
        }
        config.accept_push = true;
        config
    }

    fn bytes(&self, direction: &str) -> Vec<u8> {
        fs::read(fixtures().join(self.file(direction))).unwrap()
    }

    fn file(&self, direction: &str) -> String {
        format!("{}.{direction}.bin", self.name)
    }

    fn frames(&self, direction: &str) -> impl Iterator<Item = &Value> {
        let file = &self.description["files"][self.file(direction)];
        file["frames"].as_array().unwrap().iter()
    }

    /// Opens the streams that the recorded client opened, and finishes those that it finished.
    fn open_streams(&self, client: &mut Machine) {
        for frame in self.frames("c2s") {
            if frame["type"] == "SYN_STREAM" {
                client.connection.skip_to(id(stream(frame)));
                let opened = client.open(OpenOptions::new().unidirectional(flag(frame, 2)));
                assert_eq!(opened, stream(frame));
            }
            if flag(frame, 1) && frame["stream"].as_u64().is_some_and(|id| id % 2 == 1) {
                client.connection.finish(id(stream(frame))).unwrap();
            }
        }
    }

    /// Compares what happened, stream by stream and frame by frame.
    fn assert_expected(&self, direction: &str, side: Side, events: &[Happened]) {
        // Netty answers each frame that was under way when it reset a stream: only the first reset
        // ends it.
        let mut resets = BTreeSet::new();
        let expected: Vec<Expected> = self
            .frames(direction)
            .filter(|frame| frame["type"] != "RST_STREAM" || resets.insert(stream(frame)))
            .filter_map(|frame| self.expected(side, frame))
            .collect();
        let mut events = events.iter();
        let mut not_processed = Vec::new();
        for expected in expected {
            let found = match &expected {
                Expected::Data { id, length, .. } => collect_data(*id, *length, &mut events),
                Expected::Event(_) => {
                    let event = events.next().expect("there is one more event").clone();
                    if let Happened::GoAway { .. } = event {
                        not_processed = events
                            .clone()
                            .take_while(|event| {
                                matches!(
                                    event,
                                    Happened::Reset {
                                        end: End::NotProcessed,
                                        ..
                                    }
                                )
                            })
                            .collect();
                        events = events.as_slice()[not_processed.len()..].iter();
                    }
                    Expected::Event(event)
                }
            };
            assert_eq!(found, expected, "{} {direction}", self.name);
        }
        assert_eq!(events.next(), None, "{} {direction}", self.name);
        assert!(
            not_processed.is_empty(),
            "{}: every stream was answered",
            self.name
        );
    }

    /// The connection has not found fault with its peer.
    fn assert_unaccused(&self, machine: &mut Machine) {
        for frame in machine.sent() {
            match frame {
                Received::RstStream(_) => panic!("{}: {frame:?}", self.name),
                Received::GoAway(frame) => assert_eq!(frame.status, GoAwayStatus::OK),
                _ => {}
            }
        }
        assert!(machine.connection.outcome().is_ok(), "{}", self.name);
        machine.end_of_input();
    }

    fn expected(&self, side: Side, frame: &Value) -> Option<Expected> {
        let fin = flag(frame, 1);
        let event = match frame["type"].as_str().unwrap() {
            "DATA" => {
                let length = number(&frame["length"]) as usize;
                return (length > 0 || fin).then(|| Expected::Data {
                    id: stream(frame),
                    fin,
                    length,
                    sha256: frame["sha256"].as_str().unwrap().to_owned(),
                });
            }
            "SYN_STREAM" => Happened::Opened {
                id: stream(frame),
                fields: fields(frame),
                fin,
                priority: Priority::from_byte(self.version, number(&frame["priority_byte"]) as u8)
                    .get(),
                associated: number(&frame["associated"]),
                unidirectional: flag(frame, 2),
            },
            "SYN_REPLY" => Happened::Replied {
                id: stream(frame),
                fields: fields(frame),
                fin,
            },
            "HEADERS" => Happened::Headers {
                id: stream(frame),
                fields: fields(frame),
                fin,
            },
            // Resets of streams that this side does not know, since it opened none, tell nothing.
            "RST_STREAM" if id(stream(frame)).initiator() == side && side == Side::Server => {
                return None;
            }
            "RST_STREAM" => Happened::Reset {
                id: stream(frame),
                end: match RstStatus(number(&frame["status"])) {
                    RstStatus::REFUSED_STREAM => End::NotProcessed,
                    status => End::Remote(status),
                },
            },
            "GOAWAY" => Happened::GoAway {
                last_good: number(&frame["last_good_stream"]),
                status: match self.version {
                    Version::V2 => GoAwayStatus::OK,
                    Version::V3 | Version::V3_1 => GoAwayStatus(number(&frame["status"])),
                },
            },
            "SETTINGS" | "PING" | "WINDOW_UPDATE" => return None,
            other => panic!("no recording has a frame of type {other}"),
        };
        Some(Expected::Event(event))
    }
}

/// Takes the pieces of one DATA frame together.
fn collect_data<'a>(
    stream: u32,
    length: usize,
    events: &mut impl Iterator<Item = &'a Happened>,
) -> Expected {
    let (mut digest, mut bytes) = (Sha256::new(), 0);
    loop {
        let event = events.next().expect("there is one more piece");
        let Happened::Data { id, payload, fin } = event else {
            panic!("this is no piece of {stream}: {event:?}");
        };
        digest.update(payload);
        bytes += payload.len();
        if bytes >= length {
            let digest = digest.finalize();
            return Expected::Data {
                id: *id,
                fin: *fin,
                length: bytes,
                sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            };
        }
    }
}

fn recordings() -> Vec<Recording> {
    let mut recordings = BTreeMap::new();
    for entry in fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let description: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let token = format!("spdy/{}", description["spdy"].as_str().unwrap());
        let name = description["name"].as_str().unwrap().to_owned();
        let version = Version::from_alpn(token.as_bytes()).unwrap();
        recordings.insert(
            name.clone(),
            Recording {
                name,
                version,
                description,
            },
        );
    }
    assert_eq!(recordings.len(), 39);
    recordings.into_values().collect()
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn fields(frame: &Value) -> Fields {
    let pairs = frame["headers"]["pairs"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    pairs
        .iter()
        .map(|pair| (text(&pair[0]), text(&pair[1])))
        .collect()
}

fn stream(frame: &Value) -> u32 {
    number(&frame["stream"])
}

fn flag(frame: &Value, bit: u32) -> bool {
    number(&frame["flags"]) & bit != 0
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}
