//! Random conversations under a clock of the test: two sides do whatever an application may do, their octets are cut
//! and held up at random, and after every step the books are compared with what the machines say.
//!
//! A schedule is made from its seed alone. The seed is printed when it fails; `SIMULATION_SEED=n` runs that one, and
//! `SIMULATION_SCHEDULES=n` as many as are wanted.

use std::{collections::BTreeMap, panic, time::Duration};

use bytes::Bytes;
use spdy_frame::{HeaderCompression, RstStatus, Side, StreamId, Version, WindowTarget};
use spdy_session::{
    Config, FlowControl, SessionError, Trailers,
    proto::{Open, Phase, Shutdown},
};
use spdy_tests::{
    frames::{self, StoredBlocks},
    machine::{End, Happened, block, id},
    pair::Pair,
};

/// So many take a few seconds in a debug build.
const SCHEDULES: u64 = 6000;
const SIDES: [Side; 2] = [Side::Client, Side::Server];

#[test]
fn random_conversations_keep_the_books_straight() {
    run(Plan::Orderly, 0);
}

#[test]
fn random_conversations_that_break_off_leave_nobody_waiting() {
    run(Plan::BreaksOff, 1 << 32);
}

fn run(plan: Plan, offset: u64) {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let schedules = number("SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => offset..offset + schedules / 2,
    };
    for seed in seeds {
        let result = panic::catch_unwind(|| Simulation::new(seed, plan).run());
        if let Err(cause) = result {
            eprintln!("the schedule of SIMULATION_SEED={seed} fails");
            panic::resume_unwind(cause);
        }
    }
}

/// How a schedule ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Everything is finished and read.
    Orderly,
    /// At some step the session is shut down or the transport is lost.
    BreaksOff,
}

struct Simulation {
    random: Random,
    plan: Plan,
    pair: Pair,
    version: Version,
    sides: [Books; 2],
    /// The INITIAL_WINDOW_SIZE that each side has announced last, by frames that this test slips in.
    announced: [u32; 2],
    settings_left: [u32; 2],
}

/// What one side's application knows.
#[derive(Default)]
struct Books {
    streams: BTreeMap<u32, Stream>,
    pings: usize,
    /// The side has ended all its streams at once.
    over: bool,
}

/// What one side's application knows of one stream.
#[derive(Clone, Debug, Default)]
struct Stream {
    may_send: bool,
    replied: bool,
    queued: usize,
    sent: usize,
    finished: bool,
    fin_sent: bool,
    received: usize,
    ended: bool,
    /// Received and not consumed.
    unread: usize,
    /// The application reads no more.
    dropped: bool,
    end: Option<End>,
}

impl Simulation {
    fn new(seed: u64, plan: Plan) -> Self {
        let mut random = Random::new(seed);
        let version = Version::ALL[random.below(3)];
        let flow_control = match random.below(8) {
            0 => FlowControl::Off,
            _ => FlowControl::Enforce,
        };
        let configs = SIDES.map(|_| config(&mut random, flow_control));
        let announced = [0, 1].map(|side: usize| configs[side].limits.stream_window);
        let [client, server] = configs;
        Self {
            random,
            plan,
            pair: Pair::with(version, client, server),
            version,
            sides: Default::default(),
            announced,
            settings_left: [20; 2],
        }
    }

    fn run(mut self) {
        let steps = 40 + self.random.below(160);
        let breaking = self.random.below(steps);
        for step in 0..steps {
            let side = SIDES[self.random.below(2)];
            if self.plan == Plan::BreaksOff && step == breaking {
                self.break_off(side);
                self.note_events();
            }
            self.step(side);
            self.check();
        }
        self.pair.run();
        self.note_events();
        if self.plan == Plan::Orderly {
            self.check_windows();
        }
        self.finish_all();
        self.check_end();
    }

    // --- steps ------------------------------------------------------------------------------------------------------

    fn step(&mut self, side: Side) {
        match self.random.below(40) {
            0..8 => {
                let most = self.some_size();
                self.transmit(side, most);
            }
            8..16 => {
                let most = self.some_size();
                self.pair.deliver(side, most);
            }
            16..19 => self.open(side),
            19..22 => self.reply(side),
            22..27 => self.send(side),
            27 => self.finish(side),
            28 => self.trailers(side),
            29..33 => self.consume(side),
            33 => self.reset(side),
            34 => self.stop_reading(side),
            35 => {
                let now = self.pair.now();
                self.pair.side(side).ping(now);
                self.books(side).pings += 1;
            }
            36 => self.change_settings(side),
            37 => self.accept(side),
            38 => {
                let time = self.random.below(20) as u64;
                self.pair.advance(Duration::from_millis(time));
            }
            _ => self.release(side),
        }
        self.note_events();
    }

    fn transmit(&mut self, side: Side, most: usize) {
        let now = self.pair.now();
        let waiting = bytes::Buf::remaining(self.pair.side(side).poll_transmit(now));
        assert!(waiting < 128 << 10, "{waiting} octets are prepared at once");
        self.pair.transmit(side, most);
    }

    fn open(&mut self, side: Side) {
        let associated = match side {
            Side::Client => None,
            Side::Server => self.some_stream(side, |stream| stream.may_send),
        };
        let is_push = associated.is_some();
        let fin = self.random.below(4) == 0;
        let how = Open {
            fin,
            unidirectional: is_push,
            associated: associated.map(id),
            ..Open::default()
        };
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
            .reply(id(stream), headers, fin)
            .unwrap();
        let stream = self.stream(side, stream);
        stream.replied = true;
        stream.may_send = !fin;
        stream.finished = fin;
    }

    fn send(&mut self, side: Side) {
        let Some(number) = self.some_stream(side, |_| true) else {
            return;
        };
        // A window of few octets passes few of them in each round.
        let window = self.pair.side(side.peer()).config().limits.stream_window as usize;
        let octets = self.some_size().min(200 * window);
        let fin = self.random.below(6) == 0;
        let at = self.stream(side, number).queued;
        let payload = pattern(number, side, at, octets);
        let result = self.pair.side(side).send_data(id(number), payload, fin);
        let stream = self.stream(side, number);
        assert_eq!(result.is_ok(), stream.may_send, "{number}: {stream:?}");
        if result.is_ok() {
            stream.queued += octets;
            stream.finished = fin;
            stream.may_send = !fin;
            stream.replied = true;
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
            let octets = match self.random.below(2) {
                0 => self.stream(side, number).unread,
                _ => {
                    self.random
                        .below(self.sides[side as usize].streams[&number].unread)
                        + 1
                }
            };
            self.pair.side(side).consume(id(number), octets);
            self.stream(side, number).unread -= octets;
        }
    }

    fn reset(&mut self, side: Side) {
        if self.random.below(3) > 0 {
            return;
        }
        if let Some(number) = self.some_stream(side, |stream| stream.end.is_none()) {
            let status = [RstStatus::CANCEL, RstStatus::REFUSED_STREAM][self.random.below(2)];
            self.pair.side(side).reset(id(number), status);
        }
    }

    fn stop_reading(&mut self, side: Side) {
        if self.random.below(3) > 0 {
            return;
        }
        if let Some(number) = self.some_stream(side, |stream| !stream.ended) {
            self.pair.side(side).stop_reading(id(number));
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

    /// A side changes its mind about what it lets the other one do, but never to more than it enforces.
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

    fn slip_in_settings(&mut self, side: Side, window: u32, streams: u32) {
        // All frames go first, so that this one does not come in the middle of another.
        while self.pair.transmit(side, usize::MAX) > 0 {}
        let settings = frames::settings(self.version, &[(4, streams), (7, window)]);
        let octets = settings.octets(&mut StoredBlocks::new(self.version));
        self.pair.inject(side, &octets);
        self.announced[side as usize] = window;
    }

    fn break_off(&mut self, side: Side) {
        let now = self.pair.now();
        match self.random.below(5) {
            0 => self
                .pair
                .side(side)
                .shutdown(now, Shutdown::Graceful { deadline: None }),
            1 => self.pair.side(side).shutdown(now, Shutdown::Now),
            2 => self.pair.lose(side),
            3 => {
                let error = SessionError::Closed;
                self.pair.side(side).handle_transport_error(error);
                self.pair.lose(side.peer());
            }
            _ => {
                // What makes the other side end the session.
                while self.pair.transmit(side, usize::MAX) > 0 {}
                self.pair.inject(side, &[0; 8]);
            }
        }
    }

    // --- books ------------------------------------------------------------------------------------------------------

    fn note_events(&mut self) {
        for side in SIDES {
            for event in self.pair.all_events(side) {
                self.note(side, event);
            }
        }
    }

    fn note(&mut self, side: Side, event: Happened) {
        let books = &self.sides[side as usize];
        if let Some(stream) = event.stream().and_then(|number| books.streams.get(&number)) {
            assert_eq!(stream.end, None, "{side}: {event:?} comes after the end");
        }
        match event {
            Happened::Opened {
                id: number,
                fin,
                unidirectional,
                ref fields,
                ..
            } => {
                assert_eq!(fields[2], ("x-same".into(), "same".into()));
                let stream = Stream {
                    may_send: !unidirectional,
                    ended: fin,
                    finished: unidirectional,
                    fin_sent: unidirectional,
                    ..Stream::default()
                };
                let earlier = self.books(side).streams.insert(number, stream);
                assert!(earlier.is_none(), "a stream is opened once");
            }
            Happened::Replied { id, fin, .. } | Happened::Headers { id, fin, .. } => {
                let stream = self.stream(side, id);
                assert!(!stream.ended, "nothing comes after FIN");
                stream.ended = fin;
            }
            Happened::Data { id, payload, fin } => {
                let at = self.stream(side, id).received;
                let expected = pattern(id, side.peer(), at, payload.len());
                assert!(payload == expected, "the octets of {id} at {at}");
                let stream = self.stream(side, id);
                assert!(!stream.ended && !stream.dropped, "{stream:?}");
                stream.received += payload.len();
                stream.unread += payload.len();
                stream.ended = fin;
            }
            Happened::Sent { id, octets, fin } => {
                let stream = self.stream(side, id);
                assert!(!stream.fin_sent);
                stream.sent += octets;
                assert!(stream.sent <= stream.queued);
                if fin {
                    assert!(
                        stream.finished && stream.sent == stream.queued,
                        "{stream:?}"
                    );
                    stream.fin_sent = true;
                }
            }
            Happened::Reset { id, end } => {
                let stream = self.stream(side, id);
                assert!(
                    !(stream.ended && stream.fin_sent) || matches!(end, End::Local(_)),
                    "a stream that is closed does not fail: {stream:?} {end:?}"
                );
                assert!(
                    !matches!(end, End::Library(_)),
                    "nobody breaks a rule: {end:?}"
                );
                stream.end = Some(end);
                stream.may_send = false;
            }
            Happened::Pong { .. } => self.books(side).pings -= 1,
            Happened::GoAway { .. } => {}
        }
    }

    fn check(&mut self) {
        for side in SIDES {
            let books = &self.sides[side as usize];
            let connection = self.pair.side(side);
            let (stats, limits) = (connection.stats(), &connection.config().limits);
            let unread: usize = books.streams.values().map(|stream| stream.unread).sum();
            assert_eq!(stats.unread, unread, "{side}");
            let unsent: usize = books
                .streams
                .values()
                .filter(|stream| stream.end.is_none())
                .map(|stream| stream.queued - stream.sent)
                .sum();
            assert_eq!(stats.unsent, unsent, "{side}");
            assert!(stats.backlog <= limits.max_backlog);
            assert!(stats.remote_streams + stats.cancelled <= 2 * limits.max_streams as usize);
            let session = connection.windows(WindowTarget::Session).unwrap();
            assert_eq!(session.unread, unread);
            if connection.config().flow_control == FlowControl::Enforce {
                let size = i64::from(match self.version {
                    Version::V3_1 => limits.session_window,
                    Version::V2 | Version::V3 => 65_536,
                });
                let sum = session.receive + session.unread as i64 + i64::from(session.returnable);
                assert_eq!(sum, size, "{side}: credit is conserved");
                if self.version == Version::V3_1 {
                    assert!(session.receive >= 0 && session.send >= 0);
                }
            }
            let is_over = connection.phase() == Phase::Closing;
            self.sides[side as usize].over |= is_over;
        }
    }

    /// When nothing is under way, what a side may send on a stream is what the other one lets it.
    fn check_windows(&mut self) {
        for side in SIDES {
            let numbers: Vec<u32> = self.books(side).streams.keys().copied().collect();
            for number in numbers {
                self.check_stream_windows(side, number);
            }
        }
    }

    fn check_stream_windows(&mut self, side: Side, number: u32) {
        let peer = side.peer();
        let config = self.pair.side(peer).config();
        let is_off = config.flow_control == FlowControl::Off || !self.version.has_stream_windows();
        let enforced = config.limits.stream_window;
        let target = WindowTarget::Stream(id(number));
        let may_send = self.stream(side, number).may_send;
        let (Some(here), Some(there)) = (
            self.pair.side(side).windows(target),
            self.pair.side(peer).windows(target),
        ) else {
            return;
        };
        if is_off || !may_send || self.pair.under_way(side) + self.pair.under_way(peer) > 0 {
            return;
        }
        let kept_back = i64::from(enforced) - i64::from(self.announced[peer as usize]);
        assert_eq!(here.send, there.receive - kept_back, "{number} of {side}");
    }

    // --- the end ----------------------------------------------------------------------------------------------------

    /// Lets both sides do what is left to do, as applications that wish each other well.
    fn finish_all(&mut self) {
        for side in SIDES {
            if self.sides.iter().all(|books| !books.over) {
                let limits = &self.pair.side(side).config().limits;
                let (window, streams) = (limits.stream_window, limits.max_streams);
                self.slip_in_settings(side, window, streams);
            }
        }
        for _ in 0..10_000 {
            let mut moved = false;
            for side in SIDES {
                moved |= self.pair.transmit(side, usize::MAX) > 0;
            }
            for side in SIDES {
                moved |= self.pair.deliver(side, usize::MAX);
                self.note_events();
                moved |= self.settle(side);
                self.note_events();
                self.check();
            }
            if !moved && !self.close_transport() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Accepts, finishes and reads everything on one side. Gives whether there was something.
    fn settle(&mut self, side: Side) -> bool {
        let mut moved = false;
        let numbers: Vec<u32> = self.books(side).streams.keys().copied().collect();
        for number in numbers {
            self.pair.side(side).accept(id(number));
            let stream = self.stream(side, number).clone();
            if stream.may_send {
                self.pair.side(side).finish(id(number)).unwrap();
                let stream = self.stream(side, number);
                (stream.may_send, stream.finished, stream.replied) = (false, true, true);
                moved = true;
            }
            if stream.unread > 0 {
                self.pair.side(side).consume(id(number), stream.unread);
                self.stream(side, number).unread = 0;
                moved = true;
            }
        }
        moved
    }

    /// Once a side has written its last octet and all have arrived, the other one hears of the end.
    fn close_transport(&mut self) -> bool {
        let mut moved = false;
        for side in SIDES {
            let is_over = self.pair.side(side).phase() == Phase::Closing;
            if is_over && self.pair.side(side.peer()).phase() != Phase::Closing {
                self.pair.lose(side.peer());
                moved = true;
            }
        }
        self.note_events();
        moved
    }

    fn check_end(&mut self) {
        for side in SIDES {
            let numbers: Vec<u32> = self.books(side).streams.keys().copied().collect();
            for number in &numbers {
                self.pair.side(side).release(id(*number));
            }
            let stats = self.pair.side(side).stats();
            assert_eq!(
                stats,
                Default::default(),
                "{side}: {:#?}\n{:?}",
                [0, 1].map(|n: usize| self.sides[n].streams.clone()),
                [
                    self.pair.under_way(Side::Client),
                    self.pair.under_way(Side::Server)
                ]
            );
            for number in numbers {
                self.check_stream_end(side, number);
            }
        }
        if self.plan == Plan::Orderly {
            for side in SIDES {
                assert!(self.pair.side(side).outcome().is_ok());
                assert_eq!(self.pair.side(side).phase(), Phase::Open);
                assert_eq!(self.books(side).pings, 0, "every PING is answered");
            }
            self.pair.assert_clean();
        }
    }

    /// What a side has sent, the other one has, or it knows of an error.
    fn check_stream_end(&mut self, side: Side, number: u32) {
        let here = self.stream(side, number).clone();
        let there = self.sides[side.peer() as usize].streams.get(&number);
        if here.end.is_none() {
            assert!(
                here.fin_sent || here.finished && here.queued == 0 || here.dropped,
                "{here:?}"
            );
            assert!(
                here.ended || here.dropped,
                "{number} waits for ever: {here:?}"
            );
        }
        let Some(there) = there else {
            assert!(
                here.end.is_some() || here.finished,
                "a stream that nobody has seen fails: {here:?}"
            );
            return;
        };
        if there.ended && StreamId::new(number).is_some() && there.end.is_none() && !there.dropped {
            assert!(here.finished, "{number}: FIN comes only if it was sent");
            assert_eq!(
                there.received, here.queued,
                "{number} of {side} is complete"
            );
        }
    }

    // --- helpers ----------------------------------------------------------------------------------------------------

    fn books(&mut self, side: Side) -> &mut Books {
        &mut self.sides[side as usize]
    }

    fn stream(&mut self, side: Side, number: u32) -> &mut Stream {
        let stream = self.books(side).streams.get_mut(&number);
        stream.unwrap_or_else(|| panic!("{side} does not know stream {number}"))
    }

    fn some_stream(&mut self, side: Side, wanted: impl Fn(&Stream) -> bool) -> Option<u32> {
        let streams = self.sides[side as usize].streams.iter();
        let wanted: Vec<u32> = streams
            .filter(|(_, stream)| wanted(stream))
            .map(|(number, _)| *number)
            .collect();
        (!wanted.is_empty()).then(|| wanted[self.random.below(wanted.len())])
    }

    /// Often small, sometimes large.
    fn some_size(&mut self) -> usize {
        let most = [10, 100, 5000, 100_000][self.random.below(4)];
        self.random.below(most)
    }
}

fn config(random: &mut Random, flow_control: FlowControl) -> Config {
    let mut config = Config::default();
    config.flow_control = flow_control;
    config.accept_push = random.below(2) == 0;
    config.trailers = [Trailers::EmptyData, Trailers::FinOnHeaders][random.below(2)];
    config.header_compression =
        [HeaderCompression::Indexed, HeaderCompression::Stored][random.below(2)];
    let limits = &mut config.limits;
    limits.max_streams = [1, 3, 100][random.below(3)];
    limits.max_backlog = [1, 5, 100][random.below(3)];
    limits.stream_window = [1, 300, 16_384, 65_536, 262_144][random.below(5)];
    limits.session_window = [65_536, 100_000, 1 << 20][random.below(3)];
    limits.stream_buffer = [1, 1000, 262_144][random.below(3)];
    limits.session_buffer = [1000, 1 << 20][random.below(2)];
    limits.data_frame = [100, 1000, 16_384][random.below(3)];
    limits.discard = [0, 1000, 1 << 20][random.below(3)];
    limits.max_queued_replies = [1, 256][random.below(2)];
    config
}

/// The octets that `sender` sends on a stream from an offset on.
fn pattern(stream: u32, sender: Side, at: usize, octets: usize) -> Bytes {
    const PERIOD: usize = 251;
    static OCTETS: std::sync::LazyLock<Bytes> =
        std::sync::LazyLock::new(|| (0..200_000).map(|n| (n % PERIOD) as u8).collect());
    let start = (at + stream as usize * 7 + sender.first_id() as usize * 100) % PERIOD;
    OCTETS.slice(start..start + octets)
}

/// A generator of random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        (number as usize) % bound
    }
}
