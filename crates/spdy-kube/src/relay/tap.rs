//! The tap of a relay that passes streams, and the report of the end, which every tap gets.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use spdy_session::{HeaderBlock, Side, StreamId};

use crate::{
    Protocol, Status,
    client::{MAX_STATUS, judge},
    stream_type::StreamType,
};

/// Sees what is relayed, for example to record it. The relay waits for its methods, so they should
/// return soon.
pub trait Tap: Send + Sync + 'static {
    /// The client opens a stream, with headers such as `streamtype`. The id is that of the client.
    fn opened(&self, stream: StreamId, headers: &HeaderBlock) {
        _ = (stream, headers);
    }

    /// Bytes pass that `from` has sent.
    fn passed(&self, stream: StreamId, from: Side, bytes: &[u8]) {
        _ = (stream, from, bytes);
    }

    /// An opened stream is over. This is called exactly once for each of them, before
    /// [`ended`](Self::ended).
    fn closed(&self, stream: StreamId) {
        _ = stream;
    }

    /// The session has ended. This is called exactly once, whatever happened. The outcome is the
    /// one that the relay passed on the error stream of exec or attach, or the refusal of the
    /// request. A client that goes away at this moment might not get it. `None` means that no
    /// complete outcome passed, because one of the sides was lost before, or because a port-forward
    /// has none.
    fn ended(&self, outcome: Option<&Status>) {
        _ = outcome;
    }
}

/// Sees nothing.
impl Tap for () {}

/// A tap. The end is reported to it when this is dropped.
pub(super) struct Watch {
    tap: Box<dyn Tap>,
    /// The version of the protocol of the outcome. `None` means that there is no outcome.
    protocol: Option<Protocol>,
    outcome: Mutex<Option<Status>>,
}

impl Watch {
    pub(super) fn new(tap: impl Tap) -> Self {
        Self {
            tap: Box::new(tap),
            protocol: None,
            outcome: Mutex::default(),
        }
    }

    /// Sets the version of the protocol of the outcome.
    pub(super) const fn expects(&mut self, protocol: Protocol) {
        self.protocol = Some(protocol);
    }

    /// Sets the outcome of a session that did not start.
    pub(super) fn refuse(self, status: Status) {
        self.conclude(status);
    }

    pub(super) fn tap(&self) -> &dyn Tap {
        &*self.tap
    }

    /// Returns what collects the outcome, if this stream carries it.
    pub(super) fn collect(&self, headers: &HeaderBlock) -> Option<Outcome> {
        let is_command = headers.get("port").is_none();
        let is_error = StreamType::of(headers) == Some(StreamType::Error);
        let protocol = self.protocol.filter(|_| is_command && is_error)?;
        Some(Outcome {
            protocol,
            told: Vec::new(),
        })
    }

    /// Sets the outcome that has passed. A success never replaces a failure.
    pub(super) fn conclude(&self, status: Status) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.is_none() || status != Status::Success {
            *outcome = Some(status);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let outcome = self.outcome.get_mut();
        let outcome = outcome.unwrap_or_else(PoisonError::into_inner).take();
        tell(|| self.tap.ended(outcome.as_ref()));
    }
}

/// The part of an outcome that has passed.
pub(super) struct Outcome {
    protocol: Protocol,
    told: Vec<u8>,
}

impl Outcome {
    /// Adds bytes, at most as many as a client reads.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let room = MAX_STATUS - self.told.len();
        self.told.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Returns the outcome of a stream that was finished or reset.
    pub(super) fn judge(&self, is_reset: bool) -> Option<Status> {
        judge(self.protocol, &self.told, is_reset).ok()
    }
}

/// Reports an end to a tap. If the tap has panicked and panics again here, the process would abort,
/// with all other sessions.
pub(super) fn tell(ended: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(ended)).is_err() {
        tracing::warn!(target: "spdy", "tap of a relay panicked in `ended`");
    }
}
