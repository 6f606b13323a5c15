//! One request and its response.
//!
//! ```text
//! Waiting ──ready, call──► Working ──response──► Answering ──last frame──► Over
//!    │                        │                      │                      ▲
//!    └────── error, panic, malformed body, client gone, session gone ───────┘
//! ```

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use pin_project_lite::pin_project;
use spdy_frame::HeaderBlock;
use tracing::{debug, warn};

use super::service::HttpService;
use crate::{
    Body,
    body::FaultNotice,
    http::{
        ResponseForm, framing,
        write_response::{self, Written},
    },
    sending::{Answer, Failure, Pump, Unsendable, WRONG_LENGTH, guarded},
    tunnel::TunnelDue,
};

pin_project! {
    /// A future that ends when the request is answered, or needs no answer any more.
    ///
    /// Dropping it early refuses or resets the stream, because it drops the handles.
    pub(super) struct Exchange<S: HttpService> {
        #[pin]
        state: State<S>,
        answer: Answer,
        form: ResponseForm,
        method: Method,
        // Receives the fault of the request's body, if it has one.
        fault: FaultNotice,
        // The tunnel that CONNECT asks for.
        tunnel: Option<TunnelDue>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: HttpService> {
        Waiting { service: S, request: Option<Request<Body>> },
        Working { #[pin] future: S::Future },
        Answering { #[pin] pump: Pump<S::ResponseBody> },
        Over,
    }
}

impl<S: HttpService> Exchange<S> {
    /// An exchange that waits for its own clone of the service to be ready.
    pub(super) fn new(
        service: S,
        request: Request<Body>,
        answer: Answer,
        form: ResponseForm,
        fault: FaultNotice,
        tunnel: Option<TunnelDue>,
    ) -> Self {
        let method = request.method().clone();
        let state = State::Waiting {
            service,
            request: Some(request),
        };
        Self {
            state,
            answer,
            form,
            method,
            fault,
            tunnel,
        }
    }

    fn poll_steps(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            let mut this = self.as_mut().project();
            let next = match this.state.as_mut().project() {
                StateProjection::Waiting { service, request } => {
                    let called = guarded(|| {
                        let ready = ready!(service.poll_ready(cx));
                        let call = |()| request.take().map(|request| service.call(request));
                        Poll::Ready(ready.map(call).map_err(Failure::application))
                    })?;
                    let Poll::Ready(future) = called else {
                        return self.poll_disturbed(cx).map(Err);
                    };
                    State::Working {
                        future: future?.expect("a request waits until it is called with"),
                    }
                }
                StateProjection::Working { future } => {
                    let response = guarded(|| future.poll(cx).map_err(Failure::application))?;
                    let Poll::Ready(response) = response else {
                        return self.poll_disturbed(cx).map(Err);
                    };
                    // If the body is malformed, the client gets that failure, whatever response the
                    // application makes of it.
                    if let Some(fault) = this.fault.come() {
                        return Poll::Ready(Err(Failure::Fault(fault)));
                    }
                    let response = response?;
                    let tunnel = this
                        .tunnel
                        .take()
                        .filter(|due| response.status().is_success() && due.is_wanted());
                    let (head, body) = split(*this.form, this.method, response, tunnel.is_some())?;
                    match (body, tunnel) {
                        (_, Some(tunnel)) => {
                            tunnel.open(this.answer.open(head)?);
                            State::Over
                        }
                        (
                            Some(Measured {
                                body,
                                size,
                                announced,
                            }),
                            None,
                        ) => State::Answering {
                            pump: Pump::new(Some(head), size, body).announcing(announced),
                        },
                        (None, None) => {
                            this.answer.give(head, Bytes::new())?;
                            State::Over
                        }
                    }
                }
                StateProjection::Answering { pump } => {
                    let end = pump.poll(cx, this.form.version, this.answer, this.fault);
                    let Poll::Ready(end) = end else {
                        return self.poll_disturbed(cx).map(Err);
                    };
                    end?;
                    State::Over
                }
                StateProjection::Over => return Poll::Ready(Ok(())),
            };
            // Drops what the application has left.
            guarded(|| this.state.set(next))?;
        }
    }

    /// Waits for a reason to end the exchange early.
    fn poll_disturbed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Failure> {
        let this = self.project();
        if let Poll::Ready(fault) = this.fault.poll(cx) {
            return Poll::Ready(Failure::Fault(fault));
        }
        this.answer.poll_closed(cx).map(Failure::Gone)
    }

    /// Reports a failure to the client and to the log.
    fn fail(self: Pin<&mut Self>, failure: Failure) {
        let this = self.project();
        // An application that returns the request's body as its response fails because that body
        // fails.
        let failure = this.fault.come().map_or(failure, Failure::Fault);
        match failure.told() {
            Some((status, reset)) => this.answer.fail(*this.form, status, reset),
            None => *this.answer = Answer::Given,
        }
        // The error of an application is shown and dropped by code of the application.
        _ = guarded(move || match &failure {
            Failure::Gone(_) | Failure::Fault(_) => debug!(%failure, "request ended early"),
            _ => warn!(%failure, "request failed"),
        });
    }
}

impl<S: HttpService> Future for Exchange<S> {
    type Output = ();

    /// Reports a panic of the application, which ends only this request.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Err(failure) = ready!(self.as_mut().poll_steps(cx)) {
            self.as_mut().fail(failure);
            // Drops the application's state now, and not together with the exchange.
            let mut state = self.project().state;
            _ = guarded(|| state.set(State::Over));
        }
        Poll::Ready(())
    }
}

/// A body, its size hint, and the length that its head announces.
struct Measured<B> {
    body: B,
    size: Option<u64>,
    announced: Option<u64>,
}

/// Returns the header block of a response, and its body, unless it is empty or is not sent.
fn split<B: http_body::Body>(
    form: ResponseForm,
    method: &Method,
    response: Response<B>,
    opens_tunnel: bool,
) -> Result<(HeaderBlock, Option<Measured<B>>), Failure> {
    let (mut head, body) = response.into_parts();
    let is_bodyless = opens_tunnel || framing::is_bodyless(method, head.status);
    // What is not sent is dropped here.
    let (size, body) = guarded(|| {
        drop(mem::take(&mut head.extensions));
        let has_body = !is_bodyless && !body.is_end_stream();
        (body.size_hint().exact(), has_body.then_some(body))
    })?;
    if head.status.is_informational() {
        // An interim response is an error, because SPDY does not allow a second SYN_REPLY.
        return Err(Failure::Response(Unsendable::Informational));
    }
    let Written { block, announced } = write_response::head(form, method, head, size)
        .ok_or(Failure::Response(Unsendable::Field))?;
    let announced = announced.filter(|_| !is_bodyless);
    if body.is_none() && announced.is_some_and(|length| length > 0) {
        return Err(WRONG_LENGTH);
    }
    let measured = body.map(|body| Measured {
        body,
        size,
        announced,
    });
    Ok((block, measured))
}
