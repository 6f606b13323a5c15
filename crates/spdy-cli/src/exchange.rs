//! One request and its response, whatever is spoken.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::HOST, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{TrySendError, http1, http2};
use spdy_tower::{Protocol, client::SendRequest};

use super::{failure::sentence, wire};

/// Sends requests over a connection. Several at once, unless it is HTTP/1.1.
pub(crate) enum Requests {
    Spdy(SendRequest),
    Http2(http2::SendRequest<Payload>),
    Http1(http1::SendRequest<Payload>),
}

/// The body of a request.
pub(crate) type Payload = Full<Bytes>;

impl Requests {
    /// Sends a request, and waits for the head of the response.
    pub(crate) async fn send(
        &mut self,
        request: Request<Payload>,
    ) -> Result<Response<Body>, SendError> {
        match self {
            Self::Spdy(requests) => match requests.send(request).await {
                Ok(response) => Ok(response.map(Body::Spdy)),
                Err(error) => Err(SendError {
                    is_retry_safe: error.is_retry_safe(),
                    message: sentence(&error),
                }),
            },
            Self::Http2(requests) => {
                wire::sent(Protocol::Http2, &request);
                received(Protocol::Http2, requests.try_send_request(request).await)
            }
            Self::Http1(requests) => {
                let request = for_http1(request);
                wire::sent(Protocol::Http1, &request);
                received(Protocol::Http1, requests.try_send_request(request).await)
            }
        }
    }

    /// Whether another request has a chance.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Spdy(requests) => requests.is_ready(),
            Self::Http2(requests) => !requests.is_closed(),
            Self::Http1(requests) => !requests.is_closed(),
        }
    }

    /// One more for the same connection; there is none for HTTP/1.1.
    pub(crate) fn share(&self) -> Option<Self> {
        match self {
            Self::Spdy(requests) => Some(Self::Spdy(requests.clone())),
            Self::Http2(requests) => Some(Self::Http2(requests.clone())),
            Self::Http1(_) => None,
        }
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) struct SendError {
    /// The server has certainly not acted on the request.
    pub(crate) is_retry_safe: bool,
    pub(crate) message: String,
}

fn received(
    protocol: Protocol,
    response: Result<Response<hyper::body::Incoming>, TrySendError<Request<Payload>>>,
) -> Result<Response<Body>, SendError> {
    match response {
        Ok(response) => {
            wire::received(protocol, &response);
            Ok(response.map(Body::Http))
        }
        Err(mut error) => Err(SendError {
            is_retry_safe: error.take_message().is_some(),
            message: sentence(&error.into_error()),
        }),
    }
}

/// HTTP/1.1 has the host in a field, and only the path in the request line.
fn for_http1(request: Request<Payload>) -> Request<Payload> {
    let (mut head, body) = request.into_parts();
    let host = head.uri.authority().map(|host| host.as_str());
    if let Some(Ok(host)) = host.map(HeaderValue::from_str) {
        head.headers.entry(HOST).or_insert(host);
    }
    let target = head.uri.path_and_query().map(PathAndQuery::as_str);
    head.uri = target
        .and_then(|target| Uri::try_from(target).ok())
        .unwrap_or_default();
    Request::from_parts(head, body)
}

/// The body of a response.
pub(crate) enum Body {
    Spdy(spdy_tower::Body),
    Http(hyper::body::Incoming),
}

impl Body {
    /// The next piece, or the trailers.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame<Bytes>, String>> {
        match self {
            Self::Spdy(body) => {
                let frame = body.frame().await?;
                Some(frame.map_err(|error| sentence(&error)))
            }
            Self::Http(body) => {
                let frame = body.frame().await?;
                Some(frame.map_err(|error| sentence(&error)))
            }
        }
    }
}
