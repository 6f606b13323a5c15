//! SPDY sessions.

mod config;
mod error;
pub mod proto;
mod wire_log;

pub use config::*;
pub use error::*;
