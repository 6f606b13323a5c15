//! Chance, from a seed alone.

use std::{ops::Range, time::Duration};

/// A generator of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Dice of their own for one of many.
    pub(crate) const fn fork(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) const fn below(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// True this number of times out of a hundred.
    pub(crate) const fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.below(range))
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let index = self.below(0..of.len() as u64);
        of[usize::try_from(index).expect("it is below a usize")].clone()
    }
}
