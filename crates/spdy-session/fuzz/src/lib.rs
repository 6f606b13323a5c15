//! The functions that fuzz sessions. The fuzz targets call them, and so does `tests/fuzz_corpus.rs`
//! of the crate, with a stable compiler.
//!
//! The first byte selects the version, the side and a few limits. The other bytes are a script:
//! frames of the peer, and calls of the application. A function that returns has found no fault.

mod books;
mod input;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use spdy_frame::{
    RstStatus, Side, StreamId, Version,
    bytes::{Buf, BytesMut},
};
use spdy_session::{
    Config, FlowControl, SessionError,
    proto::{Connection, OpenOptions, Phase, Shutdown},
};

use self::{
    books::{Books, ReadBack},
    input::{Input, block, frame, stream_id},
};

/// Runs one side of a session, with a peer that sends anything: valid frames in any order and with
/// any ids, and invalid ones.
pub fn peer(data: &[u8]) {
    let mut input = Input::new(data);
    let selector = input.byte();
    let side = if selector & 4 == 0 {
        Side::Server
    } else {
        Side::Client
    };
    let mut end = End::new(side, version(selector), config(selector >> 3));
    let mut frames = input::Frames::new(end.connection.version());
    let mut wire = BytesMut::new();
    while let Some(what) = input.next() {
        if what < 128 {
            frame(&mut frames, &mut input, what, &mut wire);
            end.read(&mut wire);
        } else {
            end.act(&mut input, what & 0x7f);
            end.read(&mut wire);
        }
        end.check();
    }
    end.finish();
}

/// Runs both sides of a session whose applications make any allowed call. Neither side breaks a
/// rule, and no byte is lost.
pub fn pair(data: &[u8]) {
    let mut input = Input::new(data);
    let selector = input.byte();
    let (version, config) = (version(selector), config(selector >> 3));
    let mut ends = [Side::Client, Side::Server].map(|side| End::new(side, version, config.clone()));
    let mut lanes = [BytesMut::new(), BytesMut::new()];
    while let Some(what) = input.next() {
        let from = usize::from(what & 1);
        match what >> 1 {
            what @ 0..96 => ends[from].act(&mut input, what % 12),
            96..112 => {
                let most = usize::from(input.byte()) << (what >> 6 & 7);
                ends[from].write(most, &mut lanes[from]);
            }
            _ => {
                let to = 1 - from;
                let bytes = usize::from(input.byte()).min(lanes[from].len());
                let mut piece = ends[to].part.split();
                piece.unsplit(lanes[from].split_to(bytes));
                ends[to].read(&mut piece);
                ends[to].part = piece;
            }
        }
        for end in &ends {
            end.check();
            assert!(
                end.connection.outcome().is_ok(),
                "{:?}",
                end.connection.outcome()
            );
        }
    }
    settle(&mut ends, &mut lanes);
    for end in &ends {
        assert!(
            end.connection.outcome().is_ok(),
            "{:?}",
            end.connection.outcome()
        );
        end.books.assert_settled();
    }
    let [client, server] = &ends;
    client.books.assert_received(&server.books);
    server.books.assert_received(&client.books);
}

/// Accepts, reads and finishes everything, until all bytes have arrived.
fn settle(ends: &mut [End; 2], lanes: &mut [BytesMut; 2]) {
    for _ in 0..10_000 {
        let mut moved = false;
        for from in 0..2 {
            moved |= ends[from].write(usize::MAX, &mut lanes[from]);
            moved |= ends[from].settle();
            let to = 1 - from;
            let mut bytes = ends[to].part.split();
            bytes.unsplit(lanes[from].split());
            let before = bytes.len();
            ends[to].read(&mut bytes);
            moved |= bytes.len() != before;
            ends[to].part = bytes;
            ends[to].check();
        }
        if !moved {
            return;
        }
    }
    panic!("it does not come to rest");
}

/// One side of a session.
struct End {
    connection: Connection,
    now: Instant,
    books: Books,
    read_back: ReadBack,
    /// Bytes that have arrived and do not make a whole frame.
    part: BytesMut,
}

impl End {
    fn new(side: Side, version: Version, config: Config) -> Self {
        let now = Instant::now();
        Self {
            connection: Connection::new(side, version, Arc::new(config), now),
            now,
            books: Books::default(),
            read_back: ReadBack::new(version),
            part: BytesMut::new(),
        }
    }

    fn read(&mut self, wire: &mut BytesMut) {
        while self.connection.handle_input(self.now, wire) {
            self.books.note_events(&mut self.connection);
        }
        self.books.note_events(&mut self.connection);
    }

    /// Writes at most `most` bytes, and reads them back with the codec. Returns whether anything
    /// changed, which is also the case if reading can go on.
    fn write(&mut self, most: usize, lane: &mut BytesMut) -> bool {
        let was_paused = !self.connection.wants_input();
        let out = self.connection.poll_transmit(self.now);
        let waiting = out.remaining();
        assert!(waiting < 1 << 20, "{waiting} bytes are prepared at once");
        let before = lane.len();
        while lane.len() - before < most && out.has_remaining() {
            let bytes = out.chunk().len().min(most - (lane.len() - before));
            lane.extend_from_slice(&out.chunk()[..bytes]);
            out.advance(bytes);
        }
        self.read_back.add(&lane[before..]);
        self.books.note_events(&mut self.connection);
        lane.len() > before || (was_paused && self.connection.wants_input())
    }

    /// Makes one call of the application.
    fn act(&mut self, input: &mut Input<'_>, what: u8) {
        let (id, size) = (
            stream_id(input),
            usize::from(input.byte()) << (input.byte() % 9),
        );
        let connection = &mut self.connection;
        match what % 16 {
            0 => self.open(input),
            1 => {
                let fin = size.is_multiple_of(2);
                if connection.send_reply(id, block(input), fin).is_ok() {
                    self.books.finished(id, fin);
                }
            }
            2 | 3 => {
                let fin = input.byte().is_multiple_of(8);
                let payload = self.books.payload(id, size);
                if connection.send_data(id, payload, fin).is_ok() {
                    self.books.queued(id, size);
                    self.books.finished(id, fin);
                }
            }
            4 => {
                let fin = size.is_multiple_of(2);
                if connection.send_headers(id, block(input), fin).is_ok() {
                    self.books.finished(id, fin);
                }
            }
            5 => {
                let bytes = self.books.consume(id, size);
                connection.consume(id, bytes);
            }
            6 => connection.accept(id),
            7 => {
                if size.is_multiple_of(4) {
                    connection.stop_reading(id);
                    self.books.give_up(id);
                }
            }
            8 => {
                if size.is_multiple_of(4) {
                    self.books.give_up(id);
                    connection.reset(id, RstStatus(u32::from(input.byte() % 16)));
                }
            }
            9 => self.books.release(connection, id),
            10 => drop(connection.ping(self.now)),
            11 => {
                self.now += Duration::from_millis(size as u64 % 50);
                connection.handle_timeout(self.now);
            }
            // The calls from here on can end the session, so only `peer` makes them.
            12 => {
                self.now += Duration::from_secs(size as u64);
                connection.handle_timeout(self.now);
            }
            13 => drop(self.write(size, &mut BytesMut::new())),
            14 => match size % 8 {
                0 => connection.shutdown(self.now, Shutdown::Now),
                1 => connection.shutdown(self.now, Shutdown::Graceful { deadline: None }),
                2 => connection.handle_eof(self.now),
                3 => connection.handle_transport_error(SessionError::Closed),
                _ => {}
            },
            _ => drop(self.write(usize::MAX, &mut BytesMut::new())),
        }
        self.books.note_events(&mut self.connection);
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let kind = input.byte();
        let is_push = self.connection.side() == Side::Server;
        let how = OpenOptions::new()
            .fin(kind.is_multiple_of(4))
            .unidirectional(is_push)
            .associated(is_push.then(|| stream_id(input)));
        if let Ok(id) = self.connection.open(self.now, block(input), how) {
            self.books.opened_here(id, how);
        }
    }

    /// Accepts, reads and finishes everything. Returns whether anything changed.
    fn settle(&mut self) -> bool {
        let mut moved = false;
        for id in self.books.streams() {
            self.connection.accept(id);
            moved |= self.connection.finish(id).is_ok();
            self.books.finished(id, true);
            let bytes = self.books.consume(id, usize::MAX);
            self.connection.consume(id, bytes);
            moved |= bytes > 0;
        }
        self.books.note_events(&mut self.connection);
        moved
    }

    fn check(&self) {
        self.books.check(&self.connection);
    }

    /// Ends the transport, and asserts that nothing is left.
    fn finish(&mut self) {
        self.settle();
        self.connection.handle_eof(self.now);
        self.settle();
        while self.write(usize::MAX, &mut BytesMut::new()) {}
        assert_eq!(self.connection.phase(), Phase::Closing);
        for id in self.books.streams() {
            self.connection.release(id);
        }
        assert_eq!(self.connection.stats(), Default::default());
        assert!(self.connection.poll_timeout().is_none());
    }
}

fn version(selector: u8) -> Version {
    Version::ALL[usize::from(selector & 3) % Version::ALL.len()]
}

/// Returns a configuration with the limits that matter, small or large.
fn config(selector: u8) -> Config {
    let mut config = Config::default();
    let large = selector & 1 == 0;
    let limits = &mut config.limits;
    limits.max_streams = if large { 100 } else { 2 };
    limits.max_backlog = if large { 100 } else { 3 };
    limits.stream_window = if large { 65_536 } else { 100 };
    limits.stream_buffer = if large { 65_536 } else { 100 };
    limits.discard = if large { 1 << 20 } else { 100 };
    limits.max_queued_replies = if large { 256 } else { 2 };
    limits.data_frame = if large { 16_384 } else { 50 };
    config.accept_push = true;
    config.strict = selector & 2 != 0;
    if selector & 4 != 0 {
        config.flow_control = FlowControl::Off;
    }
    config
}

/// Returns the stream id with this number, or the first one if the number is not an id.
fn id(number: u32) -> StreamId {
    StreamId::new(number).unwrap_or(StreamId::first(Side::Client))
}
