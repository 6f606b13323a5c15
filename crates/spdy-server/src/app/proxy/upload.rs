//! The body of a request on its way to the application, and its progress.

mod loan;
mod progress;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, http::Method};
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::timeout;

use self::loan::{Loan, is_empty};
pub(super) use self::progress::Progress;
use super::{Failure, pool::Place};

/// A body that reports its [`Progress`]. A connection can send it until the pool takes it back.
#[derive(Debug)]
pub(super) struct Upload {
    /// `None` for bodies that are empty from the beginning.
    loan: Option<Arc<Loan>>,
    /// The attempt that has the body.
    turn: usize,
    /// The place at the application, which the request keeps until all of its body is sent, or is
    /// not wanted any more.
    place: Option<Arc<Place>>,
}

impl Upload {
    /// Takes the body of a request.
    ///
    /// The head of most requests without a body declares that. In SPDY and HTTP/2, an empty frame
    /// can declare it later. A short wait for that frame keeps such a request simple: it has no
    /// body, and is safe to send again. Whatever the result of the wait, all of the body reaches
    /// the application.
    pub(super) async fn begin(method: &Method, mut body: Body) -> Result<Self, Failure> {
        let is_clear = http_body::Body::is_end_stream(&body)
            || http_body::Body::size_hint(&body).lower() > 0
            || matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        if is_clear {
            return Ok(Self::new(body, None));
        }
        match timeout(FIRST_FRAME, first(&mut body)).await {
            Ok(None) => Ok(Self::empty()),
            Ok(Some(Err(error))) => Err(Failure::Body(error.to_string())),
            Ok(Some(Ok(frame))) => Ok(Self::new(body, Some(frame))),
            Err(_) => Ok(Self::new(body, None)),
        }
    }

    fn new(body: Body, first: Option<Frame<Bytes>>) -> Self {
        let is_empty = first.is_none() && http_body::Body::is_end_stream(&body);
        Self {
            loan: (!is_empty).then(|| Arc::new(Loan::new(body, first))),
            turn: 0,
            place: None,
        }
    }

    /// Returns an empty body.
    pub(super) const fn empty() -> Self {
        Self {
            loan: None,
            turn: 0,
            place: None,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress::of(self.loan.clone())
    }

    /// Keeps a place for as long as the body is sent.
    pub(super) fn hold(&mut self, place: &Arc<Place>) {
        self.place = self.loan.is_some().then(|| Arc::clone(place));
    }

    fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &self.loan {
            Some(loan) => loan.poll_frame(self.turn, cx),
            None => Poll::Ready(None),
        }
    }
}

/// Returns the first frame that is not empty.
async fn first(body: &mut Body) -> Option<Result<Frame<Bytes>, axum::Error>> {
    loop {
        let frame = body.frame().await?;
        if !is_empty(&frame) {
            return Some(frame);
        }
    }
}

/// A piece of a body. It keeps the place of its request until the connection has sent it.
#[derive(Debug)]
pub(super) struct Piece {
    data: Bytes,
    _place: Option<Arc<Place>>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

impl http_body::Body for Upload {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let piece = |data| Piece {
            data,
            _place: self.place.clone(),
        };
        let frame = self.poll_data(cx);
        frame.map_ok(|frame| frame.map_data(piece))
    }

    fn is_end_stream(&self) -> bool {
        let loan = self.loan.as_ref();
        loan.is_none_or(|loan| loan.is_over_for(self.turn))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.loan {
            Some(loan) => loan.size_hint(self.turn),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Upload {
    /// The application does not read the rest.
    fn drop(&mut self) {
        let Some(loan) = &self.loan else {
            return;
        };
        if let Some(place) = &self.place
            && !loan.is_over()
        {
            place.note_broken();
        }
        loan.end(self.turn);
    }
}

/// How long a request without a length waits for the frame that shows whether it has a body.
const FIRST_FRAME: Duration = Duration::from_millis(100);
