//! Windows: what may be sent, and what the peer may send (protocol.md §13).
//!
//! All arithmetic is in `i64`. A send window becomes negative when the peer lowers
//! INITIAL_WINDOW_SIZE, and a sum of 31-bit increments cannot overflow before it is rejected.

use spdy_frame::{MAX_WINDOW, WindowIncrement};

/// What this side may still send. The initial size is not stored here but passed to each method,
/// because one change of INITIAL_WINDOW_SIZE applies to all streams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendWindow {
    /// The bytes that were granted minus the bytes that were sent.
    granted: i64,
}

/// The error for a window that would exceed 2^31-1 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl SendWindow {
    /// Returns how many bytes may be sent now: 0 while the window is negative.
    pub(crate) fn available(&self, initial: u32) -> usize {
        usize::try_from(self.bytes(initial)).unwrap_or(0)
    }

    /// Returns the window in bytes. It is negative if the peer has made windows smaller than what
    /// was sent already.
    pub(crate) fn bytes(&self, initial: u32) -> i64 {
        i64::from(initial) + self.granted
    }

    /// Returns the largest initial size with which the window is still closed.
    pub(crate) fn shortfall(&self) -> i64 {
        -self.granted
    }

    /// Returns the largest initial size with which this window does not exceed 2^31-1. If it is
    /// negative, no initial size fits.
    pub(crate) fn most_initial(&self) -> i64 {
        i64::from(MAX_WINDOW) - self.granted
    }

    /// Takes bytes, at most [`available`](Self::available), out of the window.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.granted -= bytes as i64;
    }

    /// Puts back bytes that were taken and will not be sent. If the peer has granted them again
    /// meanwhile, the window is above its maximum, and every further grant overflows.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.granted += bytes as i64;
    }

    /// Adds the increment of a WINDOW_UPDATE.
    pub(crate) fn grow(
        &mut self,
        initial: u32,
        increment: WindowIncrement,
    ) -> Result<(), Overflow> {
        let granted = self.granted + i64::from(increment.get());
        if i64::from(initial) + granted > i64::from(MAX_WINDOW) {
            return Err(Overflow);
        }
        self.granted = granted;
        Ok(())
    }
}

/// What the peer may still send, and what happened to the bytes that it sent.
///
/// Invariant: `available + held + returnable == size`. Bytes that arrive move from `available` to
/// `held`. Consumed bytes move from `held` to `returnable`. Bytes that are granted again move from
/// `returnable` to `available`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecvWindow {
    size: i64,
    available: i64,
    held: i64,
    returnable: i64,
    /// How many bytes have ever arrived.
    received: u64,
    /// How many bytes beyond the window the peer may send, because it may have started before it
    /// knew the size.
    slack: i64,
}

impl RecvWindow {
    pub(crate) fn new(bytes: u32) -> Self {
        Self::with_slack(bytes, 0)
    }

    /// Returns a window that lets `slack` further bytes pass.
    pub(crate) fn with_slack(bytes: u32, slack: u32) -> Self {
        Self {
            size: i64::from(bytes),
            available: i64::from(bytes),
            held: 0,
            returnable: 0,
            received: 0,
            slack: i64::from(slack),
        }
    }

    /// Returns whether a frame with this number of bytes fits into the window.
    pub(crate) fn allows(&self, bytes: u64) -> bool {
        i64::try_from(bytes).is_ok_and(|bytes| bytes <= self.available + self.slack)
    }

    /// Returns how many bytes the peer may send, without slack.
    pub(crate) fn bytes(&self) -> i64 {
        self.available
    }

    /// Returns the size of the window: its initial size, and what was added.
    pub(crate) fn size(&self) -> u32 {
        u32::try_from(self.size).unwrap_or(MAX_WINDOW)
    }

    /// Returns how many bytes have ever arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Returns whether the application keeps up: at most half of the window is unread.
    pub(crate) fn is_read(&self) -> bool {
        2 * self.held <= self.size
    }

    /// Returns how many bytes have arrived and are not consumed.
    pub(crate) fn held(&self) -> usize {
        usize::try_from(self.held).unwrap_or(0)
    }

    /// Returns how many bytes were consumed and are not granted again.
    pub(crate) fn returnable(&self) -> u32 {
        u32::try_from(self.returnable).unwrap_or(u32::MAX)
    }

    /// Counts bytes that arrived. If windows are not enforced, the window may become negative; then
    /// only `held` has a meaning.
    pub(crate) fn receive(&mut self, bytes: usize) {
        self.available -= bytes as i64;
        self.held += bytes as i64;
        self.received += bytes as u64;
        self.check();
    }

    /// Counts bytes that the application has consumed.
    pub(crate) fn consume(&mut self, bytes: usize) {
        debug_assert!(
            bytes as i64 <= self.held,
            "more was consumed than had arrived"
        );
        self.held -= bytes as i64;
        self.returnable += bytes as i64;
        self.check();
    }

    /// Enlarges the window to this size, if it is smaller. The next WINDOW_UPDATE grants the
    /// difference.
    pub(crate) fn enlarge_to(&mut self, bytes: u32) {
        let added = (i64::from(bytes) - self.size).max(0);
        self.size += added;
        self.returnable += added;
        self.check();
    }

    /// Takes the credit, if it is at least `threshold` bytes.
    pub(crate) fn take_credit(&mut self, threshold: u32) -> Option<WindowIncrement> {
        if self.returnable < i64::from(threshold.max(1)) {
            return None;
        }
        let increment = WindowIncrement::new(u32::try_from(self.returnable).ok()?)?;
        self.available += self.returnable;
        self.returnable = 0;
        self.check();
        Some(increment)
    }

    /// Takes the credit, once the peer has used half of the window that it can have, which is the
    /// window without the held bytes. So bytes that are never consumed make the increments smaller,
    /// but do not stop them.
    ///
    /// A large window returns credit after [`LARGEST_STEP`] bytes. On a path that is long enough
    /// for the window, credit that waits here for longer would be missing at the peer.
    pub(crate) fn take_due_credit(&mut self) -> Option<WindowIncrement> {
        if self.returnable < self.available.min(LARGEST_STEP) {
            return None;
        }
        self.take_credit(1)
    }

    /// Returns how many more bytes have to be consumed until
    /// [`take_due_credit`](Self::take_due_credit) returns something; `None` if it does so now.
    #[cfg(feature = "tokio")]
    pub(crate) fn due_after(&self) -> Option<usize> {
        let missing = self.available.clamp(1, LARGEST_STEP) - self.returnable;
        usize::try_from(missing).ok().filter(|&bytes| bytes > 0)
    }

    fn check(&self) {
        debug_assert_eq!(
            self.available + self.held + self.returnable,
            self.size,
            "credit is conserved"
        );
        debug_assert!(self.held >= 0 && self.returnable >= 0);
    }
}

/// Credit is due after this number of consumed bytes, whatever the size of the window.
const LARGEST_STEP: i64 = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn increment(bytes: u32) -> WindowIncrement {
        WindowIncrement::new(bytes).unwrap()
    }

    /// The figures of protocol.md §13.2.
    #[test]
    fn c184_a_smaller_initial_window_makes_a_used_one_negative() {
        let mut window = SendWindow::default();
        window.take(61_440);
        assert_eq!(window.available(65_536), 4096);
        assert_eq!(window.bytes(16_384), -45_056);
        assert_eq!(window.available(16_384), 0);
        assert_eq!(window.shortfall(), 61_440);
        window.grow(16_384, increment(45_056)).unwrap();
        assert_eq!(window.available(16_384), 0, "exactly back at zero");
        window.grow(16_384, increment(1)).unwrap();
        assert_eq!(window.available(16_384), 1);
    }

    #[test]
    fn a_window_above_its_maximum_is_refused_and_unchanged() {
        let mut window = SendWindow::default();
        window.grow(MAX_WINDOW - 1, increment(1)).unwrap();
        assert_eq!(window.grow(MAX_WINDOW - 1, increment(1)), Err(Overflow));
        assert_eq!(window.available(MAX_WINDOW - 1), MAX_WINDOW as usize);
        assert_eq!(window.most_initial(), i64::from(MAX_WINDOW - 1));
    }

    #[test]
    fn credit_comes_back_only_for_what_was_consumed() {
        let mut window = RecvWindow::new(1000);
        assert!(window.allows(1000) && !window.allows(1001));
        window.receive(1000);
        assert_eq!(window.take_credit(1), None);
        window.consume(600);
        assert_eq!(window.take_credit(601), None, "below the threshold");
        assert_eq!(window.take_credit(600), Some(increment(600)));
        assert_eq!(window.take_credit(1), None, "given once");
        assert!(window.allows(600) && !window.allows(601));
        assert_eq!(window.held(), 400);
    }

    #[test]
    fn credit_is_due_when_half_of_what_is_not_held_is_used() {
        let mut window = RecvWindow::new(1000);
        window.receive(499);
        window.consume(499);
        assert_eq!(window.take_due_credit(), None);
        window.receive(1);
        window.consume(1);
        assert_eq!(window.take_due_credit(), Some(increment(500)));
        window.receive(900);
        window.receive(100);
        window.consume(40);
        assert_eq!(
            window.take_due_credit(),
            Some(increment(40)),
            "960 are held"
        );
        assert_eq!(window.take_due_credit(), None);
    }

    #[test]
    fn credit_of_a_large_window_is_due_after_half_a_mebibyte() {
        let mut window = RecvWindow::new(1 << 24);
        window.receive(1 << 19);
        window.consume((1 << 19) - 1);
        assert_eq!(window.take_due_credit(), None);
        window.consume(1);
        assert_eq!(window.take_due_credit(), Some(increment(1 << 19)));
    }

    #[test]
    fn a_window_grows_by_what_is_granted_and_never_shrinks() {
        let mut window = RecvWindow::new(1000);
        window.enlarge_to(3000);
        window.enlarge_to(2000);
        assert_eq!((window.size(), window.returnable()), (3000, 2000));
        assert!(!window.allows(1001), "it is not granted yet");
        assert_eq!(window.take_credit(1), Some(increment(2000)));
        assert!(window.allows(3000));
    }

    #[test]
    fn slack_passes_and_is_not_granted_again() {
        let mut window = RecvWindow::with_slack(10, 90);
        assert!(window.allows(100) && !window.allows(101));
        window.receive(100);
        window.consume(100);
        assert_eq!(window.take_credit(1), Some(increment(100)));
        assert_eq!(window.available, 10);
    }

    #[test]
    fn without_enforcement_the_window_goes_below_zero_and_recovers() {
        let mut window = RecvWindow::new(10);
        window.receive(100);
        assert_eq!(window.held(), 100);
        window.consume(100);
        assert_eq!(window.held(), 0);
    }
}
