//! Distinguishes panics of the application from those of this crate.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Failure;

/// Calls the application. A panic there ends one exchange, not the session.
///
/// Only the application's code may run inside. A panic of this crate is a fault of this crate,
/// which ends the connection and must not look like one of the application. After a panic the
/// application's part is dropped and not called again, so no code sees the state that the panic
/// left.
pub(crate) fn guarded<T>(application: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(application)).map_err(Failure::Panic)
}
