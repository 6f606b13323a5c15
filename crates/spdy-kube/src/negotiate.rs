//! Negotiates the protocol of the streams: the field `x-stream-protocol-version` of the request
//! that asks for the upgrade.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header::UPGRADE};

use crate::Status;

/// The versions of the protocol of exec and attach. Later versions compare as greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `channel.k8s.io`. Clients never finish stdin, so a command that waits for the end of its
    /// input hangs.
    V1,
    /// `v2.channel.k8s.io`: a failure is a text.
    V2,
    /// `v3.channel.k8s.io`: terminals can be resized.
    V3,
    /// `v4.channel.k8s.io`: the outcome is a JSON Status with the exit code.
    V4,
    /// `v5.channel.k8s.io`: stdin can be finished over WebSocket too. It does not exist over SPDY.
    V5,
}

impl Protocol {
    /// The versions that servers support over SPDY.
    pub const OVER_SPDY: [Self; 4] = [Self::V4, Self::V3, Self::V2, Self::V1];

    /// The versions that servers support over WebSocket.
    pub const OVER_WEBSOCKET: [Self; 3] = [Self::V5, Self::V4, Self::V1];

    /// Returns the name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "channel.k8s.io",
            Self::V2 => "v2.channel.k8s.io",
            Self::V3 => "v3.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        }
    }

    /// Returns whether a terminal has a stream of sizes.
    #[must_use]
    pub fn has_resize(self) -> bool {
        self >= Self::V3
    }

    /// Returns whether the outcome is a JSON Status and not text.
    #[must_use]
    pub fn has_status(self) -> bool {
        self >= Self::V4
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns whether a request asks for WebSocket and not for SPDY.
pub(crate) fn asks_for_websocket<B>(request: &Request<B>) -> bool {
    let asks = |name: &&str| name.eq_ignore_ascii_case("websocket");
    names(request.headers(), &UPGRADE).iter().any(asks)
}

/// Returns the first protocol of the client that is in `supported`. `name` returns the name of
/// each.
///
/// The error is the response that the servers of Kubernetes send: 400 to a client that names no
/// protocol, and 403 with the supported list to a client that names no supported one.
pub(crate) fn choose<T: Copy>(
    headers: &HeaderMap,
    supported: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T, Refusal> {
    let offered = names(headers, &VERSION);
    if offered.is_empty() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, NOT_NAMED));
    }
    first_of(&offered, supported, &name).ok_or_else(|| {
        let text = format!(
            "unable to upgrade: {}",
            no_match(&offered, supported, &name)
        );
        let mut refusal = Refusal::new(StatusCode::FORBIDDEN, text);
        for protocol in supported {
            let name = HeaderValue::from_static(name(*protocol));
            refusal.0.headers_mut().append(&ACCEPTED, name);
        }
        refusal
    })
}

/// Returns the text of the refusal for a client that has no protocol in common with this server.
pub(crate) fn no_match<T: Copy>(
    offered: &[&str],
    supported: &[T],
    name: impl Fn(T) -> &'static str,
) -> String {
    let supported: Vec<_> = supported.iter().map(|protocol| name(*protocol)).collect();
    format!(
        "unable to negotiate protocol: client supports [{}], server accepts [{}]",
        offered.join(" "),
        supported.join(" ")
    )
}

/// Returns the element of `supported` that comes first in `offered`, by name.
pub(crate) fn first_of<T: Copy>(
    offered: &[&str],
    supported: &[T],
    name: impl Fn(T) -> &'static str,
) -> Option<T> {
    let find = |offered: &&str| {
        let is_it = |protocol: &&T| name(**protocol) == *offered;
        supported.iter().find(is_it).copied()
    };
    offered.iter().find_map(find)
}

/// Returns the values of a field that may have several lines, each with a list.
pub(crate) fn names<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let tokens = spdy_tower::tokens(headers, name);
    tokens
        .filter_map(|token| str::from_utf8(token).ok())
        .collect()
}

/// A response that refuses the upgrade.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Box<Response<String>>);

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let mut response = Response::new(text.into());
        *response.status_mut() = status;
        Self(Box::new(response))
    }

    /// Returns a refusal whose body is a Status.
    pub(crate) fn status(status: Status) -> Self {
        Self(Box::new(status.into_response()))
    }

    pub(crate) fn into_response(self) -> Response<String> {
        *self.0
    }
}

/// The protocol of port-forward. There is only one version.
pub(crate) const PORT_FORWARD: &str = "portforward.k8s.io";

/// The field with the protocols of the client, and with the one that the server chooses.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");

const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

const NOT_NAMED: &str = "unable to upgrade: X-Stream-Protocol-Version is required";

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(lines: &[&'static str]) -> Result<Protocol, Refusal> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&VERSION, HeaderValue::from_static(line));
        }
        choose(&headers, &Protocol::OVER_SPDY, Protocol::name)
    }

    #[test]
    fn the_first_of_the_client_that_is_supported_is_taken() {
        let kubectl = [
            "v5.channel.k8s.io",
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
        ];
        assert_eq!(offer(&kubectl).unwrap(), Protocol::V4);
        let lines = ["v2.channel.k8s.io, v4.channel.k8s.io"];
        assert_eq!(offer(&lines).unwrap(), Protocol::V2);
        assert_eq!(offer(&["channel.k8s.io"]).unwrap(), Protocol::V1);
    }

    #[test]
    fn nothing_in_common_is_answered_with_403_and_the_list() {
        let Refusal(response) = offer(&["v5.channel.k8s.io", "v6"]).unwrap_err();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let accepted = response.headers().get_all(&ACCEPTED).iter();
        assert!(accepted.eq(Protocol::OVER_SPDY.map(Protocol::name)));
        assert_eq!(
            response.body(),
            "unable to upgrade: unable to negotiate protocol: client supports [v5.channel.k8s.io v6], \
             server accepts [v4.channel.k8s.io v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io]"
        );
    }

    #[test]
    fn no_protocol_at_all_is_answered_with_400() {
        assert_eq!(offer(&[]).unwrap_err().0.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            offer(&[" , "]).unwrap_err().0.status(),
            StatusCode::BAD_REQUEST
        );
    }
}
