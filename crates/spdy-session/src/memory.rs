//! The memory of all sessions that share one sum.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The memory of any number of sessions. Give the same value to each of them, in
/// [`Config::memory`](crate::Config::memory).
///
/// Each session updates its part whenever it has finished its work. Its part is 8 KiB for itself,
/// 1.5 KiB for each stream, the compression window of its peer, an incomplete frame, payload and
/// header blocks that were not read, and payload that was not sent. The part is rounded up to a
/// multiple of 4 KiB, so that a session without much change adds nothing.
#[derive(Debug, Default)]
pub struct MemoryUse(AtomicUsize);

impl MemoryUse {
    /// Returns how many bytes the sessions hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The part of one session in the sum. Dropping it removes the part.
#[derive(Debug)]
pub(crate) struct Share {
    sum: Option<Arc<MemoryUse>>,
    counted: usize,
}

impl Share {
    pub(crate) const fn new(sum: Option<Arc<MemoryUse>>) -> Self {
        Self { sum, counted: 0 }
    }

    /// Sets this part to what the session holds. Calls `held` only if there is a sum.
    pub(crate) fn count(&mut self, held: impl FnOnce() -> usize) {
        if let Some(sum) = &self.sum {
            let held = (ITSELF + held()).next_multiple_of(STEP);
            // If the part gets smaller, the difference and the addition wrap, and the result is
            // right.
            let change = held.wrapping_sub(self.counted);
            if change != 0 {
                sum.0.fetch_add(change, Ordering::Relaxed);
                self.counted = held;
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(sum) = &self.sum {
            sum.0.fetch_sub(self.counted, Ordering::Relaxed);
        }
    }
}

/// What a session takes at least, in bytes, with its task and what HTTP remembers of it.
const ITSELF: usize = 8 * 1024;

/// The part of a session is rounded up to a multiple of this, in bytes.
const STEP: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_has_the_parts_of_all_live_sessions() {
        let sum = Arc::<MemoryUse>::default();
        let share = || Share::new(Some(Arc::clone(&sum)));
        let (mut one, mut other) = (share(), share());
        assert_eq!(sum.bytes(), 0);
        one.count(|| 0);
        other.count(|| 1);
        assert_eq!(sum.bytes(), 8192 + 12_288);
        one.count(|| 32_768);
        assert_eq!(sum.bytes(), 40_960 + 12_288);
        one.count(|| 100);
        assert_eq!(sum.bytes(), 12_288 + 12_288);
        drop(other);
        assert_eq!(sum.bytes(), 12_288);
        drop(one);
        assert_eq!(sum.bytes(), 0);
        Share::new(None).count(|| unreachable!("it is counted nowhere"));
    }
}
