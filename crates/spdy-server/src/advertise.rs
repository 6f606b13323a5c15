//! The `Alternate-Protocol` field, which announces SPDY to HTTP/1 clients (protocol.md §3.6).

use std::num::NonZeroU16;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use spdy_frame::Version;

use crate::{info::ConnectionInfo, negotiate::Protocol};

/// Announces `port` in the HTTP/1 responses of `app`. Without a port, `app` is returned unchanged.
pub(crate) fn advertise(app: Router, port: Option<NonZeroU16>) -> Router {
    match port {
        Some(port) => app.layer(from_fn_with_state(value(port), add)),
        None => app,
    }
}

async fn add(State(value): State<HeaderValue>, request: Request, next: Next) -> Response {
    // SPDY/2 "Server Advertisement": on a SPDY stream, the client already knows what the field
    // announces.
    let is_news = request
        .extensions()
        .get::<ConnectionInfo>()
        .is_some_and(|info| info.protocol == Protocol::Http1);
    let mut response = next.run(request).await;
    if is_news {
        response.headers_mut().insert(ALTERNATE_PROTOCOL, value);
    }
    response
}

/// Returns all versions, the newest first: clients use the first one that they support.
fn value(port: NonZeroU16) -> HeaderValue {
    let alternatives = [Version::V3_1, Version::V3, Version::V2].map(|version| {
        let token = str::from_utf8(version.alpn()).expect("ALPN ids are ASCII");
        format!("{port}:npn-{token}")
    });
    HeaderValue::try_from(alternatives.join(",")).expect("digits and tokens are valid")
}

const ALTERNATE_PROTOCOL: HeaderName = HeaderName::from_static("alternate-protocol");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_named_with_the_port() {
        let port = NonZeroU16::new(443).unwrap();
        assert_eq!(
            value(port),
            "443:npn-spdy/3.1,443:npn-spdy/3,443:npn-spdy/2"
        );
    }
}
