//! What a schedule may do in one step.

use std::time::Duration;

use bytes::{Buf, Bytes};
use spdy_frame::{Priority, RstStatus, Side, Version, WindowTarget};
use spdy_session::{
    FlowControl, SessionError,
    proto::{Connection, OpenOptions, Phase, Shutdown},
};
use spdy_tests::{
    frames::{self, StoredBlocks},
    machine::{block, id},
};

use crate::{Books, Fault, SIDES, Simulation, Stream};

impl Simulation {
    pub(crate) fn step(&mut self, side: Side) {
        match self.random.below(43) {
            0..8 => {
                let most = self.some_size();
                self.transmit(side, most);
            }
            8..16 => self.deliver(side),
            16..19 => self.open(side),
            19..22 => self.reply(side),
            22..27 => self.send(side),
            27 => self.finish(side),
            28 => self.trailers(side),
            29..33 => self.consume(side),
            33 => match self.random.below(3) {
                0 => self.reset(side),
                1 => self.cancel(side),
                _ => self.upload(side),
            },
            34 => self.stop_reading(side),
            35 => {
                let now = self.pair.now();
                self.pair.side(side).ping(now);
                self.books(side).pings += 1;
            }
            36 => self.change_settings(side),
            37 => self.accept(side),
            38 => self.delay(),
            42 => self.crowd(side),
            39 => self.stalled[side as usize] = 5 + self.random.below(40),
            _ => self.release(side),
        }
        self.note_events();
    }

    fn transmit(&mut self, side: Side, most: usize) {
        let now = self.pair.now();
        let waiting = Buf::remaining(self.pair.side(side).poll_transmit(now));
        assert!(waiting < 128 << 10, "{waiting} bytes are prepared at once");
        self.pair.transmit(side, most);
    }

    fn deliver(&mut self, side: Side) {
        let most = self.some_size();
        if self.stalled[side as usize] > 0 {
            self.stalled[side as usize] -= 1;
            if self.pair.under_way(side) > 0 {
                self.faults.note(Fault::Stall);
            }
            return;
        }
        self.pair.deliver(side, most);
        if self.pair.has_part(side) && self.pair.side(side).wants_input() {
            self.faults.note(Fault::Cut);
        }
    }

    fn delay(&mut self) {
        let time = self.random.below(20) as u64;
        if SIDES.iter().any(|side| self.pair.under_way(*side) > 0) {
            self.faults.note(Fault::Delay);
        }
        self.pair.advance(Duration::from_millis(time));
    }

    fn open(&mut self, side: Side) {
        let associated = match side {
            Side::Client => None,
            Side::Server => self.some_stream(side, |stream| stream.may_send),
        };
        let is_push = associated.is_some();
        let fin = self.random.below(4) == 0;
        let most = if self.version == Version::V2 { 4 } else { 8 };
        let priority = self.random.below(most) as u8;
        let how = OpenOptions::new()
            .priority(Priority::new(priority).unwrap())
            .fin(fin)
            .unidirectional(is_push)
            .associated(associated.map(id));
        if side == Side::Server && !is_push {
            return;
        }
        let now = self.pair.now();
        let mark = self.random.below(1000).to_string();
        let headers = block(&[("x-random", &mark), ("cookie", &mark), ("x-same", "same")]);
        let Ok(opened) = self.pair.side(side).open(now, headers, how) else {
            return;
        };
        let stream = Stream {
            priority,
            may_send: !fin,
            replied: true,
            finished: fin,
            ended: is_push,
            ..Stream::default()
        };
        let earlier = self.books(side).streams.insert(opened.get(), stream);
        assert!(earlier.is_none(), "ids are new");
    }

    fn reply(&mut self, side: Side) {
        let Some(stream) = self.some_stream(side, |stream| stream.may_send && !stream.replied)
        else {
            return;
        };
        let fin = self.random.below(5) == 0;
        let headers = block(&[(":status", "200"), ("x-same", "same")]);
        self.pair
            .side(side)
            .send_reply(id(stream), headers, fin)
            .unwrap();
        let stream = self.stream(side, stream);
        stream.replied = true;
        stream.may_send = !fin;
        stream.finished = fin;
    }

    fn send(&mut self, side: Side) {
        if let Some(number) = self.some_stream(side, |_| true) {
            let bytes = self.some_size();
            self.send_on(side, number, bytes);
        }
    }

    fn send_on(&mut self, side: Side, number: u32, bytes: usize) {
        let fin = self.random.below(6) == 0;
        self.send_piece(side, number, bytes, fin);
    }

    fn send_piece(&mut self, side: Side, number: u32, bytes: usize, fin: bool) {
        // A window of few bytes passes few of them in each round.
        let window = self.pair.side(side.peer()).config().limits.stream_window as usize;
        let bytes = bytes.min(200 * window);
        let target = WindowTarget::Stream(id(number));
        if let Some(windows) = self.pair.side(side).windows(target)
            && windows.send < 0
        {
            self.faults.note(Fault::NegativeWindow);
        }
        let at = self.stream(side, number).queued;
        let payload = pattern(number, side, at, bytes);
        let result = self.pair.side(side).send_data(id(number), payload, fin);
        let stream = self.stream(side, number);
        assert_eq!(result.is_ok(), stream.may_send, "{number}: {stream:?}");
        if result.is_ok() {
            stream.queued += bytes;
            stream.finished = fin;
            stream.may_send = !fin;
            stream.replied = true;
        }
    }

    /// A side sends as much as it can on a stream over a path that takes its time, and the other
    /// one reads it.
    fn upload(&mut self, side: Side) {
        let Some(number) = self.some_stream(side, |stream| stream.may_send) else {
            return;
        };
        for _ in 0..12 {
            if self.stream(side, number).may_send {
                self.send_on(side, number, 30_000);
            }
            for side in SIDES {
                self.transmit(side, usize::MAX);
            }
            self.pair.advance(Duration::from_millis(1));
            for side in SIDES {
                self.pair.deliver(side, usize::MAX);
            }
            self.note_events();
            let unread = |books: &Books| Some(books.streams.get(&number)?.unread);
            let bytes = unread(self.books(side.peer())).unwrap_or(0);
            self.pair.side(side.peer()).consume(id(number), bytes);
            if bytes > 0 {
                self.stream(side.peer(), number).unread = 0;
            }
            self.check();
            self.note_growth(side.peer(), number);
        }
    }

    /// A side has so much to send on its most urgent stream that nothing else would ever get out,
    /// and a little on others. The peer reads all of it.
    fn crowd(&mut self, side: Side) {
        let can_send = |stream: &Stream| stream.may_send && stream.end.is_none();
        let streams = self.books(side).streams.iter();
        let sending: Vec<(u8, u32)> = streams
            .filter(|(_, stream)| can_send(stream))
            .map(|(number, stream)| (stream.priority, *number))
            .collect();
        // Where few frames use up the window of the session, and each stream may send them alone.
        let limits = &self.pair.side(side.peer()).config().limits;
        let is_narrow = limits.session_window <= 100_000 && limits.stream_window >= 65_536;
        let frame = self.pair.side(side).config().limits.data_frame;
        let is_wanted = self.version.has_session_window() && is_narrow && frame == 16_384;
        let Some(&(_, urgent)) = sending.iter().min().filter(|_| is_wanted) else {
            return;
        };
        for (_, number) in sending {
            self.send_piece(side, number, 1000, false);
        }
        for _ in 0..50 {
            if can_send(self.stream(side, urgent)) {
                self.send_piece(side, urgent, 70_000, false);
            }
            for side in SIDES {
                self.transmit(side, usize::MAX);
            }
            for side in SIDES {
                self.pair.deliver(side, usize::MAX);
            }
            self.note_events();
            self.read_all(side.peer());
            self.check_shares();
        }
    }

    /// The application of a side reads all that has come.
    fn read_all(&mut self, side: Side) {
        for (number, stream) in &mut self.sides[side as usize].streams {
            self.pair.side(side).consume(id(*number), stream.unread);
            stream.unread = 0;
        }
    }

    fn note_growth(&mut self, side: Side, number: u32) {
        let connection = self.pair.side(side);
        let limits = &connection.config().limits;
        let most = limits.stream_window.max(limits.max_stream_window);
        let Some(windows) = connection.windows(WindowTarget::Stream(id(number))) else {
            return;
        };
        let is_enforced = connection.config().flow_control == FlowControl::Enforce;
        if is_enforced && self.version.has_stream_windows() && windows.size > limits.stream_window {
            assert!(windows.size <= most, "{windows:?}");
            self.faults.note(Fault::Growth);
        }
    }

    fn finish(&mut self, side: Side) {
        if let Some(number) = self.some_stream(side, |stream| stream.may_send) {
            self.pair.side(side).finish(id(number)).unwrap();
            let stream = self.stream(side, number);
            stream.finished = true;
            stream.may_send = false;
            stream.replied = true;
        }
    }

    fn trailers(&mut self, side: Side) {
        if let Some(number) = self.some_stream(side, |stream| stream.may_send) {
            let fin = self.random.below(2) == 0;
            let headers = block(&[("x-trailer", "t"), ("x-same", "same")]);
            let connection = self.pair.side(side);
            connection.send_headers(id(number), headers, fin).unwrap();
            let stream = self.stream(side, number);
            stream.finished = fin;
            stream.may_send = !fin;
            stream.replied = true;
        }
    }

    fn consume(&mut self, side: Side) {
        if let Some(number) = self.some_stream(side, |stream| stream.unread > 0) {
            let bytes = match self.random.below(2) {
                0 => self.stream(side, number).unread,
                _ => {
                    self.random
                        .below(self.sides[side as usize].streams[&number].unread)
                        + 1
                }
            };
            let connection = self.pair.side(side);
            let windows = connection.windows(WindowTarget::Stream(id(number)));
            let is_paused = connection.phase() == Phase::Open && !connection.wants_input();
            let is_used_up = windows.is_some_and(|windows| windows.receive == 0);
            connection.consume(id(number), bytes);
            if is_paused || is_used_up {
                self.faults.note(Fault::SlowReader);
            }
            self.stream(side, number).unread -= bytes;
        }
    }

    fn reset(&mut self, side: Side) {
        if let Some(number) = self.some_stream(side, |stream| stream.end.is_none()) {
            let status = [RstStatus::CANCEL, RstStatus::REFUSED_STREAM][self.random.below(2)];
            self.reset_now(side, number, status);
        }
    }

    fn reset_now(&mut self, side: Side, number: u32, status: RstStatus) {
        let credit = |connection: &mut Connection| {
            let windows = connection.windows(WindowTarget::Session);
            windows.expect("the session has windows").send
        };
        let connection = self.pair.side(side);
        let before = credit(connection);
        connection.reset(id(number), status);
        if credit(connection) > before {
            self.faults.note(Fault::TakenBack);
        }
    }

    /// A stream is reset by either side while a part of what it sends is on its way.
    fn cancel(&mut self, side: Side) {
        let Some(number) = self.some_stream(side, |stream| stream.end.is_none()) else {
            return;
        };
        if self.stream(side, number).may_send {
            self.send_on(side, number, 60_000);
        }
        for _ in 0..self.random.below(3) {
            let most = self.some_size();
            self.transmit(side, most);
        }
        self.note_events();
        if self.random.below(2) == 0 {
            return self.reset_now(side, number, RstStatus::CANCEL);
        }
        let peer = side.peer();
        self.pair.side(peer).reset(id(number), RstStatus::CANCEL);
        self.transmit(peer, usize::MAX);
        self.pair.deliver(side, usize::MAX);
    }

    fn stop_reading(&mut self, side: Side) {
        if self.random.below(3) > 0 {
            return;
        }
        if let Some(number) = self.some_stream(side, |stream| !stream.ended) {
            self.pair.side(side).stop_reading(id(number));
            self.faults.note(Fault::StopReading);
            self.stream(side, number).dropped = true;
        }
    }

    fn accept(&mut self, side: Side) {
        if let Some(number) = self.some_stream(side, |_| true) {
            self.pair.side(side).accept(id(number));
        }
    }

    fn release(&mut self, side: Side) {
        if let Some(number) = self.some_stream(side, |stream| stream.end.is_some()) {
            self.pair.side(side).release(id(number));
        }
    }

    /// A side changes its mind about what it lets the other one do, but never to more than it
    /// enforces.
    fn change_settings(&mut self, side: Side) {
        if self.settings_left[side as usize] == 0 {
            return;
        }
        self.settings_left[side as usize] -= 1;
        let enforced = self.pair.side(side).config().limits.stream_window;
        let window = self.random.below(enforced as usize + 1) as u32;
        let streams = self.random.below(20) as u32;
        self.slip_in_settings(side, window, streams);
    }

    pub(crate) fn slip_in_settings(&mut self, side: Side, window: u32, streams: u32) {
        // All frames go first, so that this one does not come in the middle of another. A session
        // that has ended may have thrown the rest of one away.
        while self.pair.transmit(side, usize::MAX) > 0 {}
        if self.pair.side(side).phase() == Phase::Closing {
            return;
        }
        let settings = frames::settings(self.version, &[(4, streams), (7, window)]);
        let bytes = settings.bytes(&mut StoredBlocks::new(self.version));
        self.pair.inject(side, &bytes);
        let has_streams = self.pair.side(side).stats() != Default::default();
        if has_streams && self.announced[side as usize] != window {
            self.faults.note(Fault::WindowChange);
        }
        self.announced[side as usize] = window;
    }

    pub(crate) fn break_off(&mut self, side: Side) {
        let now = self.pair.now();
        let has_streams = SIDES
            .map(|side| self.pair.side(side).stats())
            .map(|stats| stats.local_streams + stats.remote_streams)
            != [0; 2];
        let way = self.random.below(6);
        let fault = [
            Fault::GoAway,
            Fault::EndAtOnce,
            Fault::HalfOpen,
            Fault::TransportError,
            Fault::Garbage,
        ];
        if has_streams && way < fault.len() {
            self.faults.note(fault[way]);
        }
        match way {
            0 => {
                let deadline = self.random.below(3) == 0;
                let deadline = deadline.then_some(Duration::from_millis(30));
                let how = Shutdown::Graceful { deadline };
                self.pair.side(side).shutdown(now, how);
            }
            1 => self.pair.side(side).shutdown(now, Shutdown::Now),
            2 => self.pair.lose(side),
            3 => {
                let error = SessionError::Closed;
                self.pair.side(side).handle_transport_error(error);
                self.pair.lose(side.peer());
            }
            4 => {
                // What makes the other side end the session.
                while self.pair.transmit(side, usize::MAX) > 0 {}
                self.pair.inject(side, &[0; 8]);
            }
            // Nothing moves for long enough that timeouts run out.
            _ => {
                let time = 25 + self.random.below(50) as u64;
                self.pair.advance(Duration::from_secs(time));
                for side in SIDES {
                    let outcome = self.pair.side(side).outcome();
                    if has_streams && matches!(outcome, Err(SessionError::TimedOut(_))) {
                        self.faults.note(Fault::Timeout);
                    }
                }
            }
        }
    }
}

/// The bytes that `sender` sends on a stream from an offset on.
pub(crate) fn pattern(stream: u32, sender: Side, at: usize, bytes: usize) -> Bytes {
    const PERIOD: usize = 251;
    static BYTES: std::sync::LazyLock<Bytes> =
        std::sync::LazyLock::new(|| (0..200_000).map(|n| (n % PERIOD) as u8).collect());
    let start = (at + stream as usize * 7 + sender.first_id() as usize * 100) % PERIOD;
    BYTES.slice(start..start + bytes)
}
