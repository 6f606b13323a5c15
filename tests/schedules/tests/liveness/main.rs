//! Two drivers, and applications that use their handles, under a scheduler of the test: the time is
//! virtual, and which task runs next, how the bytes are cut and what the applications do come from
//! a seed.
//!
//! Whenever no task is ready, before the time goes on, an oracle asserts that nothing possible is
//! left undone:
//!
//! - `Driver::check_rest` judges the state of the driver and its machine: orders that are not
//!   looked at, streams that could be opened, bytes that could leave, reading that could go on,
//!   credit that could be granted, deadlines of the configuration that no alarm is set for;
//! - the transport has nothing that the driver would take, and no room for what it has to write or
//!   to flush;
//! - each task of an application is polled once more: one that gets on by that was not woken when
//!   it should have been;
//! - sometimes a driver is polled once more: if an application is woken by that, it was due before.
//!
//! In the end every task has ended, within a bounded time; and where nothing was cut off, every
//! count of the machines is back at zero, and the windows of both sides agree. Some transports hold
//! what they have taken, as TLS does: then what was reported as written has been passed on, or the
//! session has not ended in order, and no earlier than a write may take.
//!
//! A schedule is made from its seed alone. The seed is printed when it fails; `LIVENESS_SEED=n`
//! runs that one, and `LIVENESS_SCHEDULES=n` as many as are wanted.

mod applications;
mod configs;
mod executor;
mod handlers;
mod holder;
mod pipe;
mod random;
mod requests;
mod schedule;

use std::{
    panic,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

/// So many take some seconds in a debug build.
const SCHEDULES: u64 = 1000;

#[test]
fn a_driver_at_rest_has_left_no_work_undone() {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    if let Some(seed) = number("LIVENESS_SEED") {
        return schedule::run(seed);
    }
    let schedules = number("LIVENESS_SCHEDULES").unwrap_or(SCHEDULES);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= schedules {
                return;
            }
            if panic::catch_unwind(|| schedule::run(seed)).is_err() {
                failed.store(true, Ordering::Relaxed);
                eprintln!("the schedule of LIVENESS_SEED={seed} fails");
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    assert!(!failed.into_inner(), "a schedule fails: see above");
}
