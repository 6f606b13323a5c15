//! The settings of a server.

use std::time::Duration;

use spdy_session::Config;

use crate::Ports;

/// The settings that all requests of a server share.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The configuration of the sessions.
    pub(super) config: Config,
    /// How long a client may take to open all streams that belong together.
    pub(super) gather: Duration,
    /// How long a command may go on after its client is gone.
    pub(super) grace: Duration,
    /// The ports of port-forward over WebSocket without SPDY, if the query does not name them.
    pub(super) ports: Option<Ports>,
    /// The largest message of a WebSocket, in bytes.
    pub(super) max_message: usize,
}
