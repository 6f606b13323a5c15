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
/// open and reset streams as fast as connections to a forwarded port come and go.
///
/// The peer of a session that was ended at once has 30 s to take the rest, and 30 s to close its
/// side. After an end in order it has 300 s to take the rest. This crate itself gives it 30 s in
/// all.
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use bytes::Bytes;
    use spdy_session::{
        HeaderBlock, OpenOptions, SessionError, Shutdown, Timeout, Version, client, server,
    };
    use tokio::{
        io::duplex,
        time::{sleep, timeout},
    };

    use super::*;

    /// A program may drive a session itself.
    #[tokio::test(start_paused = true)]
    async fn the_peer_of_a_session_that_is_over_does_not_have_hours() {
        let (near, far) = duplex(1000);
        let (session, mut incoming, driver) = server(near, Version::V3_1, config());
        let serving = tokio::spawn(driver);
        let (peer, _, mut driver) = client(far, Version::V3_1, config());
        // Then it reads nothing more.
        tokio::spawn(async move {
            _ = timeout(Duration::from_secs(1), &mut driver).await;
            pending::<()>().await;
            drop(driver);
        });
        let opening = peer.open(HeaderBlock::new(), OpenOptions::new().fin(true));
        let _opened = opening.await.unwrap();
        let (_, reply) = incoming.accept().await.unwrap().split();
        let mut stdout = reply.send_reply(HeaderBlock::new(), false).unwrap();
        sleep(Duration::from_secs(2)).await;
        stdout
            .send_data(Bytes::from(vec![7; 10_000]), true)
            .unwrap();
        sleep(STALLED / 2).await;
        assert!(!serving.is_finished(), "a terminal may pause");
        session.shutdown(Shutdown::Graceful { deadline: None });
        let over = Instant::now();
        let end = timeout(STALLED, serving).await.expect("it ends").unwrap();
        let timed_out = matches!(end, Err(SessionError::TimedOut(Timeout::Write)));
        assert!(timed_out, "{end:?}");
        assert_eq!(over.elapsed().as_secs(), 300);
    }
}
