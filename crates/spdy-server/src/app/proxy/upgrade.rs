//! The switch of a client and of an application to another protocol, such as WebSocket.

use std::time::Duration;

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue,
        header::{CONNECTION, CONTENT_LENGTH, UPGRADE},
        request::Parts,
    },
    response::Response,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use spdy_tower::tokens;
use tracing::debug;

use super::{
    Failure,
    answer::Answer,
    fields,
    pool::Lease,
    tunnel::{Side, Tunnel},
};
use crate::{linger::Owed, observe::Passed};

/// A client that asks to switch, and can.
pub(super) struct Asked {
    protocol: HeaderValue,
    client: OnUpgrade,
    /// `None` if another server than that of this crate serves the router.
    owed: Option<Owed>,
}

impl Asked {
    /// Returns what a request without a body asks for, unless it has to stay an ordinary request.
    ///
    /// It does if it names several protocols or did not arrive over HTTP/1.1. It also does if it
    /// asks for another version of HTTP, or for TLS: further requests would reach the application
    /// over it that this proxy does not see.
    pub(super) fn take(head: &mut Parts) -> Option<Self> {
        let client = head.extensions.remove::<OnUpgrade>()?;
        let owed = head.extensions.remove::<Owed>();
        let is_upgrade = |token: &[u8]| token.eq_ignore_ascii_case(b"upgrade");
        if !tokens(&head.headers, &CONNECTION).any(is_upgrade) {
            return None;
        }
        let protocol = only_protocol(&head.headers).filter(|name| !carries_http(name))?;
        Some(Self {
            protocol: HeaderValue::from_bytes(protocol).ok()?,
            client,
            owed,
        })
    }

    /// Asks the application for the same.
    pub(super) fn ask(&self, fields: &mut HeaderMap) {
        let upgrade = const { HeaderValue::from_static("upgrade") };
        fields.insert(CONNECTION, upgrade);
        fields.insert(UPGRADE, self.protocol.clone());
    }

    /// Passes on the response of an application that switches, and then all bytes.
    ///
    /// The connection to the application keeps its place until the last byte has passed.
    pub(super) fn switch(
        self,
        response: Response<Answer>,
        patience: Duration,
    ) -> Result<Response, Failure> {
        let (mut head, answer) = response.into_parts();
        let is_asked = only_protocol(&head.headers)
            .is_some_and(|name| name.eq_ignore_ascii_case(self.protocol.as_bytes()));
        let application = head.extensions.remove::<OnUpgrade>();
        let Some(application) = application.filter(|_| is_asked) else {
            return Err(Failure::Switched);
        };
        head.extensions.clear();
        fields::remove_hop_by_hop(&mut head.headers);
        head.headers.remove(CONTENT_LENGTH);
        self.ask(&mut head.headers);
        let passed = Passed::default();
        head.extensions.insert(passed.clone());
        let switching = Switching {
            client: self.client,
            application,
            owed: self.owed,
            lease: answer.into_lease(),
            passed,
        };
        tokio::spawn(switching.pass(patience));
        Ok(Response::from_parts(head, Body::empty()))
    }
}

/// The two sides of a tunnel, once the application has switched.
struct Switching {
    client: OnUpgrade,
    application: OnUpgrade,
    owed: Option<Owed>,
    lease: Option<Lease>,
    passed: Passed,
}

impl Switching {
    /// Passes bytes from the end of the response to that of the tunnel.
    ///
    /// The wait for the client ends with its response, which the server limits. Nothing is waited
    /// for at the application, because its response is here.
    async fn pass(self, patience: Duration) {
        let (Ok(client), Ok(application)) = (self.client.await, self.application.await) else {
            debug!("the client left before its connection had switched to another protocol");
            return;
        };
        if let Some(owed) = &self.owed {
            owed.timed_by_handler();
        }
        if let Some(lease) = &self.lease {
            lease.timed_by_tunnel();
        }
        let tail = self.owed.as_ref().map(|owed| owed.tail().clone());
        let client = Side::new(TokioIo::new(client), tail);
        let tail = self.lease.as_ref().map(|lease| lease.tail().clone());
        let application = Side::new(TokioIo::new(application), tail);
        let end = Tunnel::new(client, application, self.passed, patience).await;
        debug!(
            ?end,
            "a connection to the application that had switched to another protocol has ended"
        );
    }
}

/// Returns the protocol of `upgrade`, if it names one.
fn only_protocol(fields: &HeaderMap) -> Option<&[u8]> {
    let mut names = tokens(fields, &UPGRADE);
    let name = names.next()?;
    let is_sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte);
    (names.next().is_none() && name.iter().all(is_sign)).then_some(name)
}

/// Returns whether a protocol carries further requests of HTTP: HTTP/2 in plain text, any version
/// of HTTP by its name, or TLS, within which HTTP goes on.
fn carries_http(protocol: &[u8]) -> bool {
    [&b"h2"[..], b"h3", b"http", b"tls", b"ssl"]
        .iter()
        .any(|name| {
            protocol
                .get(..name.len())
                .is_some_and(|it| it.eq_ignore_ascii_case(name))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(lines: &[&'static str]) -> Option<String> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(UPGRADE, HeaderValue::from_static(line));
        }
        let name = only_protocol(&fields).filter(|name| !carries_http(name));
        name.map(|name| String::from_utf8(name.to_vec()).unwrap())
    }

    #[test]
    fn one_protocol_is_passed_on_and_none_that_carries_http() {
        for name in ["websocket", "WebSocket", "SPDY/3.1", "tcp", "foo/1.0"] {
            assert_eq!(protocol(&[name]).as_deref(), Some(name));
        }
        for lines in [
            &["h2c"][..],
            &["H2C"],
            &["h2c-14"],
            &["HTTP/2.0"],
            &["h2"],
            &["TLS/1.0"],
            &["websocket, h2c"],
            &["websocket", "h2c"],
            &["websocket h2c"],
            &["websocket\th2c"],
            &[""],
            &[],
        ] {
            assert_eq!(protocol(lines), None, "{lines:?}");
        }
    }
}
