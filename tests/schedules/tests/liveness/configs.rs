//! The configurations of a schedule: small limits most of all, since only a limit that is reached
//! holds anything up.

use std::time::Duration;

use spdy_frame::HeaderCompression;
use spdy_session::{Config, FlowControl, Rate, Timeouts, Trailers};

use crate::random::Random;

pub(crate) fn config(random: &mut Random, flow_control: FlowControl, is_heavy: bool) -> Config {
    let mut config = Config::default();
    config.flow_control = flow_control;
    config.accept_push = !random.one_in(4);
    config.trailers = random.of(&[Trailers::EmptyData, Trailers::FinOnHeaders]);
    config.header_compression = random.of(&[HeaderCompression::Indexed, HeaderCompression::Stored]);
    limit(random, &mut config);
    if is_heavy {
        weigh_down(random, &mut config);
    }
    config.timeouts = timeouts(random);
    config
}

fn limit(random: &mut Random, config: &mut Config) {
    let limits = &mut config.limits;
    limits.max_streams = 1 + random.below(4) as u32;
    limits.max_backlog = random.of(&[1, 3, 100]);
    limits.stream_window = random.of(&[1, 5, 100, 5000, 65_536, 262_144]);
    limits.session_window = random.of(&[65_536, 100_000]);
    limits.max_stream_window = random.of(&[0, 10_000, 2 << 20]);
    limits.max_session_window = random.of(&[0, 150_000, 4 << 20]);
    limits.stream_buffer = random.of(&[1, 100, 5000, 262_144]);
    limits.session_buffer = random.of(&[1, 1000, 20_000, 1 << 20]);
    limits.stream_send_queue = random.of(&[1, 100, 5000, 65_536]);
    limits.session_send_queue = random.of(&[1, 1000, 65_536, UNCROWDED]);
    limits.min_send_queue = random.of(&[1, 100, 8192]);
    limits.data_frame = random.of(&[10, 100, 1000, 16_384]);
    limits.min_progress = random.of(&[1, 1000, 16_384]);
    limits.discard = random.of(&[0, 1000, 1 << 20]);
    limits.max_queued_replies = random.of(&[1, 4, 256]);
    // None of these is what is tested here.
    let often = Rate {
        burst: 1_000_000,
        per_second: 1_000_000,
    };
    limits.peer_resets = often;
    limits.local_resets = often;
    limits.settings = often;
    limits.pings = often;
    limits.empty_frames = often;
    limits.idle_frames = often;
}

/// Whether streams may find more room in their send queue because other streams need less.
pub(crate) fn may_crowd(config: &Config) -> bool {
    (2..UNCROWDED).contains(&config.limits.session_send_queue)
}

/// The longest body that is worth its time.
pub(crate) fn body(config: &Config) -> usize {
    let limits = &config.limits;
    60 * (limits.stream_window as usize)
        .min(limits.data_frame * 4)
        .min(2000)
}

/// More than all streams have to send.
const UNCROWDED: usize = 1 << 30;

/// Streams whose windows are as large as that of the session.
fn weigh_down(random: &mut Random, config: &mut Config) {
    let limits = &mut config.limits;
    limits.stream_window = random.of(&[65_536, 262_144]);
    limits.session_window = 65_536;
    limits.max_stream_window = 0;
    limits.max_session_window = random.of(&[0, 70_000]);
    limits.data_frame = random.of(&[1000, 5000, 16_384]);
    limits.stream_send_queue = random.of(&[5000, 65_536]);
    limits.min_send_queue = random.of(&[5000, 65_536]);
    limits.stream_buffer = 262_144;
}

fn timeouts(random: &mut Random) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let is_short = random.one_in(3);
    let mut time = |usual: Option<Duration>| match random.below(4) {
        0 => None,
        1 if is_short => Some(Duration::from_millis(20) + random.time(2000)),
        _ => usual,
    };
    timeouts.first_frame = time(timeouts.first_frame);
    timeouts.frame = time(timeouts.frame);
    timeouts.idle = time(timeouts.idle);
    // Never for ever: two sides that both have as many replies queued as they may both wait for the
    // other to read.
    timeouts.write = time(timeouts.write).or(timeouts.write);
    timeouts.blocked = time(timeouts.blocked);
    // Never for ever: while reading pauses no WINDOW_UPDATE is read, so an application that reads
    // on when it has sent is helped by nothing else.
    timeouts.unread = time(timeouts.unread).or(timeouts.unread);
    timeouts.trickle = time(timeouts.trickle);
    timeouts.discard = time(timeouts.discard);
    timeouts.probe = time(timeouts.probe);
    timeouts.keep_alive = time(Some(Duration::from_millis(30)));
    timeouts.linger = random.of(&[Duration::ZERO, Duration::from_millis(10), timeouts.linger]);
    timeouts
}
