//! What the relay reports about a session, and what it asks.

use std::{sync::Arc, time::Duration};

use spdy_kube::{BoxError, CommandTap, Passing, Recording, Status, Tap};
use spdy_session::{HeaderBlock, Side, StreamId};

use super::ending::Ending;
use crate::live::Live;

/// An exec or an attach.
pub(super) struct CommandSession {
    // The first field is dropped first. The end of the session waits for the recording.
    recording: Option<Recording>,
    live: Arc<Live>,
    time_limit: Option<Duration>,
    ending: Ending,
}

impl CommandSession {
    pub(super) fn new(
        recording: Option<Recording>,
        time_limit: Option<Duration>,
        ending: Ending,
    ) -> Self {
        Self {
            recording,
            live: ending.live(),
            time_limit,
            ending,
        }
    }
}

impl CommandTap for CommandSession {
    fn passes(&self, what: Passing<'_>) -> Result<(), BoxError> {
        match what {
            Passing::Stdin(bytes) => self.live.received(bytes.len()),
            Passing::Stdout(bytes) | Passing::Stderr(bytes) => self.live.sent(bytes.len()),
            _ => {}
        }
        match &self.recording {
            Some(recording) => recording.passes(what),
            None => Ok(()),
        }
    }

    async fn settled(&self) -> Result<(), BoxError> {
        match &self.recording {
            Some(recording) => recording.settled().await,
            None => Ok(()),
        }
    }

    async fn over(&self) -> BoxError {
        let over = self.live.over(self.time_limit);
        match &self.recording {
            Some(recording) => tokio::select! {
                why = over => why.into(),
                why = recording.over() => why,
            },
            None => over.await.into(),
        }
    }

    fn ended(&self, outcome: Option<&Status>) {
        if let Some(recording) = &self.recording {
            recording.ended(outcome);
        }
        self.ending.outcome(outcome);
    }
}

/// A port-forward.
pub(super) struct ForwardSession {
    live: Arc<Live>,
    ending: Ending,
}

impl ForwardSession {
    pub(super) fn new(ending: Ending) -> Self {
        Self {
            live: ending.live(),
            ending,
        }
    }
}

impl Tap for ForwardSession {
    fn opened(&self, _: StreamId, headers: &HeaderBlock) {
        if headers.get("streamtype") == Some(b"data")
            && let Some(port) = headers
                .get("port")
                .and_then(|port| str::from_utf8(port).ok())
            && let Ok(port) = port.parse()
        {
            self.ending.port(port);
        }
    }

    fn passed(&self, _: StreamId, from: Side, bytes: &[u8]) {
        match from {
            Side::Client => self.live.received(bytes.len()),
            Side::Server => self.live.sent(bytes.len()),
        }
    }

    fn ended(&self, outcome: Option<&Status>) {
        self.ending.outcome(outcome);
    }
}
