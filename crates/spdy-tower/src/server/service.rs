//! The services that can be served.

use http::{Request, Response};
use tower_service::Service;

use crate::{Body, BoxError};

/// A service that can be served. Every cloneable [`tower::Service`](tower_service::Service) from
/// `http::Request<Body>` to `http::Response` implements it, including `axum::Router`.
///
/// Each request gets a clone of the service, and waits only for this clone to be ready.
pub trait HttpService:
    Service<
        Request<Body>,
        Response = Response<Self::ResponseBody>,
        Error: Into<BoxError>,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
    /// The body of the service's responses.
    type ResponseBody: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type ResponseBody = B;
}
