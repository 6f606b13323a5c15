//! The flags of the two logs: that of the program, and that of the requests.

use std::{error::Error, fmt};

use clap::{Args, ValueEnum};
use spdy_server::{AccessLog, AccessLogFormat, Config, RequestIds};
use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, ParseError},
};

use super::LOGS;

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// What to log to standard error
    ///
    /// off, error, warn, info, debug or trace, or a list with a level for each module, such as
    /// warn,spdy_server=debug. By default all warnings, and of the server itself also what it does:
    /// its limits at start, a new certificate, the shutdown.
    #[arg(long, value_name = "FILTER", default_value = "spdy_server=info", value_parser = log_filter, help_heading = LOGS)]
    log: String,

    /// The form of both logs
    ///
    /// text: lines for people, and the combined format for requests. json: an object on each line,
    /// with the names of OpenTelemetry for requests. What is printed at start stays text.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", help_heading = LOGS)]
    log_format: LogFormat,

    /// Write a line for each request to this file (- is standard output)
    ///
    /// The line is the combined format, followed by the protocol, the stream, the duration in
    /// seconds, the bytes of the request body, a mark, and the id of the request if it has one. The
    /// mark is cut if the response was incomplete, request-cut if the body of the request broke off
    /// and was answered nevertheless, refused if the request was malformed, and - otherwise. Status
    /// 499 means that the client left before the response. The server reopens the file on SIGHUP. A
    /// malformed request over HTTP/2 has its stream alone, and 400 stands for the reset that it
    /// got; if its fields were too many and it had no body, it has no line. If a body over HTTP/2
    /// contradicts its content-length, that line comes in addition to the one of the request.
    #[arg(long, value_name = "FILE", value_parser = access_log, help_heading = LOGS)]
    access_log: Option<AccessLog>,

    /// Whether each request has an id, and whether one of the client is kept
    ///
    /// The id is in both logs, in the field x-request-id of the response, and in that of the
    /// request to the application. make: a new one, which replaces that of the client. trust: that
    /// of the client, if it has 1 to 128 letters, digits or -._~+/=:@, and otherwise a new one. Use
    /// trust only behind a proxy that sets the field.
    #[arg(long, value_name = "WHICH", value_enum, default_value = "off", help_heading = LOGS)]
    request_id: RequestIdFlag,
}

/// The form of both logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// The values of `RequestIds`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RequestIdFlag {
    Off,
    Make,
    Trust,
}

impl Logs {
    /// Returns the log filter. Warnings are logged unless the list itself sets a level for
    /// everything.
    pub(super) fn filter(&self) -> EnvFilter {
        EnvFilter::new(format!("warn,{}", self.log))
    }

    pub(super) const fn format(&self) -> LogFormat {
        self.log_format
    }

    /// Sets what the flags say.
    pub(super) fn apply(self, config: &mut Config) {
        config.access_log = self.access_log;
        config.access_log_format = match self.log_format {
            LogFormat::Text => AccessLogFormat::Combined,
            LogFormat::Json => AccessLogFormat::Json,
        };
        config.request_ids = match self.request_id {
            RequestIdFlag::Off => RequestIds::Off,
            RequestIdFlag::Make => RequestIds::Make,
            RequestIdFlag::Trust => RequestIds::Trust,
        };
    }
}

/// Accepts a text that is a valid log filter.
///
/// The argument stays a text because an `EnvFilter` cannot be cloned. tracing reads a single word
/// as a level if there is one of that name, and otherwise as a module to be logged in full. So a
/// misspelt level would turn off everything else. It is refused here.
fn log_filter(text: &str) -> Result<String, BadFilter> {
    for directive in text.split(',').map(str::trim) {
        let is_word = !directive.contains(['=', '[']);
        if is_word && directive.parse::<LevelFilter>().is_err() {
            return Err(BadFilter::NoLevel(directive.to_owned()));
        }
    }
    let filter = EnvFilter::try_new(text).map_err(BadFilter::Refused);
    filter.map(|_| text.to_owned())
}

/// The reason why a text is not a valid log filter.
#[derive(Debug)]
enum BadFilter {
    NoLevel(String),
    Refused(ParseError),
}

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLevel(word) => write!(
                f,
                "`{word}` is not a log level (off, error, warn, info, debug or trace); for a module write {word}=LEVEL"
            ),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl Error for BadFilter {}

fn access_log(text: &str) -> Result<AccessLog, &'static str> {
    match text {
        "" => Err("missing file name"),
        "-" => Ok(AccessLog::Stdout),
        path => Ok(AccessLog::File(path.into())),
    }
}
