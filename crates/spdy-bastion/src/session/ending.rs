//! The end of a session: its outcome, its recording, and its audit line.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use spdy_kube::Status;
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};

use crate::{
    audit::{Audit, shortened},
    gateway::Gateway,
    live::{Live, Place},
    metrics::{Metrics, Open},
    recording::Written,
    target::Verb,
};

/// A session that has begun. Dropping this ends it: when the recording is written, the audit line
/// is written too, and the session is no longer live. So a shutdown that waits for sessions waits
/// for their audit lines.
pub(super) struct Ending(Option<State>);

struct State {
    place: Place,
    audit: Audit,
    metrics: Metrics,
    open: Open,
    kept: Option<Kept>,
    /// Whether the audit line of the start was written.
    has_started: bool,
    outcome: Outcome,
    ports: Mutex<BTreeSet<u16>>,
    runtime: Handle,
}

/// The recording of a session.
pub(super) struct Kept {
    name: String,
    written: oneshot::Receiver<Written>,
    writing: Option<JoinHandle<io::Result<()>>>,
}

impl Kept {
    pub(super) const fn new(name: String, written: oneshot::Receiver<Written>) -> Self {
        Self {
            name,
            written,
            writing: None,
        }
    }

    /// Waits until the recording is written, or has failed.
    async fn complete(self) -> Result<Written, String> {
        match self.writing {
            Some(writing) => match writing.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(error) => return Err(error.to_string()),
            },
            None => return Err("session has not started".to_owned()),
        }
        self.written
            .await
            .map_err(|_| "recording was not closed".to_owned())
    }
}

impl Ending {
    pub(super) fn new(gateway: &Gateway, place: Place, verb: Verb) -> Self {
        Self(Some(State {
            place,
            audit: gateway.audit.clone(),
            metrics: gateway.metrics.clone(),
            open: gateway.metrics.session(verb),
            kept: None,
            has_started: false,
            outcome: Outcome::default(),
            ports: Mutex::default(),
            runtime: Handle::current(),
        }))
    }

    pub(super) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.state().place.live)
    }

    /// Sets the recording.
    pub(super) fn keep(&mut self, kept: Kept) {
        self.state_mut().kept = Some(kept);
    }

    /// Sets the task that writes the recording.
    pub(super) fn written(&mut self, writing: JoinHandle<io::Result<()>>) {
        if let Some(kept) = &mut self.state_mut().kept {
            kept.writing = Some(writing);
        }
    }

    /// Writes the audit line of the start.
    pub(super) async fn start(&mut self) -> io::Result<()> {
        let state = self.state_mut();
        let live = &state.place.live;
        let mut line = live.about.clone();
        line.insert("session".into(), live.id.as_str().into());
        if let Some(kept) = &state.kept {
            line.insert("recording".into(), kept.name.as_str().into());
        }
        state.audit.write("start", line).await?;
        state.has_started = true;
        Ok(())
    }

    /// Returns where the outcome is noted that the client gets.
    pub(super) fn outcome(&self) -> Outcome {
        self.state().outcome.clone()
    }

    /// Notes a port to which a connection was forwarded.
    pub(super) fn port(&self, port: u16) {
        let mut ports = self
            .state()
            .ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        note(&mut ports, port);
    }

    fn state(&self) -> &State {
        self.0
            .as_ref()
            .expect("the state is taken when this is dropped")
    }

    fn state_mut(&mut self) -> &mut State {
        self.0
            .as_mut()
            .expect("the state is taken when this is dropped")
    }
}

/// The outcome that the client gets.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome(Arc<Mutex<Option<Status>>>);

impl Outcome {
    /// Notes an outcome. `None` changes nothing.
    pub(super) fn note(&self, outcome: Option<&Status>) {
        if let Some(outcome) = outcome {
            *self.lock() = Some(outcome.clone());
        }
    }

    fn take(&self) -> Option<Status> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Status>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            let runtime = state.runtime.clone();
            runtime.spawn(state.end());
        }
    }
}

impl State {
    async fn end(mut self) {
        let kept = self.kept.take();
        let name = kept.as_ref().map(|kept| kept.name.clone());
        let recording = match kept {
            Some(kept) => Some(kept.complete().await),
            None => None,
        };
        let live = &self.place.live;
        self.metrics.moved(live.bytes_received(), live.bytes_sent());
        if let (true, Some(Err(error))) = (self.has_started, &recording) {
            tracing::error!(error, session = live.id, "recording is not complete");
            self.metrics.recording_failed();
        }
        if self.has_started {
            let line = self.line(name, recording);
            self.audit.note("end", line).await;
        }
        drop(self.open);
    }

    fn line(
        &self,
        name: Option<String>,
        recording: Option<Result<Written, String>>,
    ) -> crate::audit::Line {
        let live = &self.place.live;
        let mut line = live.about.clone();
        line.insert("session".into(), live.id.as_str().into());
        line.insert("seconds".into(), live.elapsed().as_secs_f64().into());
        line.insert("bytes_in".into(), live.bytes_received().into());
        line.insert("bytes_out".into(), live.bytes_sent().into());
        match &self.outcome.take() {
            Some(Status::Success) => _ = line.insert("outcome".into(), "success".into()),
            Some(Status::Exit(exit)) => {
                line.insert("outcome".into(), "exit".into());
                line.insert("exit_code".into(), exit.get().into());
            }
            Some(failure) => {
                line.insert("outcome".into(), "failure".into());
                line.insert("message".into(), shortened(&failure.to_string()).into());
            }
            // A port-forward has none.
            None => _ = line.insert("outcome".into(), "none".into()),
        }
        if let Some(why) = live.ended_with() {
            line.insert("ended_by_bastion".into(), shortened(&why).into());
        }
        let ports = std::mem::take(&mut *self.ports.lock().unwrap_or_else(PoisonError::into_inner));
        if !ports.is_empty() {
            line.insert("ports".into(), ports.into_iter().collect());
        }
        if let Some(name) = name {
            line.insert("recording".into(), name.into());
        }
        match recording {
            Some(Ok(Written { length, sha256 })) => {
                line.insert("recording_bytes".into(), length.into());
                line.insert("recording_sha256".into(), sha256.into());
            }
            Some(Err(why)) => _ = line.insert("recording_failed".into(), why.into()),
            None => {}
        }
        line
    }
}

fn note(ports: &mut BTreeSet<u16>, port: u16) {
    if ports.len() < MOST_PORTS {
        ports.insert(port);
    }
}

/// How many ports the audit line of a port-forward names.
const MOST_PORTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_a_line_are_bounded() {
        let mut ports = BTreeSet::new();
        (1..=1000).for_each(|port| note(&mut ports, port));
        assert_eq!(ports.len(), MOST_PORTS);
    }
}
