//! Frames as they pass, a line each on standard error; of HTTP/2 and HTTP/1.1 the heads.

use std::{
    fmt,
    io::{self, Write},
    time::Instant,
};

use http::{HeaderMap, Request, Response};
use spdy_tower::Protocol;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    trace,
};
use tracing_subscriber::{
    Layer, filter::Targets, layer::Context, layer::SubscriberExt, registry::Registry,
};

/// Shows every frame from now on, with the seconds since now. `>` is sent, `<` is received.
pub(crate) fn show() {
    let lines = Lines {
        start: Instant::now(),
    };
    let wire = Targets::new()
        .with_target(TARGET, Level::TRACE)
        .with_target(CLIENT, Level::DEBUG);
    let subscriber = Registry::default().with(lines.with_filter(wire));
    // It is called once. Were there another subscriber, its lines would do.
    _ = tracing::subscriber::set_global_default(subscriber);
}

/// Says something about a connection, among the frames.
pub(crate) fn note(text: fmt::Arguments<'_>) {
    _ = writeln!(io::stderr(), "         * {text}");
}

/// Shows the head of a request that goes by another protocol than SPDY. Its host is in the URI.
pub(crate) fn sent<B>(protocol: Protocol, request: &Request<B>) {
    let fields = Fields(request.headers());
    let token = protocol.token();
    trace!(target: TARGET, "> {token} {} {}{fields}", request.method(), request.uri());
}

/// Shows the head of its response.
pub(crate) fn received<B>(protocol: Protocol, response: &Response<B>) {
    let fields = Fields(response.headers());
    let token = protocol.token();
    trace!(target: TARGET, "< {token} {}{fields}", response.status());
}

/// A line for each field.
struct Fields<'a>(&'a HeaderMap);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| {
            write!(
                f,
                "\n             {name}: {}",
                value.as_bytes().escape_ascii()
            )
        })
    }
}

/// That of the lines about frames, which spdy-session writes.
const TARGET: &str = "spdy::wire";

/// That of what spdy-tower's client says about its connections.
const CLIENT: &str = "spdy_tower::client";

struct Lines {
    start: Instant,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let seconds = self.start.elapsed().as_secs_f64();
        let mut said = Said::default();
        event.record(&mut said);
        let Said { message, fields } = said;
        if event.metadata().target() != TARGET {
            return note(format_args!("{message}{fields}"));
        }
        let frame = message.strip_prefix("client ").unwrap_or(&message);
        _ = writeln!(io::stderr(), "{seconds:>8.4} {frame}");
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Visit for Said {
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
