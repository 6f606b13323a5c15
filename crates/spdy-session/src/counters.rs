//! Counters for metrics, which any number of sessions can share.
//!
//! A session counts frequent events in its own [`Tally`](tally::Tally), a plain array, and adds
//! them to the shared [`Counters`] once for each write. It adds rare events immediately.

mod limit;
pub(crate) mod tally;

use std::{
    array, fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use spdy_frame::{FrameKind, GoAwayStatus, RstStatus};

pub use self::limit::Limit;

/// The sum of what sessions have done. Each session with this value in
/// [`Config::counters`](crate::Config::counters) adds to it. The counters outlive the sessions, and
/// never decrease.
///
/// ```
/// use std::sync::Arc;
///
/// use spdy_frame::FrameKind;
/// use spdy_session::{Config, Count, Counters};
///
/// let counters = Arc::new(Counters::default());
/// let mut config = Config::default();
/// config.counters = Some(Arc::clone(&counters));
/// // … sessions with this configuration …
/// assert_eq!(counters.get(Count::FramesSent(FrameKind::Data)), 0);
/// for (count, number) in counters.snapshot().iter() {
///     println!("{count} {number}"); // frames_sent{type="DATA"} 0
/// }
/// ```
///
/// A session adds its counts when it writes, when it waits, and when it ends. Until then they are
/// missing here. A session without counters counts nothing.
pub struct Counters([AtomicU64; COUNTS]);

impl Counters {
    /// Returns one of the numbers.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.0[count.index()].load(Relaxed)
    }

    /// Returns all numbers. Numbers that change during the call may belong to slightly different
    /// moments.
    #[must_use]
    pub fn snapshot(&self) -> Counts {
        Counts(array::from_fn(|index| self.0[index].load(Relaxed)))
    }

    fn add(&self, index: usize, number: u64) {
        self.0[index].fetch_add(number, Relaxed);
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// The numbers of [`Counters`] at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Counts([u64; COUNTS]);

impl Counts {
    /// Returns one of the numbers.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.0[count.index()]
    }

    /// Returns an iterator over all numbers, including zeros, in the order of [`Count::all`].
    pub fn iter(&self) -> impl Iterator<Item = (Count, u64)> + '_ {
        Count::all().zip(self.0)
    }
}

/// Shows only the numbers that are not 0.
impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = self.iter().filter(|(_, number)| *number > 0);
        f.debug_map()
            .entries(counted.map(|(count, number)| (format!("{count}"), number)))
            .finish()
    }
}

/// One thing that is counted.
///
/// All frame types that the protocol does not define share one number, and so do all status codes
/// without a name. Any type or code of such a group returns the number of the group.
/// [`all`](Self::all) lists each group once, under a type or code without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Count {
    /// Complete frames of the peer that were decoded. A DATA frame counts with its last byte.
    FramesReceived(FrameKind),
    /// Frames whose last byte the transport has taken.
    FramesSent(FrameKind),
    /// Bytes that were read from the transport and decoded as frames, including frame headers.
    /// Bytes of an incomplete frame count when its rest arrives.
    BytesReceived,
    /// Bytes that the transport has taken.
    BytesSent,
    /// Streams that the peer opened and that were delivered to the application.
    StreamsReceived,
    /// Streams that this side opened.
    StreamsOpened,
    /// RST_STREAM frames of the peer.
    ResetsReceived(RstStatus),
    /// RST_STREAM frames that the transport has taken.
    ResetsSent(RstStatus),
    /// GOAWAY frames of the peer. In SPDY/2 every one counts as OK.
    GoAwaysReceived(GoAwayStatus),
    /// GOAWAY frames that the transport has taken. In SPDY/2 the frame has no status, but is
    /// counted under the status it would have. A session that fails while it drains sends two.
    GoAwaysSent(GoAwayStatus),
    /// How often a limit or a timeout ended a stream or a session.
    Limit(Limit),
}

impl Count {
    /// Returns everything that is counted, in a fixed order.
    pub fn all() -> impl Iterator<Item = Self> {
        let resets = || (0..RESETS as u32).map(RstStatus);
        let go_aways = || (0..GO_AWAYS as u32).map(GoAwayStatus);
        let received = KINDS.map(Self::FramesReceived).into_iter();
        received
            .chain(KINDS.map(Self::FramesSent))
            .chain([
                Self::BytesReceived,
                Self::BytesSent,
                Self::StreamsReceived,
                Self::StreamsOpened,
            ])
            .chain(resets().map(Self::ResetsReceived))
            .chain(resets().map(Self::ResetsSent))
            .chain(go_aways().map(Self::GoAwaysReceived))
            .chain(go_aways().map(Self::GoAwaysSent))
            .chain(Limit::ALL.map(Self::Limit))
    }

    /// Returns the name for metrics, which all types, codes or limits share: `frames_sent`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FramesReceived(_) => "frames_received",
            Self::FramesSent(_) => "frames_sent",
            Self::BytesReceived => "received_bytes",
            Self::BytesSent => "sent_bytes",
            Self::StreamsReceived => "streams_received",
            Self::StreamsOpened => "streams_opened",
            Self::ResetsReceived(_) => "resets_received",
            Self::ResetsSent(_) => "resets_sent",
            Self::GoAwaysReceived(_) => "go_aways_received",
            Self::GoAwaysSent(_) => "go_aways_sent",
            Self::Limit(_) => "limits_reached",
        }
    }

    /// Returns what distinguishes counts of the same name, as a key and a value: `("type",
    /// "DATA")`, `("status", "CANCEL")`, `("limit", "peer_resets")`. The value is `other` for a
    /// type or code without a name.
    #[must_use]
    pub fn label(self) -> Option<(&'static str, String)> {
        const OTHER: &str = "other";
        let (key, value) = match self {
            Self::FramesReceived(FrameKind::Unknown(_))
            | Self::FramesSent(FrameKind::Unknown(_)) => ("type", OTHER),
            Self::FramesReceived(kind) | Self::FramesSent(kind) => {
                return Some(("type", kind.to_string()));
            }
            Self::BytesReceived | Self::BytesSent | Self::StreamsReceived | Self::StreamsOpened => {
                return None;
            }
            Self::ResetsReceived(status) | Self::ResetsSent(status) => {
                ("status", status.name().unwrap_or(OTHER))
            }
            Self::GoAwaysReceived(status) | Self::GoAwaysSent(status) => {
                ("status", status.name().unwrap_or(OTHER))
            }
            Self::Limit(limit) => ("limit", limit.name()),
        };
        Some((key, value.to_owned()))
    }

    /// Returns the place of this count in [`Self::all`].
    fn index(self) -> usize {
        match self {
            Self::FramesReceived(kind) => place_of_kind(kind),
            Self::FramesSent(kind) => FRAMES_SENT + place_of_kind(kind),
            Self::BytesReceived => BYTES_RECEIVED,
            Self::BytesSent => BYTES_SENT,
            Self::StreamsReceived => STREAMS_RECEIVED,
            Self::StreamsOpened => STREAMS_OPENED,
            Self::ResetsReceived(status) => RESETS_RECEIVED + place_of_reset(status),
            Self::ResetsSent(status) => RESETS_SENT + place_of_reset(status),
            Self::GoAwaysReceived(status) => GO_AWAYS_RECEIVED + place_of_go_away(status),
            Self::GoAwaysSent(status) => GO_AWAYS_SENT + place_of_go_away(status),
            Self::Limit(limit) => LIMITS + limit as usize,
        }
    }
}

/// Writes the count as metrics are written: `frames_sent{type="DATA"}`.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.label() {
            Some((key, value)) => write!(f, "{{{key}=\"{value}\"}}"),
            None => Ok(()),
        }
    }
}

/// The kinds of frames. Unknown kinds share the last place.
const KINDS: [FrameKind; 12] = [
    FrameKind::Data,
    FrameKind::SynStream,
    FrameKind::SynReply,
    FrameKind::RstStream,
    FrameKind::Settings,
    FrameKind::Noop,
    FrameKind::Ping,
    FrameKind::GoAway,
    FrameKind::Headers,
    FrameKind::WindowUpdate,
    FrameKind::Credential,
    FrameKind::Unknown(0),
];

/// RST_STREAM has the codes from 1. Index 0 counts all codes without a name.
const RESETS: usize = RstStatus::FRAME_TOO_LARGE.0 as usize + 1;

/// GOAWAY has the codes from 0. The index above them counts all codes without a name.
const GO_AWAYS: usize = GoAwayStatus::INTERNAL_ERROR.0 as usize + 2;

// The index at which each group begins in `Count::all`. Frequent events come first.
const FRAMES_SENT: usize = KINDS.len();
const BYTES_RECEIVED: usize = FRAMES_SENT + KINDS.len();
const BYTES_SENT: usize = BYTES_RECEIVED + 1;
const STREAMS_RECEIVED: usize = BYTES_SENT + 1;
const STREAMS_OPENED: usize = STREAMS_RECEIVED + 1;
const OFTEN: usize = STREAMS_OPENED + 1;
const RESETS_RECEIVED: usize = OFTEN;
const RESETS_SENT: usize = RESETS_RECEIVED + RESETS;
const GO_AWAYS_RECEIVED: usize = RESETS_SENT + RESETS;
const GO_AWAYS_SENT: usize = GO_AWAYS_RECEIVED + GO_AWAYS;
const LIMITS: usize = GO_AWAYS_SENT + GO_AWAYS;
const COUNTS: usize = LIMITS + Limit::ALL.len();

const fn place_of_kind(kind: FrameKind) -> usize {
    match kind {
        FrameKind::Data => 0,
        FrameKind::SynStream => 1,
        FrameKind::SynReply => 2,
        FrameKind::RstStream => 3,
        FrameKind::Settings => 4,
        FrameKind::Noop => 5,
        FrameKind::Ping => 6,
        FrameKind::GoAway => 7,
        FrameKind::Headers => 8,
        FrameKind::WindowUpdate => 9,
        FrameKind::Credential => 10,
        FrameKind::Unknown(_) => 11,
    }
}

const fn place_of_reset(status: RstStatus) -> usize {
    if status.0 < RESETS as u32 {
        status.0 as usize
    } else {
        0
    }
}

const fn place_of_go_away(status: GoAwayStatus) -> usize {
    match status {
        GoAwayStatus::OK => 0,
        GoAwayStatus::PROTOCOL_ERROR => 1,
        // The status has two codes.
        _ if status.name().is_some() => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_count_has_its_own_place_and_name() {
        let all: Vec<Count> = Count::all().collect();
        assert_eq!(all.len(), COUNTS);
        for (place, count) in all.iter().enumerate() {
            assert_eq!(count.index(), place, "{count}");
        }
        let names: HashSet<String> = all.iter().map(Count::to_string).collect();
        assert_eq!(names.len(), COUNTS);
        assert!(names.contains("frames_sent{type=\"DATA\"}"));
        assert!(names.contains("resets_received{status=\"other\"}"));
        assert!(names.contains("limits_reached{limit=\"headers.max_inflated\"}"));
        assert!(names.contains("sent_bytes"));
    }

    #[test]
    fn unknown_types_and_codes_are_counted_together() {
        let same = [
            [
                Count::FramesReceived(FrameKind::Unknown(99)),
                Count::FramesReceived(FrameKind::Unknown(11)),
            ],
            [
                Count::ResetsSent(RstStatus(99)),
                Count::ResetsSent(RstStatus(0)),
            ],
            [
                Count::GoAwaysReceived(GoAwayStatus(11)),
                Count::GoAwaysReceived(GoAwayStatus::INTERNAL_ERROR),
            ],
            [
                Count::GoAwaysSent(GoAwayStatus(99)),
                Count::GoAwaysSent(GoAwayStatus(3)),
            ],
        ];
        for [one, other] in same {
            assert_eq!(one.index(), other.index());
        }
    }
}
