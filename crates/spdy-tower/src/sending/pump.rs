//! A body on its way to the peer.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use spdy_frame::{HeaderBlock, Version};

use super::{Answer, BoxError, Failure, Unsendable, guarded};
use crate::{body::FaultNotice, http::write_response};

pin_project! {
    /// Moves a body to a stream, as fast as the stream accepts it. The body is asked for a piece
    /// only if the stream can send it soon, or the session has room for it.
    ///
    /// The head of the response and one short piece of the body are held back until the next step
    /// of the body is known. So FIN is part of the last frame, and a body that fails immediately
    /// can still become a response with status 500.
    pub(crate) struct Pump<B> {
        #[pin]
        body: B,
        head: Option<HeaderBlock>,
        held: Option<Bytes>,
        has_trailers: bool,
        // Whether all pieces of the body are short.
        is_short: bool,
        // How many bytes of `content-length` are left.
        announced: Option<u64>,
    }
}

impl<B: Body<Error: Into<BoxError>>> Pump<B> {
    /// `head` is `None` if it was sent already. `size` is the size hint of the body.
    pub(crate) fn new(head: Option<HeaderBlock>, size: Option<u64>, body: B) -> Self {
        Self {
            body,
            head,
            held: None,
            has_trailers: true,
            is_short: size.is_some_and(|size| size <= SHORT as u64),
            announced: None,
        }
    }

    /// Fails if the body has another length than the head announces, so that the peer does not take
    /// it for complete.
    pub(crate) const fn announcing(mut self, length: Option<u64>) -> Self {
        self.announced = length;
        self
    }

    /// Moves the body of a push, whose head was sent already. No header field of a push may come
    /// after its payload (protocol.md §10.1), so trailers are left out.
    pub(crate) fn push(body: B) -> Self {
        // If `size_hint` panics, the body panics again when it is polled.
        let size = guarded(|| body.size_hint().exact()).ok().flatten();
        Self {
            has_trailers: false,
            ..Self::new(None, size, body)
        }
    }

    /// Is ready when the session has taken the whole body. Fails if the body of the request has a
    /// `fault`, whatever this body does with it.
    pub(crate) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        version: Version,
        answer: &mut Answer,
        fault: &mut FaultNotice,
    ) -> Poll<Result<(), Failure>> {
        for _ in 0..FRAMES_PER_POLL {
            let held = self.held.as_ref().map_or(0, Bytes::len);
            let Poll::Ready(room) = answer.poll_piece(cx, held, self.is_short) else {
                // There is no room for another piece. What is held can leave meanwhile.
                self.flush(answer)?;
                return Poll::Pending;
            };
            // The reservation is held until the piece is in the queue.
            let _room = room?;
            let body = self.as_mut().project().body;
            let step = guarded(|| Step::poll(body, cx))?;
            // The body may just have read the body of the request.
            if let Some(fault) = fault.come() {
                return Poll::Ready(Err(Failure::Fault(fault)));
            }
            let Poll::Ready(step) = step else {
                self.flush(answer)?;
                return Poll::Pending;
            };
            match step? {
                Step::End => return Poll::Ready(self.finish(answer)),
                Step::Data { bytes, is_last } => {
                    self.as_mut().take(bytes, answer)?;
                    if is_last {
                        return Poll::Ready(self.finish(answer));
                    }
                    self.as_mut().flush_long(answer)?;
                }
                Step::Trailers(_) if !self.has_trailers => {
                    return Poll::Ready(self.finish(answer));
                }
                Step::Trailers(trailers) => {
                    return Poll::Ready(self.finish_with(&trailers, version, answer));
                }
            }
        }
        // A body that is always ready has to let other tasks run.
        self.flush(answer)?;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what was held, and holds the next piece.
    fn take(mut self: Pin<&mut Self>, bytes: Bytes, answer: &mut Answer) -> Result<(), Failure> {
        if let Some(left) = self.as_mut().project().announced {
            let rest = left.checked_sub(bytes.len() as u64);
            *left = rest.ok_or(WRONG_LENGTH)?;
        }
        if !bytes.is_empty() {
            if self.held.is_some() {
                self.as_mut().flush(answer)?;
            }
            *self.project().held = Some(bytes);
        }
        Ok(())
    }

    /// Sends what is held if it is long. FIN may then need eight bytes more, but less memory is
    /// held.
    fn flush_long(self: Pin<&mut Self>, answer: &mut Answer) -> Result<(), Failure> {
        let is_long = |held: &Bytes| held.len() > SHORT;
        if self.held.as_ref().is_some_and(is_long) {
            self.flush(answer)?;
        }
        Ok(())
    }

    /// Sends what is held. More will follow.
    fn flush(self: Pin<&mut Self>, answer: &mut Answer) -> Result<(), Failure> {
        let this = self.project();
        if let Some(head) = this.head.take() {
            answer.begin(head)?;
        }
        if let Some(bytes) = this.held.take() {
            answer.data(bytes, false)?;
        }
        Ok(())
    }

    /// Sends what is held, with FIN on the last frame.
    fn finish(self: Pin<&mut Self>, answer: &mut Answer) -> Result<(), Failure> {
        self.check_end()?;
        let this = self.project();
        let held = this.held.take().unwrap_or_default();
        match this.head.take() {
            Some(head) => answer.give(head, held)?,
            None => answer.data(held, true)?,
        }
        Ok(())
    }

    fn check_end(&self) -> Result<(), Failure> {
        match self.announced {
            Some(1..) => Err(WRONG_LENGTH),
            Some(0) | None => Ok(()),
        }
    }

    fn finish_with(
        mut self: Pin<&mut Self>,
        trailers: &HeaderMap,
        version: Version,
        answer: &mut Answer,
    ) -> Result<(), Failure> {
        let block = write_response::trailers(version, trailers)
            .ok_or(Failure::Response(Unsendable::Trailer))?;
        if block.is_empty() {
            return self.finish(answer);
        }
        self.check_end()?;
        self.as_mut().flush(answer)?;
        answer.trailers(block)?;
        Ok(())
    }
}

/// What a body returns next.
enum Step {
    Data { bytes: Bytes, is_last: bool },
    Trailers(HeaderMap),
    End,
}

impl Step {
    /// Calls the body. All of this is code of the application.
    fn poll<B: Body<Error: Into<BoxError>>>(
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self, Failure>> {
        let frame = ready!(body.as_mut().poll_frame(cx));
        let frame = frame.transpose().map_err(Failure::application)?;
        Poll::Ready(Ok(match frame.map(Frame::into_data) {
            None => Self::End,
            Some(Ok(mut bytes)) => Self::Data {
                // `Bytes` are moved here. Other buffers are copied once.
                bytes: bytes.copy_to_bytes(bytes.remaining()),
                is_last: body.is_end_stream(),
            },
            Some(Err(frame)) => Self::Trailers(frame.into_trailers().unwrap_or_default()),
        }))
    }
}

/// A piece of up to this many bytes is held back until the next step of the body is known.
const SHORT: usize = 16 * 1024;

/// The head of a response announces another length than its body has.
pub(crate) const WRONG_LENGTH: Failure = Failure::Response(Unsendable::Length);

/// How many pieces of a body are moved before other tasks run.
const FRAMES_PER_POLL: usize = 32;
