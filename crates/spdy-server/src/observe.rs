//! Looking on while requests are answered: for the access log and for the metrics.
//!
//! This is a layer round the application, and it is only there when somebody wants to know. A request is over when the
//! body of its answer was dropped: sent whole, or given up.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{REFERER, USER_AGENT},
    },
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use spdy_tower::{Builder, MalformedRequest, StreamInfo, Version, session::MemoryUse};

use crate::{
    access_log::{Entry, Log},
    metrics::{Metrics, Open},
    negotiate::Protocol,
    serve::ConnectionInfo,
};

/// Who wants to know about requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observers {
    pub(crate) log: Option<Arc<Log>>,
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// What SPDY sessions hold together.
    pub(crate) memory: Arc<MemoryUse>,
}

impl Observers {
    /// Has every request of `app` looked at. Without observers `app` stays as it is.
    pub(crate) fn look_at(&self, app: Router) -> Router {
        if self.log.is_none() && self.metrics.is_none() {
            return app;
        }
        app.layer(from_fn_with_state(self.clone(), observe))
    }

    /// Has the malformed requests of a SPDY connection looked at, which never reach the application.
    pub(crate) fn look_at_malformed(&self, spdy: &Builder, connection: ConnectionInfo) -> Builder {
        if self.log.is_none() && self.metrics.is_none() {
            return spdy.clone();
        }
        let observers = self.clone();
        let told = move |request: &MalformedRequest<'_>| observers.malformed(connection, request);
        spdy.clone().on_malformed(told)
    }

    fn malformed(&self, connection: ConnectionInfo, request: &MalformedRequest<'_>) {
        if let Some(metrics) = &self.metrics {
            metrics.malformed(connection.protocol, request.status);
        }
        if let Some(log) = &self.log {
            let [method, target] = match request.version {
                Version::V2 => ["method", "url"],
                Version::V3 | Version::V3_1 => [":method", ":path"],
            };
            let field = |name| request.headers.get(name);
            log.write(&Entry {
                peer: connection.peer,
                at: SystemTime::now(),
                method: field(method).unwrap_or(b"-"),
                target: field(target).unwrap_or(b"-"),
                protocol: connection.protocol,
                stream: Some(request.stream.get()),
                referer: field("referer"),
                agent: field("user-agent"),
                measured: Measured {
                    status: Some(request.status),
                    received: 0,
                    sent: 0,
                    duration: Duration::ZERO,
                },
            });
        }
    }
}

/// A request that was answered, or left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// `None`: the client has left before there was an answer.
    pub(crate) status: Option<StatusCode>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) duration: Duration,
}

async fn observe(State(observers): State<Observers>, request: Request, next: Next) -> Response {
    let (mut exchange, request) = Exchange::begin(observers, request);
    let response = next.run(request).await;
    exchange.status = Some(response.status());
    response.map(|body| Body::new(Sent { body, exchange }))
}

/// One request and its answer. It is told of when this is dropped.
struct Exchange {
    observers: Observers,
    connection: Option<ConnectionInfo>,
    asked: Option<Box<Asked>>,
    begun: Instant,
    received: Arc<AtomicU64>,
    sent: u64,
    status: Option<StatusCode>,
    _open: Option<Open>,
}

/// What only the log wants to know.
struct Asked {
    at: SystemTime,
    method: Method,
    uri: Uri,
    stream: Option<u32>,
    referer: Option<HeaderValue>,
    agent: Option<HeaderValue>,
}

impl Exchange {
    fn begin(observers: Observers, request: Request) -> (Self, Request) {
        let connection = request.extensions().get::<ConnectionInfo>().copied();
        let open = observers
            .metrics
            .as_ref()
            .zip(connection)
            .map(|(metrics, connection)| metrics.request(connection.protocol));
        let asked = observers
            .log
            .is_some()
            .then(|| Box::new(Asked::of(&request)));
        let received = Arc::<AtomicU64>::default();
        let exchange = Self {
            observers,
            connection,
            asked,
            begun: Instant::now(),
            received: Arc::clone(&received),
            sent: 0,
            status: None,
            _open: open,
        };
        let request = request.map(|body| Body::new(Received { body, received }));
        (exchange, request)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let measured = Measured {
            status: self.status,
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent,
            duration: self.begun.elapsed(),
        };
        let protocol = self
            .connection
            .map_or(Protocol::Http1, |info| info.protocol);
        if let Some(metrics) = &self.observers.metrics {
            metrics.measured(protocol, measured);
        }
        if let (Some(log), Some(asked)) = (&self.observers.log, &self.asked) {
            log.write(&Entry {
                peer: self.connection.and_then(|info| info.peer),
                at: asked.at,
                method: asked.method.as_str().as_bytes(),
                target: asked.target().as_bytes(),
                protocol,
                stream: asked.stream,
                referer: asked.referer.as_ref().map(HeaderValue::as_bytes),
                agent: asked.agent.as_ref().map(HeaderValue::as_bytes),
                measured,
            });
        }
    }
}

impl Asked {
    fn of(request: &Request) -> Self {
        let field = |name: HeaderName| HeaderMap::get(request.headers(), name).cloned();
        Self {
            at: SystemTime::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            stream: request
                .extensions()
                .get::<StreamInfo>()
                .map(|info| info.id.get()),
            referer: field(REFERER),
            agent: field(USER_AGENT),
        }
    }
}

impl Asked {
    /// What stands in the request line: of CONNECT host and port.
    fn target(&self) -> &str {
        match (self.uri.path_and_query(), self.uri.authority()) {
            (Some(target), _) => target.as_str(),
            (None, Some(host)) => host.as_str(),
            (None, None) => "*",
        }
    }
}

/// The body of a request, counted.
struct Received {
    body: Body,
    received: Arc<AtomicU64>,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.received.fetch_add(octets(&frame), Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, counted. The exchange ends with it.
struct Sent {
    body: Body,
    exchange: Exchange,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.exchange.sent += octets(&frame);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn octets<E>(frame: &Option<Result<Frame<Bytes>, E>>) -> u64 {
    match frame {
        Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
        _ => 0,
    }
}
