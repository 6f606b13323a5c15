//! The side that accepts the upgrade.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use http::{
    Request, Response, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use hyper::upgrade::OnUpgrade;
use spdy_session::{Config, Driver, Incoming, Session, Version};

use super::{Upgraded, agree, is_agreed};

/// Accepts the upgrade that a request asks for. The method does not matter.
///
/// The response has status 101 and the two fields that belong to it. You can add more. Return it as
/// the response to the request; the transport is available after that, see [`OnSession`].
///
/// # Errors
///
/// [`UpgradeError`]. Then the request is unchanged, and can be answered in another way.
pub fn accept<B>(request: &mut Request<B>) -> Result<(Response<String>, OnSession), UpgradeError> {
    if !is_agreed(request.headers()) {
        return Err(UpgradeError::NotAsked);
    }
    if has_body(request) {
        return Err(UpgradeError::Body);
    }
    let transport = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or(UpgradeError::NotPossible)?;
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    agree(response.headers_mut());
    Ok((response, OnSession(transport)))
}

/// Frames follow the head. A body there could be taken for frames.
fn has_body<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    headers.contains_key(TRANSFER_ENCODING) || lengths.any(|length| length != "0")
}

/// The transport of a request whose upgrade was [accepted](accept), once the response is on its
/// way.
///
/// This future returns the [`Upgraded`] transport. Await it in a separate task, because the handler
/// has to return first. It fails if the client is gone or the response was not 101. If it is
/// dropped, hyper closes the connection after the response.
#[derive(Debug)]
#[must_use = "the connection is closed when this is dropped"]
pub struct OnSession(OnUpgrade);

impl OnSession {
    /// Waits for the transport, and starts a session of SPDY/3.1 on it as its server.
    /// [`config`](super::config) suits Kubernetes. For HTTP over the session, pass the transport to
    /// [`Builder::serve_connection`](crate::Builder::serve_connection) instead.
    ///
    /// # Errors
    ///
    /// The errors of the future itself.
    pub async fn server(self, config: Config) -> io::Result<(Session, Incoming, Driver<Upgraded>)> {
        Ok(spdy_session::server(self.await?, Version::V3_1, config))
    }
}

impl Future for OnSession {
    type Output = io::Result<Upgraded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map_ok(Upgraded::new)
            .map_err(io::Error::other)
    }
}

/// Why a request is not upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeError {
    /// It does not ask to upgrade: `connection: upgrade` or `upgrade: spdy/3.1` is missing.
    NotAsked,
    /// It announces a body.
    Body,
    /// Its connection cannot be upgraded, because it was accepted already, or did not arrive over
    /// HTTP/1.1 from hyper with upgrades enabled.
    NotPossible,
}

impl UpgradeError {
    /// Returns the status of the response to send.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }

    /// Returns a response with this status and the reason as text.
    #[must_use]
    pub fn into_response(self) -> Response<String> {
        let mut response = Response::new(format!("{self}\n"));
        *response.status_mut() = self.status();
        response
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "request does not ask to upgrade to SPDY/3.1",
            Self::Body => "request to upgrade has a body",
            Self::NotPossible => "connection cannot be upgraded",
        })
    }
}

impl Error for UpgradeError {}
