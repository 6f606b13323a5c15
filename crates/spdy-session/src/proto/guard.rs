//! The guard: it limits how often a peer may do what costs this side more than the peer.

use std::time::Instant;

use super::{bucket::Bucket, error::Violation};
use crate::{Rule, config::Limits};

/// A token bucket for each thing that a peer must not do too often.
#[derive(Debug)]
pub(crate) struct Guard {
    peer_resets: Bucket,
    local_resets: Bucket,
    settings: Bucket,
    empty_frames: Bucket,
    idle_frames: Bucket,
    pings: Bucket,
}

/// What a peer is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// It resets a stream that it opened.
    PeerReset,
    /// It causes a RST_STREAM of this side, or would cause it if this side had not sent one
    /// already.
    LocalReset,
    /// It sends SETTINGS.
    Settings,
    /// It sends a frame without content.
    EmptyFrame,
    /// It sends a frame without effect. A few of them are normal: they crossed the end of their
    /// stream.
    IdleFrame,
    /// It sends a PING, or answers one.
    Ping,
}

impl Guard {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        let bucket = |rate| Bucket::new(rate, now);
        Self {
            peer_resets: bucket(limits.peer_resets),
            local_resets: bucket(limits.local_resets),
            settings: bucket(limits.settings),
            empty_frames: bucket(limits.empty_frames),
            idle_frames: bucket(limits.idle_frames),
            pings: bucket(limits.pings),
        }
    }

    /// Charges the peer. Returns an error, which ends the session, if its bucket is empty.
    pub(crate) fn charge(&mut self, charge: Charge, now: Instant) -> Result<(), Violation> {
        let (bucket, rule) = match charge {
            Charge::PeerReset => (&mut self.peer_resets, Rule::PeerResets),
            Charge::LocalReset => (&mut self.local_resets, Rule::LocalResets),
            Charge::Settings => (&mut self.settings, Rule::Settings),
            Charge::EmptyFrame => (&mut self.empty_frames, Rule::EmptyFrames),
            Charge::IdleFrame => (&mut self.idle_frames, Rule::IdleFrames),
            Charge::Ping => (&mut self.pings, Rule::Pings),
        };
        if bucket.take(now) {
            Ok(())
        } else {
            Err(Violation::session(rule))
        }
    }
}
