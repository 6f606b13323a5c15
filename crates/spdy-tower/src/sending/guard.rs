//! Panics of the application, told apart from those of this crate.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Failure;

/// Calls the application. A panic in there costs one exchange and not its session.
///
/// Only what belongs to the application may run inside: a panic of this crate is a fault of it,
/// which must not pass for one of the application, and ends the connection. After a panic the
/// application's part is dropped and not called again, so no code sees what it has left half done.
pub(crate) fn guarded<T>(application: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(application)).map_err(Failure::Panic)
}
