//! Random conversations under a clock of the test: two sides do whatever an application may do,
//! their bytes are cut and held up at random, and after every step the books are compared with what
//! the machines say.
//!
//! A schedule is made from its seed alone. The seed is printed when it fails; `SIMULATION_SEED=n`
//! runs that one, and `SIMULATION_SCHEDULES=n` as many as are wanted. The faults that were injected
//! are counted where they took effect, and each kind has to have been seen.

mod books;
mod ending;
mod fairness;
mod faults;
mod steps;

use std::{collections::BTreeMap, panic};

use spdy_frame::{HeaderCompression, Side, Version};
use spdy_session::{Config, FlowControl, Trailers};
use spdy_tests::{machine::End, pair::Pair};

use self::{
    fairness::Shares,
    faults::{Fault, Faults},
};

/// So many take a few seconds in a debug build.
const SCHEDULES: u64 = 6000;
const SIDES: [Side; 2] = [Side::Client, Side::Server];

#[test]
fn counts_match_the_records_after_every_step_of_random_conversations() {
    run(Plan::Orderly, 0);
}

#[test]
fn random_conversations_that_break_off_wake_every_task_and_report_every_fault() {
    if let Some((schedules, faults)) = run(Plan::BreaksOff, 1 << 32) {
        faults.assert_all_seen(schedules / 200);
    }
}

/// Runs as many schedules as are wanted. Returns how many, unless it was a certain one, and what
/// went wrong in them.
fn run(plan: Plan, offset: u64) -> Option<(u64, Faults)> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let schedules = number("SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    let (certain, schedules) = match number("SIMULATION_SEED") {
        Some(seed) => (Some(seed), 1),
        None => (None, schedules / 2),
    };
    let first = certain.unwrap_or(offset);
    let mut faults = Faults::default();
    for seed in first..first + schedules {
        let result = panic::catch_unwind(|| Simulation::new(seed, plan).run());
        match result {
            Ok(seen) => faults += seen,
            Err(cause) => {
                eprintln!("the schedule of SIMULATION_SEED={seed} fails");
                panic::resume_unwind(cause);
            }
        }
    }
    certain.is_none().then_some((schedules, faults))
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
    /// The INITIAL_WINDOW_SIZE that each side has announced last, by frames that this test slips
    /// in.
    announced: [u32; 2],
    settings_left: [u32; 2],
    /// For how many steps nothing arrives at a side.
    stalled: [usize; 2],
    faults: Faults,
    shares: [Shares; 2],
}

/// What one side's application knows.
#[derive(Default)]
struct Books {
    streams: BTreeMap<u32, Stream>,
    pings: usize,
    /// What the session's window was at the last look.
    window: u32,
    /// The side has ended all its streams at once.
    over: bool,
}

/// What one side's application knows of one stream.
#[derive(Clone, Debug, Default)]
struct Stream {
    priority: u8,
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
        let mut faults = Faults::default();
        if flow_control == FlowControl::Off {
            faults.note(Fault::FlowControlOff);
        }
        Self {
            random,
            plan,
            pair: Pair::with(version, client, server),
            version,
            sides: Default::default(),
            announced,
            settings_left: [20; 2],
            stalled: [0; 2],
            faults,
            shares: Default::default(),
        }
    }

    fn run(mut self) -> Faults {
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
            self.check_shares();
        }
        self.pair.run();
        self.note_events();
        if self.plan == Plan::Orderly {
            self.check_windows();
        }
        self.finish_all();
        self.check_end();
        self.faults
    }

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
    limits.max_stream_window = [0, 10_000, 2 << 20][random.below(3)];
    limits.max_session_window = [0, 150_000, 4 << 20][random.below(3)];
    limits.stream_buffer = [1, 1000, 262_144][random.below(3)];
    limits.session_buffer = [1000, 1 << 20][random.below(2)];
    limits.data_frame = [100, 1000, 16_384][random.below(3)];
    limits.discard = [0, 1000, 1 << 20][random.below(3)];
    limits.max_queued_replies = [1, 256][random.below(2)];
    config
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
