//! The connections to an application, and on which of them a request goes.

mod exclusive;
mod shared;

use std::{error::Error, sync::Arc};

use axum::http::{Request, Response};
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::timeout;

use self::{exclusive::Exclusive, shared::Shared};
use super::{
    Failure, Patience, Proxy, Upload,
    answer::{Answer, Silence},
    dial::Channel,
    heard::{Heard, Listening},
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

    /// Sends a request and waits for the head of the answer. Dropped before that, the request ends at the application.
    ///
    /// A request that has reached the application is sent once more at most: on a fresh connection, if it changes
    /// nothing, has no body, and not a byte of an answer has come.
    pub(super) async fn send(
        &self,
        mut request: Request<Upload>,
    ) -> Result<Response<Answer>, Failure> {
        let method = request.method().clone();
        let progress = request.body().progress();
        let mut again = again(&request);
        let mut connecting = Patience::new(self.proxy.connect_timeout);
        let mut silence = Patience::new(self.proxy.answer_timeout);
        let mut lease = self.lease(&mut connecting).await?;
        let mut attempts = 1;
        loop {
            let before = lease.heard().bytes();
            let sending = lease.try_send(request);
            let Some(outcome) = progress.or_silent(sending, &mut silence).await else {
                lease.give_up(before);
                return Err(Failure::Silent);
            };
            let mut error = match outcome {
                Ok(response) => {
                    let silence = Silence::new(self.proxy.answer_timeout, progress);
                    return Ok(Answer::new(response, &method, silence, lease));
                }
                Err(error) => error,
            };
            request = match error.take_message() {
                // The application has seen nothing of it.
                Some(unsent) => unsent,
                None => {
                    let error = error.into_error();
                    let copy = again.take().filter(|_| lease.may_repeat(&error, before));
                    copy.ok_or_else(|| Failure::of(&error))?
                }
            };
            if attempts == ATTEMPTS {
                return Err(Failure::Broken("each connection ends at once".into()));
            }
            attempts += 1;
            lease = lease.renew(&mut connecting).await?;
        }
    }

    async fn lease(&self, patience: &mut Patience) -> Result<Lease, Failure> {
        match &self.connections {
            Connections::Http1(exclusive) => exclusive.lease(patience).await.map(Lease::Http1),
            Connections::Http2(shared) => shared.lease(patience).await.map(Lease::Http2),
        }
    }
}

/// A connection that a request uses. Dropped before [`finish`](Self::finish), what it does for the request ends.
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
            Self::Http2(lease) => lease.sender().try_send_request(request).await,
        }
    }

    const fn heard(&self) -> &Heard {
        match self {
            Self::Http1(lease) => lease.heard(),
            Self::Http2(lease) => lease.heard(),
        }
    }

    /// Whether the connection broke under a request that the application has said nothing to, and whether that may be
    /// for another reason than the request.
    fn may_repeat(&self, error: &hyper::Error, before: u64) -> bool {
        if error.is_user() {
            return false;
        }
        match self {
            // Applications close connections that rest, in the very moment when one is used.
            Self::Http1(lease) => lease.is_reused() && lease.heard().bytes() == before,
            // A stream that is reset is an answer, unless the application says that it has not looked at it.
            Self::Http2(_) => error
                .source()
                .and_then(|cause| cause.downcast_ref::<h2::Error>())
                .is_none_or(|error| {
                    !error.is_reset() || error.reason() == Some(h2::Reason::REFUSED_STREAM)
                }),
        }
    }

    /// Leaves an application that has not answered. A connection on which nothing has come meanwhile is not used again.
    fn give_up(self, before: u64) {
        match self {
            Self::Http1(_) => {}
            Self::Http2(lease) if lease.heard().bytes() == before => lease.forget(),
            Self::Http2(_) => {}
        }
    }

    /// Changes to a fresh connection.
    async fn renew(self, patience: &mut Patience) -> Result<Self, Failure> {
        match self {
            Self::Http1(lease) => lease.renew(patience).await.map(Self::Http1),
            Self::Http2(lease) => lease.renew(patience).await.map(Self::Http2),
        }
    }

    /// Returns the connection: the answer is whole.
    pub(super) fn finish(self, progress: &Progress) {
        match self {
            Self::Http1(lease) => lease.finish(progress.clone()),
            Self::Http2(lease) => drop(lease),
        }
    }
}

/// Makes a connection, within the time of one attempt.
async fn connect(proxy: &Proxy) -> Result<(Listening<Channel>, Heard), Failure> {
    match timeout(proxy.connect_timeout, proxy.connect()).await {
        Ok(Ok(io)) => Ok(Listening::new(io, proxy.answer_timeout)),
        Ok(Err(error)) => Err(Failure::Connect(error.to_string())),
        Err(_) => Err(Failure::ConnectTimeout),
    }
}

/// A copy of a request that may be sent twice: it changes nothing and has no body.
fn again(request: &Request<Upload>) -> Option<Request<Upload>> {
    let is_whole = http_body::Body::is_end_stream(request.body());
    if !is_whole || !request.method().is_idempotent() {
        return None;
    }
    let mut copy = Request::new(Upload::empty());
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    *copy.version_mut() = request.version();
    Some(copy)
}

/// How many connections may end before they take a request.
const ATTEMPTS: usize = 5;
