//! Starts sessions: creates the handles and the driver.

use std::sync::Arc;

use spdy_frame::{Side, Version};

use crate::{
    config::Config,
    driver::{self, Driver},
    handle::{Incoming, Session},
    proto::Connection,
    shared::stream_cell::Hub,
};

/// Starts a session as the side that opened the transport.
///
/// Spawn the driver or poll it; nothing happens otherwise. `version` is the negotiated version.
/// Sessions can share a configuration.
pub fn client<IO>(
    io: IO,
    version: Version,
    config: impl Into<Arc<Config>>,
) -> (Session, Incoming, Driver<IO>) {
    session(io, Side::Client, version, config.into())
}

/// Starts a session as the side that accepted the transport.
///
/// Spawn the driver or poll it; nothing happens otherwise. `version` is the negotiated version.
/// Sessions can share a configuration.
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
    let connection = Connection::new(side, version, config, driver::now());
    let config = connection.shared_config();
    let hub = Arc::new(Hub::new(side, version, config));
    let driver = Driver::new(io, connection, Arc::clone(&hub));
    (Session::first(Arc::clone(&hub)), Incoming::new(hub), driver)
}
