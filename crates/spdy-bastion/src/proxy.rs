//! Passes plain requests to the API server as they are, and responses as they arrive.

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use spdy_kube::BoxError;

use crate::{
    gateway::{Caller, Gateway, whole},
    headers::{remove_claims, remove_hops},
    refusal::refusal,
    upstream::{Body, Upstream},
};

impl Gateway {
    /// Passes a request to the API server, and returns its response. Nothing is buffered: bodies
    /// pass in both directions as they arrive.
    pub(crate) async fn pass(&self, caller: &Caller, request: Request<Incoming>) -> Response<Body> {
        let upstream = self.upstream.get();
        let response = match self.onward(&upstream, caller, request) {
            Ok(onward) => upstream.send(onward).await.map_err(BoxError::from),
            Err(error) => Err(error.into()),
        };
        let response = response.map_or_else(|error| whole(unreachable(&error)), returned);
        self.metrics.passed(response.status());
        response
    }

    /// Returns the request to the API server.
    fn onward(
        &self,
        upstream: &Upstream,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Result<Request<Body>, http::Error> {
        let (head, body) = request.into_parts();
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        // Without the field `Trailer`, hyper sends no trailers: a server behind the bastion might
        // take them for fields.
        let mut onward = Request::new(body.map_err(BoxError::from).boxed_unsync());
        *onward.method_mut() = head.method;
        *onward.uri_mut() = upstream.url(target)?;
        *onward.headers_mut() = head.headers;
        let headers = onward.headers_mut();
        remove_claims(headers, &self.users.get().fields());
        upstream.authorize(headers);
        caller.user.impersonate(headers)?;
        Ok(onward)
    }
}

/// Returns a response of the API server for the client.
fn returned(response: Response<Incoming>) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return whole(unreachable(
            &"it switches to a protocol that was not asked for".into(),
        ));
    }
    let (mut head, body) = response.into_parts();
    remove_hops(&mut head.headers);
    let mut response = Response::new(body.map_err(BoxError::from).boxed_unsync());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

fn unreachable(error: &BoxError) -> Response<String> {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    tracing::warn!(error = text, "API server cannot be asked");
    let message = format!("API server cannot be asked: {text}");
    refusal(StatusCode::BAD_GATEWAY, message).into_response()
}
