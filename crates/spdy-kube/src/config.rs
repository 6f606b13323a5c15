//! The configuration of sessions with kubectl and the like.

use std::time::Duration;

use spdy_session::{Config, Rate};
use spdy_tower::upgrade;
use tokio::time::Instant;

/// The configuration for sessions with kubectl and the like.
///
/// On top of [`upgrade::config`]: a peer that does not read may do so for hours, as a user may stop a terminal for; a
/// command may leave its input unread as long; and peers may open and reset streams as fast as connections to a
/// forwarded port come and go.
#[must_use]
pub fn config() -> Config {
    let mut config = upgrade::config();
    config.timeouts.write = Some(STALLED);
    // A command may take its input line by line, as slowly as it likes. A client that is gone meanwhile is noticed by
    // `timeouts.probe`.
    config.timeouts.trickle = None;
    config.timeouts.unread = None;
    config.limits.max_streams = MAX_STREAMS;
    config.limits.max_backlog = MAX_STREAMS as usize;
    config.limits.data_frame = DATA_FRAME;
    // What nobody wants is thrown away, however much: a reset would end the other direction too.
    config.limits.discard = u64::MAX;
    config.limits.peer_resets = OFTEN;
    config.limits.local_resets = OFTEN;
    config.limits.empty_frames = OFTEN;
    config
}

/// The moment after this time from now on. What is set may be longer than a clock can count: then it is far off.
pub(crate) fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + FAR_OFF)
}

/// Ten years.
const FAR_OFF: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// As long as a session may be idle.
const STALLED: Duration = Duration::from_secs(4 * 60 * 60);

/// Two streams a forwarded connection: a thousand connections at once.
const MAX_STREAMS: u32 = 2000;

/// What Go sends, in bytes.
const DATA_FRAME: usize = 32 * 1024;

const OFTEN: Rate = Rate {
    burst: 1_000_000,
    per_second: 100_000,
};
