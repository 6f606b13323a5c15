//! `POST /hold` and `GET /release`: an upload whose reader waits for a word from outside.
//!
//! A client sees its windows run empty, and sees them move again, at moments of its own choosing.

use axum::{body::Body, extract::State, response::Response};
use tokio::sync::watch;

use super::{Shared, tools};

/// Reads the body only after the next release, then answers with its length.
pub(super) async fn hold(State(site): Shared, body: Body) -> Response {
    site.gate.wait().await;
    tools::sink(body).await
}

/// Releases all requests held now. Answers with their number, so that a client which came too early can ask again.
pub(super) async fn release(State(site): Shared) -> String {
    format!("{}\n", site.gate.release())
}

/// Holds whoever waits until somebody releases all of them.
#[derive(Debug, Default)]
pub(super) struct Gate(watch::Sender<()>);

impl Gate {
    async fn wait(&self) {
        // The sender lives as long as `self`, so the wait ends with a release.
        let _ = self.0.subscribe().changed().await;
    }

    fn release(&self) -> usize {
        let waiting = self.0.receiver_count();
        self.0.send_replace(());
        waiting
    }
}
