//! What the relay reports about a session, and what it asks.

use std::{sync::Arc, time::Duration};

use spdy_kube::{Asciicast, BoxError, CommandTap, Passing, Recording, Status, Tap};
use spdy_session::{HeaderBlock, Side, StreamId};
use tokio::{sync::oneshot, task::JoinSet};

use super::{Terms, ending::Ending};
use crate::{live::Live, recording::RecordingFile};

/// An exec or an attach.
pub(super) struct CommandSession {
    // The first field is dropped first. The end of the session waits for the recording.
    recording: Option<Recording>,
    live: Arc<Live>,
    time_limit: Option<Duration>,
    ending: Ending,
}

impl CommandSession {
    /// Begins to record into the file, if there is one.
    pub(super) fn new(
        cast: Asciicast,
        file: Option<RecordingFile>,
        terms: Terms,
        mut ending: Ending,
    ) -> Self {
        let recording = file.map(|file| {
            let (recording, written) = cast.record(file);
            ending.written(written);
            recording
        });
        Self {
            recording,
            live: ending.live(),
            time_limit: terms.time_limit,
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

    fn settled(&self) -> impl Future<Output = Result<(), BoxError>> + Send {
        let settled = self.recording.as_ref().map(Recording::settled);
        async move {
            match settled {
                Some(settled) => settled.await,
                None => Ok(()),
            }
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
        self.ending.outcome().note(outcome);
    }
}

/// A port-forward.
pub(super) struct ForwardSession {
    live: Arc<Live>,
    ending: Ending,
    /// Waits until the session has to end. Dropping it ends the task.
    _over: JoinSet<()>,
}

impl ForwardSession {
    /// The connection of the client is cut when the session has to end: its protocol has no place
    /// for a message, and a client that does not read would delay an orderly end for ever. A client
    /// that has no answer gets a refusal instead, so this begins when it is `answered`.
    pub(super) fn new(
        time_limit: Option<Duration>,
        ending: Ending,
        answered: oneshot::Receiver<()>,
    ) -> Self {
        let live = ending.live();
        let mut over = JoinSet::new();
        over.spawn({
            let live = Arc::clone(&live);
            async move {
                if answered.await.is_ok() {
                    live.over(time_limit).await;
                    live.cut();
                }
            }
        });
        Self {
            live,
            ending,
            _over: over,
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
        self.ending.outcome().note(outcome);
    }
}
