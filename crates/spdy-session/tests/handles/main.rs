//! The promises of the handles of sessions and streams, over the real driver.

mod freed;
mod held;
mod sessions;
mod shares;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod waits;
