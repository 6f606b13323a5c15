//! The order of what is written, and bytes that the transport does not take.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use spdy_frame::{Frame, HeaderBlock, Ping, Side, Version, WindowIncrement, WindowUpdate};

use super::*;
use crate::{config::Config, proto::connection::OpenOptions};

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

/// Opens a stream with a long body in pieces of several lengths, and a window for all of it. The
/// transport has taken all so far.
fn long(now: Instant) -> (Connection, StreamId) {
    long_with(now, [1 << 20; 2], true)
}

/// The same as [`long`], with these grants for the session and for the stream, and with or without
/// FIN.
fn long_with(now: Instant, grants: [u32; 2], fin: bool) -> (Connection, StreamId) {
    let config = Arc::new(Config::default());
    let mut client = Connection::new(Side::Client, Version::V3_1, config, now);
    let stream = client.open(now, HeaderBlock::new(), OpenOptions::default());
    let stream = stream.expect("there is no limit yet");
    let targets = [WindowTarget::Session, WindowTarget::Stream(stream)];
    for (target, grant) in targets.into_iter().zip(grants) {
        let increment = WindowIncrement::new(grant).expect("it is not zero");
        let update = WindowUpdate { target, increment };
        client.handle_frame(now, Frame::WindowUpdate(update));
    }
    write_all(&mut client, now);
    let mut body: Bytes = bytes(0, LONG).into();
    for length in [100_000, 65_536, 40_000, 16_384, 3000].into_iter().cycle() {
        let piece = body.split_to(length.min(body.len()));
        let is_last = body.is_empty();
        client
            .send_data(stream, piece, is_last && fin)
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

/// Lets the transport take some bytes, and tells the connection that it takes no more.
fn take(client: &mut Connection, now: Instant, mut bytes: usize, taken: &mut Vec<u8>) {
    while bytes > 0 {
        let out = client.poll_transmit(now);
        if !out.has_remaining() {
            break;
        }
        let chunk = out.chunk();
        let step = chunk.len().min(bytes);
        taken.extend_from_slice(&chunk[..step]);
        out.advance(step);
        bytes -= step;
    }
    client.poll_transmit(now);
    client.release_buffers();
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

#[test]
fn what_the_transport_does_not_take_of_a_long_write_is_set_aside_and_not_lost() {
    for step in [1, 1000, 16_392, 70_000, 300_000] {
        let now = Instant::now();
        let (mut client, _) = long(now);
        let mut taken = Vec::new();
        client.set_turn(256 * 1024);
        let ready = client.poll_transmit(now).remaining();
        assert!(
            (200_000..280_000).contains(&ready),
            "{ready} bytes are ready"
        );
        take(&mut client, now, step, &mut taken);
        assert!(client.output.transmit().remaining() < 82_000);
        // The answer goes ahead of what was set aside.
        client.set_turn(0);
        client.handle_frame(now, Frame::Ping(Ping { id: 2 }));
        for bytes in [100_000, 1, 100_000, LONG] {
            take(&mut client, now, bytes, &mut taken);
            assert!(client.output.transmit().remaining() < 82_000);
        }
        let (payload, others) = payload(&taken);
        assert!(payload == bytes(0, LONG), "with steps of {step}");
        assert_eq!(others, 1, "the answer");
        assert_eq!(client.stats().unsent, 0);
    }
}

#[test]
fn what_was_set_aside_of_a_stream_that_is_reset_returns_to_the_window_of_the_session() {
    let now = Instant::now();
    let (mut client, stream) = long(now);
    let (window, _) = client.windows.look(None);
    let mut taken = Vec::new();
    client.set_turn(256 * 1024);
    take(&mut client, now, 20_000, &mut taken);
    client.reset(stream, RstStatus::CANCEL);
    take(&mut client, now, LONG, &mut taken);
    let (payload, others) = payload(&taken);
    assert!(payload.len() < 40_000 && payload == bytes(0, payload.len()));
    assert_eq!(others, 1, "the reset");
    assert_eq!(client.windows.look(None).0, window - payload.len() as i64);
    assert_eq!(client.output.held(), 0);
}

#[test]
fn streams_take_turns_while_payload_is_set_aside() {
    let now = Instant::now();
    let (mut client, _) = long(now);
    let mut taken = Vec::new();
    client.set_turn(256 * 1024);
    take(&mut client, now, 20_000, &mut taken);
    let other = client.open(now, HeaderBlock::new(), OpenOptions::default());
    let other = other.expect("there is no limit yet");
    client
        .send_data(other, vec![255; 1000].into(), true)
        .expect("it is open");
    let before = taken.len();
    take(&mut client, now, 120_000, &mut taken);
    let place = taken[before..]
        .windows(1000)
        .position(|it| it == [255; 1000]);
    let place = place.expect("it has been sent");
    assert!(place < 64 * 1024 + 2 * 16_500, "behind {place} bytes");
    take(&mut client, now, LONG, &mut taken);
    assert_eq!(payload(&taken).0.len(), LONG + 1000);
}

/// Opens another stream with payload and a window for all of it.
fn open_other(client: &mut Connection, now: Instant, payload: usize) -> StreamId {
    let other = client.open(now, HeaderBlock::new(), OpenOptions::default());
    let other = other.expect("there is no limit yet");
    let target = WindowTarget::Stream(other);
    let increment = WindowIncrement::new(1 << 20).expect("it is not zero");
    let update = WindowUpdate { target, increment };
    client.handle_frame(now, Frame::WindowUpdate(update));
    let payload = vec![255; payload].into();
    client.send_data(other, payload, false).expect("it is open");
    other
}

/// Returns the streams of the DATA frames, in order.
fn order(mut frames: &[u8]) -> Vec<u8> {
    let mut order = Vec::new();
    while let Some((head, rest)) = frames.split_first_chunk::<8>() {
        let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
        if head[0] & 0x80 == 0 {
            order.push(head[3]);
        }
        frames = &rest[length.min(rest.len())..];
    }
    order
}

/// Each time the transport takes one frame, and no more. The application may queue a byte each
/// time.
#[test]
fn a_stream_whose_payload_is_set_aside_has_its_turns_beside_another() {
    for queues in [false, true] {
        let now = Instant::now();
        let (mut client, first) = long_with(now, [1 << 20; 2], false);
        let mut taken = Vec::new();
        client.set_turn(256 * 1024);
        take(&mut client, now, 20_000, &mut taken);
        client.set_turn(0);
        let other = open_other(&mut client, now, LONG);
        let third = open_other(&mut client, now, LONG);
        for _ in 0..40 {
            if queues {
                let byte = bytes(0, 1).into();
                client.send_data(first, byte, false).expect("it is open");
            }
            take(&mut client, now, 16_392, &mut taken);
        }
        let order = order(&taken);
        let of = |id: StreamId| {
            order
                .iter()
                .filter(|&&it| u32::from(it) == id.get())
                .count()
        };
        let shares = [first, other, third].map(of);
        assert!(shares[0] > 12 && shares[0] < 25, "{shares:?}: {order:?}");
        assert!(shares[1].abs_diff(shares[2]) < 2, "{shares:?}: {order:?}");
    }
}

/// A window is used up by what is set aside: that of the stream, or that of the session, for which
/// another stream waits too. While the transport takes it, little by little, the peer has nothing
/// for which it could grant more.
#[test]
fn no_stream_waits_for_a_window_while_payload_is_set_aside() {
    let start = Instant::now();
    let second = |second| start + Duration::from_secs(second);
    let resets = |client: &mut Connection| {
        let events = std::iter::from_fn(|| client.poll_event());
        let resets = events.filter(|event| matches!(event, Event::Reset { .. }));
        resets.count()
    };
    for (grants, waiting) in [([1 << 20, 128 * 1024], 1), ([192 * 1024; 2], 2)] {
        let (mut client, stream) = long_with(start, grants, true);
        let mut taken = Vec::new();
        client.set_turn(256 * 1024);
        take(&mut client, start, 20_000, &mut taken);
        assert_eq!(client.send_window(stream), 0);
        if waiting == 2 {
            open_other(&mut client, start, LONG);
        }
        for time in 1..=70 {
            take(&mut client, second(time), 2048, &mut taken);
            client.handle_timeout(second(time));
            assert_eq!(resets(&mut client), 0, "after {time} s");
        }
        take(&mut client, second(71), LONG, &mut taken);
        assert_eq!(payload(&taken).0.len(), 65_536 + grants[1] as usize);
        client.handle_timeout(second(72));
        assert_eq!(resets(&mut client), 0, "the wait began late");
        client.handle_timeout(second(102));
        assert_eq!(resets(&mut client), waiting);
    }
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
    /// How often payload was set aside.
    aside: usize,
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
            aside: 0,
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
            self.wire.extend_from_slice(&out.chunk()[..step]);
            out.advance(step);
            left -= step;
        }
        if self.client.poll_transmit(self.now).has_remaining() {
            self.client.release_buffers();
            let held = self.client.output.held();
            self.aside += usize::from(held > self.client.output.transmit().held());
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
        let out = self.server.poll_transmit(self.now);
        let mut answer = BytesMut::from(&*out.copy_to_bytes(out.remaining()));
        while self.client.handle_input(self.now, &mut answer) {
            while self.client.poll_event().is_some() {}
        }
    }
}

/// Whatever the transport takes, each stream arrives in order and whole, and the windows are whole
/// again.
#[test]
fn uploads_arrive_whatever_is_set_aside_and_when() {
    let mut aside = 0;
    for seed in 1..=60 {
        let mut random = Random(seed * 0x9E37_79B9_7F4A);
        let version = [Version::V2, Version::V3, Version::V3_1][random.below(3)];
        let mut pair = Pair::new(version);
        for _ in 0..60 {
            match random.below(8) {
                0 => pair.client.set_turn([0, 128, 256][random.below(3)] * 1024),
                1 => _ = pair.server.ping(pair.now),
                2..5 => {
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
        aside += pair.aside;
    }
    assert!(aside > 60, "payload was set aside {aside} times");
}
