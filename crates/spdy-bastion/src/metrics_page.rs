//! The page with metrics, over HTTP/1.1.

use std::{convert::Infallible, time::Duration};

use http::{Method, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use spdy_tower::Http1Io;
use tokio::{net::TcpListener, time::timeout};

use crate::metrics::{Metrics, OPENMETRICS};

/// Serves the page. Never returns.
pub(crate) async fn run(socket: TcpListener, metrics: Metrics) {
    loop {
        let Ok((connection, _)) = socket.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let metrics = metrics.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let response = page(&metrics, &request);
            async move { Ok::<_, Infallible>(response) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
        let serving = builder.serve_connection(TokioIo::new(Http1Io::new(connection)), service);
        tokio::spawn(timeout(LIMIT, serving));
    }
}

fn page(metrics: &Metrics, request: &Request<Incoming>) -> Response<String> {
    if request.uri().path() != "/metrics" || request.method() != Method::GET {
        let mut response = Response::new("see /metrics\n".to_owned());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let mut response = Response::new(metrics.text());
    let openmetrics = http::HeaderValue::from_static(OPENMETRICS);
    response.headers_mut().insert(CONTENT_TYPE, openmetrics);
    response
}

/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);

/// How long a connection may be open.
const LIMIT: Duration = Duration::from_secs(600);

const PAUSE: Duration = Duration::from_millis(100);
