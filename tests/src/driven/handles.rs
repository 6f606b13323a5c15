//! What the application holds of one stream.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use spdy_frame::HeaderBlock;
use spdy_session::{
    Opening, PendingStream, Received as Piece, RecvStream, SendReply, SendStream, StreamError,
};
use tokio::io::{AsyncRead, ReadBuf};

use super::story::Story;
use crate::{happened::End, received::fields};

/// What the application has of a stream.
#[derive(Debug, Default)]
pub(super) struct Handles {
    pub(super) opening: Option<Opening>,
    pub(super) pending: Option<PendingStream>,
    pub(super) recv: Option<RecvStream>,
    pub(super) reply: Option<SendReply>,
    pub(super) send: Option<SendStream>,
    pub(super) story: Story,
    /// The peer must not send on it.
    pub(super) mute: bool,
    /// The application has given it up, so it is not told how it goes on.
    pub(super) given_up: bool,
}

impl Handles {
    /// Takes a stream that is not answered apart.
    pub(super) fn split(&mut self) {
        if let Some(pending) = self.pending.take() {
            let (recv, reply) = pending.split();
            (self.recv, self.reply) = (Some(recv), Some(reply));
        }
    }

    pub(super) fn reply(&mut self, headers: HeaderBlock, fin: bool) {
        self.split();
        let reply = self.reply.take().expect("it is answered once");
        self.send = reply.send_reply(headers, fin).ok();
    }

    /// Reads at most `most` bytes, and returns how many.
    pub(super) fn read(&mut self, most: usize) -> usize {
        self.split();
        let Some(recv) = &mut self.recv else {
            return 0;
        };
        let mut room = vec![0; most];
        let mut buffer = ReadBuf::new(&mut room);
        let mut cx = Context::from_waker(Waker::noop());
        _ = Pin::new(recv).poll_read(&mut cx, &mut buffer);
        self.story.data.add(buffer.filled());
        buffer.filled().len()
    }

    /// Reads what has come and is not read.
    pub(super) fn read_all(&mut self, is_ours: bool) {
        let Some(recv) = &mut self.recv else {
            return;
        };
        let mut cx = Context::from_waker(Waker::noop());
        if is_ours && let Poll::Ready(Ok(block)) = recv.poll_response_headers(&mut cx) {
            self.story.replied = Some(fields(&block));
        }
        while let Poll::Ready(next) = recv.poll_next(&mut cx) {
            match next {
                Some(Ok(Piece::Data(payload))) => self.story.data.add(&payload),
                Some(Ok(Piece::Headers(block))) => self.story.headers.push(fields(&block)),
                Some(Err(error)) => {
                    self.story.end = Some(error.into());
                    return;
                }
                None => {
                    self.story.finished = true;
                    return;
                }
            }
        }
    }

    /// How the stream has ended, as its sender gets to know it.
    pub(super) fn closed(&mut self) -> Option<End> {
        let mut cx = Context::from_waker(Waker::noop());
        let end: Poll<StreamError> = match (&mut self.reply, &mut self.send) {
            (Some(reply), _) => reply.poll_closed(&mut cx),
            (_, Some(send)) => send.poll_closed(&mut cx),
            _ => return None,
        };
        match end {
            Poll::Ready(error) => Some(error.into()),
            Poll::Pending => None,
        }
    }
}
