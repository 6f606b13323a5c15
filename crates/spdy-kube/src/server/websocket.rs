//! The same over WebSocket, which kubectl asks for first from 1.30 on (exec, attach) and 1.31 on (port-forward).

mod channels;
mod socket;
mod tunnel;

use std::io;

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub(super) use self::channels::serve;
use self::{
    socket::{Socket, socket},
    tunnel::Tunnel,
};
use super::accept::Accepted;
use crate::negotiate::{self, Refusal};

/// Whether a request asks for WebSocket and not for SPDY.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    let asks = |name: &&str| name.eq_ignore_ascii_case("websocket");
    negotiate::names(request.headers(), &UPGRADE)
        .iter()
        .any(asks)
}

/// Accepts the upgrade to WebSocket and one of the protocols that are supported. A client that is refused asks again,
/// for SPDY.
pub(super) fn accept<B>(
    request: &mut Request<B>,
    supported: &[&'static str],
) -> Result<Accepted<OnUpgrade>, Refusal> {
    let accept = agree(request)?;
    let offered = negotiate::names(request.headers(), &SEC_WEBSOCKET_PROTOCOL);
    let chosen = negotiate::first_of(&offered, supported)
        .ok_or_else(|| refuse("no protocol of the client is supported over WebSocket"))?;
    let upgraded = request
        .extensions_mut()
        .remove()
        .ok_or_else(|| refuse("connection cannot be upgraded, or is already"))?;
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    let name = HeaderValue::from_static(supported[chosen]);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, name);
    Ok(Accepted {
        response,
        upgraded,
        chosen,
    })
}

/// Judges the request, whatever protocols it names. Gives the answer to its key.
fn agree<B>(request: &Request<B>) -> Result<HeaderValue, Refusal> {
    let headers = request.headers();
    let is_upgrade = |name: &&str| name.eq_ignore_ascii_case("upgrade");
    if request.method() != Method::GET
        || !negotiate::names(headers, &CONNECTION)
            .iter()
            .any(is_upgrade)
    {
        return Err(refuse("request does not ask to upgrade to WebSocket"));
    }
    let version = headers.get(SEC_WEBSOCKET_VERSION);
    if version.map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(refuse("version of WebSocket is not 13"));
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| refuse("request to upgrade has no Sec-WebSocket-Key"))?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| refuse("key cannot be answered"))
}

fn refuse(why: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, why)
}

/// The octets of SPDY that are carried in messages.
pub(super) async fn tunnel(upgraded: OnUpgrade, max_message: usize) -> io::Result<Tunnel<Socket>> {
    Ok(Tunnel::new(socket(upgraded, max_message).await?))
}

/// The protocol of port-forward: SPDY within WebSocket.
pub(super) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
