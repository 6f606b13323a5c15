//! Serves the same requests over WebSocket. kubectl asks for it first, since 1.30 (exec, attach)
//! and 1.31 (port-forward), and most other clients ask only for it.

mod command;
mod messages;
mod ports;

use std::io;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use self::messages::{Socket, begin};
pub(super) use self::{command::serve as serve_command, ports::serve as serve_ports};
use super::{accept::Accepted, settings::Settings};
use crate::{
    Status,
    negotiate::{self, Refusal},
    websocket::{Subprotocol, Tunnel},
};

/// Accepts the upgrade to WebSocket with one of the supported sub-protocols. If kubectl is refused,
/// it asks for SPDY next.
pub(super) fn accept<B>(
    request: &mut Request<B>,
    supported: &[Subprotocol],
) -> Result<Accepted<OnUpgrade, Subprotocol>, Refusal> {
    let accept = agree(request)?;
    let chosen = choose(request.headers(), supported)?;
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
    if chosen != Subprotocol::Unnamed {
        let name = HeaderValue::from_static(chosen.name());
        headers.insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    Ok(Accepted {
        response,
        upgraded,
        chosen,
    })
}

/// Returns the first sub-protocol of the client that is supported. A client that names none gets
/// the first version, if that is supported.
fn choose(headers: &HeaderMap, supported: &[Subprotocol]) -> Result<Subprotocol, Refusal> {
    let (unnamed, named): (Vec<_>, Vec<_>) = supported
        .iter()
        .partition(|&&protocol| protocol == Subprotocol::Unnamed);
    let offered = negotiate::names(headers, &SEC_WEBSOCKET_PROTOCOL);
    let chosen = match headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        true => negotiate::first_of(&offered, &named, Subprotocol::name),
        false => unnamed.first().copied(),
    };
    chosen.ok_or_else(|| {
        let message = negotiate::no_match(&offered, &named, Subprotocol::name);
        Refusal::status(Status::failure(StatusCode::FORBIDDEN, "Forbidden", message))
    })
}

/// Checks a request, whatever sub-protocols it names. Returns the answer to its key.
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
    // Messages follow the head. A body there could be taken for messages.
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if headers.contains_key(TRANSFER_ENCODING) || lengths.any(|length| length != "0") {
        return Err(refuse("request to upgrade has a body"));
    }
    let version = headers.get(SEC_WEBSOCKET_VERSION);
    if version.map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(refuse_version());
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let key = key.ok_or_else(|| refuse("Sec-WebSocket-Key is not 16 bytes in base64"))?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| refuse("Sec-WebSocket-Key cannot be answered"))
}

fn is_key(key: &HeaderValue) -> bool {
    let decoded = BASE64_STANDARD.decode(key.as_bytes());
    decoded.is_ok_and(|key| key.len() == KEY)
}

fn refuse(why: &str) -> Refusal {
    Refusal::status(Status::bad_request(why))
}

/// The client can ask again with the version that the response names.
fn refuse_version() -> Refusal {
    let why = "the version of WebSocket is not 13";
    let status = Status::failure(StatusCode::UPGRADE_REQUIRED, "UpgradeRequired", why);
    let mut refusal = Refusal::status(status);
    let headers = refusal.0.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    refusal
}

/// Returns a transport whose bytes are carried in messages.
pub(super) async fn tunnel(upgraded: OnUpgrade, settings: &Settings) -> io::Result<Tunnel<Socket>> {
    Ok(Tunnel::new(
        begin(upgraded, settings, &settings.session).await?,
    ))
}

/// The length of a key, in bytes.
const KEY: usize = 16;
