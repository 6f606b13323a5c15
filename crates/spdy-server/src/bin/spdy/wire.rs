//! Frames as they pass, a line each on standard error.

use std::{
    fmt,
    io::{self, Write},
    time::Instant,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer, filter::Targets, layer::Context, layer::SubscriberExt, registry::Registry,
};

/// Shows every frame from now on, with the seconds since now. `>` is sent, `<` is received.
pub(crate) fn show() {
    let lines = Lines {
        start: Instant::now(),
    };
    let wire = Targets::new().with_target("spdy::wire", Level::TRACE);
    let subscriber = Registry::default().with(lines.with_filter(wire));
    // It is called once. Were there another subscriber, its lines would do.
    _ = tracing::subscriber::set_global_default(subscriber);
}

/// Says something about a connection, among the frames.
pub(crate) fn note(text: fmt::Arguments<'_>) {
    _ = writeln!(io::stderr(), "         * {text}");
}

struct Lines {
    start: Instant,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let seconds = self.start.elapsed().as_secs_f64();
        let mut message = Message(String::new());
        event.record(&mut message);
        let frame = message.0.strip_prefix("client ").unwrap_or(&message.0);
        _ = writeln!(io::stderr(), "{seconds:>8.4} {frame}");
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
