//! A peer that does with windows what it can: it opens them by a byte, shrinks and widens those of
//! all streams, lets them dribble, says GOAWAY, resets, leaves replies unread, and closes its
//! direction at any moment. Whatever it has done, what is queued for it is gone soon after it has
//! fallen silent.
//!
//! A schedule is made from its seed alone, which is printed when it fails. `WINDOWS_SEED=n` runs
//! that one, and `WINDOWS_SCHEDULES=n` as many as are wanted.

use std::{panic, time::Duration};

use spdy_frame::{GoAwayStatus, RstStatus, Version};
use spdy_session::{Config, proto::Phase};
use spdy_tests::{
    frames,
    machine::{Machine, id},
};

/// So many take a few seconds in a debug build.
const SCHEDULES: u64 = 600;

/// How long the peer is silent in the end, in seconds: longer than any window or the transport is
/// waited for.
const SILENCE: u64 = 62;

#[test]
fn no_use_of_windows_by_a_peer_holds_queued_payload_for_ever() {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let seeds = match number("WINDOWS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WINDOWS_SCHEDULES").unwrap_or(SCHEDULES),
    };
    for seed in seeds {
        if let Err(cause) = panic::catch_unwind(|| Attack::new(seed).run()) {
            eprintln!("the schedule of WINDOWS_SEED={seed} fails");
            panic::resume_unwind(cause);
        }
    }
}

struct Attack {
    random: Random,
    version: Version,
    server: Machine,
    /// How many streams the peer has opened.
    streams: u32,
}

impl Attack {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let version = Version::ALL[random.below(3)];
        let mut config = Config::default();
        config.limits.data_frame = [100, 16_384][random.below(2)];
        config.limits.max_streams = 8;
        config.timeouts.keep_alive = [None, Some(Duration::from_secs(20))][random.below(2)];
        let server = Machine::server(version).with(config);
        let server = server.alone("the driver makes frames sooner, under other windows");
        Self {
            random,
            version,
            server,
            streams: 0,
        }
    }

    fn run(mut self) {
        for _ in 0..10 + self.random.below(60) {
            self.step();
            self.server.events();
        }
        // A peer that takes nothing of what is ready is cut off; one that takes it all has to grant
        // something.
        let takes = self.random.below(2) == 0;
        for _ in 0..SILENCE {
            self.server.advance(Duration::from_secs(1));
            if takes {
                self.server.sent();
            } else {
                self.server.unsent_bytes();
            }
        }
        let stats = self.server.connection.stats();
        assert_eq!(stats.unsent, 0, "{stats:?}");
        if self.server.connection.phase() == Phase::Closing {
            assert_eq!(stats.remote_streams, 0, "{stats:?}");
        }
    }

    fn step(&mut self) {
        let version = self.version;
        let streams = self.streams as usize + 1;
        let stream = 2 * self.random.below(streams) as u32 + 1;
        match self.random.below(20) {
            0..5 => self.request(),
            5..8 => {
                let target = [0, stream][self.random.below(2)];
                let increment = [1, 2, 100, 40_000][self.random.below(4)];
                self.feed(frames::window_update(version, target, increment));
            }
            8..10 => {
                let window = [0, 1, 100, 65_536, 1 << 20][self.random.below(5)];
                self.feed(frames::settings(version, &[(7, window)]));
            }
            10 => self.feed(frames::rst_stream(version, stream, RstStatus::CANCEL)),
            11 => self.feed(frames::ping(version, 1)),
            12 if self.random.below(4) == 0 => {
                self.feed(frames::go_away(version, 0, GoAwayStatus::OK));
            }
            13 if self.random.below(10) == 0 => self.server.end_of_input(),
            14 => {
                let bytes = 1 + self.random.below(30_000);
                self.send(stream, bytes);
            }
            15 if self.streams > 0 && self.random.below(3) == 0 => {
                self.server.connection.reset(id(stream), RstStatus::CANCEL);
            }
            16 => {
                let time = [1, 1000, 29_000][self.random.below(3)];
                self.server.advance(Duration::from_millis(time));
            }
            _ => drop(self.server.sent()),
        }
    }

    /// The peer sends a frame, unless it has closed its direction.
    fn feed(&mut self, frame: frames::RawFrame) {
        if self.server.connection.phase() == Phase::Open && self.server.connection.wants_input() {
            self.server.feed(frame);
        }
    }

    /// The peer asks for something, and gets all of it at once.
    fn request(&mut self) {
        if self.server.connection.phase() != Phase::Open {
            return;
        }
        let stream = 2 * self.streams + 1;
        let priority = self.random.below(4) as u8;
        let bits = if self.version == Version::V2 { 6 } else { 5 };
        let request = frames::syn_stream(self.version, stream).get("/").fin();
        self.feed(request.priority_bytes([priority << bits, 0]));
        self.streams += 1;
        let headers = spdy_tests::machine::reply_block(self.version);
        if self
            .server
            .connection
            .send_reply(id(stream), headers, false)
            .is_ok()
        {
            let bytes = 1 + self.random.below(100_000);
            let fin = self.random.below(2) == 0;
            let payload = vec![0; bytes].into();
            _ = self.server.connection.send_data(id(stream), payload, fin);
        }
    }

    fn send(&mut self, stream: u32, bytes: usize) {
        let payload = vec![0; bytes].into();
        _ = self.server.connection.send_data(id(stream), payload, false);
    }
}

/// A generator of random numbers (xorshift64*).
struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        (number as usize) % bound
    }
}
