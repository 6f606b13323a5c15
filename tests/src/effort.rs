//! Measures work by a clock that stops while other threads and processes have the processor.
//!
//! The seconds that work takes depend on the machine as much as on the work. So a test that shows
//! that work does not grow with its input measures twice, once with less input, and compares.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Does `work` this number of times, and returns the least processor time of the calling thread for
/// it.
///
/// Disturbances make a measurement larger, so the least one is the most exact.
pub fn least(times: usize, mut work: impl FnMut()) -> Duration {
    let once = |_| {
        let before = used();
        work();
        used() - before
    };
    (0..times).map(once).min().unwrap_or_default()
}

/// Returns how long the calling thread has worked since it began.
#[must_use]
pub fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("it is not negative")
}
