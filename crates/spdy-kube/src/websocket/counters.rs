//! Counters of WebSockets, for metrics.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The sum of what the WebSockets of servers have done, as [`Counters`](spdy_session::Counters) is
/// for sessions over SPDY. The numbers never decrease.
///
/// Set it with [`Server::web_socket_counters`](crate::Server::web_socket_counters).
pub struct WebSocketCounters([AtomicU64; WebSocketCount::ALL.len()]);

impl WebSocketCounters {
    /// Returns one of the numbers.
    #[must_use]
    pub fn get(&self, count: WebSocketCount) -> u64 {
        self.0[count as usize].load(Relaxed)
    }

    /// Returns an iterator over all numbers, including zeros, in the order of
    /// [`WebSocketCount::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (WebSocketCount, u64)> + '_ {
        WebSocketCount::ALL
            .into_iter()
            .map(|count| (count, self.get(count)))
    }
}

impl Default for WebSocketCounters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; WebSocketCount::ALL.len()])
    }
}

/// Shows only the numbers that are not 0.
impl fmt::Debug for WebSocketCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = self.iter().filter(|(_, number)| *number > 0);
        f.debug_map()
            .entries(counted.map(|(count, number)| (count.name(), number)))
            .finish()
    }
}

/// One thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WebSocketCount {
    /// WebSockets that have begun.
    Begun,
    /// WebSockets whose transport was closed.
    Ended,
    /// Bytes that were read from the transport.
    BytesReceived,
    /// Bytes that the transport has taken.
    BytesSent,
    /// Messages of clients that carry a channel. Not those that carry SPDY: the session inside
    /// counts its frames.
    MessagesReceived,
    /// Messages with a channel that the transport has taken.
    MessagesSent,
    /// Clients that were refused because a message was invalid or too long. Not those whose
    /// messages carry SPDY.
    Refused,
    /// Clients that did not take a message within `timeouts.write`.
    TimedOut,
}

impl WebSocketCount {
    /// Everything that is counted, in a fixed order.
    pub const ALL: [Self; 8] = [
        Self::Begun,
        Self::Ended,
        Self::BytesReceived,
        Self::BytesSent,
        Self::MessagesReceived,
        Self::MessagesSent,
        Self::Refused,
        Self::TimedOut,
    ];

    /// Returns the name for metrics, such as `bytes_received`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Ended => "ended",
            Self::BytesReceived => "bytes_received",
            Self::BytesSent => "bytes_sent",
            Self::MessagesReceived => "messages_received",
            Self::MessagesSent => "messages_sent",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Adds to counters, if there are any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Option<Arc<WebSocketCounters>>);

impl Tally {
    pub(crate) const fn new(counters: Arc<WebSocketCounters>) -> Self {
        Self(Some(counters))
    }

    pub(crate) fn add(&self, count: WebSocketCount, number: usize) {
        if let Some(counters) = &self.0 {
            counters.0[count as usize].fetch_add(number as u64, Relaxed);
        }
    }
}
