//! One [`Connection`] under a clock that only tests move.
//!
//! A [`Machine`] is fed with [`RawFrame`]s, so its peer may say anything; what it sends is read by the codec alone and
//! held against the rules for senders on the way (protocol.md §23, rows 25, 31, 55, 68 and 201), in every test.
//!
//! When a machine is dropped, all that was done with it is done again over the driver of `spdy-session` and its
//! handles, on a transport in memory under a clock of the test: the same frames have to come out, and the handles have
//! to tell the same (module `driven`). A test whose steps no handle can do says so with [`Machine::alone`].
//!
//! ```
//! use spdy_frame::Version;
//! use spdy_tests::{frames, machine::{Happened, Machine}};
//!
//! let mut server = Machine::server(Version::V3_1);
//! server.feed(frames::syn_stream(Version::V3_1, 1).get("/").fin());
//! assert!(matches!(server.events()[..], [Happened::Opened { id: 1, fin: true, .. }]));
//! ```

use std::{sync::Arc, time::Duration, time::Instant};

use bytes::{Buf, BytesMut};
use spdy_frame::{
    GoAwayStatus, HeaderBlock, RstStatus, RstStream, Side, StreamId, Version, WindowIncrement,
    WindowTarget, WindowUpdate,
};
use spdy_session::{
    Config,
    proto::{Connection, Open, Phase},
};

pub use crate::{
    application::Application,
    happened::{End, Happened},
};
use crate::{
    application::{Outset, Step},
    driven,
    frames::{self, RawFrame, StoredBlocks},
    wire::{Reader, Received},
};

/// A connection whose peer is the test.
#[derive(Debug)]
pub struct Machine {
    /// The connection. Everything that the application may do is done here.
    pub connection: Application,
    outset: Outset,
    /// Everything that has happened.
    log: Vec<Happened>,
    now: Instant,
    blocks: StoredBlocks,
    input: BytesMut,
    reader: Reader,
    greeting: Vec<Received>,
    happened: Vec<Happened>,
    /// The id of the next stream that [`assert_usable`](Self::assert_usable) has the peer open.
    spare: u32,
}

impl Machine {
    /// A server with the default configuration.
    #[must_use]
    pub fn server(version: Version) -> Self {
        Self::new(Side::Server, version, Config::default())
    }

    /// A client with the default configuration.
    #[must_use]
    pub fn client(version: Version) -> Self {
        Self::new(Side::Client, version, Config::default())
    }

    /// A connection at its start that has said what it says first.
    #[must_use]
    pub fn new(side: Side, version: Version, config: Config) -> Self {
        let now = Instant::now();
        let config = Arc::new(config);
        let connection = Connection::new(side, version, Arc::clone(&config), now);
        let mut machine = Self {
            connection: Application::new(connection),
            outset: Outset {
                side,
                version,
                config,
            },
            log: Vec::new(),
            now,
            blocks: StoredBlocks::new(version),
            input: BytesMut::new(),
            reader: Reader::new(version),
            greeting: Vec::new(),
            happened: Vec::new(),
            spare: 1_000_000 + side.peer().first_id(),
        };
        machine.greeting = machine.sent();
        machine
    }

    /// The same from the start, with another configuration.
    #[must_use]
    pub fn with(self, config: Config) -> Self {
        Self::new(self.connection.side(), self.connection.version(), config)
    }

    /// What is done here is not done over the driver as well, for this reason.
    #[must_use]
    pub fn alone(mut self, why: &'static str) -> Self {
        self.connection.alone(why);
        self
    }

    /// What the connection said first.
    #[must_use]
    pub fn greeting(&self) -> &[Received] {
        &self.greeting
    }

    // --- what the peer does -----------------------------------------------------------------------------------------

    /// Receives a frame.
    pub fn feed(&mut self, frame: RawFrame) {
        let octets = frame.octets(&mut self.blocks);
        self.feed_octets(&octets);
    }

    /// Receives octets of any kind.
    pub fn feed_octets(&mut self, octets: &[u8]) {
        self.connection.script.push(Step::Input(octets.to_vec()));
        self.input.extend_from_slice(octets);
        self.read();
    }

    /// Receives frames in pieces of so many octets.
    pub fn feed_in_pieces(&mut self, frames: impl IntoIterator<Item = RawFrame>, size: usize) {
        let octets: Vec<u8> = frames
            .into_iter()
            .flat_map(|frame| frame.octets(&mut self.blocks))
            .collect();
        for piece in octets.chunks(size) {
            self.feed_octets(piece);
        }
    }

    /// The octets of a frame of the peer, without feeding it.
    pub fn octets(&mut self, frame: &RawFrame) -> Vec<u8> {
        frame.octets(&mut self.blocks)
    }

    /// Frames go on where octets that were fed have begun the compression of header blocks.
    pub fn continue_blocks(&mut self) {
        // The zlib header goes into a block that is not sent. Stored blocks depend on nothing before them.
        let _ = self.blocks.compress(&[]);
    }

    /// Goes on with what was fed while reading was paused.
    pub fn read(&mut self) {
        while self
            .connection
            .inner()
            .handle_input(self.now, &mut self.input)
        {
            self.collect();
        }
        self.collect();
    }

    /// How many octets wait to be read.
    #[must_use]
    pub fn unread_input(&self) -> usize {
        self.input.len()
    }

    /// The peer closes its direction of the transport.
    pub fn end_of_input(&mut self) {
        self.connection.script.push(Step::EndOfInput);
        self.connection.inner().handle_eof(self.now);
        self.collect();
    }

    /// Time passes. Deadlines on the way are met one by one.
    pub fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        let mut rounds = 0;
        while let Some(deadline) = self.connection.poll_timeout().filter(|at| *at <= until) {
            rounds += 1;
            assert!(
                rounds < 1000,
                "a deadline that has passed is set again and again"
            );
            self.pass_until(self.now.max(deadline));
            self.connection.inner().handle_timeout(self.now);
            self.collect();
            if self.connection.poll_timeout() == Some(deadline) {
                // The driver writes before it looks at its timers again.
                let _ = self.connection.inner().poll_transmit(self.now);
                self.collect();
            }
        }
        self.pass_until(until);
    }

    fn pass_until(&mut self, then: Instant) {
        self.connection.script.push(Step::Advance(then - self.now));
        self.now = then;
    }

    /// What time it is.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Opens a stream with a GET that is complete. What comes of it is dropped.
    pub fn request(&mut self, stream: u32) {
        let version = self.connection.version();
        self.feed(frames::syn_stream(version, stream).get("/").fin());
        self.events();
    }

    /// Opens a stream with a POST whose body is still to come. What comes of it is dropped.
    pub fn upload(&mut self, stream: u32) {
        let version = self.connection.version();
        self.feed(frames::syn_stream(version, stream).post("/"));
        self.events();
    }

    /// Has a client open a stream, which stays open on its side, and answers it with headers alone. What comes of it is
    /// dropped; the number of the stream is given.
    pub fn exchange(&mut self) -> u32 {
        let version = self.connection.version();
        let stream = self.open(Open::default());
        self.sent();
        self.feed(frames::syn_reply(version, stream).status("200 OK"));
        self.events();
        stream
    }

    // --- what comes of it -------------------------------------------------------------------------------------------

    /// Reads all that the connection has to send.
    pub fn sent(&mut self) -> Vec<Received> {
        let octets = self.sent_octets();
        self.reader.buffer().extend_from_slice(&octets);
        let mut frames = Vec::new();
        while let Some(frame) = self.reader.next_frame().expect("it sends sound frames") {
            frames.push(frame);
        }
        assert!(!self.reader.is_mid_frame(), "it sends whole frames");
        frames
    }

    /// Reads all that the connection has to send, undecoded: [`sent`](Self::sent) cannot be used any more.
    pub fn sent_octets(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        loop {
            let out = self.connection.inner().poll_transmit(self.now);
            if !out.has_remaining() {
                break;
            }
            while out.has_remaining() {
                octets.extend_from_slice(out.chunk());
                out.advance(out.chunk().len());
            }
        }
        self.collect();
        assert_canonical(self.connection.version(), &octets);
        self.connection.script.push(Step::Output(octets.clone()));
        octets
    }

    /// Lets the connection prepare what it has to send, without reading any of it. Gives how many octets wait.
    pub fn unsent_octets(&mut self) -> usize {
        self.connection.script.push(Step::Prepare);
        let waiting = self.connection.inner().poll_transmit(self.now).remaining();
        self.collect();
        waiting
    }

    /// What happened since the last call, without [`Happened::Sent`].
    pub fn events(&mut self) -> Vec<Happened> {
        self.all_events()
            .into_iter()
            .filter(|event| !matches!(event, Happened::Sent { .. }))
            .collect()
    }

    /// What happened since the last call.
    pub fn all_events(&mut self) -> Vec<Happened> {
        self.collect();
        std::mem::take(&mut self.happened)
    }

    fn collect(&mut self) {
        while let Some(event) = self.connection.inner().poll_event() {
            let Some(event) = Happened::of(event) else {
                continue;
            };
            self.log.push(event.clone());
            self.happened.push(event);
        }
    }

    // --- what the application does ----------------------------------------------------------------------------------

    /// Opens a stream with a request for `/`, and gives its number.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn open(&mut self, how: Open) -> u32 {
        let headers = request_block(self.connection.version());
        let id = self.connection.open(self.now, headers, how);
        id.expect("a stream can be opened").get()
    }

    /// Answers a stream with status 200.
    ///
    /// # Panics
    ///
    /// If it cannot be answered.
    pub fn reply(&mut self, stream: u32, fin: bool) {
        let headers = reply_block(self.connection.version());
        self.connection
            .reply(id(stream), headers, fin)
            .expect("the stream can be answered");
    }

    /// Answers a stream and sends so many octets on it.
    ///
    /// # Panics
    ///
    /// If it cannot be answered.
    pub fn respond(&mut self, stream: u32, octets: usize) {
        self.reply(stream, false);
        self.send(stream, octets, true);
    }

    /// Queues so many octets on a stream.
    ///
    /// # Panics
    ///
    /// If the stream takes none.
    pub fn send(&mut self, stream: u32, octets: usize, fin: bool) {
        self.connection
            .send_data(id(stream), vec![b'x'; octets].into(), fin)
            .expect("the stream takes data");
    }

    /// Takes a stream out of the backlog.
    pub fn accept(&mut self, stream: u32) {
        self.connection.accept(id(stream));
    }

    /// Is done with so many octets of a stream.
    pub fn consume(&mut self, stream: u32, octets: usize) {
        self.connection.consume(id(stream), octets);
    }

    // --- what is asked again and again ------------------------------------------------------------------------------

    /// Shows that the session works: a new stream is opened, answered and closed, with header fields that no block had
    /// before, so that a compression context that was lost would show.
    ///
    /// # Panics
    ///
    /// If it does not work.
    pub fn assert_usable(&mut self) {
        let _ = (self.sent(), self.events());
        assert_eq!(self.connection.phase(), Phase::Open, "the session goes on");
        match self.connection.side() {
            Side::Server => self.assert_server_usable(),
            Side::Client => self.assert_client_usable(),
        }
    }

    fn assert_server_usable(&mut self) {
        let version = self.connection.version();
        let stream = self.spare;
        self.spare += 2;
        let value = format!("value {stream}");
        self.feed(
            frames::syn_stream(version, stream)
                .get("/usable")
                .field("x-probe", &value)
                .fin(),
        );
        let events = self.events();
        let [
            Happened::Opened {
                id,
                fields,
                fin: true,
                ..
            },
        ] = &events[..]
        else {
            panic!("one stream is opened: {events:?}");
        };
        assert_eq!(*id, stream);
        assert!(fields.contains(&("x-probe".into(), value)), "{fields:?}");
        self.reply(stream, true);
        let sent = self.sent();
        let [
            Received::SynReply {
                stream: replied,
                fin: true,
                fields,
            },
        ] = &sent[..]
        else {
            panic!("one reply is sent: {sent:?}");
        };
        assert_eq!((*replied, fields.len()), (stream, 2));
    }

    fn assert_client_usable(&mut self) {
        let version = self.connection.version();
        let stream = self.open(Open {
            fin: true,
            ..Open::default()
        });
        let sent = self.sent();
        let [
            Received::SynStream {
                stream: opened,
                fields,
                ..
            },
        ] = &sent[..]
        else {
            panic!("one stream is opened: {sent:?}");
        };
        assert_eq!((*opened, fields.len()), (stream, 5));
        let value = format!("value {stream}");
        self.feed(
            frames::syn_reply(version, stream)
                .status("200 OK")
                .field("x-probe", &value)
                .fin(),
        );
        let events = self.events();
        let [
            Happened::Replied {
                id,
                fields,
                fin: true,
            },
        ] = &events[..]
        else {
            panic!("one reply came: {events:?}");
        };
        assert_eq!(*id, stream);
        assert!(fields.contains(&("x-probe".into(), value)), "{fields:?}");
    }

    /// Shows that the connection has sent GOAWAY with this status (SPDY/2 has none) and closes. Gives its last-good id,
    /// and what was sent before it.
    ///
    /// # Panics
    ///
    /// If it has not.
    pub fn assert_goes_away(&mut self, status: GoAwayStatus) -> (u32, Vec<Received>) {
        let mut sent = self.sent();
        let Some(Received::GoAway(frame)) = sent.pop() else {
            panic!("GOAWAY is the last frame: {sent:?}");
        };
        let expected = match self.connection.version() {
            Version::V2 => GoAwayStatus::OK,
            Version::V3 | Version::V3_1 => status,
        };
        assert_eq!(frame.status, expected);
        assert_eq!(self.connection.phase(), Phase::Closing);
        assert!(!self.connection.wants_input());
        (frame.last_good.map_or(0, StreamId::get), sent)
    }
}

/// What a test has done with the machine has to come to the same over the driver.
impl Drop for Machine {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.connection.alone.is_none() {
            self.collect();
            driven::follow(&self.outset, &self.connection, &self.log);
        }
    }
}

/// The versions that have windows.
pub const SINCE_V3: [Version; 2] = [Version::V3, Version::V3_1];

/// A stream id.
///
/// # Panics
///
/// If the number is none.
#[must_use]
pub fn id(stream: u32) -> StreamId {
    StreamId::new(stream).expect("the number is a stream id")
}

/// RST_STREAM as it was received.
#[must_use]
pub fn reset(stream: u32, status: RstStatus) -> Received {
    Received::RstStream(RstStream {
        stream: id(stream),
        status,
    })
}

/// WINDOW_UPDATE as it was received; stream 0 is the session.
///
/// # Panics
///
/// If it would grant nothing.
#[must_use]
pub fn credit(stream: u32, octets: u32) -> Received {
    Received::WindowUpdate(WindowUpdate {
        target: WindowTarget::from_field(stream),
        increment: WindowIncrement::new(octets).expect("credit is not zero"),
    })
}

/// The payload octets of a stream among frames.
#[must_use]
pub fn payload_of(stream: u32, frames: &[Received]) -> usize {
    frames
        .iter()
        .map(|frame| match frame {
            Received::Data {
                stream: found,
                payload,
                ..
            } if *found == stream => payload.len(),
            _ => 0,
        })
        .sum()
}

/// The requests 1 and 3 of protocol.md §22, "packed": unlike the blocks of [`frames`], the second one cannot be read
/// without the first.
#[must_use]
pub fn packed_requests(version: Version) -> [Vec<u8>; 2] {
    let requests = match version {
        Version::V2 => [
            "800200010100004b0000000100000000000038eadfa251b262606560cb05e6c3fc14066677d71006669020a33e03\
             3b540d03074c2b030b283731b025ea95a482e862601ce7a632b0669494141403000000ffff",
            "800200010100001300000003000000008000a2923100000000ffff",
        ],
        Version::V3 | Version::V3_1 => [
            "800300010100004b0000000100000000000038eae3c6a7c2026525507ab442a45a77d71090a8554122b86c62d407\
             25522bec0996d50a5a90b025ea95a48259ec56c5c04233175cb2669494141403000000ffff",
            "800300010100001300000003000000006000a2831500000000ffff",
        ],
    };
    requests.map(|hex| {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits
            .chunks(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect()
    })
}

/// The header block of a GET for https://localhost/.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn request_block(version: Version) -> HeaderBlock {
    let pairs = match version {
        Version::V2 => [
            ("method", "GET"),
            ("url", "/"),
            ("version", "HTTP/1.1"),
            ("host", "localhost"),
            ("scheme", "https"),
        ],
        Version::V3 | Version::V3_1 => [
            (":method", "GET"),
            (":path", "/"),
            (":version", "HTTP/1.1"),
            (":host", "localhost"),
            (":scheme", "https"),
        ],
    };
    block(&pairs)
}

/// The header block of a response with status 200.
#[must_use]
pub fn reply_block(version: Version) -> HeaderBlock {
    match version {
        Version::V2 => block(&[("status", "200 OK"), ("version", "HTTP/1.1")]),
        Version::V3 | Version::V3_1 => block(&[(":status", "200 OK"), (":version", "HTTP/1.1")]),
    }
}

/// A header block with these fields.
///
/// # Panics
///
/// If one of them is not sound.
#[must_use]
pub fn block(pairs: &[(&str, &str)]) -> HeaderBlock {
    HeaderBlock::from_pairs(pairs.iter().copied()).expect("the fields are sound")
}

/// Holds the frames in `octets` against the rules for senders: the session's version in every control frame, no unknown
/// type, no reserved bit or unused octet set, statuses and increments that exist.
fn assert_canonical(version: Version, mut octets: &[u8]) {
    while !octets.is_empty() {
        let (head, rest) = octets.split_at(8);
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let (payload, rest) = rest.split_at(length);
        octets = rest;
        if head[0] & 0x80 == 0 {
            assert_ne!(head[..4], [0; 4], "DATA has a stream");
            assert!(head[4] <= 1, "DATA has no flag but FIN");
            continue;
        }
        assert_eq!(
            u16::from_be_bytes([head[0] & 0x7f, head[1]]),
            version.wire(),
            "row 25"
        );
        assert_eq!(head[2], 0);
        assert_canonical_control(version, head[3], head[4], payload);
    }
}

fn assert_canonical_control(version: Version, kind: u8, flags: u8, payload: &[u8]) {
    let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four octets"));
    let is_v2 = version == Version::V2;
    let highest_flags = match (kind, version) {
        (1, _) => 3,
        (2, _) | (8, Version::V3 | Version::V3_1) => 1,
        _ => 0,
    };
    assert!(flags <= highest_flags, "row 31: flags of type {kind}");
    if [1, 2, 3, 7, 8, 9].contains(&kind) {
        assert_eq!(word(0) >> 31, 0, "row 31: the top bit of the stream id");
    }
    match kind {
        1 => {
            let unused = if is_v2 { 0x3f } else { 0x1f };
            assert_eq!((payload[8] & unused, payload[9]), (0, 0), "row 31");
        }
        2 | 8 if is_v2 => assert_eq!(payload[4..6], [0; 2], "row 55"),
        2 | 8 => {}
        3 => {
            let highest = if is_v2 { 7 } else { 11 };
            assert!(
                (1..=highest).contains(&word(4)),
                "row 68: status {}",
                word(4)
            );
            assert!(version != Version::V3_1 || word(4) != 10, "row 68");
            assert_eq!(payload.len(), 8);
        }
        4 => assert!(payload.len() > 4, "peers fail at an empty SETTINGS"),
        6 => assert_eq!(payload.len(), 4),
        7 => assert_eq!(payload.len(), if is_v2 { 4 } else { 8 }, "rows 94 and 95"),
        9 => {
            assert!(!is_v2, "SPDY/2 has no WINDOW_UPDATE");
            assert!(word(0) != 0 || version == Version::V3_1);
            assert!((1..1 << 31).contains(&word(4)), "row 201");
        }
        _ => panic!("frames of type {kind} are never sent"),
    }
}
