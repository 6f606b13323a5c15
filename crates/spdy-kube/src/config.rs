//! The configuration of sessions with kubectl and similar clients.

use std::time::Duration;

use spdy_session::{Config, Rate};
use spdy_tower::upgrade;
use tokio::time::Instant;

use crate::drive::CLOSE;

/// Returns the configuration for sessions with kubectl and similar clients.
///
/// It extends [`upgrade::config`]. A peer may leave its output unread for hours, because a user can
/// stop a terminal for that long, and a command may leave its input unread for as long. Peers may
/// open and reset streams as fast as connections to a forwarded port come and go. The peer of a
/// session that has ended has 30 s to read the rest and to close its side.
#[must_use]
pub fn config() -> Config {
    let mut config = upgrade::config();
    config.timeouts.write = Some(STALLED);
    // A command may read its input as slowly as it likes. `timeouts.probe` detects a client that
    // disappears meanwhile.
    config.timeouts.trickle = None;
    config.timeouts.unread = None;
    // A PING to a transport that is closed would destroy the last output and the outcome that a
    // slow client has not got. kubectl takes that for a success.
    config.timeouts.linger = CLOSE;
    config.limits.max_streams = MAX_STREAMS;
    config.limits.max_backlog = MAX_STREAMS as usize;
    config.limits.data_frame = DATA_FRAME;
    // Input that the command does not read is thrown away, however much: a reset would end the
    // other direction too.
    config.limits.discard = u64::MAX;
    config.limits.peer_resets = OFTEN;
    config.limits.local_resets = OFTEN;
    config.limits.empty_frames = OFTEN;
    config
}

/// Returns the moment after this duration. A duration that a clock cannot express ends far in the
/// future.
pub(crate) fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + FAR_OFF)
}

/// Ten years.
const FAR_OFF: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// As long as a session may be idle.
pub(crate) const STALLED: Duration = Duration::from_secs(4 * 60 * 60);

/// A forwarded connection has two streams, so this allows a thousand connections at once.
const MAX_STREAMS: u32 = 2000;

/// The size of the frames that Go sends, in bytes.
const DATA_FRAME: usize = 32 * 1024;

const OFTEN: Rate = Rate {
    burst: 1_000_000,
    per_second: 100_000,
};
