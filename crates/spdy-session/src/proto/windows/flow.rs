//! Windows: what may be sent, and what the peer may send (protocol.md §13).
//!
//! All arithmetic is in `i64`, far from its ends: a send window may go below zero when the peer lowers
//! INITIAL_WINDOW_SIZE, and no sum of 31-bit increments overflows before it is refused.

use spdy_frame::{MAX_WINDOW, WindowIncrement};

/// What this side may still send to the peer, beside what the window begins with: so a change of INITIAL_WINDOW_SIZE,
/// which counts for all streams, has to be written down but once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendWindow {
    /// What was granted, less what was sent.
    granted: i64,
}

/// A window would exceed 2^31-1 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl SendWindow {
    /// How many bytes may go out now; 0 while the window is negative.
    pub(crate) fn available(&self, initial: u32) -> usize {
        usize::try_from(self.octets(initial)).unwrap_or(0)
    }

    /// The window itself. It is negative when the peer has made the windows smaller than what was sent.
    pub(crate) fn octets(&self, initial: u32) -> i64 {
        i64::from(initial) + self.granted
    }

    /// The window opens as soon as it begins with more than so many bytes.
    pub(crate) fn shortfall(&self) -> i64 {
        -self.granted
    }

    /// The largest window that this one may begin with; all are below if it is negative.
    pub(crate) fn most_initial(&self) -> i64 {
        i64::from(MAX_WINDOW) - self.granted
    }

    /// Takes `bytes`, which are at most [`available`](Self::available), out of the window.
    pub(crate) fn take(&mut self, octets: usize) {
        self.granted -= octets as i64;
    }

    /// Puts back what was taken and is not sent. If the peer has granted it a second time meanwhile, the window is above
    /// its maximum, and no grant fits into it.
    pub(crate) fn give_back(&mut self, octets: usize) {
        self.granted += octets as i64;
    }

    /// Adds what a WINDOW_UPDATE grants.
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

/// What the peer may still send to this side, and what has become of what it sent.
///
/// Invariant: `available + held + returnable == size`. Bytes arrive (`available` to `held`), are consumed
/// (`held` to `returnable`), and are granted again (`returnable` to `available`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecvWindow {
    size: i64,
    available: i64,
    held: i64,
    returnable: i64,
    /// All that ever arrived.
    received: u64,
    /// What the peer may send beyond the window, since it may have begun before it knew the size.
    slack: i64,
}

impl RecvWindow {
    pub(crate) fn new(octets: u32) -> Self {
        Self::with_slack(octets, 0)
    }

    /// A window that lets `slack` bytes more pass.
    pub(crate) fn with_slack(octets: u32, slack: u32) -> Self {
        Self {
            size: i64::from(octets),
            available: i64::from(octets),
            held: 0,
            returnable: 0,
            received: 0,
            slack: i64::from(slack),
        }
    }

    /// Whether a frame of `bytes` fits into the window.
    pub(crate) fn allows(&self, octets: u64) -> bool {
        i64::try_from(octets).is_ok_and(|octets| octets <= self.available + self.slack)
    }

    /// What the peer may send, without slack.
    pub(crate) fn octets(&self) -> i64 {
        self.available
    }

    /// What the window began with, and what was added to it.
    pub(crate) fn size(&self) -> u32 {
        u32::try_from(self.size).unwrap_or(MAX_WINDOW)
    }

    /// Bytes that have arrived since the window began.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether the application keeps up: it leaves at most half of the window unread.
    pub(crate) fn is_read(&self) -> bool {
        2 * self.held <= self.size
    }

    /// Bytes that arrived and are not consumed.
    pub(crate) fn held(&self) -> usize {
        usize::try_from(self.held).unwrap_or(0)
    }

    /// Bytes that were consumed and are not granted again.
    pub(crate) fn returnable(&self) -> u32 {
        u32::try_from(self.returnable).unwrap_or(u32::MAX)
    }

    /// Books `bytes` that arrived. Without enforcement the window may go below zero; only `held` counts then.
    pub(crate) fn receive(&mut self, octets: usize) {
        self.available -= octets as i64;
        self.held += octets as i64;
        self.received += octets as u64;
        self.check();
    }

    /// Books `bytes` that the application is done with.
    pub(crate) fn consume(&mut self, octets: usize) {
        debug_assert!(
            octets as i64 <= self.held,
            "more was consumed than had arrived"
        );
        self.held -= octets as i64;
        self.returnable += octets as i64;
        self.check();
    }

    /// Makes the window as large as this if it is smaller: what is added is granted with the next WINDOW_UPDATE.
    pub(crate) fn enlarge_to(&mut self, octets: u32) {
        let added = (i64::from(octets) - self.size).max(0);
        self.size += added;
        self.returnable += added;
        self.check();
    }

    /// Takes the credit to be granted, once there are at least `threshold` bytes of it.
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

    /// Takes the credit to be granted, once the peer has used half of what it can have: of the window without
    /// the bytes that are held. So bytes that nobody consumes make grants small, and never stop them. Of a large
    /// window it need not be half: what waits to be granted is missing on a path that is long enough for the window.
    pub(crate) fn take_due_credit(&mut self) -> Option<WindowIncrement> {
        if self.returnable < self.available.min(LARGEST_STEP) {
            return None;
        }
        self.take_credit(1)
    }

    /// After how many more consumed bytes [`take_due_credit`](Self::take_due_credit) grants something; `None` if it does
    /// so now.
    #[cfg(feature = "tokio")]
    pub(crate) fn due_after(&self) -> Option<usize> {
        let missing = self.available.clamp(1, LARGEST_STEP) - self.returnable;
        usize::try_from(missing).ok().filter(|&octets| octets > 0)
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

/// Bytes after which credit is due, whatever the window.
const LARGEST_STEP: i64 = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn increment(octets: u32) -> WindowIncrement {
        WindowIncrement::new(octets).unwrap()
    }

    /// The figures of protocol.md §13.2.
    #[test]
    fn c184_a_smaller_initial_window_makes_a_used_one_negative() {
        let mut window = SendWindow::default();
        window.take(61_440);
        assert_eq!(window.available(65_536), 4096);
        assert_eq!(window.octets(16_384), -45_056);
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
