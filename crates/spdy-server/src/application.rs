//! The applications that can be served, and the one form in which connections call them.

use std::{
    any::Any,
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    BoxError, Router,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode};
use tower_service::Service;
use tracing::debug;

use crate::info::ConnectionInfo;

/// A service that can be served. Every cloneable [`tower::Service`](tower_service::Service) from
/// `http::Request<axum::body::Body>` to a response implements it: an `axum::Router`, a router in
/// layers such as `NormalizePath<Router>`, or a service without axum.
///
/// * Each request gets a clone of the service, and waits only for this clone to be ready.
/// * An error of the service, also of its readiness, is answered with 500. Its text is logged at
///   level `debug`, and the client does not see it.
/// * A panic of the service, or of a handler of a `Router`, is answered with 500 as well. A panic
///   of the body of a response ends the response, and over HTTP/1.1 its connection.
/// * A service that is not a `Router` costs two more allocations for each request.
///
/// ```
/// use std::convert::Infallible;
///
/// use axum::{body::Body, http::{Request, Response}};
/// use spdy_server::Application;
///
/// fn hello() -> impl Application {
///     tower::service_fn(|_: Request<Body>| async {
///         Ok::<_, Infallible>(Response::new(Body::from("hello")))
///     })
/// }
/// # fn main() { hello(); }
/// ```
pub trait Application:
    Service<Request<Body>, Response: IntoResponse, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Application for S where
    S: Service<Request<Body>, Response: IntoResponse, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service that makes an [`Application`] for each connection. Every cloneable
/// [`tower::Service`](tower_service::Service) from [`ConnectionInfo`] to an application implements
/// it, such as the result of axum's `into_make_service`.
pub trait MakeApplication:
    Service<ConnectionInfo, Response: Application, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> MakeApplication for S where
    S: Service<ConnectionInfo, Response: Application, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What connections call: one application, or one for each connection.
#[derive(Clone)]
pub(crate) enum Applications {
    One(Router),
    Each(Arc<Make>),
}

type Make = dyn Fn(ConnectionInfo) -> Making + Send + Sync;
type Making = Pin<Box<dyn Future<Output = Result<Router, BoxError>> + Send>>;

impl Applications {
    pub(crate) fn one(app: impl Application) -> Self {
        Self::One(router(app))
    }

    /// Passes each application through `wrap` when it is made.
    pub(crate) fn each(
        make: impl MakeApplication,
        wrap: impl Fn(Router) -> Router + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::Each(Arc::new(move |info| {
            let (mut make, wrap) = (make.clone(), wrap.clone());
            Box::pin(async move {
                poll_fn(|cx| make.poll_ready(cx))
                    .await
                    .map_err(Into::into)?;
                let app = make.call(info).await.map_err(Into::into)?;
                Ok(wrap(router(app)))
            })
        }))
    }

    /// Returns the application of a connection. Cancel safe: what makes it is dropped.
    pub(crate) async fn of(&self, info: ConnectionInfo) -> io::Result<Router> {
        match self {
            Self::One(app) => Ok(app.clone()),
            Self::Each(make) => make(info).await.map_err(io::Error::other),
        }
    }
}

impl fmt::Debug for Applications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One",
            Self::Each(_) => "Each",
        })
    }
}

/// Returns a router as it is, and any other application as the only one of a router.
fn router(app: impl Application) -> Router {
    match (&app as &dyn Any).downcast_ref::<Router>() {
        Some(router) => router.clone(),
        None => Router::new().fallback_service(Answering(app)),
    }
}

/// Answers the errors of an application.
#[derive(Clone)]
struct Answering<A>(A);

impl<A: Application> Service<Request<Body>> for Answering<A> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The clone that gets the request has to be ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut app = self.0.clone();
        Box::pin(async move {
            let ready = poll_fn(|cx| app.poll_ready(cx)).await.map_err(Into::into);
            let outcome = match ready {
                Ok(()) => app.call(request).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            Ok(match outcome {
                Ok(response) => response.into_response(),
                Err(error) => {
                    debug!(%error, "the application has failed");
                    failure()
                }
            })
        })
    }
}

/// Returns the response for an application that has failed or panicked.
pub(crate) fn failure() -> Response {
    let text = "the application has failed\n";
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}
