//! The options of `load`.

use std::{
    num::{NonZeroU8, NonZeroU16, NonZeroU32},
    time::Duration,
};

use clap::Args;
use http::{HeaderName, HeaderValue, Method};

use super::{EXIT_STATUS, Reach, values};
use crate::origin::Url;

/// Sends many requests and reports the rate and the latency of the responses
///
/// Latency is the time from sending a request to the last byte of its response. It includes the
/// time that the request waits for a free stream; with --rate it begins when the request was due.
/// Bytes on the wire are those of TCP, which include TLS and framing. A connection that ends is
/// opened again: for up to --connect-timeout, if the server refuses. Ctrl-C ends the requests, and
/// the report is about those that are complete. No proxy is used, also none of the environment.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
pub(crate) struct Load {
    /// URLs to request, one after the other, all of one origin
    #[arg(value_name = "URL", required = true, value_parser = Url::parse)]
    pub(crate) urls: Vec<Url>,

    /// Number of sessions, each on its own connection
    ///
    /// Over HTTP/1.1 each concurrent request has a connection of its own, up to 256 for each
    /// session. Further requests wait.
    #[arg(short = 'c', long, value_name = "NUMBER", default_value = "1",
          value_parser = values::positive::<NonZeroU16>)]
    pub(crate) sessions: NonZeroU16,

    /// Number of concurrent requests in each session
    #[arg(short = 'm', long, value_name = "NUMBER", default_value = "1",
          value_parser = values::positive::<NonZeroU16>)]
    pub(crate) streams: NonZeroU16,

    /// Total number of requests
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "1000",
          value_parser = values::positive::<NonZeroU32>)]
    pub(crate) requests: NonZeroU32,

    /// Send requests for this time, for example 10, 1.5s or 2m, instead of a number of them
    ///
    /// Requests that have no response then are unfinished, and not failures.
    #[arg(short = 'D', long, value_name = "TIME", value_parser = values::time,
          conflicts_with = "requests")]
    pub(crate) duration: Option<Duration>,

    /// Time for each request, for example 10, 1.5s or 2m; one that takes longer is a failure
    #[arg(long, value_name = "TIME", default_value = "30", value_parser = values::time)]
    pub(crate) timeout: Duration,

    /// Number of requests that are sent per second, over all sessions
    ///
    /// By default each request follows the response before it.
    #[arg(long, value_name = "NUMBER", value_parser = values::positive::<NonZeroU32>)]
    pub(crate) rate: Option<NonZeroU32>,

    /// Number of requests, or the time with a unit such as 2s, before the measurement, over the
    /// same sessions
    #[arg(long, value_name = "NUMBER|TIME", value_parser = values::warm_up)]
    pub(crate) warm_up: Option<WarmUp>,

    /// Use this request method
    #[arg(short = 'X', long = "request", value_name = "METHOD", value_parser = values::method)]
    pub(crate) method: Option<Method>,

    /// Send a POST with a body of this many bytes
    #[arg(long, value_name = "BYTES", value_parser = values::length)]
    pub(crate) body: Option<u32>,

    /// Send a POST with this text, or with the contents of FILE (@- is standard input)
    #[arg(short, long, value_name = "DATA|@FILE", conflicts_with = "body")]
    pub(crate) data: Option<String>,

    /// Add a header field, for example "accept: text/html"; can be repeated
    ///
    /// NAME: takes away a field that is usual, and NAME; is a field without a value.
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = values::header)]
    pub(crate) headers: Vec<(HeaderName, Option<HeaderValue>)>,

    /// Number of threads of this program
    #[arg(long, value_name = "NUMBER", default_value = "1",
          value_parser = values::positive::<NonZeroU8>)]
    pub(crate) threads: NonZeroU8,

    /// Use HTTP/2, for comparison
    #[arg(long, visible_alias = "http2", conflicts_with_all = ["version", "upgrade", "http1"])]
    pub(crate) h2: bool,

    /// Use HTTP/1.1, for comparison
    #[arg(long, visible_alias = "h1", conflicts_with_all = ["version", "upgrade"])]
    pub(crate) http1: bool,

    /// Write the report as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// How long the requests before a measurement last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WarmUp {
    Requests(u32),
    Time(Duration),
}
