//! Frames of streams, and credit: how they become bytes.

use bytes::Bytes;
use spdy_frame::{
    Data, EncodeError, FrameKind, Headers, StreamId, SynReply, SynStream, WindowIncrement,
    WindowTarget, WindowUpdate,
};

use super::Output;
use crate::{
    proto::{
        streams::{Stream, Taken},
        transmit::Outbound,
    },
    wire_log,
};

impl Output {
    pub(crate) fn write_window_update(&mut self, target: WindowTarget, increment: WindowIncrement) {
        let frame = WindowUpdate { target, increment };
        wire_log::sent(self.role.side(), frame);
        frame.encode(self.role.version(), self.transmit.frames());
        self.transmit.list(Outbound::Other(FrameKind::WindowUpdate));
    }

    /// Writes SYN_STREAM or SYN_REPLY, if one is due. Returns whether it has FIN.
    pub(crate) fn write_opening(&mut self, stream: &mut Stream) -> Result<bool, EncodeError> {
        let Some(block) = stream.take_opening() else {
            return Ok(false);
        };
        let (id, fin) = (stream.id(), stream.ends_here());
        let dst = self.transmit.frames();
        let kind = if self.role.is_local(id) {
            let frame = SynStream {
                stream: id,
                associated: stream.associated(),
                priority: stream.priority(),
                fin,
                unidirectional: stream.is_unidirectional(),
                block: &block,
            };
            wire_log::sent_syn_stream(self.role.side(), &frame);
            self.encoder.encode_syn_stream(&frame, dst)?;
            FrameKind::SynStream
        } else {
            let frame = SynReply {
                stream: id,
                fin,
                block: &block,
            };
            wire_log::sent_syn_reply(self.role.side(), &frame);
            self.encoder.encode_syn_reply(&frame, dst)?;
            FrameKind::SynReply
        };
        self.transmit.list(Outbound::Block {
            kind,
            stream: id,
            fin,
        });
        Ok(fin)
    }

    /// Writes one DATA frame. If it was cut short, `rest` is how much the next one may have.
    /// Returns whether it has FIN.
    #[inline]
    pub(crate) fn write_data(&mut self, stream: &mut Stream, piece: Taken, rest: usize) -> bool {
        // A stream whose frame was cut short goes on, but only once.
        let goes_on = stream.place.rest == 0;
        stream.place.rest = if goes_on { rest } else { 0 };
        if stream.place.rest == 0 {
            self.scheduler.served(stream.priority());
        }
        let fin = stream.ends_here();
        self.data(stream.id(), fin, piece);
        fin
    }

    /// Writes one HEADERS frame. Returns whether it has FIN.
    pub(crate) fn write_headers(&mut self, stream: &mut Stream) -> Result<bool, EncodeError> {
        self.scheduler.served(stream.priority());
        let Some(block) = stream.take_headers() else {
            return Ok(false);
        };
        let frame = Headers {
            stream: stream.id(),
            fin: stream.ends_here() && self.fin_on_headers,
            block: &block,
        };
        wire_log::sent_headers(self.role.side(), &frame);
        self.encoder
            .encode_headers(&frame, self.transmit.frames())?;
        self.transmit.list(Outbound::Block {
            kind: FrameKind::Headers,
            stream: frame.stream,
            fin: frame.fin,
        });
        Ok(frame.fin)
    }

    /// Writes an empty DATA frame with FIN.
    pub(crate) fn write_fin(&mut self, stream: &Stream) {
        self.scheduler.served(stream.priority());
        let nothing = Taken {
            payload: Bytes::new(),
            keeps_long: false,
        };
        self.data(stream.id(), true, nothing);
    }

    #[inline]
    fn data(&mut self, stream: StreamId, fin: bool, piece: Taken) {
        let Taken {
            payload,
            keeps_long,
        } = piece;
        wire_log::sent_data(self.role.side(), stream, payload.len(), fin);
        Data::encode_head(stream, fin, payload.len() as u32, self.transmit.frames());
        self.transmit.push_payload(payload);
        if keeps_long {
            self.transmit.note_long();
        }
        self.transmit.list(Outbound::Data { stream, fin });
    }
}
