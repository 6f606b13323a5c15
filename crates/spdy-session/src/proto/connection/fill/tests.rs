//! The order of what is written, and bytes that the transport does not take.

use std::sync::Arc;

use bytes::{Buf, Bytes};
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
