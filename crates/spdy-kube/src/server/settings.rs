//! What can be set of a server.

use std::time::Duration;

use spdy_session::Config;

use crate::Ports;

/// What all requests of a server share.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// That of the sessions.
    pub(super) config: Config,
    /// How long a client may take to open the streams that belong together.
    pub(super) gather: Duration,
    /// How long a command may go on when its client is gone.
    pub(super) grace: Duration,
    /// The ports of port-forward over WebSocket without SPDY, if the query does not say them.
    pub(super) ports: Option<Ports>,
    /// How many bytes a message of a WebSocket may have.
    pub(super) max_message: usize,
}
