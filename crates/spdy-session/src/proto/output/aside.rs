//! Payload that was ready and that the transport has not taken.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use spdy_frame::StreamId;

/// Payload of one stream that was ready and is not any more, so that nothing waits behind it. The
/// windows have let it out, and the application knows that it is on its way.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// This is `None` if there is no payload.
    stream: Option<StreamId>,
    payloads: VecDeque<Bytes>,
}

impl Aside {
    /// Adds payload of the stream in front of the payload that is here.
    pub(super) fn push_front(&mut self, stream: StreamId, payload: Bytes) {
        debug_assert!(self.stream.is_none_or(|it| it == stream));
        self.stream = Some(stream);
        self.payloads.push_front(payload);
    }

    /// Takes the payload of the next frame.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let payload = self.payloads.pop_front();
        if self.payloads.is_empty() {
            *self = Self::default();
        }
        payload
    }

    /// Drops the payload of a stream. Returns how many bytes it had.
    pub(super) fn drop_of(&mut self, stream: StreamId) -> usize {
        if self.stream != Some(stream) {
            return 0;
        }
        mem::take(self).bytes()
    }

    pub(super) const fn stream(&self) -> Option<StreamId> {
        self.stream
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.stream.is_none()
    }

    /// Returns how many bytes of payload there are.
    pub(super) fn bytes(&self) -> usize {
        self.payloads.iter().map(Bytes::len).sum()
    }
}
