//! Long writes of a stream that sends alone, and their payload that the transport has not taken.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use spdy_frame::{Data, StreamId};

use super::{Output, TRANSMIT_TARGET};
use crate::proto::{scheduler::Need, streams::Stream, transmit::Outbound};

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

impl Output {
    /// Adds a stream to the scheduler whose payload was set aside, which needs no window any more.
    /// A stream that is in it for this payload keeps its place: otherwise a transport that takes
    /// little at a time, or an application that queues little at a time, would move the stream
    /// behind all others again and again.
    #[cold]
    pub(crate) fn schedule_aside(&mut self, stream: &mut Stream) {
        let had_aside = mem::replace(&mut stream.place.has_aside, true);
        if stream.place.is_scheduled {
            if had_aside {
                return;
            }
            self.scheduler.remove(stream.id(), stream.priority());
        }
        stream.place.is_scheduled = true;
        self.scheduler
            .push(stream.id(), stream.priority(), Need::Nothing);
    }

    /// Begins to make bytes ready.
    pub(crate) fn begin_turn(&mut self) {
        self.extended = 0;
    }

    /// Sets up to how many bytes are made ready while the transport takes all.
    #[cfg(feature = "tokio")]
    pub(crate) fn set_turn(&mut self, bytes: usize) {
        self.turn = bytes.min(crate::config::MAX_TURN);
    }

    /// Notes that a stream goes on beyond what is enough, with a frame that can be set aside.
    pub(crate) fn extend(&mut self) {
        self.extended += 1;
    }

    /// Returns whether a stream that has just written may go on beyond what is enough.
    pub(crate) fn may_extend(&self) -> bool {
        self.turn > TRANSMIT_TARGET
            && self.transmit.held() < self.turn
            && self.scheduler.is_empty()
            && self.aside.is_empty()
    }

    /// Returns whether payload is set aside.
    pub(crate) fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    /// Makes a payload of a stream ready again that was set aside. Returns whether there was one.
    pub(crate) fn write_aside(&mut self, stream: &mut Stream) -> bool {
        if !stream.place.has_aside {
            return false;
        }
        let payload = self.aside.pop();
        stream.place.has_aside = !self.aside.is_empty();
        let Some(payload) = payload else {
            return false;
        };
        self.scheduler.served(stream.priority());
        let (stream, fin) = (stream.id(), false);
        Data::encode_head(stream, fin, payload.len() as u32, self.transmit.frames());
        self.transmit.push_payload(payload);
        self.transmit.list(Outbound::Data { stream, fin });
        true
    }

    /// Sets aside what the transport has not taken, beyond what is enough. Returns the stream that
    /// has to be scheduled for it.
    pub(super) fn set_aside(&mut self) -> Option<StreamId> {
        // All of these frames belong to one stream. The one frame that each turn writes, however
        // full it is, stays: otherwise its stream would be starved.
        while self.extended > 0
            && let Some((stream, payload)) = self
                .transmit
                .take_last(TRANSMIT_TARGET, self.aside.stream())
        {
            self.extended -= 1;
            self.aside.push_front(stream, payload);
        }
        self.aside.stream()
    }
}
