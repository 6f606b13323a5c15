//! What work costs, by a clock that stands still while other threads and processes have the
//! processor.
//!
//! How many seconds something takes says as much about the machine as about the work. So a test
//! that shows that work does not grow with its input measures twice, once with less of the input,
//! and compares.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Does `work` this number of times, and returns the least processor time of the calling thread for
/// it.
///
/// What disturbs a measurement makes it larger, so the least one is the truest.
pub fn least(times: usize, mut work: impl FnMut()) -> Duration {
    let once = |_| {
        let before = used();
        work();
        used() - before
    };
    (0..times).map(once).min().unwrap_or_default()
}

/// How long the calling thread has worked since it began.
#[must_use]
pub fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("it is not negative")
}
