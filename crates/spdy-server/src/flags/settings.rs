//! The settings of each protocol: their names, and how their values are written.
//!
//! A name is the path of a field in `Config::spdy` (where `limits.` is left out), `Config::http2`
//! or `Config::http1`, with `-` for `_`.

use std::{fmt, time::Duration};

use spdy_server::Config;
use spdy_tower::session::Rate;

/// A setting with its new value.
#[derive(Clone)]
pub(crate) struct Setting {
    name: &'static str,
    place: Place,
    value: String,
}

impl Setting {
    /// Parses `NAME=VALUE`, and checks the value.
    pub(super) fn spdy(text: &str) -> Result<Self, String> {
        Self::parse(SPDY, text)
    }

    pub(super) fn http2(text: &str) -> Result<Self, String> {
        Self::parse(HTTP2, text)
    }

    pub(super) fn http1(text: &str) -> Result<Self, String> {
        Self::parse(HTTP1, text)
    }

    fn parse(all: Table, text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| "write NAME=VALUE".to_owned())?;
        let name = name.replace('_', "-");
        let Some((name, place)) = all.iter().find(|(known, _)| *known == name) else {
            return Err(unknown(all, &name));
        };
        let value = value.to_owned();
        let setting = Self {
            name,
            place: *place,
            value,
        };
        let mut trial = Config::default();
        match (setting.place)(&mut trial).set(&setting.value) {
            Ok(()) => Ok(setting),
            Err(reason) => Err(format!("`{name}` must be {reason}")),
        }
    }

    /// Changes the configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        let place = (self.place)(config);
        place.set(&self.value).expect("the value was checked");
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

pub(super) fn spdy_help() -> String {
    let help = help("SPDY", SPDY);
    format!(
        "{help}\n\nA time of 0 means no limit, but for timeouts.close, timeouts.linger \
         and timeouts.keep-alive-reply it means at once. For timeouts.write and timeouts.blocked \
         --write-timeout is an upper limit, and for timeouts.keep-alive --keep-alive is. A rate, \
         such as pings, is what is allowed at once and in each second."
    )
}

pub(super) fn http2_help() -> String {
    help("HTTP/2", HTTP2)
}

pub(super) fn http1_help() -> String {
    let help = help("HTTP/1.1", HTTP1);
    format!("{help}\n\nWith a header-timeout of 0 no request is served.")
}

fn help(protocol: &str, all: Table) -> String {
    let mut config = Config::default();
    let all: Vec<_> = all
        .iter()
        .map(|(name, place)| format!("{name}={}", place(&mut config).show()))
        .collect();
    format!(
        "A setting of {protocol}; can be repeated\n\nSizes are in bytes, and times in seconds. A \
         value outside of its range counts as the nearest within it. The names, with their \
         defaults: {}",
        all.join(", ")
    )
}

/// Names the setting that is meant, if one is similar.
fn unknown(all: Table, name: &str) -> String {
    let nearest = all
        .iter()
        .map(|(known, _)| (distance(known, name), known))
        .min();
    match nearest {
        Some((0..=3, known)) => format!("unknown setting `{name}`; did you mean `{known}`?"),
        _ => format!("unknown setting `{name}`; --help lists the settings"),
    }
}

/// Returns how many letters have to be added, removed or replaced to get one text from the other.
fn distance(one: &str, two: &str) -> usize {
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in two.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[two.len()]
}

/// A value that can be set by a text.
trait Value {
    /// Sets the value, or returns what the text must be.
    fn set(&mut self, text: &str) -> Result<(), &'static str>;

    fn show(&self) -> String;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn set(&mut self, text: &str) -> Result<(), &'static str> {
                *self = text.parse().map_err(|_| {
                    concat!("a whole number that fits in a ", stringify!($type))
                })?;
                Ok(())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

number!(u32, u64, usize);

impl Value for bool {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        *self = text.parse().map_err(|_| "true or false")?;
        Ok(())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Duration {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        const SECONDS: &str = "a number of seconds";
        let seconds = text.parse().map_err(|_| SECONDS)?;
        *self = Self::try_from_secs_f64(seconds).map_err(|_| SECONDS)?;
        Ok(())
    }

    fn show(&self) -> String {
        self.as_secs_f64().to_string()
    }
}

impl Value for Option<Duration> {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        let mut time = Duration::ZERO;
        time.set(text)
            .map_err(|_| "a number of seconds, or 0 for no limit")?;
        *self = (time > Duration::ZERO).then_some(time);
        Ok(())
    }

    fn show(&self) -> String {
        self.unwrap_or_default().show()
    }
}

impl Value for Rate {
    fn set(&mut self, text: &str) -> Result<(), &'static str> {
        const FORM: &str = "BURST/PER_SECOND, two whole numbers such as 1000/33";
        let (burst, per_second) = text.split_once('/').ok_or(FORM)?;
        self.burst = burst.parse().map_err(|_| FORM)?;
        self.per_second = per_second.parse().map_err(|_| FORM)?;
        Ok(())
    }

    fn show(&self) -> String {
        format!("{}/{}", self.burst, self.per_second)
    }
}

type Place = fn(&mut Config) -> &mut dyn Value;
type Table = &'static [(&'static str, Place)];

const SPDY: Table = &[
    ("max-streams", |it| &mut it.spdy.limits.max_streams),
    ("max-backlog", |it| &mut it.spdy.limits.max_backlog),
    ("stream-window", |it| &mut it.spdy.limits.stream_window),
    ("session-window", |it| &mut it.spdy.limits.session_window),
    ("max-stream-window", |it| {
        &mut it.spdy.limits.max_stream_window
    }),
    ("max-session-window", |it| {
        &mut it.spdy.limits.max_session_window
    }),
    ("stream-buffer", |it| &mut it.spdy.limits.stream_buffer),
    ("session-buffer", |it| &mut it.spdy.limits.session_buffer),
    ("stream-send-queue", |it| {
        &mut it.spdy.limits.stream_send_queue
    }),
    ("max-stream-send-queue", |it| {
        &mut it.spdy.limits.max_stream_send_queue
    }),
    ("session-send-queue", |it| {
        &mut it.spdy.limits.session_send_queue
    }),
    ("min-send-queue", |it| &mut it.spdy.limits.min_send_queue),
    ("large-send-pieces", |it| {
        &mut it.spdy.limits.large_send_pieces
    }),
    ("data-frame", |it| &mut it.spdy.limits.data_frame),
    ("min-progress", |it| &mut it.spdy.limits.min_progress),
    ("max-queued-replies", |it| {
        &mut it.spdy.limits.max_queued_replies
    }),
    ("headers.max-size", |it| {
        &mut it.spdy.limits.headers.max_size
    }),
    ("headers.max-inflated", |it| {
        &mut it.spdy.limits.headers.max_inflated
    }),
    ("headers.max-fields", |it| {
        &mut it.spdy.limits.headers.max_fields
    }),
    ("max-control-frame", |it| {
        &mut it.spdy.limits.max_control_frame
    }),
    ("held-headers", |it| &mut it.spdy.limits.held_headers),
    ("discard", |it| &mut it.spdy.limits.discard),
    ("peer-resets", |it| &mut it.spdy.limits.peer_resets),
    ("local-resets", |it| &mut it.spdy.limits.local_resets),
    ("settings", |it| &mut it.spdy.limits.settings),
    ("pings", |it| &mut it.spdy.limits.pings),
    ("empty-frames", |it| &mut it.spdy.limits.empty_frames),
    ("idle-frames", |it| &mut it.spdy.limits.idle_frames),
    ("timeouts.first-frame", |it| {
        &mut it.spdy.timeouts.first_frame
    }),
    ("timeouts.frame", |it| &mut it.spdy.timeouts.frame),
    ("timeouts.idle", |it| &mut it.spdy.timeouts.idle),
    ("timeouts.write", |it| &mut it.spdy.timeouts.write),
    ("timeouts.blocked", |it| &mut it.spdy.timeouts.blocked),
    ("timeouts.trickle", |it| &mut it.spdy.timeouts.trickle),
    ("timeouts.unread", |it| &mut it.spdy.timeouts.unread),
    ("timeouts.discard", |it| &mut it.spdy.timeouts.discard),
    ("timeouts.close", |it| &mut it.spdy.timeouts.close),
    ("timeouts.linger", |it| &mut it.spdy.timeouts.linger),
    ("timeouts.keep-alive", |it| &mut it.spdy.timeouts.keep_alive),
    ("timeouts.keep-alive-reply", |it| {
        &mut it.spdy.timeouts.keep_alive_reply
    }),
    ("timeouts.probe", |it| &mut it.spdy.timeouts.probe),
    ("strict", |it| &mut it.spdy.strict),
];

const HTTP2: Table = &[
    ("max-streams", |it| &mut it.http2.max_streams),
    ("stream-window", |it| &mut it.http2.stream_window),
    ("connection-window", |it| &mut it.http2.connection_window),
    ("max-frame", |it| &mut it.http2.max_frame),
    ("max-headers", |it| &mut it.http2.max_headers),
    ("max-pending-resets", |it| &mut it.http2.max_pending_resets),
    ("max-error-resets", |it| &mut it.http2.max_error_resets),
    ("keep-alive-reply", |it| &mut it.http2.keep_alive_reply),
];

const HTTP1: Table = &[
    ("header-timeout", |it| &mut it.http1.header_timeout),
    ("max-headers", |it| &mut it.http1.max_headers),
    ("max-fields", |it| &mut it.http1.max_fields),
    ("keep-alive", |it| &mut it.http1.keep_alive),
];

#[cfg(test)]
mod tests {
    use axum::{Router, routing::post};
    use http::Request;
    use http_body_util::BodyExt;
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use spdy_server::{ConnectionInfo, Protocol, Version, auto};
    use spdy_tower::session::{self, HeaderBlock, OpenOptions};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// Returns the names in the first column of the table below a heading of docs/limits.md.
    fn documented(heading: &str) -> Vec<String> {
        let page = include_str!("../../../../docs/limits.md");
        let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
        let table = section.lines().skip_while(|line| !line.starts_with('|'));
        table
            .take_while(|line| line.starts_with('|'))
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .map(|name| name.replace('_', "-"))
            .collect()
    }

    #[test]
    fn every_documented_limit_and_timeout_of_a_session_can_be_set() {
        let limits = documented("Limits");
        let timeouts = documented("Timeouts");
        assert!(limits.len() > 25 && timeouts.len() > 10);
        let timeouts = timeouts.iter().map(|name| format!("timeouts.{name}"));
        let documented: Vec<_> = limits.into_iter().chain(timeouts).collect();
        let mut known: Vec<_> = SPDY.iter().map(|(name, _)| *name).collect();
        known.retain(|name| *name != "strict");
        known.sort_unstable();
        let mut expected: Vec<_> = documented.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(known, expected);
    }

    /// No two names have the same place, and each value can be written as it is shown.
    #[test]
    fn each_setting_changes_one_value() {
        for (parse, all) in [
            (Setting::spdy as fn(&str) -> _, SPDY),
            (Setting::http2, HTTP2),
            (Setting::http1, HTTP1),
        ] {
            let mut seen = vec![format!("{:?}", Config::default())];
            for (name, place) in all {
                let shown = place(&mut Config::default()).show();
                let values = ["12345", "1234.5", "54321/7", "true", "false"];
                let value = values
                    .into_iter()
                    .find(|value| *value != shown && parse(&format!("{name}={value}")).is_ok());
                let mut config = Config::default();
                let setting = parse(&format!("{name}={}", value.unwrap())).unwrap();
                setting.apply(&mut config);
                assert_eq!(place(&mut config).show(), value.unwrap(), "{name}");
                let changed = format!("{config:?}");
                assert!(!seen.contains(&changed), "{name}");
                seen.push(changed);
                parse(&format!("{name}={shown}"))
                    .unwrap()
                    .apply(&mut config);
                assert_eq!(format!("{config:?}"), seen[0], "{name}");
            }
        }
    }

    /// Serves a request with a body, and returns whether it is answered. Without an answer the
    /// request has to end in a day.
    async fn is_answered(config: &Config, protocol: Protocol) -> bool {
        let (near, far) = tokio::io::duplex(65_536);
        let info = ConnectionInfo {
            protocol,
            peer: None,
            tls: None,
            is_tls_of_proxy: false,
        };
        let app = Router::new().route("/", post(|body: String| async { body }));
        let builder = auto::Builder::with_config(config);
        let connection = builder.serve_known_connection(far, info, app);
        let exchange = async {
            match protocol {
                Protocol::Spdy(version) => spdy(near, version).await,
                Protocol::Http2 => http2(near).await,
                Protocol::Http1 => http1(near).await,
            }
        };
        let day = Duration::from_secs(24 * 60 * 60);
        let both = async { tokio::join!(connection, exchange).1 };
        let answer = tokio::time::timeout(day, both).await;
        answer.expect("the connection does not end") == Some(LENGTH)
    }

    const LENGTH: usize = 10_000;

    async fn spdy(io: DuplexStream, version: Version) -> Option<usize> {
        let (session, _pushes, driver) = session::client(io, version, session::Config::default());
        let exchange = async {
            let names = match version {
                Version::V2 => ["method", "url", "version", "host", "scheme"],
                _ => [":method", ":path", ":version", ":host", ":scheme"],
            };
            let mut head = HeaderBlock::new();
            for (name, value) in names
                .into_iter()
                .zip(["POST", "/", "HTTP/1.1", "a", "http"])
            {
                head.append(name, value).unwrap();
            }
            let mut stream = session.open(head, OpenOptions::default()).await.ok()?;
            stream.write_all(&[b'a'; LENGTH]).await.ok()?;
            stream.shutdown().await.ok()?;
            stream.response_headers().await.ok()?;
            let mut body = Vec::new();
            stream.read_to_end(&mut body).await.ok()
        };
        tokio::select! {
            length = exchange => length,
            _ = driver => None,
        }
    }

    async fn http2(io: DuplexStream) -> Option<usize> {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .ok()?;
        let exchange = async {
            let request = Request::post("http://a/").body("a".repeat(LENGTH)).unwrap();
            let body = sender.send_request(request).await.ok()?.into_body();
            Some(body.collect().await.ok()?.to_bytes().len())
        };
        tokio::select! {
            length = exchange => length,
            _ = connection => None,
        }
    }

    async fn http1(mut io: DuplexStream) -> Option<usize> {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n");
        io.write_all(head.as_bytes()).await.ok()?;
        io.write_all(&[b'a'; LENGTH]).await.ok()?;
        let mut answer = Vec::new();
        io.read_to_end(&mut answer).await.ok()?;
        let ended = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        Some(answer.len() - ended - 4)
    }

    /// What is counted in requests, fields or frames cannot be 0, or hardly anything, in a
    /// connection that serves a request.
    #[tokio::test(start_paused = true)]
    async fn an_extreme_value_serves_requests_or_refuses_them_in_order() {
        const SPDY_NEEDS: [&str; 7] = [
            "max-streams",
            "max-backlog",
            "headers.max-size",
            "headers.max-inflated",
            "headers.max-fields",
            "held-headers",
            "settings",
        ];
        let values = [
            "0",
            "true",
            "false",
            "0/0",
            "0/4294967295",
            "4294967295/4294967295",
            "4294967295",
            "18446744073709551615",
            "1e19",
        ];
        let spdy = [Version::V2, Version::V3, Version::V3_1].map(Protocol::Spdy);
        let mut odd = Vec::new();
        for (parse, all, protocols) in [
            (Setting::spdy as fn(&str) -> _, SPDY, &spdy[..]),
            (Setting::http2, HTTP2, &[Protocol::Http2]),
            (Setting::http1, HTTP1, &[Protocol::Http1]),
        ] {
            for (name, _) in all {
                for value in values {
                    let setting = format!("{name}={value}");
                    let Ok(parsed) = parse(&setting) else {
                        continue;
                    };
                    let mut config = Config::default();
                    parsed.apply(&mut config);
                    for &protocol in protocols {
                        let is_too_little = match protocol {
                            Protocol::Spdy(_) => SPDY_NEEDS.contains(name),
                            Protocol::Http2 => ["max-streams", "max-headers"].contains(name),
                            Protocol::Http1 => ["header-timeout", "max-fields"].contains(name),
                        };
                        let expected = !(is_too_little && value.starts_with('0'));
                        if is_answered(&config, protocol).await != expected {
                            odd.push(format!("{protocol} {setting}"));
                        }
                    }
                }
            }
        }
        assert_eq!(odd, [""; 0]);
    }

    #[test]
    fn a_mistake_is_explained() {
        for (text, reason) in [
            (
                "max-stream=1",
                "unknown setting `max-stream`; did you mean `max-streams`?",
            ),
            (
                "idle=1",
                "unknown setting `idle`; --help lists the settings",
            ),
            ("max-streams", "write NAME=VALUE"),
            (
                "max-streams=-1",
                "`max-streams` must be a whole number that fits in a u32",
            ),
            (
                "max_streams=",
                "`max-streams` must be a whole number that fits in a u32",
            ),
            (
                "pings=7",
                "`pings` must be BURST/PER_SECOND, two whole numbers such as 1000/33",
            ),
            (
                "timeouts.idle=soon",
                "`timeouts.idle` must be a number of seconds, or 0 for no limit",
            ),
            (
                "timeouts.linger=-1",
                "`timeouts.linger` must be a number of seconds",
            ),
            (
                "timeouts.linger=inf",
                "`timeouts.linger` must be a number of seconds",
            ),
            ("strict=yes", "`strict` must be true or false"),
        ] {
            assert_eq!(Setting::spdy(text).unwrap_err(), reason, "{text}");
        }
    }
}
