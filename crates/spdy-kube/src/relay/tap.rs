//! The tap of a relay that passes streams, and the report of the end, which every tap gets.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use spdy_session::{HeaderBlock, Side, StreamId};

use crate::{
    Protocol, Status,
    client::{MAX_STATUS, judge},
    server::Taken,
    stream_type::StreamType,
};

/// Sees what is relayed, for example to record it. The relay waits for its methods, so they should
/// return soon.
///
/// If [`opened`](Self::opened) or [`passed`](Self::passed) panics, the relay breaks the session off
/// on both sides, and what the tap has not seen does not pass.
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
    /// The bytes of the client that have passed.
    taken: Taken,
}

impl Watch {
    pub(super) fn new(tap: impl Tap) -> Self {
        Self {
            tap: Box::new(tap),
            protocol: None,
            outcome: Mutex::default(),
            taken: Taken::default(),
        }
    }

    /// Adds the bytes of the client that pass to `taken`.
    pub(super) fn counting(mut self, taken: Taken) -> Self {
        self.taken = taken;
        self
    }

    /// Returns what counts the bytes of the client that pass.
    pub(super) const fn taken(&self) -> &Taken {
        &self.taken
    }

    /// Sets the version of the protocol of the outcome.
    pub(super) const fn expects(&mut self, protocol: Protocol) {
        self.protocol = Some(protocol);
    }

    /// Sets the outcome of a session that did not start.
    pub(super) fn refuse(self, status: Status) {
        self.conclude(status);
    }

    /// Calls the tap.
    pub(super) fn tell(&self, call: impl FnOnce(&dyn Tap)) -> Result<(), Panicked> {
        tell(|| call(&*self.tap))
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
        _ = self.tell(|tap| tap.ended(outcome.as_ref()));
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

/// The error for a tap that has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Calls a tap. A panic ends here: it would drop streams, which looks like their end, or abort the
/// process if the tap has panicked before.
pub(super) fn tell(call: impl FnOnce()) -> Result<(), Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| {
        tracing::warn!(target: "spdy", "tap of a relay panicked");
        Panicked
    })
}
