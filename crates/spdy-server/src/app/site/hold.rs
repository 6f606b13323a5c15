//! `POST /hold` and `GET /release`: an upload that is not read until another request releases it.
//!
//! With it a client can watch its windows run empty and open again at times of its choosing.

use axum::{body::Body, extract::State, response::Response};
use tokio::sync::watch;

use super::{Shared, tools};

/// Reads the body after the next release, and returns its length.
pub(super) async fn hold(State(site): Shared, body: Body) -> Response {
    site.gate.wait().await;
    tools::sink(body).await
}

/// Releases all requests that are held now. Returns their number, so that a client that came too
/// early can ask again.
pub(super) async fn release(State(site): Shared) -> String {
    format!("{}\n", site.gate.release())
}

/// Holds requests until the next release.
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
