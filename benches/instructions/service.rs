//! A service that does next to nothing.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use spdy_tower::{Body, HttpService};
use tower::service_fn;

use crate::data::{BODY, RESPONSE};

/// The path with a response of a MiB. All others have one of 100 bytes.
pub(crate) const LONG: &str = "/long";

/// A service that counts its responses. It reads the body of the request before.
pub(crate) fn service(answered: Arc<AtomicUsize>) -> impl HttpService {
    let long = Bytes::from(vec![0; 1 << 20]);
    service_fn(move |request: Request<Body>| {
        let (answered, long) = (Arc::clone(&answered), long.clone());
        async move {
            let body = match request.uri().path() {
                LONG => long,
                _ => Bytes::from_static(&BODY),
            };
            let mut sent = request.into_body();
            while let Some(frame) = sent.frame().await {
                frame.expect("the client does not fail");
            }
            answered.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(response(body))
        }
    })
}

/// A response with four fields.
fn response(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    for (name, value) in RESPONSE {
        // What is written down there is the length of the short body.
        if name != "content-length" {
            let (name, value) = (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
            response.headers_mut().insert(name, value);
        }
    }
    response
}
