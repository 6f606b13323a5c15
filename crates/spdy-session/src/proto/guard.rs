//! The guard: it limits how often a peer may do what costs this side more than the peer.

use std::time::Instant;

use super::{bucket::Buckets, error::Violation};
use crate::{
    Rule,
    config::{Limits, Rate},
};

/// A token bucket for each [`Charge`].
#[derive(Debug)]
pub(crate) struct Guard(Buckets<CHARGES>);

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
        Self(Buckets::new(rates(limits), now))
    }

    /// Charges the peer. Returns an error, which ends the session, if its bucket is empty.
    pub(crate) fn charge(
        &mut self,
        charge: Charge,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Violation> {
        if self.0.take(charge as usize, rates(limits), now) {
            return Ok(());
        }
        Err(Violation::session(match charge {
            Charge::PeerReset => Rule::PeerResets,
            Charge::LocalReset => Rule::LocalResets,
            Charge::Settings => Rule::Settings,
            Charge::EmptyFrame => Rule::EmptyFrames,
            Charge::IdleFrame => Rule::IdleFrames,
            Charge::Ping => Rule::Pings,
        }))
    }
}

/// Returns the rates of all charges, in the order of [`Charge`].
const fn rates(limits: &Limits) -> [Rate; CHARGES] {
    [
        limits.peer_resets,
        limits.local_resets,
        limits.settings,
        limits.empty_frames,
        limits.idle_frames,
        limits.pings,
    ]
}

/// The number of things that a peer is charged for.
const CHARGES: usize = Charge::Ping as usize + 1;
