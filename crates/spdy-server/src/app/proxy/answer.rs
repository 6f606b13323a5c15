//! The body of a response on its way to the client.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    BoxError,
    http::{Method, Response, StatusCode},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use super::{pool::Lease, upload::Progress};

/// A response and its connection. If it is dropped before its end, it closes the connection, or
/// resets its stream.
pub(super) struct Answer {
    body: Incoming,
    /// Whether the response never has a body, so that an empty one does not determine the length.
    bodiless: bool,
    /// Whether the response may come before the end of its request.
    may_be_early: bool,
    silence: Silence,
    lease: Option<Lease>,
}

impl Answer {
    pub(super) fn new(
        response: Response<Incoming>,
        method: &Method,
        silence: Silence,
        lease: Lease,
    ) -> Response<Self> {
        let bodiless = *method == Method::HEAD
            || matches!(
                response.status(),
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        response.map(|body| {
            let mut answer = Self {
                bodiless,
                may_be_early: true,
                silence,
                lease: Some(lease),
                body,
            };
            if !switches {
                answer.end_if_whole();
            }
            answer
        })
    }

    /// Returns the connection of a response that has switched to another protocol.
    pub(super) fn into_lease(mut self) -> Option<Lease> {
        self.lease.take()
    }

    /// Sets whether the request had a body.
    pub(super) const fn answering(mut self, has_body: bool) -> Self {
        self.may_be_early = has_body;
        self
    }

    /// Returns whether the body was cut short although hyper takes it for complete: over HTTP/2 it
    /// does so with every body that the application resets with NO_ERROR. In order, that comes only
    /// after the end, and only to stop the rest of a request.
    fn is_cut(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_http2)
            && !self.body.is_end_stream()
            && (!self.may_be_early || self.body.size_hint().lower() > 0)
    }

    /// Returns the connection to the pool as soon as the response is complete: the client might
    /// never poll for the end.
    fn end_if_whole(&mut self) {
        if self.body.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish(&self.silence.progress);
        }
    }

    /// Ends the request, because the rest of the response is not wanted.
    fn break_off(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.silence.progress.take_back();
            lease.break_off();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.break_off();
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                if self.silence.poll_over(cx).is_pending() {
                    return Poll::Pending;
                }
                debug!("the application stopped sending in the middle of a response");
                self.break_off();
                Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
            }
            Poll::Ready(frame) => {
                self.silence.broken();
                match &frame {
                    None if self.is_cut() => {
                        debug!("the application cut a response short");
                        self.break_off();
                        return Poll::Ready(Some(Err(cut_short().into())));
                    }
                    Some(Ok(_)) => self.end_if_whole(),
                    Some(Err(_)) => self.break_off(),
                    None => self.end(),
                }
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(frame) => Ok(frame.map_data(|piece| unpinned(&piece))),
                    Err(error) => Err(broken_off(&error).into()),
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.bodiless {
            return SizeHint::default();
        }
        self.body.size_hint()
    }
}

/// Returns the error for the client, without its cause: hyper would look there for a code of HTTP/2
/// and reset the stream of the client with it. But a PROTOCOL_ERROR of the application does not say
/// that the client has made a mistake, and its REFUSED_STREAM not that the client can try again.
fn broken_off(error: &hyper::Error) -> io::Error {
    let cause = error.source().map(|cause| format!(": {cause}"));
    io::Error::other(format!("{error}{}", cause.unwrap_or_default()))
}

fn cut_short() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the application cut the response short",
    )
}

/// Copies a piece, which is 16 KiB at most. It is a slice of a buffer of the connection, which may
/// be much longer and would be kept until the client has taken the piece.
fn unpinned(piece: &[u8]) -> Bytes {
    Bytes::copy_from_slice(piece)
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

/// The time for which the application has been silent while the proxy waited for it.
///
/// The time of the client does not count: while the client does not read, the proxy asks the
/// application for nothing, and while the application waits for more of the request it has nothing
/// to send.
#[derive(Debug)]
pub(super) struct Silence {
    limit: Duration,
    progress: Progress,
    since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(super) const fn new(limit: Duration, progress: Progress) -> Self {
        Self {
            limit,
            progress,
            since: None,
            alarm: None,
        }
    }

    const fn broken(&mut self) {
        self.since = None;
    }

    /// Starts the time if it is not running. Completes when it exceeds the limit. A request body
    /// that moves restarts it.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        loop {
            let since = self
                .progress
                .silent_since()
                .map_or(since, |last| last.max(since));
            let Some(until) = since.checked_add(self.limit) else {
                // A limit that a clock cannot count is no limit.
                return Poll::Pending;
            };
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            let alarm = self
                .alarm
                .get_or_insert_with(|| Box::pin(sleep_until(until)));
            ready!(alarm.as_mut().poll(cx));
            // The alarm was set for an earlier silence.
            alarm.as_mut().reset(until);
        }
    }
}
