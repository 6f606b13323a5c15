//! What the transport has taken, and may hold instead of passing it on.

/// Whether the transport holds the end of a stream that was reported as written.
///
/// TLS takes up to 80 KiB that the socket does not take. A transport that is closed then loses
/// them. Without a driver nothing is known about that, and the transport counts as one that holds
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Whether it has not passed on everything that it has taken.
    is_unflushed: bool,
    /// Whether an end was reported since it last held nothing.
    has_end: bool,
}

impl Held {
    /// Notes that the transport has taken the end of a stream, which is reported.
    #[inline]
    pub(crate) fn take_end(&mut self) {
        self.has_end = true;
    }

    /// Notes whether the transport has passed on everything.
    #[cfg(feature = "tokio")]
    #[inline]
    pub(crate) fn note(&mut self, is_unflushed: bool) {
        self.is_unflushed = is_unflushed;
        self.has_end &= is_unflushed;
    }

    /// Returns whether an end was reported since the transport last held nothing.
    #[cfg(feature = "tokio")]
    pub(crate) const fn has_taken_end(&self) -> bool {
        self.has_end
    }

    pub(crate) const fn has_end(&self) -> bool {
        self.is_unflushed && self.has_end
    }
}
