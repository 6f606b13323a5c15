//! The configuration of a session: limits, timeouts, and how flow control works.

pub(crate) mod range;

use std::{sync::Arc, time::Duration};

use spdy_frame::{DEFAULT_WINDOW, HeaderCompression, HeaderLimits};

use crate::Counters;
#[cfg(feature = "tokio")]
use crate::MemoryUse;

/// The configuration of a session. The default suits a server or a client of HTTP on the open
/// network.
///
/// A session checks the configuration once, when it begins. A value outside of the range that its
/// field documents counts as the nearest value within the range.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// Limits on sizes, counts and rates.
    pub limits: Limits,
    /// Limits on time.
    pub timeouts: Timeouts,
    /// Whether this side obeys and enforces windows.
    pub flow_control: FlowControl,
    /// How header blocks are compressed.
    pub header_compression: HeaderCompression,
    /// What happens to a stream whose first header block exceeds a soft limit of [`HeaderLimits`].
    pub oversized_headers: OversizedHeaders,
    /// How trailers finish a stream.
    pub trailers: Trailers,
    /// Whether a client accepts streams that the server opens. If not, each of them is reset with
    /// REFUSED_STREAM. Default `false`.
    pub accept_push: bool,
    /// Whether frames are judged strictly: frames that [`spdy_frame::DecodeLimits::strict`] rejects
    /// end the session, and header blocks that [`spdy_frame::HeaderLimits::strict`] rejects end
    /// their stream. `limits.headers.strict` does only the second. Default `false`.
    pub strict: bool,
    /// Where the session adds what it does, for metrics. Any number of sessions can share one
    /// `Counters`. Default `None`.
    pub counters: Option<Arc<Counters>>,
    /// Where the session adds how much memory it holds. Any number of sessions can share one
    /// `MemoryUse`. Default `None`.
    #[cfg(feature = "tokio")]
    pub memory: Option<Arc<MemoryUse>>,
}

/// Whether flow control windows are in force ([protocol.md §13], [§3.5]).
///
/// [protocol.md §13]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#13-flow-control
/// [§3.5]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#35-http11-upgrade-the-kubernetes-form
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowControl {
    /// The windows of the negotiated version are in force.
    #[default]
    Enforce,
    /// No windows are in force. Use this for peers that implement no windows, whatever version they
    /// negotiate (Kubernetes, moby/spdystream).
    ///
    /// Sending waits for no window, no amount of received bytes is an error, and WINDOW_UPDATE and
    /// SETTINGS are neither sent nor obeyed. The only back-pressure is to stop reading the
    /// transport, so a stream that the application does not read delays all other streams of the
    /// session.
    Off,
}

/// What to do with a SYN_STREAM whose header block is valid but exceeds a soft limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OversizedHeaders {
    /// Do what suits the protocol above the session. The server of spdy-tower answers 431, so it
    /// delivers the stream. Other sessions reset it.
    #[default]
    Auto,
    /// Reset the stream with FRAME_TOO_LARGE, or with PROTOCOL_ERROR in SPDY/2.
    Reset,
    /// Deliver the stream to the application with the fields that fitted.
    /// [`HeaderBlock::is_truncated`](spdy_frame::HeaderBlock::is_truncated) is then true. An HTTP
    /// server answers 431.
    Deliver,
}

/// How the last header block of a stream is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trailers {
    /// HEADERS, then an empty DATA frame with FIN. Every peer that was tested reads this form;
    /// node-spdy 4 ignores FIN on HEADERS and would wait for ever.
    #[default]
    EmptyData,
    /// HEADERS with FIN, which is eight bytes shorter. SPDY/2 has no FIN on HEADERS and always gets
    /// the other form.
    FinOnHeaders,
}

/// Limits on what a peer can make a session hold or do. Each field documents what happens when the
/// limit is reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// How many streams of the peer may be open at once. Announced in SETTINGS; further streams are
    /// reset with REFUSED_STREAM. A stream that the peer resets counts until the application has
    /// dropped its handles. Default 100.
    pub max_streams: u32,
    /// How many streams of the peer may wait for the application to accept them. Further streams
    /// are reset with REFUSED_STREAM. Default 100.
    pub max_backlog: usize,
    /// How many bytes one stream may receive before the application consumes them. Announced as
    /// INITIAL_WINDOW_SIZE. More bytes are a stream error, FLOW_CONTROL_ERROR. At least 1. Default
    /// 262,144.
    pub stream_window: u32,
    /// How many bytes all streams of a SPDY/3.1 session together may receive before the application
    /// consumes them. More bytes end the session. At least 65,536, with which the protocol starts.
    /// Default 1,048,576.
    pub session_window: u32,
    /// The size up to which `stream_window` may grow. If a window holds up the peer while the
    /// application keeps up, the session measures with PINGs how many bytes arrive in a round trip,
    /// and enlarges its windows accordingly.
    ///
    /// In SPDY/3, which has no session window, windows do not grow beyond half of `session_buffer`,
    /// so that one stream alone does not stop the reading. With a value up to `stream_window` the
    /// window is fixed. Default 2,097,152.
    pub max_stream_window: u32,
    /// The size up to which `session_window` may grow. The session window becomes twice as large as
    /// a stream window that has grown, so that a stream that is not read leaves room for others. If
    /// neither window may grow, no PING is sent. Default 4,194,304.
    pub max_session_window: u32,
    /// How many unread bytes one stream may hold if no window limits them (SPDY/2,
    /// [`FlowControl::Off`]). While a stream holds more, the transport is not read. At least 1.
    /// Default 262,144.
    pub stream_buffer: usize,
    /// How many unread bytes all streams together may hold if no session window limits them
    /// (SPDY/2, SPDY/3, [`FlowControl::Off`]). While they hold more, the transport is not read. At
    /// least 1. Default 1,048,576.
    pub session_buffer: usize,
    /// How many bytes of unsent payload one stream may queue before its writer waits. At least
    /// 1. Default 65,536.
    pub stream_send_queue: usize,
    /// The size up to which `stream_send_queue` may grow for streams that send the pieces of a
    /// body. It doubles when the transport has taken all of a turn in which as much was written,
    /// and is `stream_send_queue` again as soon as the transport takes less. With a larger queue
    /// more of the writes of a download are full: each writes 65,000 bytes at most, and the rest of
    /// the queue would be a write of its own. With a value up to `stream_send_queue` it does not
    /// grow. Default 262,144.
    pub max_stream_send_queue: usize,
    /// How many bytes of unsent payload all streams together may queue. While they hold more, each
    /// stream may queue only [`min_send_queue`](Self::min_send_queue). Default 262,144.
    pub session_send_queue: usize,
    /// How many bytes a stream may always queue, however much the other streams hold. At least 1.
    /// Default 8,192.
    pub min_send_queue: usize,
    /// How many bytes of large pieces of bodies may wait to be sent, in all streams together. Only
    /// pieces longer than 16,384 bytes count.
    ///
    /// * Above this limit a body is asked for another piece only if its pieces leave at once, that
    ///   is, if the window of its stream lets them out.
    /// * Above twice this limit, less the short pieces that are queued, a body is asked for another
    ///   piece only if its pieces are known to be short. At most half of that is taken away.
    ///
    /// The length of a piece is known only when the body has returned it, so the limit can be
    /// exceeded by one piece. A body that consists of one piece does not count, since it was in
    /// memory before. At least 8. Default 1,200,000.
    pub large_send_pieces: usize,
    /// The largest payload of a DATA frame that is sent, in bytes: 1 to 16,777,215. While the
    /// transport takes everything, the last frame of a write is cut so that the write has at most
    /// 65,000 bytes. If other streams wait, the rest is the next frame. Default 16,384.
    pub data_frame: usize,
    /// How many bytes a peer has to let out, of a waiting stream or of the session, within
    /// [`Timeouts::trickle`](field@Timeouts::trickle). If fewer bytes are queued, all of them have
    /// to leave. Also the least room in the window of a SPDY/3.1 session in which a peer can go on
    /// (see [`Timeouts::unread`]). Default 16,384.
    pub min_progress: usize,
    /// How many replies of the session itself (PING, RST_STREAM) may wait to be written. While more
    /// wait, the transport is not read. If both sides reach this limit they wait for each other,
    /// until [`Timeouts::write`] has passed. At least 1. Default 256 frames.
    pub max_queued_replies: usize,
    /// Limits on one header block.
    pub headers: HeaderLimits,
    /// The largest control frame, in bytes on the wire. A longer one ends the session. A value
    /// below 8,192 counts as 8,192. Default 262,144.
    pub max_control_frame: u32,
    /// How many bytes of header blocks the session may hold, with 32 bytes added for each field.
    /// The blocks that opened a stream count while the stream is open, and, for streams of the
    /// peer, while their handles exist. Later blocks count until the application has taken them. A
    /// stream that would exceed the limit is refused, or reset if it is open already. Default
    /// 1,048,576.
    pub held_headers: usize,
    /// How many bytes of a stream are read and thrown away after the application has stopped
    /// reading it. Payload counts, and header blocks count as in `held_headers`. After that the
    /// stream is reset with CANCEL. Default 1,048,576.
    pub discard: u64,
    /// Streams that the peer opens and resets. More end the session. Default 1000, 33 a second.
    pub peer_resets: Rate,
    /// Errors of the peer that make this side send RST_STREAM, and frames with header blocks for
    /// streams that are gone or that come after our GOAWAY. More end the session. Default 1000, 33
    /// a second.
    pub local_resets: Rate,
    /// SETTINGS frames. More end the session. Default 32, 10 a second.
    pub settings: Rate,
    /// PINGs. More end the session, even if the peer reads the answers: each PING costs a turn of
    /// the session. Default 10,000, 1,000 a second.
    pub pings: Rate,
    /// Frames without content: empty DATA without FIN, HEADERS without fields. More end the
    /// session. Default 1000, 100 a second.
    pub empty_frames: Rate,
    /// Frames without effect: RST_STREAM for streams that are gone, GOAWAY after the first, NOOP,
    /// CREDENTIAL, control frames of unknown types. More end the session. Default 10,000, 1,000 a
    /// second.
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
            max_stream_send_queue: 256 * 1024,
            session_send_queue: 256 * 1024,
            min_send_queue: 8 * 1024,
            large_send_pieces: 1_200_000,
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
    /// Returns the most memory that one session can hold at once, in bytes, whatever its peer does:
    /// the sum of the limits and of the records of streams.
    ///
    /// The transport does not count, and neither does what the application itself keeps: pieces
    /// that it has taken, the state of its handlers, its own header blocks.
    ///
    /// Returns `usize::MAX` if the sum is larger than a `usize`.
    ///
    /// With the default limits the result is below 22 MiB, or 13 MiB if windows do not grow. This
    /// is an upper bound and not an estimate: a session at rest holds a few KiB.
    #[must_use]
    pub const fn session_memory(&self) -> usize {
        let streams = self.max_streams as usize;
        let window = larger(self.session_window, self.max_session_window);
        let window = larger(window, DEFAULT_WINDOW) as usize;
        let received = if window > self.session_buffer {
            window
        } else {
            self.session_buffer
        };
        sum(&[
            // Bytes of up to two more reads can be on their way when the limit is reached.
            received
                .saturating_add(64 * 1024)
                .saturating_mul(MAX_PINNED),
            self.held_headers,
            self.held_headers / 4,
            self.session_send_queue,
            if self.max_stream_send_queue > self.stream_send_queue {
                self.max_stream_send_queue
            } else {
                self.stream_send_queue
            },
            // A piece is kept whole until its last byte has left.
            self.min_send_queue
                .saturating_add(16 * 1024)
                .saturating_mul(streams),
            // Twice the limit, above which streams that might get stuck get no more pieces, and the
            // piece that exceeds it.
            self.large_send_pieces.saturating_mul(3),
            // The frames that are ready to be written.
            self.data_frame
                .saturating_add(crate::proto::TURN)
                .saturating_mul(2),
            self.max_queued_replies.saturating_mul(64),
            // A control frame that is not complete, whose buffer grows meanwhile, and the largest
            // inflated block.
            (self.max_control_frame as usize).saturating_mul(5) / 2,
            64 * 1024,
            self.headers.max_size.saturating_mul(2),
            // Both compression contexts: the window of received blocks, and the table of sent
            // fields.
            64 * 1024,
            // The records of open streams, and of ended streams whose handles exist.
            streams.saturating_mul(2 * STREAM_RECORD),
        ])
    }
}

const fn larger(one: u32, other: u32) -> u32 {
    if one > other { one } else { other }
}

/// A piece of payload that the application has not taken keeps at most this multiple of its own
/// length in memory.
pub(crate) const MAX_PINNED: usize = 3;

/// The most memory that the records of one stream take, with those of its handles, in bytes.
pub(crate) const STREAM_RECORD: usize = 1536;

/// Adds up limits. The sum saturates, because each limit can be as large as its type allows.
const fn sum(mut parts: &[usize]) -> usize {
    let mut sum: usize = 0;
    while let [first, rest @ ..] = parts {
        sum = sum.saturating_add(*first);
        parts = rest;
    }
    sum
}

/// How often something may happen: a token bucket, which refills over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The size of the bucket: how many events may happen at once.
    pub burst: u32,
    /// How many tokens are added each second.
    pub per_second: u32,
}

/// Limits on time. `None` means no limit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// How long a server waits for the first frame before it ends the session. Default 10 s.
    pub first_frame: Option<Duration>,
    /// How long the rest of a frame may take before the session ends. Each piece of a DATA frame
    /// counts as a frame. Default 30 s.
    pub frame: Option<Duration>,
    /// How long a session without streams may receive no frame before it ends, in order. Default
    /// 180 s.
    pub idle: Option<Duration>,
    /// How long a peer that makes some progress may let out fewer bytes than
    /// [`Limits::min_progress`].
    ///
    /// * A stream that has waited this long for windows, which the peer grants little by little, is
    ///   reset with CANCEL.
    /// * A transport that has taken this long, little by little, ends the session.
    ///
    /// This time is never shorter than [`blocked`](Self::blocked) or [`write`](Self::write), and
    /// has no effect on streams and transports if they are `None`. It also limits, as it is, how
    /// long the peer of a session that is over keeps it ([`write`](field@Self::write),
    /// [`close`](field@Self::close)). Default 300 s.
    pub trickle: Option<Duration>,
    /// How long the transport may take no byte while bytes wait to be written. Then the session
    /// ends. Default 30 s.
    ///
    /// A transport that has taken the last bytes of a session may take as long to flush them. TLS
    /// holds up to 80 KiB, and does not tell how far it is. So a peer that reads on, but less than
    /// 2.7 KB a second, counts with the default as one that reads nothing.
    ///
    /// A session that has ended at once, by [`Shutdown::Now`](crate::Shutdown) or after a
    /// violation, waits only for [`linger`](field@Self::linger), unless the transport holds the end
    /// of a stream that was reported as written. A session that is over waits no longer than
    /// [`trickle`](field@Self::trickle), or 300 s if that is `None`, from its end or from the last
    /// [`Limits::min_progress`] bytes on. So this can be hours, or `None`, for peers that pause.
    pub write: Option<Duration>,
    /// How long a stream with payload or a header block to send may wait while the peer grants no
    /// window. Then the stream is reset with CANCEL. Every window that the peer grants, to the
    /// session or to another stream, starts this time again; [`trickle`](field@Self::trickle)
    /// limits the wait then. Default 30 s.
    pub blocked: Option<Duration>,
    /// How long the application may consume no byte while that keeps the peer from going on with
    /// any payload. Unread bytes hold the peer up in two cases:
    ///
    /// * the transport is not read ([`Limits::stream_buffer`], [`Limits::session_buffer`]);
    /// * they leave no room in the window of a SPDY/3.1 session
    ///   ([`session_window`](field@Limits::session_window)): less than
    ///   [`Limits::min_progress`], and less than a sixteenth of the window. Then only bytes of the
    ///   stream with the most unread bytes count, since the peer may send in the room that is left,
    ///   however little it is.
    ///
    /// When the time is over the session gives up the stream with the most unread bytes, even if
    /// both sides have finished it. Its unread bytes are dropped, its reader gets an error, and
    /// unless it has ended it is reset with CANCEL.
    ///
    /// This timeout also ends a deadlock of SPDY/3. While reading pauses this side sees no
    /// WINDOW_UPDATE. So an application that reads on only after it has sent may wait for a
    /// WINDOW_UPDATE that is behind the bytes it does not read. Default 60 s.
    pub unread: Option<Duration>,
    /// How long the peer may take to finish a stream of its own that this side has answered
    /// completely, and whose rest the application does not read. Then the stream is reset with
    /// CANCEL. Without this limit a request whose body never comes would keep its place, and its
    /// session, for ever. Default 60 s.
    pub discard: Option<Duration>,
    /// How long a session that has ended in order waits for the peer to close its side, while
    /// nothing comes from the peer. The peer might not have read all that was written, and a
    /// transport that is closed answers later bytes with a TCP reset, which can destroy the rest.
    /// Whatever the peer sends, such as credit for what it has read, starts this time again;
    /// [`trickle`](field@Self::trickle) limits the whole, or 300 s if it is `None`.
    /// [`Shutdown::Now`](crate::Shutdown) limits it to [`linger`](field@Self::linger). At most a
    /// day. Default 5 s.
    pub close: Duration,
    /// How long the transport is read after the last byte of a session that has failed, or was
    /// ended at once, so that a TCP reset does not destroy a GOAWAY before the peer reads it. At
    /// most a day. Default 1 s.
    ///
    /// The reverse is similar: if the transport of a client takes no more bytes, it is read until
    /// it ends, so responses that have arrived are complete. If it has nothing for this time, or if
    /// reading pauses and the application consumes nothing for [`close`](field@Self::close), the
    /// session ends. [`trickle`](field@Self::trickle) limits the whole, or 300 s if it is `None`.
    pub linger: Duration,
    /// How long no frame may arrive, while the transport is read and nothing waits to be written,
    /// before a PING is sent. Default `None`.
    pub keep_alive: Option<Duration>,
    /// How long no frame may arrive after a keep-alive PING has left. Then the session ends. The
    /// time stands still while the transport is not read, and while bytes wait to be written.
    ///
    /// Bytes that were sent since the last frame of the peer might be in front of the PING. For
    /// each 4 KiB of them the time is one second longer, up to two minutes. Default 20 s.
    pub keep_alive_reply: Duration,
    /// How often this side writes something to find out whether the peer is gone, in two situations
    /// in which reading cannot show it. The frame is an empty DATA frame, or a PING if no stream is
    /// open for DATA. A peer that has closed its connection, or has vanished, answers with a TCP
    /// reset, and the write after that fails and ends the session.
    ///
    /// * While the transport is not read because of unread bytes, one frame is written each time
    ///   that this duration passes without another write. So a dead peer is noticed within twice
    ///   this duration.
    /// * After the end of the peer's bytes, while a stream of the session continues: a peer that
    ///   has closed both directions is distinguished from one that has closed only its own. The
    ///   first frame is sent after 10 ms. Each further one waits twice as long as the one before,
    ///   up to this duration.
    ///
    /// At least 10 ms. Default 5 s.
    pub probe: Option<Duration>,
}

impl Timeouts {
    /// Returns how long a peer may be slow, if it may make no progress at all for `timeout`.
    pub(crate) fn trickle(&self, timeout: Option<Duration>) -> Option<Duration> {
        Some(self.trickle?.max(timeout?))
    }

    /// Returns how long a session that is over waits for its peer at most, if no other timeout
    /// limits it.
    pub(crate) fn longest(&self) -> Duration {
        self.trickle.unwrap_or(LONGEST)
    }
}

/// How long a session that is over waits if [`Timeouts::trickle`] has no limit.
const LONGEST: Duration = Duration::from_secs(300);

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
            close: Duration::from_secs(5),
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
    fn session_memory_saturates_with_the_largest_limits() {
        let mut limits = Limits::default();
        assert_eq!(limits.session_memory(), 22_207_056);
        let most = usize::MAX;
        limits.max_streams = u32::MAX;
        limits.max_session_window = u32::MAX;
        limits.session_buffer = most;
        limits.stream_send_queue = most;
        limits.max_stream_send_queue = most;
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
