//! The counts of one session, and when they become visible.

use std::{mem, sync::Arc};

use super::{Count, Counters, OFTEN};

/// The counts of one session. Without [`Counters`] it does nothing.
#[derive(Debug)]
pub(crate) struct Tally(Option<Box<Pending>>);

#[derive(Debug)]
struct Pending {
    counters: Arc<Counters>,
    /// The counts that are not in `counters` yet.
    often: [u64; OFTEN],
    /// Whether any number in `often` is not 0.
    some: bool,
}

impl Tally {
    pub(crate) fn new(counters: Option<&Arc<Counters>>) -> Self {
        Self(counters.map(|counters| {
            Box::new(Pending {
                counters: Arc::clone(counters),
                often: [0; OFTEN],
                some: false,
            })
        }))
    }

    #[inline]
    pub(crate) fn add(&mut self, count: Count, number: u64) {
        if let Some(pending) = &mut self.0 {
            let index = count.index();
            match pending.often.get_mut(index) {
                Some(earlier) => {
                    *earlier += number;
                    pending.some = true;
                }
                None => pending.counters.add(index, number),
            }
        }
    }

    #[inline]
    pub(crate) fn one(&mut self, count: Count) {
        self.add(count, 1);
    }

    /// Adds the counts to the shared counters.
    #[inline]
    pub(crate) fn flush(&mut self) {
        if let Some(pending) = &mut self.0 {
            pending.flush();
        }
    }
}

impl Pending {
    fn flush(&mut self) {
        if !mem::take(&mut self.some) {
            return;
        }
        for (index, number) in self.often.iter_mut().enumerate() {
            if *number > 0 {
                self.counters.add(index, mem::take(number));
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limit;

    #[test]
    fn counts_are_visible_after_a_flush_and_after_the_end() {
        let counters = Arc::new(Counters::default());
        let mut tally = Tally::new(Some(&counters));
        tally.add(Count::BytesSent, 5);
        tally.one(Count::Limit(Limit::Pings));
        assert_eq!(counters.get(Count::BytesSent), 0);
        assert_eq!(counters.get(Count::Limit(Limit::Pings)), 1);
        tally.flush();
        tally.add(Count::BytesSent, 2);
        assert_eq!(counters.get(Count::BytesSent), 5);
        drop(tally);
        assert_eq!(counters.snapshot().get(Count::BytesSent), 7);
    }
}
