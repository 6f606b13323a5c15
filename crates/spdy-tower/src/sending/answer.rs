//! What can still be sent on a stream.

use std::{
    mem,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use spdy_frame::{HeaderBlock, RstStatus};
use spdy_session::{Reserved, SendReply, SendStream, StreamError};

use crate::http::{ResponseForm, write_response};

/// The sending side of an exchange. Each step moves it to the next state, so nothing can be sent
/// twice.
#[derive(Debug)]
pub(crate) enum Answer {
    /// SYN_REPLY was not sent.
    Due(SendReply),
    /// SYN_REPLY was sent, and FIN was not.
    Begun(SendStream),
    /// Everything was sent.
    Given,
}

impl Answer {
    /// Sends SYN_REPLY.
    pub(crate) fn begin(&mut self, head: HeaderBlock) -> Result<(), StreamError> {
        *self = Self::Begun(self.open(head)?);
        Ok(())
    }

    /// Sends SYN_REPLY, and returns the rest of the stream.
    pub(crate) fn open(&mut self, head: HeaderBlock) -> Result<SendStream, StreamError> {
        self.take()?.send_reply(head, false)
    }

    /// Sends SYN_REPLY, the whole body, which may be empty, and FIN.
    pub(crate) fn give(&mut self, head: HeaderBlock, body: Bytes) -> Result<(), StreamError> {
        self.take()?.send_reply_with(head, body)
    }

    fn take(&mut self) -> Result<SendReply, StreamError> {
        match mem::replace(self, Self::Given) {
            Self::Due(reply) => Ok(reply),
            Self::Begun(_) | Self::Given => Err(StreamError::Finished),
        }
    }

    /// Waits until the body can be asked for another piece: see [`SendStream::poll_piece`].
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        held: usize,
        is_modest: bool,
    ) -> Poll<Result<Reserved, StreamError>> {
        match self {
            Self::Begun(stream) => stream.poll_piece(cx, held, is_modest),
            Self::Due(reply) => reply.poll_piece(cx, held, is_modest),
            Self::Given => Poll::Ready(Err(StreamError::Finished)),
        }
    }

    /// Sends a piece of the body, with FIN if `fin` is set.
    pub(crate) fn data(&mut self, bytes: Bytes, fin: bool) -> Result<(), StreamError> {
        self.on_stream(fin, |stream| stream.send_data(bytes, fin))
    }

    /// Sends trailers, which end the response.
    pub(crate) fn trailers(&mut self, block: HeaderBlock) -> Result<(), StreamError> {
        self.on_stream(true, |stream| stream.send_headers(block, true))
    }

    fn on_stream(
        &mut self,
        fin: bool,
        send: impl FnOnce(&mut SendStream) -> Result<(), StreamError>,
    ) -> Result<(), StreamError> {
        let Self::Begun(stream) = self else {
            return Err(StreamError::Finished);
        };
        send(stream)?;
        if fin {
            *self = Self::Given;
        }
        Ok(())
    }

    /// Ends the exchange with a failure: a response without a body if no SYN_REPLY was sent,
    /// otherwise RST_STREAM.
    pub(crate) fn fail(&mut self, form: ResponseForm, status: StatusCode, reset: RstStatus) {
        match mem::replace(self, Self::Given) {
            Self::Due(reply) => {
                // The stream may have ended meanwhile. Then the client knows already.
                _ = reply.send_reply_with(write_response::bare(form, status), Bytes::new());
            }
            Self::Begun(stream) => stream.reset(reset),
            Self::Given => {}
        }
    }

    /// Waits until the client resets the stream or the session ends.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match self {
            Self::Due(reply) => reply.poll_closed(cx),
            Self::Begun(stream) => stream.poll_closed(cx),
            Self::Given => Poll::Ready(StreamError::Finished),
        }
    }
}
