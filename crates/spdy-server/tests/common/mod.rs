//! Shared code of several tests.

// Each test uses a part of this module.
#![allow(dead_code)]

#[cfg(feature = "cli")]
pub(crate) mod program;
pub(crate) mod server;
