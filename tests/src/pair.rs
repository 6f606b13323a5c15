//! Two [`Connection`]s and the bytes between them. The test decides when the bytes arrive.
//!
//! ```
//! use spdy_frame::Version;
//! use spdy_session::proto::OpenOptions;
//! use spdy_tests::{machine::{Happened, request_block}, pair::Pair};
//!
//! let mut pair = Pair::new(Version::V3_1).in_pieces(1);
//! let finished = OpenOptions::new().fin(true);
//! let stream = pair.open(request_block(Version::V3_1), finished);
//! pair.run();
//! assert!(matches!(pair.server_events()[..], [Happened::Opened { id, .. }] if id == stream));
//! ```

use std::{
    io::IoSlice,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use spdy_frame::{HeaderBlock, Side, StreamId, Version, WindowTarget};
use spdy_session::{
    Config, FlowControl,
    proto::{Connection, OpenOptions},
};

use crate::machine::Happened;

/// A client, a server, and the bytes between them.
#[derive(Debug)]
pub struct Pair {
    /// The client's side.
    pub client: Connection,
    /// The server's side.
    pub server: Connection,
    now: Instant,
    piece: usize,
    to_client: Lane,
    to_server: Lane,
}

/// The connection has fewer pieces than this ready to be written.
const MOST_PIECES: usize = 512;

/// One direction of the transport, and its end.
#[derive(Debug, Default)]
struct Lane {
    /// Bytes that were sent and have not arrived.
    under_way: BytesMut,
    /// Bytes that have arrived and are not a whole frame.
    input: BytesMut,
    happened: Vec<Happened>,
    /// How many of these [`Pair::run_reading`] has seen.
    read: usize,
    sent: DataFrames,
}

/// Counts the DATA frames in bytes that arrive one by one.
#[derive(Clone, Copy, Debug, Default)]
struct DataFrames {
    head: [u8; 8],
    /// How many bytes of the head have arrived.
    filled: usize,
    /// How many bytes of the payload have not arrived.
    payload: usize,
    frames: usize,
}

impl DataFrames {
    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let step = self.payload.min(bytes.len());
                self.payload -= step;
                bytes = &bytes[step..];
                continue;
            }
            self.head[self.filled] = bytes[0];
            self.filled += 1;
            bytes = &bytes[1..];
            if self.filled == self.head.len() {
                let [kind, .., a, b, c] = self.head;
                self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
                self.filled = 0;
                self.frames += usize::from(kind & 0x80 == 0);
            }
        }
    }
}

impl Pair {
    /// Returns a pair with the default configuration, except that the client accepts pushes.
    #[must_use]
    pub fn new(version: Version) -> Self {
        let mut client = Config::default();
        client.accept_push = true;
        Self::with(version, client, Config::default())
    }

    /// Returns a pair with the configurations of the client and the server.
    #[must_use]
    pub fn with(version: Version, client: Config, server: Config) -> Self {
        let now = Instant::now();
        Self {
            client: Connection::new(Side::Client, version, Arc::new(client), now),
            server: Connection::new(Side::Server, version, Arc::new(server), now),
            now,
            piece: usize::MAX,
            to_client: Lane::default(),
            to_server: Lane::default(),
        }
    }

    /// Returns the pair, whose bytes are written and arrive in pieces of this size from now on.
    #[must_use]
    pub fn in_pieces(mut self, size: usize) -> Self {
        self.piece = size;
        self
    }

    /// Returns the time of the test.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Returns the connection of a side.
    pub fn side(&mut self, side: Side) -> &mut Connection {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Lets the client open a stream, and returns its id.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn open(&mut self, headers: HeaderBlock, how: OpenOptions) -> u32 {
        let stream = self.client.open(self.now, headers, how);
        stream.expect("a stream can be opened").get()
    }

    /// Moves at most `most` bytes from a side to the transport. Returns how many.
    pub fn transmit(&mut self, from: Side, most: usize) -> usize {
        let (connection, lane) = match from {
            Side::Client => (&mut self.client, &mut self.to_server),
            Side::Server => (&mut self.server, &mut self.to_client),
        };
        let out = connection.poll_transmit(self.now);
        let mut left = most.min(out.remaining());
        let moved = left;
        while left > 0 {
            let step = out.chunk().len().min(left);
            lane.under_way.extend_from_slice(&out.chunk()[..step]);
            lane.sent.add(&out.chunk()[..step]);
            out.advance(step);
            left -= step;
        }
        self.collect(from);
        moved
    }

    /// Moves bytes to the transport that the connection of this side has not written.
    pub fn inject(&mut self, from: Side, bytes: &[u8]) {
        let lane = match from {
            Side::Client => &mut self.to_server,
            Side::Server => &mut self.to_client,
        };
        lane.under_way.extend_from_slice(bytes);
    }

    /// Lets at most `most` bytes arrive at a side, unless its reading is paused. Returns whether
    /// that had an effect.
    pub fn deliver(&mut self, to: Side, most: usize) -> bool {
        let (connection, lane) = match to {
            Side::Client => (&mut self.client, &mut self.to_client),
            Side::Server => (&mut self.server, &mut self.to_server),
        };
        let mut moved = 0;
        if connection.wants_input() {
            moved = most.min(lane.under_way.len());
            let arrived = lane.under_way.split_to(moved);
            lane.input.extend_from_slice(&arrived);
        }
        let mut handled = false;
        while connection.handle_input(self.now, &mut lane.input) {
            handled = true;
            while let Some(event) = connection.poll_event() {
                lane.happened.extend(Happened::of(event));
            }
        }
        self.collect(to);
        moved > 0 || handled
    }

    /// Returns how many DATA frames a side has made: those that it has written, and those that are
    /// ready.
    pub fn data_frames(&mut self, from: Side) -> usize {
        let (connection, lane) = match from {
            Side::Client => (&mut self.client, &mut self.to_server),
            Side::Server => (&mut self.server, &mut self.to_client),
        };
        let out = connection.poll_transmit(self.now);
        let mut slices = [IoSlice::new(&[]); MOST_PIECES];
        let pieces = out.chunks_vectored(&mut slices);
        assert!(pieces < MOST_PIECES, "there is room for all pieces");
        let mut frames = lane.sent;
        for piece in &slices[..pieces] {
            frames.add(piece);
        }
        self.collect(from);
        frames.frames
    }

    /// Returns how many bytes are on their way to a side, or have arrived without being a whole
    /// frame.
    #[must_use]
    pub fn under_way(&self, to: Side) -> usize {
        let lane = match to {
            Side::Client => &self.to_client,
            Side::Server => &self.to_server,
        };
        lane.under_way.len() + lane.input.len()
    }

    /// Returns whether bytes have arrived at a side that are not a whole frame.
    #[must_use]
    pub fn has_part(&self, to: Side) -> bool {
        let lane = match to {
            Side::Client => &self.to_client,
            Side::Server => &self.to_server,
        };
        !lane.input.is_empty()
    }

    /// Moves bytes in both directions until nothing moves any more.
    pub fn run(&mut self) {
        loop {
            if !self.move_bytes() {
                return;
            }
        }
    }

    /// Does the same as [`run`](Self::run), with applications that read: they consume the payload
    /// of all events, including those that were not taken before.
    pub fn run_reading(&mut self) {
        loop {
            let mut moved = false;
            for side in [Side::Client, Side::Server] {
                moved |= self.consume_all(side) > 0;
            }
            moved |= self.move_bytes();
            if !moved {
                return;
            }
        }
    }

    /// Moves a piece in each direction. Both sides write before either reads, because a write can
    /// be what lets the reading go on.
    fn move_bytes(&mut self) -> bool {
        let written = [Side::Client, Side::Server].map(|side| self.transmit(side, self.piece));
        let read = [Side::Client, Side::Server].map(|side| self.deliver(side, self.piece));
        written != [0; 2] || read != [false; 2]
    }

    fn consume_all(&mut self, side: Side) -> usize {
        let lane = self.lane(side);
        let data: Vec<(u32, usize)> = lane.happened[lane.read..]
            .iter()
            .filter_map(|event| match event {
                Happened::Data { id, payload, .. } => Some((*id, payload.len())),
                _ => None,
            })
            .collect();
        lane.read = lane.happened.len();
        for &(stream, bytes) in &data {
            let stream = StreamId::new(stream).expect("events have stream ids");
            self.side(side).consume(stream, bytes);
        }
        data.len()
    }

    /// Advances the clock of both sides.
    pub fn advance(&mut self, time: Duration) {
        self.now += time;
        for side in [Side::Client, Side::Server] {
            let now = self.now;
            let connection = self.side(side);
            if connection.poll_timeout().is_some_and(|at| at <= now) {
                connection.handle_timeout(now);
            }
            self.collect(side);
        }
    }

    /// Informs a side that the other one has closed its direction of the transport. The bytes that
    /// were under way are lost.
    pub fn lose(&mut self, to: Side) {
        let (connection, lane) = match to {
            Side::Client => (&mut self.client, &mut self.to_client),
            Side::Server => (&mut self.server, &mut self.to_server),
        };
        lane.under_way.clear();
        lane.input.clear();
        connection.handle_eof(self.now);
        self.collect(to);
    }

    /// Returns the events of the client since the last call, without [`Happened::Sent`].
    pub fn client_events(&mut self) -> Vec<Happened> {
        without_sent(self.all_events(Side::Client))
    }

    /// Returns the events of the server since the last call, without [`Happened::Sent`].
    pub fn server_events(&mut self) -> Vec<Happened> {
        without_sent(self.all_events(Side::Server))
    }

    /// Returns the events of a side since the last call.
    pub fn all_events(&mut self, side: Side) -> Vec<Happened> {
        self.collect(side);
        let lane = self.lane(side);
        lane.read = 0;
        std::mem::take(&mut lane.happened)
    }

    /// Checks that nothing is left of the streams: no stream, no byte and no lost credit. Before
    /// this all bytes must have arrived, and everything must be read.
    ///
    /// # Panics
    ///
    /// If something is left.
    pub fn assert_clean(&mut self) {
        for side in [Side::Client, Side::Server] {
            assert_eq!(self.under_way(side), 0);
            let connection = self.side(side);
            assert_eq!(connection.stats(), Default::default(), "{side}");
        }
        let version = self.client.version();
        let is_off = |connection: &Connection| connection.config().flow_control == FlowControl::Off;
        if !version.has_session_window() || is_off(&self.client) || is_off(&self.server) {
            return;
        }
        let windows = |connection: &Connection| {
            connection
                .windows(WindowTarget::Session)
                .expect("the session has windows")
        };
        let (client, server) = (windows(&self.client), windows(&self.server));
        assert_eq!(client.send, server.receive, "the server's credit");
        assert_eq!(server.send, client.receive, "the client's credit");
        for (connection, windows) in [(&self.client, client), (&self.server, server)] {
            let limits = &connection.config().limits;
            let most = limits.session_window.max(limits.max_session_window);
            assert!((limits.session_window..=most).contains(&windows.size));
            let sum = windows.receive + i64::from(windows.returnable);
            assert_eq!(sum, i64::from(windows.size));
        }
    }

    fn lane(&mut self, to: Side) -> &mut Lane {
        match to {
            Side::Client => &mut self.to_client,
            Side::Server => &mut self.to_server,
        }
    }

    fn collect(&mut self, side: Side) {
        while let Some(event) = self.side(side).poll_event() {
            self.lane(side).happened.extend(Happened::of(event));
        }
    }
}

fn without_sent(events: Vec<Happened>) -> Vec<Happened> {
    events
        .into_iter()
        .filter(|event| !matches!(event, Happened::Sent { .. }))
        .collect()
}
