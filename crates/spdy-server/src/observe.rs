//! Observation of requests, for the access log and the metrics.
//!
//! [`Observed`] wraps the services that answer the requests of a connection. It does nothing if the
//! access log and the metrics are off. A request is over when the body of its response is dropped:
//! handed over whole, or given up. Behind the reverse proxy, a request that has switched to another
//! protocol is over when its last byte has passed.

mod called;
#[cfg(feature = "proxy")]
mod passed;
mod refusals;

use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
        header::{CONTENT_LENGTH, REFERER, USER_AGENT},
    },
    response::Response,
};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use spdy_tower::{BodyError, Builder, MalformedRequest, StreamInfo, Version, session::MemoryUse};
use tower_service::Service;

pub(crate) use self::called::Called;
#[cfg(feature = "proxy")]
pub(crate) use self::passed::Passed;
use self::refusals::{Refusal, Refusals};
use crate::{
    access_log::{Entry, Log},
    data_count::Fault,
    info::ConnectionInfo,
    metrics::{Metrics, Open},
    request_id::RequestId,
};

/// The access log and the metrics, which observe requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observers {
    pub(crate) log: Option<Arc<Log>>,
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// The memory that all SPDY sessions hold.
    pub(crate) memory: Arc<MemoryUse>,
}

impl Observers {
    fn look(&self) -> bool {
        self.log.is_some() || self.metrics.is_some()
    }

    /// Returns the observer of the requests of a connection, or `None` if the access log and the
    /// metrics are off.
    pub(crate) fn watch(&self, connection: ConnectionInfo) -> Option<Arc<Watch>> {
        let observers = self.look().then(|| self.clone())?;
        Some(Arc::new(Watch {
            observers,
            connection,
            refusals: Mutex::default(),
        }))
    }

    /// Observes the malformed requests of a SPDY connection, which never reach the application.
    pub(crate) fn look_at_malformed(&self, spdy: &Builder, connection: ConnectionInfo) -> Builder {
        let Some(watch) = self.watch(connection) else {
            return spdy.clone();
        };
        let told = move |request: &MalformedRequest<'_>| watch.malformed(request);
        spdy.clone().on_malformed(told)
    }
}

/// The observer of the requests of one connection.
#[derive(Debug)]
pub(crate) struct Watch {
    observers: Observers,
    connection: ConnectionInfo,
    /// Of an HTTP/2 connection. Only the task of the connection uses it.
    refusals: Mutex<Refusals>,
}

impl Watch {
    /// Records a request that hyper or h2 answered, without the application. Its head is unknown.
    pub(crate) fn refused(&self, status: StatusCode, stream: Option<u32>) {
        let connection = self.connection;
        if let Some(metrics) = &self.observers.metrics {
            metrics.malformed(connection.protocol, status);
        }
        if let Some(log) = &self.observers.log {
            log.write(&Entry {
                peer: connection.peer,
                is_secure: connection.is_secure(),
                at: SystemTime::now(),
                method: b"-",
                target: b"-",
                protocol: connection.protocol,
                stream,
                referer: None,
                agent: None,
                id: None,
                measured: Measured::refusal(status),
            });
        }
    }

    /// Records what an HTTP/2 connection tells its client.
    pub(crate) fn told(&self, fault: Fault) {
        if let Some(metrics) = &self.observers.metrics {
            metrics.told(fault);
        }
        let (stream, status) = match fault {
            Fault::Reset { stream, code } => match code {
                Fault::PROTOCOL_ERROR => (stream, Some(StatusCode::BAD_REQUEST)),
                Fault::REFUSED_STREAM => (stream, None),
                _ => return,
            },
            Fault::OneField { stream } => {
                (stream, Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE))
            }
            Fault::GoAway { .. } => return,
        };
        self.refusals().sign(Refusal { stream, status });
    }

    /// Notes that the reader of an HTTP/2 connection asks for more bytes.
    pub(crate) fn reads_on(&self) {
        self.refusals().reads_on();
    }

    /// Notes what the reader of an HTTP/2 connection has got.
    pub(crate) fn read(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.refusals().read(bytes);
        }
    }

    /// Notes that hyper has a request of an HTTP/2 connection.
    fn called(&self) {
        self.refusals().called();
    }

    /// Records the requests of an HTTP/2 connection that were refused, once the application has got
    /// all that have arrived.
    pub(crate) fn settle(&self, is_flushed: bool) {
        let refused = self.refusals().settle(is_flushed);
        for Refusal { stream, status } in refused {
            if let Some(status) = status {
                self.refused(status, Some(stream));
            }
        }
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn malformed(&self, request: &MalformedRequest<'_>) {
        let connection = self.connection;
        if let Some(metrics) = &self.observers.metrics {
            metrics.malformed(connection.protocol, request.status);
        }
        if let Some(log) = &self.observers.log {
            let [method, target] = match request.version {
                Version::V2 => ["method", "url"],
                Version::V3 | Version::V3_1 => [":method", ":path"],
            };
            let field = |name| request.headers.get(name);
            log.write(&Entry {
                peer: connection.peer,
                is_secure: connection.is_secure(),
                at: SystemTime::now(),
                method: field(method).unwrap_or(b"-"),
                target: field(target).unwrap_or(b"-"),
                protocol: connection.protocol,
                stream: Some(request.stream.get()),
                referer: field("referer"),
                agent: field("user-agent"),
                id: None,
                measured: Measured::refusal(request.status),
            });
        }
    }
}

/// A request that was answered, or whose client left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// The status, or `None` if the client left before the response.
    pub(crate) status: Option<StatusCode>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) end: End,
    pub(crate) duration: Duration,
}

/// How the exchange of a request and its response has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing else is known of it, or the client left before the response.
    Whole,
    /// The response was begun and not handed over whole.
    Cut,
    /// The body of the request broke off, and the response is whole nevertheless.
    RequestCut,
    /// The request was malformed, and never reached the application.
    Refused,
}

impl End {
    /// Returns the mark in the access log.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Cut => Some("cut"),
            Self::RequestCut => Some("request-cut"),
            Self::Refused => Some("refused"),
        }
    }
}

impl Measured {
    /// Returns a request whose response was a head alone.
    const fn refusal(status: StatusCode) -> Self {
        Self {
            status: Some(status),
            received: 0,
            sent: 0,
            end: End::Refused,
            duration: Duration::ZERO,
        }
    }
}

/// An application whose requests are observed.
#[derive(Clone, Debug)]
pub(crate) struct Observed<S> {
    app: S,
    watch: Option<Arc<Watch>>,
}

impl<S> Observed<S> {
    pub(crate) const fn new(app: S, watch: Option<Arc<Watch>>) -> Self {
        Self { app, watch }
    }
}

impl<S, B> Service<Request<B>> for Observed<S>
where
    S: Service<Request<Received<B>>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Observing<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.app.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let watch = self.watch.clone();
        let exchange = watch.map(|watch| Exchange::begin(watch, &request));
        let received = exchange
            .as_ref()
            .map(|exchange| Arc::clone(&exchange.received));
        let request = request.map(|body| Received { body, received });
        Observing {
            future: self.app.call(request),
            exchange,
        }
    }
}

pin_project! {
    /// The future of the response to a request.
    pub(crate) struct Observing<F> {
        #[pin]
        future: F,
        exchange: Option<Exchange>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Observing<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        Poll::Ready(Ok(match this.exchange.take() {
            Some(exchange) => exchange.answered(response),
            None => response,
        }))
    }
}

/// A request and its response. Dropping it records the request.
struct Exchange {
    watch: Arc<Watch>,
    asked: Option<Box<Asked>>,
    method: Method,
    begun: Instant,
    received: Arc<Reception>,
    sent: u64,
    status: Option<StatusCode>,
    /// Whether the response was not handed over whole.
    is_cut: bool,
    _open: Option<Open>,
}

/// The fields that only the access log needs.
struct Asked {
    at: SystemTime,
    uri: Uri,
    stream: Option<u32>,
    referer: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    id: Option<RequestId>,
}

impl Exchange {
    fn begin<B>(watch: Arc<Watch>, request: &Request<B>) -> Self {
        let Observers { log, metrics, .. } = &watch.observers;
        let protocol = watch.connection.protocol;
        Self {
            asked: log.is_some().then(|| Box::new(Asked::of(request))),
            method: request.method().clone(),
            begun: Instant::now(),
            received: Arc::default(),
            sent: 0,
            status: None,
            is_cut: false,
            _open: metrics.as_ref().map(|metrics| metrics.request(protocol)),
            watch,
        }
    }

    #[cfg_attr(not(feature = "proxy"), expect(unused_mut))]
    fn answered(mut self, mut response: Response) -> Response {
        let status = response.status();
        self.status = Some(status);
        if let Some(status) = self.received.refusal() {
            self.status = Some(status);
            return response;
        }
        if spdy_tower::is_bodyless(&self.method, status) {
            return response.map(|_| Body::empty());
        }
        #[cfg(feature = "proxy")]
        if let Some(passed) = response.extensions_mut().remove::<Passed>() {
            passed.keep(self);
            return response;
        }
        self.is_cut = true;
        let length = length(&response);
        response.map(|body| {
            Body::new(Sent {
                body,
                length,
                has_failed: false,
                exchange: self,
            })
        })
    }
}

impl Exchange {
    fn end(&self) -> End {
        if self.is_cut {
            End::Cut
        } else if self.status.is_some() && self.received.is_cut.load(Ordering::Relaxed) {
            End::RequestCut
        } else {
            End::Whole
        }
    }
}

/// Returns the length of the body of a response, if it is known in advance.
fn length(response: &Response) -> Option<u64> {
    let exact = response.body().size_hint().exact();
    exact.or_else(|| {
        let field = response.headers().get(CONTENT_LENGTH)?;
        field.to_str().ok()?.parse().ok()
    })
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let measured = Measured {
            status: self.status.or_else(|| self.received.refusal()),
            received: self.received.bytes.load(Ordering::Relaxed),
            sent: self.sent,
            end: self.end(),
            duration: self.begun.elapsed(),
        };
        let Watch {
            observers,
            connection,
            ..
        } = &*self.watch;
        if let Some(metrics) = &observers.metrics {
            metrics.measured(connection, &self.method, measured);
        }
        if let (Some(log), Some(asked)) = (&observers.log, &self.asked) {
            log.write(&Entry {
                peer: connection.peer,
                is_secure: connection.is_secure(),
                at: asked.at,
                method: self.method.as_str().as_bytes(),
                target: asked.target().as_bytes(),
                protocol: connection.protocol,
                stream: asked.stream,
                referer: asked.referer.as_ref().map(HeaderValue::as_bytes),
                agent: asked.agent.as_ref().map(HeaderValue::as_bytes),
                id: asked.id.as_ref(),
                measured,
            });
        }
    }
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Self {
        let field = |name: HeaderName| HeaderMap::get(request.headers(), name).cloned();
        Self {
            at: SystemTime::now(),
            uri: request.uri().clone(),
            stream: request
                .extensions()
                .get::<StreamInfo>()
                .map(|info| info.id.get()),
            referer: field(REFERER),
            agent: field(USER_AGENT),
            id: request.extensions().get().cloned(),
        }
    }
}

impl Asked {
    /// Returns the target of the request line: for CONNECT, the host and the port.
    fn target(&self) -> &str {
        match (self.uri.path_and_query(), self.uri.authority()) {
            (Some(target), _) => target.as_str(),
            (None, Some(host)) => host.as_str(),
            (None, None) => "*",
        }
    }
}

/// What has arrived of the body of a request.
#[derive(Debug, Default)]
struct Reception {
    bytes: AtomicU64,
    /// Whether it broke off, and no status tells of it.
    is_cut: AtomicBool,
    /// The status that a SPDY client receives instead of the response of the application, if that
    /// response has not begun. For a client of HTTP/2 it stands for a reset.
    ///
    /// It is locked while the body is polled, which is one of ours and runs no code of the
    /// application. A body that fails ends its exchange, perhaps on another thread, before the
    /// reader of the body has the error.
    refusal: Mutex<Option<StatusCode>>,
}

impl Reception {
    fn refusal(&self) -> Option<StatusCode> {
        *self.lock()
    }

    /// A body that has panicked is not polled again.
    fn lock(&self) -> MutexGuard<'_, Option<StatusCode>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the status with which spdy-tower answers a request whose body has failed in this way, or
/// the one that stands for the reset with which h2 does.
fn refusal(error: &(dyn Error + 'static)) -> Option<StatusCode> {
    if let Some(error) = error.source().and_then(|it| it.downcast_ref::<h2::Error>()) {
        let is_malformed = error.is_library() && error.is_reset();
        return is_malformed.then_some(StatusCode::BAD_REQUEST);
    }
    match error.downcast_ref()? {
        BodyError::TimedOut => Some(StatusCode::REQUEST_TIMEOUT),
        BodyError::Length { .. } | BodyError::Trailers => Some(StatusCode::BAD_REQUEST),
        _ => None,
    }
}

/// The body of a request, which counts its bytes if the request is observed.
#[derive(Debug)]
pub(crate) struct Received<B> {
    body: B,
    received: Option<Arc<Reception>>,
}

impl<B> http_body::Body for Received<B>
where
    B: http_body::Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Self { body, received } = &mut *self;
        let Some(received) = received else {
            return Pin::new(body).poll_frame(cx);
        };
        let mut refused = received.lock();
        let frame = ready!(Pin::new(body).poll_frame(cx));
        received.bytes.fetch_add(bytes(&frame), Ordering::Relaxed);
        if let Some(Err(error)) = &frame {
            *refused = refused.or(refusal(error));
            received.is_cut.store(refused.is_none(), Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response, which counts its bytes. The exchange ends with it.
struct Sent {
    body: Body,
    /// The length of the body, if it is known in advance.
    length: Option<u64>,
    has_failed: bool,
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
        self.exchange.sent += bytes(&frame);
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.has_failed = true,
            None if self.length.is_none() => self.exchange.is_cut = false,
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        // If the length is known, hyper does not poll for the end.
        let is_whole = match self.length {
            Some(length) => self.exchange.sent >= length,
            None => self.body.is_end_stream(),
        };
        if is_whole && !self.has_failed {
            self.exchange.is_cut = false;
        }
    }
}

fn bytes<E>(frame: &Option<Result<Frame<Bytes>, E>>) -> u64 {
    match frame {
        Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process, sync::mpsc, thread};

    use http_body_util::BodyExt;

    use super::*;
    use crate::{
        config::{AccessLog, AccessLogFormat},
        negotiate::Protocol,
    };

    /// A body that has told its exchange of its failure before it returns that, as those of
    /// spdy-tower do.
    struct Fails {
        tell: mpsc::Sender<()>,
        is_over: mpsc::Receiver<()>,
    }

    impl http_body::Body for Fails {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            self.tell.send(()).unwrap();
            // The exchange can end now, unless it waits for this body. Without this pause the test
            // would prove less.
            _ = self.is_over.recv_timeout(Duration::from_millis(200));
            Poll::Ready(Some(Err(BodyError::TimedOut)))
        }
    }

    #[tokio::test]
    async fn a_request_whose_body_another_thread_reads_is_logged_with_the_status_of_its_failure() {
        let path = env::temp_dir().join(format!("spdy-observe-{}.log", process::id()));
        let log =
            Arc::new(Log::open(&AccessLog::File(path.clone()), AccessLogFormat::Combined).unwrap());
        let observers = Observers {
            log: Some(Arc::clone(&log)),
            ..Observers::default()
        };
        let connection = ConnectionInfo {
            protocol: Protocol::Spdy(Version::V3_1),
            peer: None,
            tls: None,
            is_tls_of_proxy: false,
        };
        let exchange = Exchange::begin(
            observers.watch(connection).unwrap(),
            &Request::post("/late").body(()).unwrap(),
        );
        let (tell, told) = mpsc::channel();
        let (ended, is_over) = mpsc::channel();
        let mut body = Received {
            body: Fails { tell, is_over },
            received: Some(Arc::clone(&exchange.received)),
        };
        let ending = thread::spawn(move || {
            told.recv().unwrap();
            drop(exchange);
            _ = ended.send(());
        });
        assert!(body.frame().await.unwrap().is_err());
        ending.join().unwrap();
        log.finish();
        let line = fs::read_to_string(&path).unwrap();
        fs::remove_file(path).unwrap();
        assert!(line.contains("\"POST /late HTTP/1.1\" 408 "), "{line}");
    }
}
