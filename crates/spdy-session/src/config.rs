//! Everything about a session that can be set: bounds, times, and how flow control is done.

use std::{sync::Arc, time::Duration};

use spdy_frame::{DEFAULT_WINDOW, HeaderCompression, HeaderLimits, Version};

use crate::Counters;
#[cfg(feature = "tokio")]
use crate::MemoryUse;

/// How a session behaves. The default suits a server or client of HTTP on the open network.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// Bounds on sizes and counts.
    pub limits: Limits,
    /// Bounds on time.
    pub timeouts: Timeouts,
    /// Whether windows are obeyed and enforced.
    pub flow_control: FlowControl,
    /// How header blocks are compressed.
    pub header_compression: HeaderCompression,
    /// What becomes of a stream whose opening header block exceeds a soft limit of [`HeaderLimits`].
    pub oversized_headers: OversizedHeaders,
    /// How a stream is finished by trailers.
    pub trailers: Trailers,
    /// Whether a client accepts server-initiated streams. Default false: each is reset with REFUSED_STREAM.
    pub accept_push: bool,
    /// Whether frames are judged strictly: what [`spdy_frame::DecodeLimits::strict`] names ends the session,
    /// and what [`spdy_frame::HeaderLimits::strict`] names costs its stream. The limits' own `strict` does the latter alone.
    pub strict: bool,
    /// Where the session adds up what it does, for metrics. Any number of sessions may share it. Default none.
    pub counters: Option<Arc<Counters>>,
    /// Where the session counts what it holds. Any number of sessions may share it. Default none.
    #[cfg(feature = "tokio")]
    pub memory: Option<Arc<MemoryUse>>,
}

/// Whether flow control windows are in force (protocol.md §13, §3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowControl {
    /// As the version says.
    #[default]
    Enforce,
    /// For peers that know no windows whatever they negotiated (Kubernetes, moby/spdystream): sends are not
    /// held back, excess is no error, WINDOW_UPDATE and SETTINGS are neither sent nor heeded. Back-pressure is
    /// to stop reading the transport, so an unread stream holds up its neighbours.
    Off,
}

/// The answer to a SYN_STREAM whose header block is sound but larger than a soft limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OversizedHeaders {
    /// RST_STREAM: FRAME_TOO_LARGE, or PROTOCOL_ERROR in SPDY/2.
    #[default]
    Reset,
    /// The stream is handed to the application with the fields that fitted, and
    /// [`HeaderBlock::is_truncated`](spdy_frame::HeaderBlock::is_truncated) is true. An HTTP server answers 431.
    Deliver,
}

/// How the last header block of a stream is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trailers {
    /// HEADERS, then an empty DATA frame with FIN. Every peer we know reads it; node-spdy 4 ignores FIN on
    /// HEADERS and would wait for ever.
    #[default]
    EmptyData,
    /// HEADERS with FIN: eight octets less. SPDY/2 has no such flag and always gets the other form.
    FinOnHeaders,
}

/// Bounds on what a peer can make a session hold or do. Each names what happens when it is reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Streams of the peer open at once, announced in SETTINGS. More are reset with REFUSED_STREAM. A stream
    /// that the peer resets counts until the application has dropped its handles. Default 100.
    pub max_streams: u32,
    /// Streams of the peer that the application has not accepted yet. More are reset with REFUSED_STREAM.
    /// Default 100.
    pub max_backlog: usize,
    /// Octets that one stream may receive before the application consumes them, announced as
    /// INITIAL_WINDOW_SIZE. More is a stream error, FLOW_CONTROL_ERROR. Default 262,144.
    pub stream_window: u32,
    /// The same for all streams of a SPDY/3.1 session together; more ends the session. Never below 65,536,
    /// the protocol's own start. Default 1,048,576.
    pub session_window: u32,
    /// What `stream_window` grows to at most, where it holds up the peer: as long as the application keeps up, PINGs
    /// measure how much comes in a round trip, and the windows follow. In SPDY/3, which has no session window, it is
    /// not above half of `session_buffer`, so that one stream alone does not stop the reading. A value up to
    /// `stream_window` keeps it fixed. Default 2,097,152.
    pub max_stream_window: u32,
    /// The same for `session_window`, which is twice that of a stream when that has grown, so that a stream which
    /// nobody reads leaves room for others. With neither window free to grow no PING is sent. Default 4,194,304.
    pub max_session_window: u32,
    /// Octets held for one stream where no window bounds them (SPDY/2, [`FlowControl::Off`]). Above it the
    /// transport is not read. Default 262,144.
    pub stream_buffer: usize,
    /// The same for all streams together; it also bounds SPDY/3, which has no session window.
    /// Default 1,048,576.
    pub session_buffer: usize,
    /// Octets of unsent payload that one stream may queue before its writer waits. Default 65,536.
    pub stream_send_queue: usize,
    /// Octets of unsent payload of all streams above which each stream is held to
    /// [`min_send_queue`](Self::min_send_queue). Default 262,144.
    pub session_send_queue: usize,
    /// Octets that a stream may always queue, whatever the others hold. Default 8,192.
    pub min_send_queue: usize,
    /// Bytes of unsent pieces of bodies, of those that are longer than 16,384, above which a stream gets no further
    /// piece unless its pieces leave at once, for what its window lets out. Above twice as many no stream does that is not known to add shorter ones alone. How long
    /// a piece is, is known only when it is there, so it may be one more. A body in one piece counts for nothing, since
    /// it was in memory before. Default 1,310,720.
    pub large_send_pieces: usize,
    /// The payload of a DATA frame at most. Default 16,384.
    pub data_frame: usize,
    /// Octets that a peer has to let out within [`Timeouts::trickle`](field@Timeouts::trickle), of a stream or of the
    /// session, unless there is nothing more to send. Default 16,384.
    pub min_progress: usize,
    /// Replies queued by the session itself (PING, RST_STREAM); above it the transport is not read. Two sides that both
    /// come to that wait for each other until [`Timeouts::write`] has passed. Default 256 frames.
    pub max_queued_replies: usize,
    /// Bounds on one header block.
    pub headers: HeaderLimits,
    /// A control frame on the wire, octets; longer ones end the session. Never below 8,192. Default 262,144.
    pub max_control_frame: u32,
    /// Octets of header blocks held together, 32 charged a field: those that opened the streams which are open, or which
    /// the peer opened and whose handles exist, and later ones that the application has not taken. A stream that would pass it is refused, or reset if it is open.
    /// Default 1,048,576.
    pub held_headers: usize,
    /// Octets of a stream, payload or what its header blocks count, that are read and dropped after the application lost
    /// interest in them; then the stream is reset with CANCEL. Default 1,048,576.
    pub discard: u64,
    /// Streams that the peer opens and resets. Above the rate the session ends. Default 1000, 33 a second.
    pub peer_resets: Rate,
    /// Errors of the peer that cost a RST_STREAM, and header frames for streams that are gone or come after our GOAWAY.
    /// Above the rate the session ends. Default 1000, 33 a second.
    pub local_resets: Rate,
    /// SETTINGS frames. Above the rate the session ends. Default 32, 10 a second.
    pub settings: Rate,
    /// PINGs. Reading the answers does not make a flood of them harmless: each costs a turn of the session. Above
    /// the rate the session ends. Default 10,000, 1,000 a second.
    pub pings: Rate,
    /// Frames that carry nothing: empty DATA without FIN, HEADERS without fields. Above the rate the session
    /// ends. Default 1000, 100 a second.
    pub empty_frames: Rate,
    /// Frames about nothing: RST_STREAM for streams that are gone, GOAWAY after the first, NOOP, CREDENTIAL, control frames
    /// of unknown types. Above the rate the session ends. Default 10,000, 1,000 a second.
    pub idle_frames: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_streams: 100,
            max_backlog: 100,
            stream_window: 256 * 1024,
            session_window: 1024 * 1024,
            max_stream_window: 2 * 1024 * 1024,
            max_session_window: 4 * 1024 * 1024,
            stream_buffer: 256 * 1024,
            session_buffer: 1024 * 1024,
            stream_send_queue: 64 * 1024,
            session_send_queue: 256 * 1024,
            min_send_queue: 8 * 1024,
            large_send_pieces: 1280 * 1024,
            data_frame: 16 * 1024,
            min_progress: 16 * 1024,
            max_queued_replies: 256,
            headers: HeaderLimits::default(),
            max_control_frame: 256 * 1024,
            held_headers: 1024 * 1024,
            discard: 1024 * 1024,
            peer_resets: Rate {
                burst: 1000,
                per_second: 33,
            },
            local_resets: Rate {
                burst: 1000,
                per_second: 33,
            },
            settings: Rate {
                burst: 32,
                per_second: 10,
            },
            pings: Rate {
                burst: 10_000,
                per_second: 1000,
            },
            empty_frames: Rate {
                burst: 1000,
                per_second: 100,
            },
            idle_frames: Rate {
                burst: 10_000,
                per_second: 1000,
            },
        }
    }
}

impl Limits {
    /// The most memory that one session holds at once, in octets, whatever its peer does: the sum of the bounds, with
    /// what the bookkeeping takes. Not counted are the transport and what the application keeps by itself: pieces that
    /// it has taken, the state of its handlers, header blocks of its own.
    ///
    /// It is `usize::MAX` where bounds that are as good as none add up to more.
    ///
    /// With the default it is below 22 MiB, and 13 MiB with windows that do not grow. It is a bound and no forecast: a
    /// session at rest holds a few KiB.
    #[must_use]
    pub const fn session_memory(&self) -> usize {
        let streams = self.max_streams as usize;
        let window = larger(self.session_window, self.max_session_window) as usize;
        let received = if window > self.session_buffer {
            window
        } else {
            self.session_buffer
        };
        sum(&[
            // Two reads more than the buffer allows may be on their way.
            received
                .saturating_add(64 * 1024)
                .saturating_mul(MAX_PINNED),
            self.held_headers,
            self.held_headers / 4,
            self.session_send_queue,
            self.stream_send_queue,
            // The piece that is being sent is kept until the last of it has left.
            self.min_send_queue
                .saturating_add(16 * 1024)
                .saturating_mul(streams),
            // Twice as much as lets streams that may get stuck have no more, and the piece that exceeds it.
            self.large_send_pieces.saturating_mul(3),
            // What is ready to be written.
            self.data_frame.saturating_add(64 * 1024).saturating_mul(2),
            self.max_queued_replies.saturating_mul(64),
            // A control frame that is not complete, while its buffer grows; and the largest block inflated.
            (self.max_control_frame as usize).saturating_mul(5) / 2,
            64 * 1024,
            self.headers.max_size.saturating_mul(2),
            // Both compression contexts: the window of what came, and what was sent.
            64 * 1024,
            // The records of streams, and of streams that are gone and whose handles exist.
            streams.saturating_mul(2 * STREAM_RECORD),
        ])
    }

    /// The session's receive window: what is configured, but never less than the protocol starts with.
    pub(crate) fn session_window(&self) -> u32 {
        self.session_window
            .clamp(DEFAULT_WINDOW, spdy_frame::MAX_WINDOW)
    }

    /// The window that streams start with.
    pub(crate) fn stream_window(&self) -> u32 {
        self.stream_window.clamp(1, spdy_frame::MAX_WINDOW)
    }

    /// What the session's window may grow to.
    pub(crate) fn max_session_window(&self) -> u32 {
        self.max_session_window
            .clamp(self.session_window(), spdy_frame::MAX_WINDOW)
    }

    /// What the windows of streams may grow to.
    pub(crate) fn max_stream_window(&self, version: Version) -> u32 {
        let most = if version.has_session_window() {
            self.max_stream_window
        } else {
            let half = u32::try_from(self.session_buffer / 2).unwrap_or(u32::MAX);
            self.max_stream_window.min(half)
        };
        most.clamp(self.stream_window(), spdy_frame::MAX_WINDOW)
    }
}

const fn larger(one: u32, other: u32) -> u32 {
    if one > other { one } else { other }
}

/// A piece of payload that the application has not taken keeps at most so many times its own length.
pub(crate) const MAX_PINNED: usize = 3;

/// What the records of one stream take at most, in bytes, with those of its handles.
pub(crate) const STREAM_RECORD: usize = 1536;

/// Adds up bounds, which may be as large as a number can be.
const fn sum(mut parts: &[usize]) -> usize {
    let mut sum: usize = 0;
    while let [first, rest @ ..] = parts {
        sum = sum.saturating_add(*first);
        parts = rest;
    }
    sum
}

/// How often something may happen: a token bucket, which forgives with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// How many are forgiven each second.
    pub per_second: u32,
}

/// Bounds on time. `None` waits for ever.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// A server waits so long for the first frame, then ends the session. Default 10 s.
    pub first_frame: Option<Duration>,
    /// A frame that has begun is complete by then, or the session ends. DATA counts piece by piece.
    /// Default 30 s.
    pub frame: Option<Duration>,
    /// A session without streams ends after so long without a frame. Default 180 s.
    pub idle: Option<Duration>,
    /// A peer that lets out fewer octets than [`Limits::min_progress`] in so long holds up what is queued, though it
    /// goes on: a stream whose windows are granted bit by bit is reset with CANCEL when it has waited so long for them,
    /// and a transport that takes octets bit by bit ends the session. It is never shorter than
    /// [`blocked`](Self::blocked) or [`write`](Self::write), and without those it has no meaning. Default 300 s.
    pub trickle: Option<Duration>,
    /// With octets to write and no progress for so long, the session ends. Default 30 s. A session that has ended at
    /// once, by [`Shutdown::Now`](crate::Shutdown) or a violation, waits no longer than `linger`.
    pub write: Option<Duration>,
    /// A stream with something to send to which the peer grants no window for so long is reset with CANCEL. It is not
    /// as long as the peer grants anything, to the session or to other streams: see [`trickle`](field@Self::trickle).
    /// Default 30 s.
    pub blocked: Option<Duration>,
    /// While the peer can send no payload because bytes are not consumed, since the transport is not read
    /// ([`Limits::stream_buffer`], [`Limits::session_buffer`]) or they are all of the session's window in SPDY/3.1
    /// ([`session_window`](field@Limits::session_window)): after so long without a byte consumed the
    /// fullest stream is given up, also if both sides have finished it. It is reset with CANCEL unless it has ended, what came of it is dropped, and its reader
    /// gets an error. That also ends a deadlock: while reading pauses no WINDOW_UPDATE is seen, so an application of
    /// SPDY/3 that reads on only when it has sent may wait for one that stands behind what it does not read.
    /// Default 60 s.
    pub unread: Option<Duration>,
    /// A stream of the peer that this side has answered to the end, and whose rest the application does not want, is
    /// reset with CANCEL when the peer has not finished it by then. Else a request whose body never comes would hold
    /// its place, and its session, for ever. Default 60 s.
    pub discard: Option<Duration>,
    /// How long the transport is read after the last octet was written, so that a GOAWAY is not lost to a TCP
    /// reset. Default 1 s.
    pub linger: Duration,
    /// A PING is sent after so long without a frame, while the transport is read and nothing waits to be written.
    /// Default `None`.
    pub keep_alive: Option<Duration>,
    /// The session ends so long after a keep-alive PING has left if no frame comes. The time stands still while the
    /// transport is not read, and while something waits to be written. For what was sent since the peer was last heard,
    /// which may be in front of the PING, it gets one second more for each 4 KiB, up to two minutes. Default 20 s.
    pub keep_alive_reply: Duration,
    /// While the transport is not read because unread octets are in the way, a peer that is gone is out of sight. So
    /// while nothing else is written, an empty DATA frame is, each time so long has passed, or a PING where no stream
    /// is open for DATA: a peer that has closed its connection, or has vanished, answers with a reset, and the session
    /// ends with the error of the transport at the write after that. So it is noticed within two of these times.
    ///
    /// The same is done after the end of the peer's bytes, while a stream of the session goes on: it tells a peer that
    /// has closed its connection in both directions from one that has only closed its own. The first is sent after
    /// 10 ms, each that follows after twice the time of the one before, up to this. Less than 10 ms counts as 10 ms.
    /// Default 5 s.
    pub probe: Option<Duration>,
}

impl Timeouts {
    /// Returns how long a peer may be slow that may be without any progress for `timeout`.
    pub(crate) fn trickle(&self, timeout: Option<Duration>) -> Option<Duration> {
        Some(self.trickle?.max(timeout?))
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_frame: Some(Duration::from_secs(10)),
            frame: Some(Duration::from_secs(30)),
            idle: Some(Duration::from_secs(180)),
            write: Some(Duration::from_secs(30)),
            blocked: Some(Duration::from_secs(30)),
            trickle: Some(Duration::from_secs(300)),
            unread: Some(Duration::from_secs(60)),
            discard: Some(Duration::from_secs(60)),
            linger: Duration::from_secs(1),
            keep_alive: None,
            keep_alive_reply: Duration::from_secs(20),
            probe: Some(Duration::from_secs(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_a_session_holds_is_a_number_whatever_its_bounds_are() {
        let mut limits = Limits::default();
        assert_eq!(limits.session_memory(), 22_343_680);
        let most = usize::MAX;
        limits.max_streams = u32::MAX;
        limits.max_session_window = u32::MAX;
        limits.session_buffer = most;
        limits.stream_send_queue = most;
        limits.session_send_queue = most;
        limits.min_send_queue = most;
        limits.large_send_pieces = most;
        limits.data_frame = most;
        limits.max_queued_replies = most;
        limits.headers.max_size = most;
        limits.max_control_frame = u32::MAX;
        limits.held_headers = most;
        assert_eq!(limits.session_memory(), most);
    }
}
