//! Two protocol machines, joined by two buffers.

use std::{hint::black_box, sync::Arc, time::Instant};

use bytes::{Buf, Bytes, BytesMut};
use spdy_session::{
    Config, HeaderBlock, Side, StreamId, Version,
    proto::{Connection, Event, OpenOptions},
};

use super::data::{BODY, PIECE, piece, request, response};

/// A client and a server that share a thread and a clock.
pub(crate) struct Machines {
    client: End,
    server: End,
    request: HeaderBlock,
    response: HeaderBlock,
    now: Instant,
}

impl Machines {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let mut machines = Self {
            client: End::new(Side::Client, now),
            server: End::new(Side::Server, now),
            request: request(),
            response: response(),
            now,
        };
        machines.requests(1);
        machines
    }

    /// Sends `count` requests, one after the other, and reads their responses.
    pub(crate) fn requests(&mut self, count: usize) {
        for _ in 0..count {
            self.ask();
            self.answer(Bytes::from_static(&BODY), true);
            assert_eq!(self.take().bytes, BODY.len());
        }
    }

    /// Sends a request whose response has a body of this many bytes, and reads it.
    pub(crate) fn download(&mut self, bytes: usize) {
        self.ask();
        let id = self.answer(piece(), bytes == PIECE);
        let (mut queued, mut taken) = (PIECE, Taken::default());
        while !taken.fin {
            for _ in 0..4 {
                if queued < bytes {
                    queued += PIECE;
                    let sent = self.server.machine.send_data(id, piece(), queued == bytes);
                    sent.expect("the stream is open");
                }
            }
            self.server.write(self.now, &mut self.client.input);
            let more = self.take();
            taken.bytes += more.bytes;
            taken.fin = more.fin;
            self.client.write(self.now, &mut self.server.input);
            self.server.read(self.now);
            while let Some(event) = self.server.machine.poll_event() {
                black_box(event);
            }
        }
        assert_eq!(taken.bytes, bytes);
    }

    fn ask(&mut self) {
        let how = OpenOptions::new().fin(true);
        let opened = self
            .client
            .machine
            .open(self.now, self.request.clone(), how);
        opened.expect("there is a place");
        self.client.write(self.now, &mut self.server.input);
    }

    /// Answers the request that has arrived. The server keeps what the windows do not let out.
    fn answer(&mut self, body: Bytes, fin: bool) -> StreamId {
        let Self { server, now, .. } = self;
        server.read(*now);
        let mut answered = None;
        while let Some(event) = server.machine.poll_event() {
            if let Event::Opened(opened) = event {
                assert_eq!(opened.headers.len(), self.request.len());
                answered = Some(opened.id);
            }
        }
        let id = answered.expect("a request was sent");
        let machine = &mut server.machine;
        let replied = machine.send_reply(id, self.response.clone(), false);
        replied.expect("the stream was opened now");
        machine.send_data(id, body, fin).expect("it is open");
        machine.release(id);
        server.write(*now, &mut self.client.input);
        while let Some(event) = server.machine.poll_event() {
            black_box(event);
        }
        id
    }

    /// Takes the part of the response that has arrived.
    fn take(&mut self) -> Taken {
        let client = &mut self.client;
        let mut taken = Taken::default();
        while client.read(self.now) {
            while let Some(event) = client.machine.poll_event() {
                match event {
                    Event::Replied { id, headers, .. } => {
                        assert_eq!(headers.len(), self.response.len());
                        client.machine.release(id);
                    }
                    Event::Data { id, payload, fin } => {
                        client.machine.consume(id, payload.len());
                        taken.bytes += payload.len();
                        taken.fin = fin;
                    }
                    other => drop(black_box(other)),
                }
            }
        }
        taken
    }
}

/// The part of a response that has arrived.
#[derive(Default)]
struct Taken {
    bytes: usize,
    fin: bool,
}

/// A machine, and the bytes that are on their way to it.
struct End {
    machine: Connection,
    input: BytesMut,
}

impl End {
    fn new(side: Side, now: Instant) -> Self {
        let config = Arc::new(Config::default());
        Self {
            machine: Connection::new(side, Version::V3_1, config, now),
            input: BytesMut::new(),
        }
    }

    fn read(&mut self, now: Instant) -> bool {
        self.machine.handle_input(now, &mut self.input)
    }

    /// Copies the output of this machine to the input of the other one, as a socket does.
    fn write(&mut self, now: Instant, to: &mut BytesMut) {
        loop {
            let out = self.machine.poll_transmit(now);
            if !out.has_remaining() {
                return;
            }
            to.reserve(out.remaining());
            while out.has_remaining() {
                to.extend_from_slice(out.chunk());
                out.advance(out.chunk().len());
            }
        }
    }
}
