//! The connections to an application, and the choice of a connection for each request.

mod exclusive;
mod shared;

use std::{error::Error, mem, sync::Arc, time::Duration};

use axum::http::{Request, Response};
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::timeout;

pub(super) use self::shared::Place;
use self::{exclusive::Exclusive, shared::Shared};
use super::{
    Failure, Patience, Proxy, Upload,
    answer::{Answer, Silence},
    dial::Channel,
    heard::{Cut, Heard, Listening},
    upload::Progress,
};

/// The connections to an application.
#[derive(Debug)]
pub(super) struct Pool {
    proxy: Arc<Proxy>,
    connections: Connections,
}

#[derive(Debug)]
enum Connections {
    Http1(Arc<Exclusive>),
    Http2(Arc<Shared>),
}

impl Pool {
    pub(super) fn new(proxy: Proxy) -> Self {
        let proxy = Arc::new(proxy);
        let connections = if proxy.upstream.is_http2() {
            Connections::Http2(Arc::new(Shared::new(Arc::clone(&proxy))))
        } else {
            Connections::Http1(Arc::new(Exclusive::new(Arc::clone(&proxy))))
        };
        Self { proxy, connections }
    }

    /// Sends a request and returns the head of the response. If the future is dropped before that,
    /// the request to the application ends.
    ///
    /// A request that has reached the application is sent again on a new connection if the proxy
    /// still has everything of its body that it has sent. It is sent again once if it is idempotent
    /// and no byte of a response has arrived, and each time that the application reports that it
    /// has not processed it.
    pub(super) async fn send(
        &self,
        mut request: Request<Upload>,
    ) -> Result<Response<Answer>, Failure> {
        let method = request.method().clone();
        let has_body = !http_body::Body::is_end_stream(request.body());
        let progress = request.body().progress();
        let head = self.copy_of_head(&request);
        if head.is_none() {
            progress.send_once();
        }
        let mut connecting = Patience::new(self.proxy.connect_timeout);
        let mut silence = Patience::new(self.proxy.answer_timeout);
        let mut lease = self.lease(&mut connecting).await?;
        let mut attempts = 1;
        let mut was_lost = false;
        loop {
            let before = lease.heard().bytes();
            let sending = lease.try_send(request);
            let outcome = tokio::select! {
                biased;
                outcome = progress.or_silent(sending, &mut silence) => outcome,
                failure = progress.failed() => return Err(failure),
            };
            let Some(outcome) = outcome else {
                lease.give_up();
                return Err(Failure::Silent);
            };
            let mut error = match outcome {
                Ok(response) => {
                    progress.answered();
                    let silence = Silence::new(self.proxy.answer_timeout, progress);
                    let answer = Answer::new(response, &method, silence, lease);
                    return Ok(answer.map(|answer| answer.answering(has_body)));
                }
                Err(error) => error,
            };
            let mut fate = Fate::Unknown;
            request = match error.take_message() {
                // The application has received nothing of the request.
                Some(unsent) => unsent,
                None => {
                    let error = error.into_error();
                    fate = lease.fate(&error, before);
                    let may_repeat = match fate {
                        Fate::Untouched => attempts < ATTEMPTS,
                        Fate::Lost => method.is_idempotent() && !mem::replace(&mut was_lost, true),
                        Fate::Unknown => false,
                    };
                    let head = head.as_ref().filter(|_| may_repeat);
                    let repeated = head.and_then(|head| Some(head.with(progress.again()?)));
                    progress.charge(&mut silence);
                    repeated.ok_or_else(|| fate.failure(&error))?
                }
            };
            if attempts == ATTEMPTS {
                return Err(Failure::Broken(
                    "the application closes each connection at once".into(),
                ));
            }
            attempts += 1;
            lease = lease.renew(fate, &mut connecting).await?;
        }
    }

    /// Copies the head of a request that might have to be sent twice.
    fn copy_of_head(&self, request: &Request<Upload>) -> Option<Head> {
        let tells_what_it_looked_at = matches!(self.connections, Connections::Http2(_));
        (tells_what_it_looked_at || request.method().is_idempotent()).then(|| Head::of(request))
    }

    async fn lease(&self, patience: &mut Patience) -> Result<Lease, Failure> {
        match &self.connections {
            Connections::Http1(exclusive) => exclusive.lease(patience).await.map(Lease::Http1),
            Connections::Http2(shared) => shared.lease(patience).await.map(Lease::Http2),
        }
    }
}

/// A connection that a request uses. If it is dropped before [`finish`](Self::finish), the work for
/// the request ends.
#[derive(Debug)]
pub(super) enum Lease {
    Http1(exclusive::Lease),
    Http2(shared::Lease),
}

impl Lease {
    async fn try_send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match self {
            Self::Http1(lease) => lease.sender().try_send_request(request).await,
            Self::Http2(lease) => lease.try_send(request).await,
        }
    }

    const fn heard(&self) -> &Heard {
        match self {
            Self::Http1(lease) => lease.heard(),
            Self::Http2(lease) => lease.heard(),
        }
    }

    /// Returns the outcome of a request that failed on this connection.
    fn fate(&self, error: &hyper::Error, before: u64) -> Fate {
        if error.is_user() {
            return Fate::Unknown;
        }
        let is_lost = match self {
            // An application can close an idle connection at the moment when the proxy uses it.
            Self::Http1(lease) => lease.is_reused() && lease.heard().bytes() == before,
            Self::Http2(_) => {
                let cause = error.source().and_then(|cause| cause.downcast_ref());
                if cause.is_some_and(is_untouched) {
                    return Fate::Untouched;
                }
                // A stream reset is a response.
                !cause.is_some_and(h2::Error::is_reset)
            }
        };
        if is_lost { Fate::Lost } else { Fate::Unknown }
    }

    /// Abandons an application that has not responded.
    fn give_up(self) {
        match self {
            Self::Http1(_) => {}
            Self::Http2(lease) => lease.give_up(),
        }
    }

    /// Replaces the connection with a new one.
    async fn renew(self, fate: Fate, patience: &mut Patience) -> Result<Self, Failure> {
        match self {
            Self::Http1(lease) => lease.renew(patience).await.map(Self::Http1),
            Self::Http2(lease) => lease.renew(fate, patience).await.map(Self::Http2),
        }
    }

    /// Ends a request whose response has begun.
    pub(super) fn break_off(self) {
        match self {
            Self::Http1(_) => {}
            Self::Http2(lease) => lease.break_off(),
        }
    }

    /// Returns the connection to the pool, after a complete response.
    pub(super) fn finish(self, progress: &Progress) {
        match self {
            Self::Http1(lease) => lease.finish(progress.clone()),
            Self::Http2(lease) => lease.finish(progress.clone()),
        }
    }
}

/// Why a request has no response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The application has reported that it did not process the request.
    Untouched,
    /// The connection broke, and the request might not be the reason.
    Lost,
    Unknown,
}

impl Fate {
    fn failure(self, error: &hyper::Error) -> Failure {
        match self {
            Self::Untouched => Failure::Untouched,
            Self::Lost | Self::Unknown => Failure::of(error),
        }
    }
}

/// Returns whether an application has reported that it did not process a stream: it has refused the
/// stream, or its GOAWAY names an earlier stream as the last one.
fn is_untouched(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || is_refused)
}

/// Opens a connection, within the time of one attempt. It keeps `held` until it is closed.
async fn connect<H>(
    proxy: &Proxy,
    held: H,
) -> Result<(Listening<Channel, H>, Heard, Cut), Failure> {
    match timeout(proxy.connect_timeout, proxy.connect()).await {
        Ok(Ok(io)) => Ok(Listening::new(io, held, proxy.answer_timeout)),
        Ok(Err(error)) => Err(Failure::Connect(error.to_string())),
        Err(_) => Err(Failure::ConnectTimeout),
    }
}

/// The head of a request that might be sent twice.
struct Head(Request<()>);

impl Head {
    fn of(request: &Request<Upload>) -> Self {
        let mut copy = Request::new(());
        request.method().clone_into(copy.method_mut());
        request.uri().clone_into(copy.uri_mut());
        request.headers().clone_into(copy.headers_mut());
        *copy.version_mut() = request.version();
        Self(copy)
    }

    fn with(&self, body: Upload) -> Request<Upload> {
        self.0.clone().map(|()| body)
    }
}

/// The maximum number of connections that can end or go away before they take a request.
const ATTEMPTS: usize = 5;

/// How long the rest of a request body can stand still once its response is complete. Then the
/// proxy stops sending it.
const UPLOAD_PAUSE: Duration = Duration::from_secs(3);
