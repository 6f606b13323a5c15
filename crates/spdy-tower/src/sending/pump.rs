//! A body on its way to the peer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use spdy_frame::{HeaderBlock, Version};

use super::{Answer, BoxError, Failure, Unsendable, guarded};
use crate::http::write_response;

pin_project! {
    /// Moves a body to a stream, as fast as the stream takes it: the body is asked for a piece only
    /// when the stream may send it soon, or the session has room to keep it.
    ///
    /// The head of the response and one short piece of the body are held back until it is known
    /// what follows: so FIN travels on the last frame, and a body that fails at once can still
    /// become an answer of 500.
    pub(crate) struct Pump<B> {
        #[pin]
        body: B,
        head: Option<HeaderBlock>,
        held: Option<Bytes>,
        has_trailers: bool,
        // All that the body has is short.
        is_short: bool,
        // The bytes that are left of what `content-length` announces.
        announced: Option<u64>,
    }
}

impl<B: Body<Error: Into<BoxError>>> Pump<B> {
    /// `head` is `None` if it has been sent already. `size` is what the body says of its length.
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

    /// Fails where the body has another length than the head announces: a peer must not take it for
    /// whole.
    pub(crate) const fn announcing(mut self, length: Option<u64>) -> Self {
        self.announced = length;
        self
    }

    /// For a push, whose head has been sent. No header field of a push may come behind its payload
    /// (protocol.md §10.1): trailers are left out.
    pub(crate) fn push(body: B) -> Self {
        // A body that panics here panics again where it is polled.
        let size = guarded(|| body.size_hint().exact()).ok().flatten();
        Self {
            has_trailers: false,
            ..Self::new(None, size, body)
        }
    }

    /// Ready when the whole response has been handed to the session.
    pub(crate) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        version: Version,
        answer: &mut Answer,
    ) -> Poll<Result<(), Failure>> {
        for _ in 0..FRAMES_PER_POLL {
            let held = self.held.as_ref().map_or(0, Bytes::len);
            let Poll::Ready(room) = answer.poll_piece(cx, held, self.is_short) else {
                // The peer need not wait for what is there.
                self.flush(answer)?;
                return Poll::Pending;
            };
            // Held until the piece is in the queue.
            let _room = room?;
            let body = self.as_mut().project().body;
            let Poll::Ready(frame) = guarded(|| body.poll_frame(cx))? else {
                self.flush(answer)?;
                return Poll::Pending;
            };
            match frame
                .transpose()
                .map_err(Failure::application)?
                .map(Frame::into_data)
            {
                None => return Poll::Ready(self.finish(answer)),
                Some(Ok(bytes)) => {
                    self.as_mut().take(bytes, answer)?;
                    if guarded(|| self.body.is_end_stream())? {
                        return Poll::Ready(self.finish(answer));
                    }
                    self.as_mut().flush_long(answer)?;
                }
                Some(Err(_)) if !self.has_trailers => return Poll::Ready(self.finish(answer)),
                Some(Err(frame)) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return Poll::Ready(self.finish_with(&trailers, version, answer));
                }
            }
        }
        // A body that is always ready lets others have their turn.
        self.flush(answer)?;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what was held and holds the next piece.
    fn take(
        mut self: Pin<&mut Self>,
        mut bytes: B::Data,
        answer: &mut Answer,
    ) -> Result<(), Failure> {
        // `Bytes` moves here; other buffers are copied once.
        let bytes = guarded(move || bytes.copy_to_bytes(bytes.remaining()))?;
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

    /// Sends what is held if it is long: FIN may then need eight bytes more, and less memory is
    /// held.
    fn flush_long(self: Pin<&mut Self>, answer: &mut Answer) -> Result<(), Failure> {
        let is_long = |held: &Bytes| held.len() > SHORT;
        if self.held.as_ref().is_some_and(is_long) {
            self.flush(answer)?;
        }
        Ok(())
    }

    /// Sends what is held, with more to come.
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

    /// Sends what is held, and FIN with the last of it.
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

/// A piece of up to this many bytes is held back until it is known what follows.
const SHORT: usize = 16 * 1024;

/// The head of a response announces another length than its body has.
pub(crate) const WRONG_LENGTH: Failure = Failure::Response(Unsendable::Length);

/// Pieces of a body that are moved before others get their turn.
const FRAMES_PER_POLL: usize = 32;
