//! The settings of each protocol.

use std::time::Duration;

use spdy_frame::HeaderCompression;
use spdy_tower::session::{self, FlowControl, Limits, Trailers};

/// The settings of SPDY, in all its versions.
///
/// ```
/// use spdy_server::{Config, Spdy};
///
/// let mut spdy = Spdy::default();
/// spdy.limits.max_streams = 200;
/// spdy.limits.stream_window = 65_536;
/// let config = Config { spdy, ..Config::default() };
/// ```
#[derive(Clone, Debug)]
pub struct Spdy {
    /// The limits of a session.
    pub limits: Limits,
    /// The timeouts of a session. Of `write` and [`Timeouts::write`], of `blocked` and
    /// [`Timeouts::write`], and of `keep_alive` and [`Timeouts::keep_alive`] the shorter applies.
    /// These three are `None` by default.
    ///
    /// [`Timeouts::write`]: crate::Timeouts::write
    /// [`Timeouts::keep_alive`]: crate::Timeouts::keep_alive
    pub timeouts: session::Timeouts,
    /// How header blocks are compressed.
    pub header_compression: HeaderCompression,
    /// How trailers finish a stream.
    pub trailers: Trailers,
    /// Whether windows are in force. (They are by default.)
    pub flow_control: FlowControl,
    /// Whether frames are judged strictly: see [`session::Config::strict`]. (Off by default.)
    pub strict: bool,
}

impl Default for Spdy {
    fn default() -> Self {
        let session::Config {
            limits,
            mut timeouts,
            header_compression,
            trailers,
            flow_control,
            strict,
            ..
        } = session::Config::default();
        timeouts.write = None;
        timeouts.blocked = None;
        timeouts.keep_alive = None;
        Self {
            limits,
            timeouts,
            header_compression,
            trailers,
            flow_control,
            strict,
        }
    }
}

impl Spdy {
    /// Returns the configuration of a session, with the timeouts that hold in all protocols.
    pub(crate) fn session(&self, common: super::Timeouts) -> session::Config {
        let mut config = session::Config::default();
        config.limits = self.limits.clone();
        config.timeouts = self.timeouts.clone();
        config.header_compression = self.header_compression;
        config.trailers = self.trailers;
        config.flow_control = self.flow_control;
        config.strict = self.strict;
        let timeouts = &mut config.timeouts;
        timeouts.write = shorter(timeouts.write, Some(common.write));
        timeouts.blocked = shorter(timeouts.blocked, Some(common.write));
        timeouts.keep_alive = shorter(timeouts.keep_alive, common.keep_alive);
        config
    }
}

/// The settings of HTTP/2. A value outside of the range that its field documents counts as the
/// nearest value within the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// The maximum number of requests that are open at once. (200 by default.)
    pub max_streams: u32,
    /// How many bytes of a request's body a client can send before the application reads them: 1
    /// to 2,147,483,647. (1 MiB by default.)
    pub stream_window: u32,
    /// The same for all bodies of a connection together: 65,535 to 2,147,483,647. (1 MiB by
    /// default.)
    pub connection_window: u32,
    /// The largest frame that a client can send, in bytes: 16,384 to 16,777,215. (16,384 by
    /// default.)
    pub max_frame: u32,
    /// The maximum size of the header fields of a request, in bytes, with 32 for each field. Longer
    /// ones are answered with 431. (128 KiB by default.)
    pub max_headers: u32,
    /// The maximum number of requests that a client has reset and that the server has not yet
    /// looked at. More end the connection. (20 by default.)
    pub max_pending_resets: usize,
    /// The maximum number of requests that the server resets because of errors of the client. More
    /// end the connection. (1,024 by default.)
    pub max_error_resets: usize,
    /// How long a client has to reply to a PING of [`Timeouts::keep_alive`]. (20 s by default.)
    ///
    /// [`Timeouts::keep_alive`]: crate::Timeouts::keep_alive
    pub keep_alive_reply: Duration,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            max_streams: 200,
            stream_window: 1024 * 1024,
            connection_window: 1024 * 1024,
            max_frame: MIN_FRAME,
            max_headers: 128 * 1024,
            max_pending_resets: 20,
            max_error_resets: 1024,
            keep_alive_reply: Duration::from_secs(20),
        }
    }
}

impl Http2 {
    pub(crate) fn in_range(self) -> Self {
        Self {
            stream_window: self.stream_window.clamp(1, MAX_WINDOW),
            connection_window: self.connection_window.clamp(MIN_WINDOW, MAX_WINDOW),
            max_frame: self.max_frame.clamp(MIN_FRAME, MAX_FRAME),
            keep_alive_reply: super::countable(self.keep_alive_reply),
            ..self
        }
    }
}

/// The settings of HTTP/1.1. A value outside of the range that its field documents counts as the
/// nearest value within the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http1 {
    /// How long a client can take to send the head of a request. Also how long it can rest between
    /// two requests. With zero no request is served. (30 s by default.)
    pub header_timeout: Duration,
    /// The maximum size of the head of a request, in bytes: at least 8,192. Longer heads are
    /// answered with 414 or 431. (128 KiB by default.)
    pub max_headers: usize,
    /// The maximum number of header fields of a request, up to 65,536. More are answered with 431.
    /// A number other than 100 costs an allocation for each request. (100 by default.)
    pub max_fields: usize,
    /// Whether a connection serves more than one request. (On by default.)
    pub keep_alive: bool,
}

impl Default for Http1 {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(30),
            max_headers: 128 * 1024,
            max_fields: Self::FIELDS_OF_HYPER,
            keep_alive: true,
        }
    }
}

impl Http1 {
    /// The number of header fields for which hyper allocates nothing.
    pub(crate) const FIELDS_OF_HYPER: usize = 100;

    pub(crate) fn in_range(self) -> Self {
        Self {
            header_timeout: super::countable(self.header_timeout),
            max_headers: self.max_headers.max(MIN_HEADERS),
            max_fields: self.max_fields.min(MOST_FIELDS),
            ..self
        }
    }
}

fn shorter(one: Option<Duration>, two: Option<Duration>) -> Option<Duration> {
    [one, two].into_iter().flatten().min()
}

/// The bounds of RFC 9113: the initial window of a connection, the largest window, and the sizes of
/// frames.
const MIN_WINDOW: u32 = 65_535;
const MAX_WINDOW: u32 = (1 << 31) - 1;
const MIN_FRAME: u32 = 16_384;
const MAX_FRAME: u32 = (1 << 24) - 1;

/// The least that hyper allows.
const MIN_HEADERS: usize = 8192;

/// hyper makes room for that many fields before it reads a request.
const MOST_FIELDS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timeouts;

    #[test]
    fn of_two_timeouts_the_shorter_applies() {
        let second = Duration::from_secs;
        let common = Timeouts::default();
        let session = Spdy::default().session(common);
        let default = session::Config::default();
        assert_eq!(
            format!("{:?}", session.limits),
            format!("{:?}", default.limits)
        );
        assert_eq!(session.timeouts.write, Some(common.write));
        assert_eq!(session.timeouts.blocked, Some(common.write));
        assert_eq!(session.timeouts.keep_alive, common.keep_alive);

        let mut spdy = Spdy::default();
        spdy.timeouts.write = Some(second(1000));
        spdy.timeouts.blocked = Some(second(2));
        spdy.timeouts.keep_alive = Some(second(3));
        let session = spdy.session(common);
        assert_eq!(session.timeouts.write, Some(common.write));
        assert_eq!(session.timeouts.blocked, Some(second(2)));
        assert_eq!(session.timeouts.keep_alive, Some(second(3)));
        let never = Timeouts {
            keep_alive: None,
            ..common
        };
        assert_eq!(spdy.session(never).timeouts.keep_alive, Some(second(3)));
        assert_eq!(Spdy::default().session(never).timeouts.keep_alive, None);
    }
}
