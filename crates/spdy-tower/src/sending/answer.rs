//! What may still be said on one stream.

use std::{
    mem,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use spdy_frame::{HeaderBlock, RstStatus};
use spdy_session::{Reserved, SendReply, SendStream, StreamError};

use crate::http::{ResponseForm, write_response};

/// The sending side of an exchange. Each step takes it to the next state, so nothing can be said
/// twice.
#[derive(Debug)]
pub(crate) enum Answer {
    /// SYN_REPLY has not been sent.
    Due(SendReply),
    /// SYN_REPLY has been sent, and FIN has not.
    Begun(SendStream),
    /// There is no more to say.
    Given,
}

impl Answer {
    /// Sends SYN_REPLY.
    pub(crate) fn begin(&mut self, head: HeaderBlock) -> Result<(), StreamError> {
        *self = Self::Begun(self.open(head)?);
        Ok(())
    }

    /// Sends SYN_REPLY and gives the rest of the stream away.
    pub(crate) fn open(&mut self, head: HeaderBlock) -> Result<SendStream, StreamError> {
        self.take()?.send_reply(head, false)
    }

    /// Sends SYN_REPLY and the whole body, which may be empty: that is all.
    pub(crate) fn give(&mut self, head: HeaderBlock, body: Bytes) -> Result<(), StreamError> {
        self.take()?.send_reply_with(head, body)
    }

    fn take(&mut self) -> Result<SendReply, StreamError> {
        match mem::replace(self, Self::Given) {
            Self::Due(reply) => Ok(reply),
            Self::Begun(_) | Self::Given => Err(StreamError::Finished),
        }
    }

    /// Waits until another piece of the body may be asked for: see [`SendStream::poll_piece`].
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

    /// Sends a piece of the body; with `fin` that is all.
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

    /// Ends the exchange with a failure: a bare response if none was sent yet, else RST_STREAM.
    pub(crate) fn fail(&mut self, form: ResponseForm, status: StatusCode, reset: RstStatus) {
        match mem::replace(self, Self::Given) {
            Self::Due(reply) => {
                // The stream may have ended meanwhile; then the client knows already.
                _ = reply.send_reply_with(write_response::bare(form, status), Bytes::new());
            }
            Self::Begun(stream) => stream.reset(reset),
            Self::Given => {}
        }
    }

    /// Waits for the client to give the stream up, or for the end of the session.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match self {
            Self::Due(reply) => reply.poll_closed(cx),
            Self::Begun(stream) => stream.poll_closed(cx),
            Self::Given => Poll::Ready(StreamError::Finished),
        }
    }
}
