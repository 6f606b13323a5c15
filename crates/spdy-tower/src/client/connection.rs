//! One connection to an origin, and one request on it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::client::conn::{TrySendError, http1, http2};
use spdy_session::{Session, StreamError};
use tokio::{sync::oneshot, time::timeout};

use super::{
    Error, FetchError, ResponseBody, SendRequest,
    dial::Heard,
    lent::RequestBody,
    locked::DroppedUnlocked,
    proof::{Proof, source},
    slot::{Line, Place, Slot, Use},
};
use crate::Protocol;

/// A connection over which requests can be sent.
#[derive(Debug)]
pub(super) enum Connection {
    /// A connection that requests share.
    Shared(Arc<Shared>),
    /// A connection with one request at a time.
    Http1(Http1),
}

impl Connection {
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Shared(shared) => match &shared.requests {
                Requests::Spdy(requests) => Protocol::Spdy(requests.session().version()),
                Requests::Http2(_) => Protocol::Http2,
            },
            Self::Http1(_) => Protocol::Http1,
        }
    }

    /// Returns the session, if the connection speaks SPDY.
    fn session(&self) -> Option<&Session> {
        match self {
            Self::Shared(shared) => match &shared.requests {
                Requests::Spdy(requests) => Some(requests.session()),
                Requests::Http2(_) => None,
            },
            Self::Http1(_) => None,
        }
    }
}

/// A connection of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Http1 {
    requests: http1::SendRequest<RequestBody>,
    heard: Heard,
    line: Arc<Line>,
    pub(super) id: u64,
    is_used: bool,
    _dropped: DroppedUnlocked,
}

impl Http1 {
    pub(super) fn new(
        requests: http1::SendRequest<RequestBody>,
        heard: Heard,
        place: &Place,
    ) -> Self {
        Self {
            requests,
            heard,
            line: Arc::clone(place.line()),
            id: place.id(),
            is_used: false,
            _dropped: DroppedUnlocked,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Returns whether a request can be sent immediately. A new connection needs a moment before it
    /// is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.requests.is_ready()
    }

    /// Waits until the response was read to its end. Returns `false` if the connection ended, or
    /// was cut because the response was not read.
    pub(super) async fn rests(&mut self, unwanted: oneshot::Receiver<()>) -> bool {
        tokio::select! {
            biased;
            ready = self.requests.ready() => ready.is_ok(),
            Ok(()) = unwanted => {
                self.line.cut();
                false
            }
        }
    }

    async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<(Response<ResponseBody>, oneshot::Receiver<()>), Failed> {
        let is_reused = std::mem::replace(&mut self.is_used, true);
        let before = self.heard.count();
        let given_up = CutOnDrop(Some(&self.line));
        let outcome = self.requests.try_send_request(request).await;
        given_up.not();
        match outcome {
            Ok(response) => {
                let (unwanted, told) = Unwanted::new();
                let response = response.map(|body| ResponseBody::http1(body, unwanted));
                Ok((response, told))
            }
            Err(error) => {
                let is_unanswered = self.heard.count() == before;
                Err(Failed::http(error, is_reused && is_unanswered))
            }
        }
    }
}

/// Cuts the connection of a request that is given up before its response. Otherwise a server that
/// reads nothing would keep the place.
struct CutOnDrop<'a>(Option<&'a Line>);

impl CutOnDrop<'_> {
    /// Cancels this, because the request was not given up.
    fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.0 {
            line.cut();
        }
    }
}

/// When it is dropped, tells the task that waits for the end of a response that the rest is not
/// read.
#[derive(Debug)]
pub(super) struct Unwanted(Option<oneshot::Sender<()>>);

impl Unwanted {
    fn new() -> (Self, oneshot::Receiver<()>) {
        let (tell, told) = oneshot::channel();
        (Self(Some(tell)), told)
    }

    /// Cancels this, because the response has ended.
    pub(super) fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for Unwanted {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            // A connection that is idle already has received all of the response.
            _ = tell.send(());
        }
    }
}

/// A connection over which several requests can be sent at once.
#[derive(Debug)]
pub(super) struct Shared {
    requests: Requests,
    heard: Heard,
    /// The id of its place.
    pub(super) id: u64,
    is_used: AtomicBool,
    /// Requests hold clones until their responses have ended.
    pub(super) line: Arc<Line>,
    _dropped: DroppedUnlocked,
}

#[derive(Debug)]
enum Requests {
    Spdy(SendRequest),
    Http2(http2::SendRequest<RequestBody>),
}

impl Shared {
    pub(super) fn spdy(requests: SendRequest, heard: Heard, place: &Place) -> Self {
        Self::new(Requests::Spdy(requests), heard, place)
    }

    pub(super) fn http2(
        requests: http2::SendRequest<RequestBody>,
        heard: Heard,
        place: &Place,
    ) -> Self {
        Self::new(Requests::Http2(requests), heard, place)
    }

    fn new(requests: Requests, heard: Heard, place: &Place) -> Self {
        Self {
            requests,
            heard,
            id: place.id(),
            is_used: AtomicBool::new(false),
            line: Arc::clone(place.line()),
            _dropped: DroppedUnlocked,
        }
    }

    /// Returns whether the connection accepts requests. It can end before one is sent.
    pub(super) fn is_open(&self) -> bool {
        match &self.requests {
            Requests::Spdy(requests) => requests.is_ready(),
            Requests::Http2(requests) => !requests.is_closed(),
        }
    }

    /// Returns whether the peer shows that it is alive. Over SPDY it has to answer a PING within
    /// `patience`.
    ///
    /// Over HTTP/2 everything that the peer sends is a sign of life. While requests are under way
    /// and keep-alive is on, hyper sends PINGs, and ends the connection if no answer comes. So this
    /// waits for as long as a request does.
    pub(super) async fn is_alive(&self, patience: Duration) -> bool {
        match &self.requests {
            Requests::Spdy(requests) => {
                let ping = timeout(patience, requests.session().ping());
                ping.await.is_ok_and(|answer| answer.is_ok())
            }
            Requests::Http2(_) => tokio::select! {
                biased;
                () = self.heard.more() => true,
                () = self.line.until_unused() => false,
            },
        }
    }

    /// Sends a request. The connection is doubted if the request is given up or times out while the
    /// server sends nothing, or if a response breaks off.
    async fn send(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Failed> {
        let is_reused = self.is_used.swap(true, Ordering::Relaxed);
        let doubt = Doubt::new(slot, self);
        let failed = match &self.requests {
            Requests::Spdy(requests) => match requests.send(request).await {
                Ok(response) => return Ok(response.map(|body| ResponseBody::spdy(body, doubt))),
                Err(error) => Failed::spdy(error, is_reused),
            },
            Requests::Http2(requests) => {
                let mut requests = requests.clone();
                match requests.try_send_request(request).await {
                    Ok(response) => {
                        return Ok(response.map(|body| ResponseBody::http2(body, doubt)));
                    }
                    Err(error) => Failed::http(error, is_reused),
                }
            }
        };
        if !failed.is_timeout() {
            doubt.dispel();
        }
        if failed.outcome.ends_connection() {
            slot.forget(self);
        }
        Err(failed)
    }
}

/// A connection that was given to a request. If it is dropped without being used, it goes to the
/// next request.
#[derive(Debug)]
pub(super) struct Lease {
    slot: Arc<Slot>,
    connection: Option<Connection>,
}

impl Lease {
    pub(super) const fn new(slot: Arc<Slot>, connection: Connection) -> Self {
        Self {
            slot,
            connection: Some(connection),
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.connection().protocol()
    }

    pub(super) fn session(&self) -> Option<&Session> {
        self.connection().session()
    }

    fn connection(&self) -> &Connection {
        let connection = self.connection.as_ref();
        connection.expect("a lease is used once")
    }

    /// Sends a request and waits for the head of the response. Dropping the future gives the
    /// request up, which closes a connection of HTTP/1.1.
    pub(super) async fn send(
        mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Failed> {
        match self.connection.take().expect("a lease is used once") {
            Connection::Shared(shared) => shared.send(&self.slot, request).await,
            Connection::Http1(mut connection) => {
                let (response, unwanted) = connection.send(request).await?;
                self.slot.give_back(connection, unwanted);
                Ok(response)
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(Connection::Http1(connection)) = self.connection.take() {
            let (_, unwanted) = oneshot::channel();
            self.slot.give_back(connection, unwanted);
        }
    }
}

/// Casts doubt on a connection when it is dropped, unless the server has sent something since
/// [`note`](Self::note) was called.
#[derive(Debug)]
pub(super) struct Doubt {
    slot: Weak<Slot>,
    shared: Weak<Shared>,
    heard: usize,
    /// The use ends before the slot learns of the doubt.
    used: Option<Use>,
}

impl Doubt {
    fn new(slot: &Arc<Slot>, shared: &Arc<Shared>) -> Self {
        Self {
            slot: Arc::downgrade(slot),
            shared: Arc::downgrade(shared),
            heard: shared.heard.count(),
            used: Some(Use::new(&shared.line)),
        }
    }

    /// Notes everything that the server has sent until now.
    pub(super) fn note(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            self.heard = shared.heard.count();
        }
    }

    /// Cancels the doubt.
    pub(super) fn dispel(mut self) {
        self.shared = Weak::new();
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        let is_leaving = self.used.take().is_some_and(Use::end);
        let doubted = self.shared.upgrade();
        let doubted = doubted.filter(|shared| shared.heard.count() == self.heard);
        if let Some(slot) = self.slot.upgrade() {
            match doubted {
                Some(shared) if !is_leaving => slot.doubt(shared),
                _ if is_leaving => slot.settle(),
                _ => {}
            }
        }
    }
}

/// What is known about a request without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No application has looked at it.
    Unprocessed(Proof),
    /// A connection that had served requests before ended without a byte of the response. The
    /// server may have closed it before the request arrived.
    Lost,
    /// The server may have acted on the request, or another attempt cannot help.
    Final,
}

impl Outcome {
    /// Returns whether the connection accepts no more requests. Of a lost one, hyper does not
    /// always know at once that it has ended.
    const fn ends_connection(self) -> bool {
        match self {
            Self::Unprocessed(Proof::Unsent | Proof::LeftOut) | Self::Lost => true,
            Self::Unprocessed(Proof::Refused) | Self::Final => false,
        }
    }
}

/// A request without a response.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: FetchError,
    pub(super) outcome: Outcome,
}

impl Failed {
    const fn new(error: FetchError, outcome: Outcome) -> Self {
        Self { error, outcome }
    }

    fn spdy(error: Error, is_reused: bool) -> Self {
        let outcome = match (Proof::of_spdy(&error), &error) {
            // It would fail again.
            (_, Error::Request(_)) => Outcome::Final,
            (Some(proof), _) => Outcome::Unprocessed(proof),
            (None, Error::Stream(StreamError::Session(_))) if is_reused => Outcome::Lost,
            (None, _) => Outcome::Final,
        };
        Self::new(error.into(), outcome)
    }

    /// `may_be_lost` is whether the connection had served requests before, and has not answered.
    fn http(mut error: TrySendError<Request<RequestBody>>, may_be_lost: bool) -> Self {
        let is_unsent = error.take_message().is_some();
        let error = error.into_error();
        let is_reset = source::<h2::Error>(&error).is_some_and(h2::Error::is_reset);
        let outcome = match Proof::of_http(&error) {
            _ if is_unsent => Outcome::Unprocessed(Proof::Unsent),
            Some(proof) => Outcome::Unprocessed(proof),
            None if may_be_lost && !is_reset && !error.is_user() => Outcome::Lost,
            None => Outcome::Final,
        };
        Self::new(FetchError::Http(error), outcome)
    }

    /// Returns whether a timeout of the stream or its session ran out.
    fn is_timeout(&self) -> bool {
        match &self.error {
            FetchError::Spdy(error) => error.is_timeout(),
            _ => false,
        }
    }
}
