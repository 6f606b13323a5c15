//! Shows each frame that is sent or received as a line on standard error. For HTTP/2 and HTTP/1.1
//! it shows the heads of requests and responses.

use std::{
    fmt,
    io::{self, Write},
    time::Instant,
};

use http::{
    HeaderMap, Request, Response,
    header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE},
};
use spdy_tower::Protocol;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    trace,
};
use tracing_subscriber::{
    Layer, filter::Targets, layer::Context, layer::SubscriberExt, registry::Registry,
};

use crate::failure::shown;

/// Shows every frame from now on, with the seconds since this call. `>` marks sent frames, and `<`
/// received ones.
pub(crate) fn show() {
    let lines = Lines {
        start: Instant::now(),
    };
    let wire = Targets::new()
        .with_target(TARGET, Level::TRACE)
        .with_target(CLIENT, Level::DEBUG);
    let subscriber = Registry::default().with(lines.with_filter(wire));
    // This function is called once, so setting the subscriber does not fail.
    _ = tracing::subscriber::set_global_default(subscriber);
}

/// Writes a note about a connection between the frames.
pub(crate) fn note(text: fmt::Arguments<'_>) {
    _ = writeln!(io::stderr(), "         * {}", shown(&text.to_string()));
}

/// Shows the head of a request that uses another protocol than SPDY. The URI contains the host.
pub(crate) fn sent<B>(protocol: Protocol, request: &Request<B>) {
    let fields = Fields(request.headers());
    let token = protocol.token();
    trace!(target: TARGET, "> {token} {} {}{fields}", request.method(), request.uri());
}

/// Shows the head of a response that uses another protocol than SPDY.
pub(crate) fn received<B>(protocol: Protocol, response: &Response<B>) {
    let fields = Fields(response.headers());
    let token = protocol.token();
    trace!(target: TARGET, "< {token} {}{fields}", response.status());
}

/// Formats header fields, one on each line. Those of which SPDY shows no values have none here.
struct Fields<'a>(&'a HeaderMap);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE];
        self.0.iter().try_for_each(|(name, value)| {
            write!(f, "\n             {name}: ")?;
            if value.is_sensitive() || secret.contains(name) {
                f.write_str("<sensitive>")
            } else {
                write!(f, "{}", value.as_bytes().escape_ascii())
            }
        })
    }
}

/// The target of the events that spdy-session records for each frame.
const TARGET: &str = "spdy::wire";

/// The target of the events that spdy-tower's client records for its connections.
const CLIENT: &str = "spdy_tower::client";

/// Writes each event as a line.
struct Lines {
    start: Instant,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let seconds = self.start.elapsed().as_secs_f64();
        let mut text = Text::default();
        event.record(&mut text);
        let Text { message, fields } = text;
        if event.metadata().target() != TARGET {
            return note(format_args!("{message}{fields}"));
        }
        let frame = message.strip_prefix("client ").unwrap_or(&message);
        _ = writeln!(io::stderr(), "{seconds:>8.4} {}", shown(frame));
    }
}

/// The text of an event: its message, and its other fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push_str(&format!(" {field}={value}"));
    }
}
