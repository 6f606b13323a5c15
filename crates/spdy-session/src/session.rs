//! Makes sessions: the handles of one, and its driver.

use std::sync::Arc;

use spdy_frame::{Side, Version};

use crate::{
    config::Config,
    driver::Driver,
    handle::{Incoming, Session},
    shared::stream_cell::Hub,
};

/// A session of which this side opened the transport.
///
/// Spawn the driver, or poll it: nothing happens otherwise. The version is the negotiated one. Sessions may share a
/// configuration.
pub fn client<IO>(
    io: IO,
    version: Version,
    config: impl Into<Arc<Config>>,
) -> (Session, Incoming, Driver<IO>) {
    session(io, Side::Client, version, config.into())
}

/// A session of which this side accepted the transport.
///
/// Spawn the driver, or poll it: nothing happens otherwise. The version is the negotiated one. Sessions may share a
/// configuration.
pub fn server<IO>(
    io: IO,
    version: Version,
    config: impl Into<Arc<Config>>,
) -> (Session, Incoming, Driver<IO>) {
    session(io, Side::Server, version, config.into())
}

fn session<IO>(
    io: IO,
    side: Side,
    version: Version,
    config: Arc<Config>,
) -> (Session, Incoming, Driver<IO>) {
    let hub = Arc::new(Hub::new(side, version, Arc::clone(&config)));
    let driver = Driver::new(io, config, Arc::clone(&hub));
    (Session::first(Arc::clone(&hub)), Incoming::new(hub), driver)
}
