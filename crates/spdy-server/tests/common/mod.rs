//! What several tests need.

// No test needs all of it.
#![allow(dead_code)]

#[cfg(feature = "cli")]
pub(crate) mod program;
pub(crate) mod server;
