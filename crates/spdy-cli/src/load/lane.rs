//! One connection, and the request that is sent over it again and again.
//!
//! A client for HTTP looks up the connection of an origin for each request, makes heads and
//! bodies, and watches each exchange. That costs more than the exchange itself. So a lane uses the
//! handles of its session directly, as long as the session accepts requests and the request has no
//! field that the client treats in a way of its own. Everything else is done by the client: it
//! connects again, and sends again what was certainly not processed.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Request,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};

use super::{http2, spdy};
use crate::{
    connect::{Connection, Payload, Requests, reason},
    failure::{Exit, Failure},
};

/// The status of a complete response, and the length of its body.
pub(super) type Answer = (u16, u64);

/// The outcome of a request that was sent by the handles of a session.
pub(super) enum Outcome {
    Answered(Answer),
    /// The server has not processed it, or processing it twice does no harm.
    Unsent,
    Failed(String),
}

/// A connection and its requests.
pub(super) struct Lane {
    routes: Vec<(Option<Direct>, Request<Payload>)>,
    requests: Requests,
    /// How long a server that refuses connections is asked again.
    patience: Duration,
}

/// The handles of a session, with the request in their form.
enum Direct {
    Spdy(spdy::Exchanges),
    Http2(http2::Exchanges),
}

impl Lane {
    /// Creates a lane. `body` is the body of each of the requests.
    pub(super) fn new(
        connection: &Connection,
        requests: &[Request<Payload>],
        body: Option<&Bytes>,
        patience: Duration,
    ) -> Self {
        let route = |request: &Request<Payload>| {
            let direct = Direct::new(connection, request, body.cloned());
            (direct, request.clone())
        };
        Self {
            routes: requests.iter().map(route).collect(),
            requests: connection.requests.clone(),
            patience,
        }
    }

    /// Sends one of the requests, which take turns, and reads its response.
    pub(super) async fn exchange(&self, turn: u64) -> Result<Answer, Failure> {
        let (direct, request) = self.route(turn);
        let outcome = match direct {
            Some(Direct::Spdy(exchanges)) => exchanges.one().await,
            Some(Direct::Http2(exchanges)) => exchanges.one().await,
            None => Outcome::Unsent,
        };
        match outcome {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Failed(reason) => {
                let reason = self.requests.lost(request.uri(), reason);
                Err(Failure::new(Exit::Exchange, reason))
            }
            Outcome::Unsent => self.by_client(request).await,
        }
    }

    fn route(&self, turn: u64) -> &(Option<Direct>, Request<Payload>) {
        let place = (turn % self.routes.len() as u64) as usize;
        &self.routes[place]
    }

    /// Returns the failure of a request that has no complete response in time.
    pub(super) fn late(&self, turn: u64, limit: Duration) -> Failure {
        let reason = format!("no complete response within {limit:?}");
        let url = self.route(turn).1.uri();
        Failure::new(Exit::Exchange, self.requests.late(url, reason))
    }

    /// A server that restarts refuses connections for a while. Nothing was sent to it then.
    async fn by_client(&self, request: &Request<Payload>) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.once(request).await {
                Err(failure) if failure.exit == Exit::Connect && Instant::now() < deadline => {
                    sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn once(&self, request: &Request<Payload>) -> Result<Answer, Failure> {
        let response = self.requests.send(request.clone()).await?;
        let (head, mut body) = response.into_parts();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::new(Exit::Exchange, reason(&error)))?;
            bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        Ok((head.status.as_u16(), bytes))
    }
}

/// The time between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);

impl Direct {
    fn new(
        connection: &Connection,
        request: &Request<Payload>,
        body: Option<Bytes>,
    ) -> Option<Self> {
        if !is_plain(request.headers()) {
            return None;
        }
        if let Some(requests) = &connection.http2 {
            let exchanges = http2::Exchanges::new(requests.clone(), request, body);
            return Some(Self::Http2(exchanges));
        }
        let session = connection.session.as_ref()?;
        spdy::Exchanges::new(session.clone(), request, body).map(Self::Spdy)
    }
}

/// Returns whether processing a request twice does no harm, as with a GET.
pub(super) fn is_repeatable(request: &Request<Payload>, body: Option<&Bytes>) -> bool {
    body.is_none() && request.method().is_idempotent()
}

/// Returns whether all fields are sent as they are, over every protocol.
pub(super) fn is_plain(fields: &HeaderMap) -> bool {
    let is_special = |name: &HeaderName| {
        let special = [
            CONNECTION,
            CONTENT_LENGTH,
            COOKIE,
            HOST,
            TE,
            TRANSFER_ENCODING,
            UPGRADE,
        ];
        // The last are the names of meta headers in SPDY/2.
        let others = [
            "keep-alive",
            "proxy-connection",
            "method",
            "url",
            "version",
            "scheme",
        ];
        special.contains(name) || others.contains(&name.as_str())
    };
    !fields.keys().any(is_special)
}
