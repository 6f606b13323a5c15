//! What `HeaderBlock` masks is in no line of the log.
//!
//! The test has a process of its own: tracing can lose the lines of a place in the code that
//! another thread reaches for the first time while the subscriber is set.

#[path = "secrets/requests.rs"]
mod requests;
#[path = "secrets/search.rs"]
mod search;

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
};

use spdy_session::{Config, Version};
use tower::service_fn;

use self::{
    requests::{ask, respond},
    search::search,
};

/// Keeps all that is logged, at every level and for every target.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::field::Visit for Log {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        writeln!(self.0.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut self.clone());
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut self.clone());
    }

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn the_log_has_no_secret() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    for version in Version::ALL {
        let (ours, theirs) = tokio::io::duplex(1000);
        let builder = spdy_tower::Builder::new();
        tokio::spawn(builder.serve_connection(theirs, version, service_fn(respond)));
        let (client, _, driver) = spdy_tower::client::handshake(ours, version, Config::default());
        tokio::spawn(driver);
        for _ in 0..3 {
            ask(&client).await;
        }
    }
    let text = log.0.lock().unwrap();
    assert!(
        text.contains("SYN_STREAM") && text.contains("DATA"),
        "{text}"
    );
    search("the log", &text);
}
