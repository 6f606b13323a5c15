//! The body of a response, which knows what the client has taken of it.
//!
//! h2 keeps what the client has not granted a window for, and hyper's task ends as soon as h2 has
//! the end of a response. So the end is not handed over before everything else has left: then the
//! task, and its [time limit](crate::unread), cover the response to its end.

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use hyper::body::{Body as _, Frame, SizeHint};
use spdy_kube::BoxError;
use tokio::sync::{oneshot, watch};

use crate::{unread, upstream::Body};

/// Counts a request until this is dropped.
pub(crate) struct Busy(watch::Sender<usize>);

impl Busy {
    pub(crate) fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The body of a response. The request counts until this is dropped. Over HTTP/2 it returns a piece
/// of at most [`PIECE`] when the one before has left.
pub(crate) struct Pieces {
    body: Body,
    rest: Bytes,
    /// Ready when the last piece has left.
    leaving: Option<oneshot::Receiver<Infallible>>,
    _busy: Busy,
}

/// A piece of a response. Dropping it tells that it has left, or is not sent.
pub(crate) struct Piece {
    bytes: Bytes,
    _left: Option<oneshot::Sender<Infallible>>,
}

impl Pieces {
    pub(crate) const fn new(body: Body, busy: Busy) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            leaving: None,
            _busy: busy,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BoxError>>> {
        // Empty pieces are skipped: peers count empty DATA frames.
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)?) {
                Some(frame) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers.map_data(Piece::whole)))),
                },
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }

    fn piece(&mut self) -> Piece {
        if !unread::is_watched() {
            return Piece::whole(mem::take(&mut self.rest));
        }
        let (left, leaving) = oneshot::channel();
        self.leaving = Some(leaving);
        Piece {
            bytes: self.rest.split_to(self.rest.len().min(PIECE)),
            _left: Some(left),
        }
    }
}

impl hyper::body::Body for Pieces {
    type Data = Piece;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BoxError>>> {
        if let Some(leaving) = &mut self.leaving {
            _ = ready!(Pin::new(leaving).poll(cx));
            self.leaving = None;
        }
        let polled = self.poll_next(cx);
        unread::note(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.leaving.is_none() && self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl Piece {
    const fn whole(bytes: Bytes) -> Self {
        Self { bytes, _left: None }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, length: usize) {
        self.bytes.advance(length);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

/// The most bytes of a response that h2 has and the client has not granted a window for. It is also
/// the longest DATA frame that most clients accept.
pub(crate) const PIECE: usize = 16 * 1024;
