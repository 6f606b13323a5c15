//! The settings of a server.

use std::{io, time::Duration};

use spdy_session::Config;
use spdy_tower::upgrade::{OnSession, Upgraded};

use super::{
    heard::{Client, Heard},
    session::Session,
};
use crate::{Ports, websocket::Tally};

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
    /// How long the outputs of a command can stay open after its end.
    pub(super) drain: Option<Duration>,
    /// Counts WebSockets.
    pub(super) tally: Tally,
    /// The session, of the settings for one request.
    pub(super) session: Session,
}

impl Settings {
    /// Waits for the transport of a client that uses SPDY.
    pub(super) async fn spdy(&self, upgraded: OnSession) -> io::Result<Heard<Upgraded>> {
        Ok(Heard::new(
            upgraded.await?,
            Client::over_spdy(&self.session),
        ))
    }
}
