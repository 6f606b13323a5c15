//! The order of what is written, and bytes that the transport does not take.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use spdy_frame::{Frame, HeaderBlock, Priority, Side, Version, WindowIncrement, WindowUpdate};

use super::*;
use crate::{
    config::Config,
    proto::{connection::OpenOptions, output::TURN},
};

/// Opens three streams with more payload than the session's window lets out.
fn client(now: Instant) -> (Connection, [StreamId; 3]) {
    let config = Arc::new(Config::default());
    let mut client = Connection::new(Side::Client, Version::V3_1, config, now);
    let streams = [(); 3].map(|()| {
        let stream = client.open(now, HeaderBlock::new(), OpenOptions::default());
        let stream = stream.expect("there is no limit yet");
        let payload = vec![0; 60_000].into();
        client
            .send_data(stream, payload, false)
            .expect("it is open");
        stream
    });
    (client, streams)
}

fn write_all(client: &mut Connection, now: Instant) {
    while client.poll_transmit(now).has_remaining() {
        let out = client.poll_transmit(now);
        out.advance(out.remaining());
    }
}

#[test]
fn streams_that_are_gone_leave_the_queues() {
    let now = Instant::now();
    let (mut client, streams) = client(now);
    client.reset(streams[1], RstStatus::CANCEL);

    write_all(&mut client, now);
    assert_eq!(client.stats().local_streams, 2);
    let waiting = |client: &Connection| client.output.scheduler().payload().count();
    assert_eq!(waiting(&client), 2);
    client.reset(streams[0], RstStatus::CANCEL);
    assert_eq!(waiting(&client), 1);
    client.reset(streams[2], RstStatus::CANCEL);
    assert!(client.output.scheduler().is_empty());
    assert_eq!(client.stats().unsent, 0);
}

const LONG: usize = 400_000;

/// Opens a stream with a long body in pieces of several lengths, and a window for all of it.
fn long(now: Instant) -> (Connection, StreamId) {
    let config = Arc::new(Config::default());
    let mut client = Connection::new(Side::Client, Version::V3_1, config, now);
    let stream = client.open(now, HeaderBlock::new(), OpenOptions::default());
    let stream = stream.expect("there is no limit yet");
    for target in [WindowTarget::Session, WindowTarget::Stream(stream)] {
        let increment = WindowIncrement::new(1 << 20).expect("it is not zero");
        let update = WindowUpdate { target, increment };
        client.handle_frame(now, Frame::WindowUpdate(update));
    }
    write_all(&mut client, now);
    let mut body: Bytes = bytes(0, LONG).into();
    for length in [100_000, 65_536, 40_000, 16_384, 3000].into_iter().cycle() {
        let piece = body.split_to(length.min(body.len()));
        let is_last = body.is_empty();
        client
            .send_data(stream, piece, is_last)
            .expect("it is open");
        if is_last {
            return (client, stream);
        }
    }
    unreachable!("the lengths come again and again")
}

fn bytes(from: usize, to: usize) -> Vec<u8> {
    (from..to).map(|at| (at % 251) as u8).collect()
}

/// Returns the payload of DATA frames, and how many frames of other kinds there are.
fn payload(mut frames: &[u8]) -> (Vec<u8>, usize) {
    let (mut payload, mut others) = (Vec::new(), 0);
    while let Some((head, rest)) = frames.split_first_chunk::<8>() {
        let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
        let (body, rest) = rest.split_at(length);
        match head[0] & 0x80 {
            0 => payload.extend_from_slice(body),
            _ => others += 1,
        }
        frames = rest;
    }
    (payload, others)
}

/// All turns but the last are as long as a packet may be, whatever the pieces of the body are.
#[test]
fn a_turn_of_a_long_body_is_one_packet() {
    let now = Instant::now();
    let (mut client, _) = long(now);
    let (mut taken, mut turns) = (Vec::new(), Vec::new());
    loop {
        let out = client.poll_transmit(now);
        if !out.has_remaining() {
            break;
        }
        turns.push(out.remaining());
        taken.extend(out.copy_to_bytes(out.remaining()));
    }
    assert!(payload(&taken).0 == bytes(0, LONG));
    let last = turns.pop().expect("there is a turn");
    assert!(last <= TURN, "{last}");
    for turn in &turns {
        assert!((TURN - 1000..=TURN).contains(turn), "{turns:?}");
    }
    assert_eq!(turns.len(), LONG / TURN);
}

/// Writes turns of streams of these priorities, whose pieces have all this length, and returns how
/// much each has sent.
fn shares(frame: usize, piece: usize, priorities: &[u8]) -> Vec<usize> {
    let now = Instant::now();
    let mut config = Config::default();
    config.limits.data_frame = frame;
    let mut client = Connection::new(Side::Client, Version::V2, Arc::new(config), now);
    let streams = priorities.iter().map(|&priority| {
        let mut options = OpenOptions::new();
        options.priority = Priority::new(priority).expect("it is valid in SPDY/2");
        let stream = client.open(now, HeaderBlock::new(), options);
        stream.expect("there is no limit yet")
    });
    let streams: Vec<StreamId> = streams.collect();
    write_all(&mut client, now);
    for &stream in &streams {
        for _ in 0..(8 << 20) / piece {
            let piece = Bytes::from_static(&[0; 1 << 20]).slice(..piece);
            client.send_data(stream, piece, false).expect("it is open");
        }
    }
    client.poll_event();
    let mut sent = vec![0; streams.len()];
    for _ in 0..100 {
        let out = client.poll_transmit(now);
        assert!((TURN - 1000..=TURN).contains(&out.remaining()));
        out.advance(out.remaining());
        while let Some(event) = client.poll_event() {
            if let Event::Sent { id, bytes, .. } = event {
                let index = streams.iter().position(|&stream| stream == id);
                sent[index.expect("it is one of them")] += bytes;
            }
        }
    }
    sent
}

/// The frame at the end of each turn is cut. The lengths are such that it is always one of the same
/// stream, with a few hundred bytes.
#[test]
fn streams_share_alike_wherever_turns_end() {
    let all = [
        (16_384, 16_384, 2),
        (16_384, 1 << 20, 4),
        (16_384, 16_035, 5),
        (16_384, 12_834, 6),
        (21_460, 1 << 20, 4),
        (32_768, 64_341, 3),
        (32_768, 32_040, 6),
    ];
    for (frame, piece, streams) in all {
        let sent = shares(frame, piece, &vec![3; streams]);
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        assert!(most - least <= 2 * frame, "{frame}, {piece}: {sent:?}");
    }
    // A frame of a stream that was passed over comes at the end of a turn.
    let sent = shares(4000, 1 << 20, &[0, 3]);
    assert!(sent[1] * 18 >= sent[0], "{sent:?}");
}

#[test]
fn what_has_not_left_of_a_stream_that_is_reset_returns_to_the_window_of_the_session() {
    let now = Instant::now();
    let (mut client, stream) = long(now);
    let (window, _) = client.windows.look(None);
    let mut taken = client.poll_transmit(now).copy_to_bytes(20_000).to_vec();
    client.reset(stream, RstStatus::CANCEL);
    let out = client.poll_transmit(now);
    taken.extend(out.copy_to_bytes(out.remaining()));
    let (payload, others) = payload(&taken);
    assert!(payload.len() < 40_000 && payload == bytes(0, payload.len()));
    assert_eq!(others, 1, "the reset");
    assert_eq!(client.windows.look(None).0, window - payload.len() as i64);
    client.poll_transmit(now);
    assert_eq!(client.output.held(), 0);
}

/// A small generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

/// A stream of the client, and what the server has received of it.
struct Upload {
    stream: StreamId,
    sent: usize,
    received: Vec<u8>,
    is_finished: bool,
    is_reset: bool,
    has_ended: bool,
}

/// A client and a server. Their transport takes as many bytes of the client as the test says.
struct Pair {
    now: Instant,
    client: Connection,
    server: Connection,
    wire: BytesMut,
    uploads: Vec<Upload>,
}

impl Pair {
    fn new(version: Version) -> Self {
        let now = Instant::now();
        let config = Arc::new(Config::default());
        let mut client = Connection::new(Side::Client, version, Arc::clone(&config), now);
        let uploads = (0..3).map(|_| Upload {
            stream: client
                .open(now, HeaderBlock::new(), OpenOptions::new())
                .expect("there is no limit yet"),
            sent: 0,
            received: Vec::new(),
            is_finished: false,
            is_reset: false,
            has_ended: false,
        });
        Self {
            now,
            uploads: uploads.collect(),
            client,
            server: Connection::new(Side::Server, version, config, now),
            wire: BytesMut::new(),
        }
    }

    /// Queues a piece of a stream, or resets it.
    fn send(&mut self, random: &mut Random, fin: bool) {
        let index = random.below(self.uploads.len());
        let upload = &mut self.uploads[index];
        if upload.is_finished || upload.is_reset {
            return;
        }
        if random.below(40) == 0 {
            upload.is_reset = true;
            return self.client.reset(upload.stream, RstStatus::CANCEL);
        }
        let to = upload.sent + 1 + random.below(80_000);
        let piece = bytes(upload.sent, to).into();
        (upload.sent, upload.is_finished) = (to, fin);
        let sent = self.client.send_data(upload.stream, piece, fin);
        sent.expect("it is open");
    }

    /// Lets the transport take some bytes, and has them read. Returns how many it took.
    fn write(&mut self, most: usize) -> usize {
        let mut left = most;
        while left > 0 {
            let out = self.client.poll_transmit(self.now);
            let step = out.chunk().len().min(left);
            if step == 0 {
                break;
            }
            assert!(out.remaining() <= TURN + Config::default().limits.data_frame);
            self.wire.extend_from_slice(&out.chunk()[..step]);
            out.advance(step);
            left -= step;
        }
        if self.client.poll_transmit(self.now).has_remaining() {
            self.client.release_buffers();
        }
        while self.server.handle_input(self.now, &mut self.wire) {
            self.read();
        }
        self.answer();
        most - left
    }

    fn read(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                Event::Data { id, payload, fin } => {
                    let upload = self.uploads.iter_mut().find(|it| it.stream == id);
                    let upload = upload.expect("the client opened it");
                    upload.received.extend_from_slice(&payload);
                    upload.has_ended = fin;
                    self.server.consume(id, payload.len());
                }
                Event::Opened(opened) => self.server.accept(opened.id),
                _ => {}
            }
        }
    }

    /// Has the client read all that the server writes.
    fn answer(&mut self) {
        let mut answer = BytesMut::new();
        loop {
            let out = self.server.poll_transmit(self.now);
            if !out.has_remaining() {
                break;
            }
            answer.extend_from_slice(&out.copy_to_bytes(out.remaining()));
        }
        loop {
            // It reads nothing while many events wait.
            while self.client.poll_event().is_some() {}
            if !self.client.handle_input(self.now, &mut answer) {
                break;
            }
        }
        assert!(answer.is_empty());
    }
}

/// Whatever the transport takes, each stream arrives in order and whole, and the windows are whole
/// again.
#[test]
fn uploads_arrive_whatever_the_transport_takes() {
    for seed in 1..=60 {
        let mut random = Random(seed * 0x9E37_79B9_7F4A);
        let version = [Version::V2, Version::V3, Version::V3_1][random.below(3)];
        let mut pair = Pair::new(version);
        for _ in 0..60 {
            match random.below(7) {
                0 => _ = pair.server.ping(pair.now),
                1..4 => {
                    let fin = random.below(30) == 0;
                    pair.send(&mut random, fin);
                }
                _ => {
                    let most = [100, 5000, 40_000, 300_000][random.below(4)];
                    pair.write(1 + random.below(most));
                }
            }
        }
        for upload in &mut pair.uploads {
            if !upload.is_reset && !upload.is_finished {
                upload.is_finished = true;
                pair.client.finish(upload.stream).expect("it is open");
            }
        }
        while pair.write(1 << 20) > 0 {}
        for upload in &pair.uploads {
            let received = upload.received.len();
            assert!(upload.received == bytes(0, received), "seed {seed}");
            assert!(upload.is_reset || received == upload.sent, "seed {seed}");
            assert_eq!(upload.has_ended, upload.is_finished, "seed {seed}");
        }
        if version == Version::V3_1 {
            let session = WindowTarget::Session;
            let ours = pair.client.windows(session).expect("there is one");
            let theirs = pair.server.windows(session).expect("there is one");
            assert_eq!(ours.send, theirs.receive, "seed {seed}");
            assert_eq!(theirs.unread, 0, "seed {seed}");
        }
        assert_eq!(pair.client.stats().unsent, 0, "seed {seed}");
    }
}
