//! The client of a cell, byte for byte: it begins an exchange, goes on as clients do, and ends in
//! the way of the cell.

use std::time::Duration;

use spdy_frame::Version;
use spdy_server::Protocol;
use spdy_tests::frames::{self, RawFrame, StoredBlocks};
use tokio::time::{sleep, timeout};

use crate::{
    cells::{State, Way},
    transport::Far,
};

/// A client that speaks one protocol.
#[derive(Debug)]
pub(crate) struct Peer {
    far: Far,
    protocol: Protocol,
    blocks: Option<StoredBlocks>,
    /// Bytes that have arrived and are not a whole frame.
    partial: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(protocol: Protocol, far: Far) -> Self {
        let blocks = match protocol {
            Protocol::Spdy(version) => Some(StoredBlocks::new(version)),
            _ => None,
        };
        Self {
            far,
            protocol,
            blocks,
            partial: Vec::new(),
        }
    }

    /// Brings an exchange to a state, and goes on for a while so that the state is reached.
    pub(crate) async fn reach(&mut self, state: State) {
        self.greet(state);
        match state {
            State::HeadComing => self.request("GET", "/wait", Part::Half),
            State::BodyComing => self.request("POST", "/read", Part::AllButBody),
            State::HandlerWaiting => self.request("GET", "/wait", Part::All),
            State::WaitingForWindow => self.request("GET", "/big", Part::All),
            State::ResponseGoing => self.request("GET", "/drip", Part::All),
            State::Tunnel => self.request("CONNECT", "a.test:443", Part::AllButBody),
            State::Push => self.request("GET", "/push", Part::All),
            State::Idle => self.request("GET", "/", Part::All),
            State::Unread => self.flood(),
        }
        // The transport of a client of HTTP/1.1 that does not read fills up.
        let stops = state == State::WaitingForWindow && self.protocol == Protocol::Http1;
        if stops {
            self.far.fill_up_to(1000);
        }
        _ = timeout(Duration::from_secs(5), self.live(!stops)).await;
    }

    /// Brings the exchange of a client to a state, as its server.
    pub(crate) async fn serve(&mut self, state: State) {
        self.greet(state);
        _ = timeout(Duration::from_secs(1), self.live(true)).await;
        let Protocol::Spdy(version) = self.protocol else {
            panic!("servers speak SPDY here");
        };
        let reply = frames::syn_reply(version, 1).status("200 OK");
        match state {
            State::HeadComing => {
                let blocks = self.blocks.as_mut().expect("a peer of SPDY writes blocks");
                let bytes = reply.bytes(blocks);
                self.far.send(&bytes[..bytes.len() / 2]);
            }
            State::BodyComing => {
                self.frame(&reply);
                self.frame(&frames::data(1, *b"abc"));
            }
            State::Tunnel => self.frame(&reply),
            State::Idle => self.frame(&reply.fin()),
            State::Unread => self.flood_client(version),
            State::HandlerWaiting
            | State::WaitingForWindow
            | State::ResponseGoing
            | State::Push => {}
        }
        _ = timeout(Duration::from_secs(4), self.live(true)).await;
    }

    /// Sends more of a body than is buffered, within the windows if there are any.
    fn flood(&mut self) {
        self.request("POST", "/unread", Part::AllButBody);
        match self.protocol {
            Protocol::Http1 => self.far.send(&[7; 1 << 20]),
            Protocol::Http2 => {
                for _ in 0..3 {
                    self.http2(0, 0, 1, &[7; 16_000]);
                }
            }
            Protocol::Spdy(Version::V3) => {
                for stream in [1, 3, 5, 7, 9] {
                    if stream > 1 {
                        let fields = [":method", ":path", ":version", ":host", ":scheme"];
                        let values = ["POST", "/unread", "HTTP/1.1", "a.test", "http"];
                        let mut frame = frames::syn_stream(Version::V3, stream);
                        for (name, value) in fields.into_iter().zip(values) {
                            frame = frame.field(name, value);
                        }
                        self.frame(&frame);
                    }
                    self.frame(&frames::data(stream, vec![7; 250_000]));
                }
            }
            Protocol::Spdy(Version::V2) => self.frame(&frames::data(1, vec![7; 270_000])),
            Protocol::Spdy(_) => self.frame(&frames::data(1, vec![7; 250_000])),
        }
    }

    /// Sends more of responses than a client buffers, or all that the window of a stream allows.
    fn flood_client(&mut self, version: Version) {
        for stream in (1..).step_by(2).take(streams_unread(version)) {
            self.frame(&frames::syn_reply(version, stream).status("200 OK"));
            let length = if version == Version::V2 {
                270_000
            } else {
                250_000
            };
            self.frame(&frames::data(stream, vec![7; length]));
        }
    }

    /// Ends in this way. Returns when the peer will do nothing more.
    pub(crate) async fn go(mut self, way: Way) {
        match way {
            Way::Silence => self.far.fill_up_to(KEPT_BY_SYSTEM),
            Way::ReadsNothing => self.far.fill_up_to(100),
            Way::Reset => self.far.reset(),
            Way::Close => self.far.close(),
            Way::Fin => {
                self.far.fin();
                self.live(true).await;
            }
            Way::WindowShut | Way::BodyNeverComes => self.live(true).await,
            Way::Dribble => self.dribble().await,
        }
    }

    /// Reads, and answers PINGs, until the other end is gone.
    async fn live(&mut self, reads: bool) {
        while !self.far.near_is_gone() {
            if reads {
                self.read();
            }
            self.far.news().await;
        }
    }

    /// Reads a little of a response now and then.
    async fn dribble(&mut self) {
        while !self.far.near_is_gone() {
            match self.protocol {
                Protocol::Http1 => drop(self.far.take(100)),
                _ => self.grant(100),
            }
            let reads = self.protocol != Protocol::Http1;
            _ = timeout(Duration::from_secs(10), self.live(reads)).await;
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns the first bytes of a connection, which set the windows of this side.
    fn greet(&mut self, state: State) {
        let window = if state == State::WaitingForWindow {
            WINDOW
        } else {
            1 << 30
        };
        match self.protocol {
            Protocol::Spdy(version) => {
                self.frame(&frames::settings(version, &[(7, window)]));
                if version == Version::V3_1 {
                    self.frame(&frames::window_update(version, 0, 1 << 30));
                }
            }
            Protocol::Http2 => {
                self.far.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
                let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
                self.http2(4, 0, 0, &setting);
                self.http2(8, 0, 0, &(1u32 << 30).to_be_bytes());
            }
            Protocol::Http1 => {}
        }
    }

    fn grant(&mut self, bytes: u32) {
        match self.protocol {
            Protocol::Spdy(version) => self.frame(&frames::window_update(version, 1, bytes)),
            Protocol::Http2 => self.http2(8, 0, 1, &bytes.to_be_bytes()),
            Protocol::Http1 => {}
        }
    }

    fn request(&mut self, method: &str, path: &str, part: Part) {
        let bytes = match self.protocol {
            Protocol::Spdy(version) => self.spdy_request(version, method, path, part),
            Protocol::Http2 => http2_request(method, path, part),
            Protocol::Http1 => http1_request(method, path, part),
        };
        let end = match part {
            Part::Half => bytes.len() / 2,
            _ => bytes.len(),
        };
        self.far.send(&bytes[..end]);
    }

    fn spdy_request(&mut self, version: Version, method: &str, path: &str, part: Part) -> Vec<u8> {
        let names = match version {
            Version::V2 => ["method", "url", "version", "host", "scheme"],
            _ => [":method", ":path", ":version", ":host", ":scheme"],
        };
        let mut frame = frames::syn_stream(version, 1);
        for (name, value) in names
            .into_iter()
            .zip([method, path, "HTTP/1.1", "a.test", "http"])
        {
            frame = frame.field(name, value);
        }
        match (part, method) {
            (Part::AllButBody, "POST") if path == "/read" => {
                frame = frame.field("content-length", "10");
            }
            (Part::AllButBody, _) => {}
            _ => frame = frame.fin(),
        }
        let blocks = self.blocks.as_mut().expect("a peer of SPDY writes blocks");
        let mut bytes = frame.bytes(blocks);
        if part == Part::AllButBody {
            bytes.extend(frames::data(1, *b"abc").bytes(blocks));
        }
        bytes
    }

    fn frame(&mut self, frame: &RawFrame) {
        let blocks = self
            .blocks
            .as_mut()
            .expect("a peer of SPDY writes frames of SPDY");
        let bytes = frame.bytes(blocks);
        self.far.send(&bytes);
    }

    fn http2(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.far.send(&http2_frame(kind, flags, stream, payload));
    }

    /// Reads the bytes that have arrived, and answers PINGs.
    fn read(&mut self) {
        let come = self.far.take(usize::MAX);
        let head = match self.protocol {
            Protocol::Http1 => return,
            Protocol::Http2 => 9,
            Protocol::Spdy(_) => 8,
        };
        self.partial.extend(come);
        while self.partial.len() >= head {
            let length = match self.protocol {
                Protocol::Http2 => &self.partial[..3],
                _ => &self.partial[5..8],
            };
            let length = length
                .iter()
                .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
            if self.partial.len() < head + length {
                return;
            }
            let frame: Vec<u8> = self.partial.drain(..head + length).collect();
            match (self.protocol, &frame[..4]) {
                (Protocol::Spdy(_), [0x80, _, 0, 6]) => self.far.send(&frame),
                (Protocol::Http2, [.., 6]) if frame[4] == 0 => self.http2(6, 1, 0, &frame[9..]),
                _ => {}
            }
        }
    }
}

/// Returns how many streams have to leave bytes unread until the transport is not read, if the
/// session has no window.
pub(crate) const fn streams_unread(version: Version) -> usize {
    match version {
        Version::V3 => 5,
        _ => 1,
    }
}

/// How much of a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Half,
    /// Its head, and less of the body than that announces.
    AllButBody,
    All,
}

fn http1_request(method: &str, path: &str, part: Part) -> Vec<u8> {
    let (length, body) = match part {
        Part::AllButBody if path == "/unread" => ("content-length: 10000000\r\n", ""),
        Part::AllButBody => ("content-length: 10\r\n", "abc"),
        _ => ("", ""),
    };
    format!("{method} {path} HTTP/1.1\r\nhost: a.test\r\n{length}\r\n{body}").into_bytes()
}

fn http2_request(method: &str, path: &str, part: Part) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", method),
        (":path", path),
        (":authority", "a.test"),
        (":scheme", "http"),
    ] {
        // A literal that is not indexed, with a new name.
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    if part == Part::AllButBody {
        let mut bytes = http2_frame(1, 4, 1, &block);
        bytes.extend(http2_frame(0, 0, 1, b"abc"));
        return bytes;
    }
    http2_frame(1, 5, 1, &block)
}

fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// How many bytes the systems of both ends buffer for a peer that has vanished.
const KEPT_BY_SYSTEM: usize = 256 << 10;

/// The window of the peer in the cells in which a stream waits for it.
pub(crate) const WINDOW: u32 = 10_000;
