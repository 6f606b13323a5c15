//! The requests of a session, from their streams to the service.

use std::{
    fmt,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, StatusCode};
use spdy_frame::RstStatus;
use spdy_session::{Incoming, PendingStream, Session, Shutdown};
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, warn};

use super::{
    exchange::Exchange, info::StreamInfo, malformed::OnMalformed, pushes::Pushes,
    service::HttpService,
};
use crate::{
    Body,
    body::FaultNotice,
    http::{Head, Heads, Malformed, ResponseForm},
    patience::Patience,
    sending::{Answer, guarded},
    tunnel::TunnelDue,
};

/// The state that all requests of a session share.
pub(super) struct Requests<S> {
    session: Session,
    form: ResponseForm,
    pushes: Pushes,
    service: S,
    heads: Heads,
    on_malformed: OnMalformed,
    patience: Patience,
    /// The tasks of slow requests and of pushes. Made for the first, because many sessions have
    /// none.
    tasks: Option<JoinSet<()>>,
}

impl<S> Requests<S> {
    pub(super) fn new(
        session: Session,
        service: S,
        heads: Heads,
        form: ResponseForm,
        on_malformed: OnMalformed,
        patience: Patience,
    ) -> Self {
        Self {
            pushes: Pushes::new(session.clone(), form),
            session,
            form,
            service,
            heads,
            on_malformed,
            patience,
            tasks: None,
        }
    }

    /// Accepts no new requests.
    pub(super) fn shut_down(&self) {
        self.session.shutdown(Shutdown::Graceful { deadline: None });
    }
}

impl<S: HttpService> Requests<S> {
    /// Starts the requests that have arrived, and the pushes that handlers have requested. Starts
    /// at most [`REQUESTS_PER_TURN`], and returns whether there may be more.
    pub(super) fn begin(&mut self, incoming: &mut Incoming, cx: &mut Context<'_>) -> bool {
        if let Some(tasks) = &mut self.tasks {
            join_ended(tasks, cx);
        }
        let more = self.begin_requests(incoming, cx);
        for push in self.pushes.take(cx) {
            self.spawn(push);
        }
        more
    }

    fn begin_requests(&mut self, incoming: &mut Incoming, cx: &mut Context<'_>) -> bool {
        // Handlers that are ready immediately share one place in memory.
        let mut place: Option<Pin<Box<Exchange<S>>>> = None;
        for _ in 0..REQUESTS_PER_TURN {
            let Ok(stream) = incoming.try_accept() else {
                return false;
            };
            let Some(exchange) = self.exchange(stream) else {
                continue;
            };
            let mut exchange = match place.take() {
                None => Box::pin(exchange),
                Some(mut place) => {
                    place.set(exchange);
                    place
                }
            };
            match exchange.as_mut().poll(cx) {
                Poll::Ready(()) => place = Some(exchange),
                Poll::Pending => {
                    self.spawn(exchange);
                }
            }
        }
        true
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.get_or_insert_default().spawn(task);
    }

    /// Turns a stream into a request. Returns `None` if it is malformed; then it was answered here.
    fn exchange(&mut self, stream: PendingStream) -> Option<Exchange<S>> {
        if stream.is_unidirectional() || stream.associated().is_some() {
            debug!(id = %stream.id(), "stream of a client is no request");
            stream.reset(RstStatus::PROTOCOL_ERROR);
            return None;
        }
        match self.heads.read(stream.headers(), stream.has_body()) {
            Ok(head) => self.accept(stream, head),
            Err(malformed) => {
                self.refuse(stream, malformed);
                None
            }
        }
    }

    /// Returns `None` if the service cannot be cloned; then it was answered here.
    fn accept(&self, stream: PendingStream, head: Head) -> Option<Exchange<S>> {
        let (id, priority, has_body) = (stream.id(), stream.priority(), stream.has_body());
        let (receive, reply) = stream.split();
        let service = match guarded(|| self.service.clone()) {
            Ok(service) => service,
            Err(failure) => {
                warn!(%failure, "request failed");
                let (status, reset) =
                    (StatusCode::INTERNAL_SERVER_ERROR, RstStatus::INTERNAL_ERROR);
                Answer::Due(reply).fail(self.form, status, reset);
                return None;
            }
        };
        let info = StreamInfo {
            version: self.form.version,
            id,
            priority,
            pushes: self.pushes.clone(),
            room: reply.room(),
        };
        let mut request = head.request.map(|()| Body::empty());
        let (mut fault, mut tunnel) = (FaultNotice::Never, None);
        if request.method() == Method::CONNECT {
            tunnel = Some(TunnelDue::offer(receive, request.extensions_mut()));
        } else if has_body {
            let (body, notice) = Body::request(receive, head.content_length, self.patience.wait());
            *request.body_mut() = body;
            fault = notice;
        }
        request.extensions_mut().insert(info);
        let answer = Answer::Due(reply);
        Some(Exchange::new(
            service, request, answer, self.form, fault, tunnel,
        ))
    }

    fn refuse(&self, stream: PendingStream, malformed: Malformed) {
        debug!(id = %stream.id(), %malformed, "request is malformed");
        let told = guarded(|| {
            self.on_malformed
                .tell(&stream, self.form.version, malformed);
        });
        if let Err(failure) = told {
            warn!(%failure, "malformed request is not reported");
        }
        let (_receive, reply) = stream.split();
        Answer::Due(reply).fail(self.form, malformed.status(), RstStatus::PROTOCOL_ERROR);
    }
}

impl<S> Drop for Requests<S> {
    /// Handlers can have handles for pushes that outlive the connection.
    fn drop(&mut self) {
        self.pushes.close();
    }
}

impl<S> fmt::Debug for Requests<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("tasks", &self.tasks.as_ref().map_or(0, JoinSet::len))
            .finish_non_exhaustive()
    }
}

fn join_ended(tasks: &mut JoinSet<()>, cx: &mut Context<'_>) {
    while let Poll::Ready(Some(ended)) = tasks.poll_join_next(cx) {
        // Panics of the application are caught where it is called. This is a panic of this crate,
        // which is reported as it would be without a task.
        if let Some(Ok(panic)) = ended.err().map(JoinError::try_into_panic) {
            resume_unwind(panic);
        }
    }
}

/// How many requests are started before the session reads and writes again and other tasks run.
const REQUESTS_PER_TURN: usize = 32;
