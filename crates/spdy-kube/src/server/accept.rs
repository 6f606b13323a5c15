//! The upgrade of a request, and the task that serves the upgraded connection.

use std::io;

use http::{HeaderValue, Request, Response};
use hyper::upgrade::OnUpgrade;
use spdy_tower::upgrade::{self, OnSession};

use super::{session::Over, settings::Settings};
use crate::negotiate::{self, Refusal, VERSION};

/// Returns the response to a request, and serves the upgraded connection in a task.
pub(super) fn answer<U, P, R>(
    accepted: Result<Accepted<U, P>, Refusal>,
    settings: Settings,
    serve: impl FnOnce(Settings, U, P) -> R,
) -> Response<String>
where
    U: Upgrading,
    R: Future<Output = io::Result<()>> + Send + 'static,
{
    let Accepted {
        response,
        upgraded,
        chosen,
    } = match accepted {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.into_response(),
    };
    let running = match settings.session.begin(U::OVER) {
        Ok(running) => running,
        Err(refusal) => return refusal.into_response(),
    };
    let serving = serve(settings, upgraded, chosen);
    tokio::spawn(async move {
        tokio::select! {
            served = serving => if let Err(error) = served {
                tracing::debug!(target: "spdy", %error, "request was not upgraded");
            },
            () = running.watch() => tracing::debug!(target: "spdy", "session is broken off"),
        }
    });
    response
}

/// A transport that is being upgraded.
pub(super) trait Upgrading {
    const OVER: Over;
}

impl Upgrading for OnSession {
    const OVER: Over = Over::Spdy;
}

impl Upgrading for OnUpgrade {
    const OVER: Over = Over::WebSocket;
}

/// A request that is upgraded.
pub(super) struct Accepted<U, P> {
    pub(super) response: Response<String>,
    pub(super) upgraded: U,
    /// The protocol that was chosen.
    pub(super) chosen: P,
}

/// Accepts the upgrade to SPDY with one of the supported protocols. `name` returns the name of
/// each.
pub(super) fn accept<B, P: Copy>(
    request: &mut Request<B>,
    supported: &[P],
    name: impl Fn(P) -> &'static str,
) -> Result<Accepted<OnSession, P>, Refusal> {
    let (mut response, upgraded) =
        upgrade::accept(request).map_err(|error| Refusal(Box::new(error.into_response())))?;
    let chosen = negotiate::choose(request.headers(), supported, &name)?;
    let name = HeaderValue::from_static(name(chosen));
    response.headers_mut().insert(VERSION, name);
    Ok(Accepted {
        response,
        upgraded,
        chosen,
    })
}
