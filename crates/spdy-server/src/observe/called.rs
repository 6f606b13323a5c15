//! Notes the requests of an HTTP/2 connection as hyper gets them.

use std::sync::Arc;

use http::Request;
use hyper::service::Service;

use super::Watch;

/// A service of hyper that notes each request before it does anything else.
///
/// One of tower behind an adapter would note it later: when the task of the request first runs.
#[derive(Debug)]
pub(crate) struct Called<S> {
    service: S,
    /// `None` for another protocol than HTTP/2, or if nothing is observed.
    watch: Option<Arc<Watch>>,
}

impl<S> Called<S> {
    pub(crate) const fn new(service: S, watch: Option<Arc<Watch>>) -> Self {
        Self { service, watch }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Called<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Request<B>) -> Self::Future {
        if let Some(watch) = &self.watch {
            watch.called();
        }
        self.service.call(request)
    }
}
