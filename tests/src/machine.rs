//! One [`Connection`] under a clock that only tests move.
//!
//! A [`Machine`] is fed with [`RawFrame`]s, so its peer may say anything; what it sends is read by
//! the codec alone and held against the rules for senders on the way (protocol.md §23, rows 25, 31,
//! 55, 68 and 201), in every test.
//!
//! When a machine is dropped, all that was done with it is done again over the driver of
//! `spdy-session` and its handles, on a transport in memory under a clock of the test: the same
//! frames have to come out, and the handles have to tell the same (module `driven`). A test whose
//! steps no handle can do says so with [`Machine::alone`].
//!
//! ```
//! use spdy_frame::Version;
//! use spdy_tests::{frames, machine::{Happened, Machine}};
//!
//! let mut server = Machine::server(Version::V3_1);
//! server.feed(frames::syn_stream(Version::V3_1, 1).get("/").fin());
//! assert!(matches!(server.events()[..], [Happened::Opened { id: 1, fin: true, .. }]));
//! ```

mod canonical;
mod proofs;
mod samples;

use std::{sync::Arc, time::Duration, time::Instant};

use bytes::{Buf, BytesMut};
use spdy_frame::{Side, Version};
use spdy_session::{
    Config,
    proto::{Connection, OpenOptions},
};

use self::canonical::assert_canonical;
pub use self::samples::{
    SINCE_V3, block, credit, id, packed_requests, payload_of, reply_block, request_block, reset,
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

    /// Does not repeat the steps of this test with a driver, for this reason.
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

    // --- what the peer does ----------------------------------------------------------------------

    /// Receives a frame.
    pub fn feed(&mut self, frame: RawFrame) {
        let bytes = frame.bytes(&mut self.blocks);
        self.feed_bytes(&bytes);
    }

    /// Receives bytes of any kind.
    pub fn feed_bytes(&mut self, bytes: &[u8]) {
        self.connection.script.push(Step::Input(bytes.to_vec()));
        self.input.extend_from_slice(bytes);
        self.read();
    }

    /// Receives frames in pieces of `size` bytes.
    pub fn feed_in_pieces(&mut self, frames: impl IntoIterator<Item = RawFrame>, size: usize) {
        let bytes: Vec<u8> = frames
            .into_iter()
            .flat_map(|frame| frame.bytes(&mut self.blocks))
            .collect();
        for piece in bytes.chunks(size) {
            self.feed_bytes(piece);
        }
    }

    /// The bytes of a frame of the peer, without feeding it.
    pub fn bytes(&mut self, frame: &RawFrame) -> Vec<u8> {
        frame.bytes(&mut self.blocks)
    }

    /// Frames go on where bytes that were fed have begun the compression of header blocks.
    pub fn continue_blocks(&mut self) {
        // The zlib header goes into a block that is not sent. Stored blocks depend on nothing
        // before them.
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

    /// How many bytes wait to be read.
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

    /// Opens a stream with a GET that is complete. Its events are dropped.
    pub fn request(&mut self, stream: u32) {
        let version = self.connection.version();
        self.feed(frames::syn_stream(version, stream).get("/").fin());
        self.events();
    }

    /// Opens a stream with a POST whose body is still to come. Its events are dropped.
    pub fn upload(&mut self, stream: u32) {
        let version = self.connection.version();
        self.feed(frames::syn_stream(version, stream).post("/"));
        self.events();
    }

    /// Has a client open a stream, which stays open on its side, and answers it with headers alone.
    /// Its events are dropped. Returns the id of the stream.
    pub fn exchange(&mut self) -> u32 {
        let version = self.connection.version();
        let stream = self.open(OpenOptions::default());
        self.sent();
        self.feed(frames::syn_reply(version, stream).status("200 OK"));
        self.events();
        stream
    }

    // --- results ---------------------------------------------------------------------------------

    /// Reads all that the connection has to send.
    pub fn sent(&mut self) -> Vec<Received> {
        let bytes = self.sent_bytes();
        self.reader.buffer().extend_from_slice(&bytes);
        let mut frames = Vec::new();
        while let Some(frame) = self.reader.next_frame().expect("it sends sound frames") {
            frames.push(frame);
        }
        assert!(!self.reader.is_mid_frame(), "it sends whole frames");
        frames
    }

    /// Reads all that the connection has to send, undecoded: [`sent`](Self::sent) cannot be used
    /// any more.
    pub fn sent_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let out = self.connection.inner().poll_transmit(self.now);
            if !out.has_remaining() {
                break;
            }
            while out.has_remaining() {
                bytes.extend_from_slice(out.chunk());
                out.advance(out.chunk().len());
            }
        }
        self.collect();
        assert_canonical(self.connection.version(), &bytes);
        self.connection.script.push(Step::Output(bytes.clone()));
        bytes
    }

    /// Lets the connection prepare what it has to send, without reading any of it. Returns how many
    /// bytes wait.
    pub fn unsent_bytes(&mut self) -> usize {
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

    // --- what the application does ---------------------------------------------------------------

    /// Opens a stream with a request for `/`, and gives its number.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn open(&mut self, how: OpenOptions) -> u32 {
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
            .send_reply(id(stream), headers, fin)
            .expect("the stream can be answered");
    }

    /// Answers a stream and sends this number of bytes on it.
    ///
    /// # Panics
    ///
    /// If it cannot be answered.
    pub fn respond(&mut self, stream: u32, bytes: usize) {
        self.reply(stream, false);
        self.send(stream, bytes, true);
    }

    /// Queues this number of bytes on a stream.
    ///
    /// # Panics
    ///
    /// If the stream takes none.
    pub fn send(&mut self, stream: u32, bytes: usize, fin: bool) {
        self.connection
            .send_data(id(stream), vec![b'x'; bytes].into(), fin)
            .expect("the stream takes data");
    }

    /// Takes a stream out of the backlog.
    pub fn accept(&mut self, stream: u32) {
        self.connection.accept(id(stream));
    }

    /// Consumes this number of bytes of a stream.
    pub fn consume(&mut self, stream: u32, bytes: usize) {
        self.connection.consume(id(stream), bytes);
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
