//! The bytes on their way to the transport.
//!
//! One buffer has the heads of frames; payloads stay beside it and are not copied. A list of the
//! frames tells which frames have left, and which have not begun to leave and can be taken back.

use std::{collections::VecDeque, fmt, io::IoSlice, mem};

use bytes::{Buf, Bytes, BytesMut};
use spdy_frame::{FrameKind, GoAwayStatus, RstStatus, StreamId};

use crate::spare::Spare;

/// Payloads up to this length, in bytes, are copied behind their heads: writing one slice less
/// saves more than the copy costs.
const COPY_LIMIT: usize = 512;

/// The first allocation for heads, in bytes: enough for several responses with short bodies.
const FIRST_HEADS: usize = 1000;

/// The length of the head of a DATA frame, in bytes.
const DATA_HEAD: u32 = 8;

/// The bytes that are ready to be written, as a [`Buf`]. Write them in order, with
/// [`chunks_vectored`](Buf::chunks_vectored) and [`advance`](Buf::advance).
#[derive(Default)]
pub struct Transmit {
    /// Heads of frames, and short payloads that were copied behind them.
    heads: BytesMut,
    /// The other payloads, oldest first. The rest of `heads` comes after them.
    pieces: VecDeque<Piece>,
    /// How many bytes of `heads` are in front of a piece.
    fronts: usize,
    /// How many bytes `pieces` contain.
    payload: usize,
    /// The frames of all bytes in this buffer. In front of them are frames that have left and that
    /// `pop_sent` has not returned yet.
    frames: VecDeque<Ready>,
    /// How many bytes of `frames` are in this buffer.
    listed: usize,
    /// How many bytes of `frames` have left.
    gone: usize,
    /// How many bytes have left since the start.
    taken: u64,
    /// The ends of payloads that keep long pieces in memory, in bytes since the start. Some may
    /// have left.
    long: Vec<u64>,
}

/// A payload, and the heads in front of it.
struct Piece {
    /// How many bytes of `heads` are between the piece before and this one.
    front: usize,
    payload: Bytes,
}

/// A frame that is ready to be written.
#[derive(Clone, Copy, Debug)]
struct Ready {
    bytes: u32,
    frame: Outbound,
}

const _: () = assert!(size_of::<Ready>() <= 16, "there may be thousands");

/// What a DATA frame takes besides its payload, in bytes.
pub(crate) const DATA_FRAME: usize = DATA_HEAD as usize + size_of::<Ready>();

/// What the session needs to know about a frame when it leaves or is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outbound {
    /// DATA. If `fin` is set the session wants to know when it has left.
    Data {
        stream: StreamId,
        fin: bool,
    },
    /// A frame with a header block. It cannot be taken back, because later blocks refer to it.
    Block {
        kind: FrameKind,
        stream: StreamId,
        fin: bool,
    },
    /// A PING of this side, with its id.
    Ping(u32),
    /// An answer to a PING.
    Pong,
    Reset(RstStatus),
    GoAway(GoAwayStatus),
    /// Any other frame. Only its kind matters.
    Other(FrameKind),
}

impl Transmit {
    /// Returns the buffer into which frames are encoded.
    #[inline]
    pub(crate) fn frames(&mut self) -> &mut BytesMut {
        // `BytesMut` would start with the few bytes of the first frame, and would move with each
        // further one.
        if self.heads.capacity() == 0 {
            self.heads.reserve(FIRST_HEADS);
        }
        &mut self.heads
    }

    /// Adds a payload behind the frames written so far.
    pub(crate) fn push_payload(&mut self, payload: Bytes) {
        if payload.len() <= COPY_LIMIT {
            self.heads.extend_from_slice(&payload);
            return;
        }
        let front = self.heads.len() - self.fronts;
        self.fronts += front;
        self.payload += payload.len();
        self.pieces.push_back(Piece { front, payload });
    }

    /// Notes that the payload that was added last is the rest of a long piece, and keeps all of it
    /// in memory. If the transport does not take it at once, `release` copies it.
    pub(crate) fn note_long(&mut self) {
        self.long.retain(|&end| end > self.taken);
        self.long.push(self.taken + self.remaining() as u64);
    }

    /// Copies the payloads that keep long pieces in memory.
    fn copy_long(&mut self) {
        let mut end = self.taken;
        for piece in &mut self.pieces {
            end += (piece.front + piece.payload.len()) as u64;
            if self.long.contains(&end) {
                piece.payload = Bytes::copy_from_slice(&piece.payload);
            }
        }
        self.long = Vec::new();
    }

    /// Adds a frame to the list: all bytes since the last call belong to it.
    pub(crate) fn list(&mut self, frame: Outbound) {
        let bytes = self.remaining() - self.listed;
        self.listed += bytes;
        let bytes = u32::try_from(bytes).expect("a frame has less than 2^24 + 8 bytes");
        self.frames.push_back(Ready { bytes, frame });
    }

    /// Takes the next frame that has left completely off the list.
    pub(crate) fn pop_sent(&mut self) -> Option<Outbound> {
        let bytes = self.frames.front()?.bytes as usize;
        self.gone = self.gone.checked_sub(bytes)?;
        self.frames.pop_front().map(|ready| ready.frame)
    }

    /// Takes back the DATA frames of a stream of which no byte has left. Returns how many bytes of
    /// payload they had, or `None` if there were none.
    ///
    /// The peer must not see a gap. So a DATA frame stays if a header block of the stream is behind
    /// it.
    pub(crate) fn take_back(&mut self, stream: StreamId) -> Option<usize> {
        let (first, front) = self.first_to_take(stream)?;
        // The places of payloads change, so `long` would no longer be right.
        self.copy_long();
        let mut old = self.take_all();
        let mut keep = |payload: Bytes| {
            self.payload += payload.len();
            self.pieces.push_back(Piece { front: 0, payload });
        };
        let (mut kept, mut payload) = (front, 0);
        for ready in self.frames.range(first..) {
            let bytes = ready.bytes as usize;
            if ready.frame.stream() == Some(stream) {
                split(&mut old, kept, &mut keep);
                split(&mut old, bytes, drop);
                kept = 0;
                payload += (ready.bytes - DATA_HEAD) as usize;
                self.listed -= bytes;
            } else {
                kept += bytes;
            }
        }
        split(&mut old, kept, &mut keep);
        let mut index = 0;
        self.frames.retain(|ready| {
            index += 1;
            index <= first || ready.frame.stream() != Some(stream)
        });
        Some(payload)
    }

    /// Takes all bytes, in order.
    fn take_all(&mut self) -> VecDeque<Bytes> {
        let mut all = VecDeque::new();
        for piece in mem::take(&mut self.pieces) {
            all.push_back(self.heads.split_to(piece.front).freeze());
            all.push_back(piece.payload);
        }
        all.push_back(self.heads.split().freeze());
        (self.fronts, self.payload) = (0, 0);
        all
    }

    /// Returns where in the list the frames of a stream begin that can be taken back, and how many
    /// bytes are in front of them.
    fn first_to_take(&self, stream: StreamId) -> Option<(usize, usize)> {
        let (mut first, mut at) = (None, 0);
        for (index, ready) in self.frames.iter().enumerate() {
            if ready.frame.stream() == Some(stream) {
                let is_whole = at >= self.gone && matches!(ready.frame, Outbound::Data { .. });
                first = match first {
                    _ if !is_whole => None,
                    None => Some((index, at - self.gone)),
                    earlier => earlier,
                };
            }
            at += ready.bytes as usize;
        }
        first
    }

    /// Returns whether the session wants to know when the FIN of a stream has left.
    pub(crate) fn has_fin(&self, stream: StreamId) -> bool {
        let frames = self.frames.iter();
        frames
            .map(|ready| ready.frame)
            .any(|mut frame| frame.take_fin() == Some(stream))
    }

    /// Cancels the report that the FIN of a stream has left.
    pub(crate) fn forget_fin(&mut self, stream: StreamId) {
        for ready in &mut self.frames {
            if ready.frame.stream() == Some(stream) {
                ready.frame.take_fin();
            }
        }
    }

    /// Returns the streams whose FIN has not left, and cancels their reports.
    pub(crate) fn take_fins(&mut self) -> Vec<StreamId> {
        let frames = self.frames.iter_mut();
        frames.filter_map(|ready| ready.frame.take_fin()).collect()
    }

    /// Drops all frames.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            taken: self.taken,
            ..Self::default()
        };
    }

    /// Returns how much memory the buffer takes, in bytes. The list counts too, because it is
    /// larger than the bytes of frames that are very short.
    pub(crate) fn held(&self) -> usize {
        self.remaining() + self.frames.len() * size_of::<Ready>()
    }

    /// Returns how many bytes have left since the start.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Frees memory that a session does not need while it is idle or its transport takes nothing. A
    /// list of a few frames is kept, because getting it again costs more than its memory.
    pub(crate) fn release(&mut self) {
        if !self.long.is_empty() {
            self.copy_long();
        }
        if !self.has_remaining() && self.frames.is_empty() {
            self.heads = BytesMut::new();
            self.pieces = VecDeque::new();
            self.frames.free_spare();
        }
    }
}

impl Outbound {
    pub(crate) const fn kind(self) -> FrameKind {
        match self {
            Self::Data { .. } => FrameKind::Data,
            Self::Ping(_) | Self::Pong => FrameKind::Ping,
            Self::Reset(_) => FrameKind::RstStream,
            Self::GoAway(_) => FrameKind::GoAway,
            Self::Block { kind, .. } | Self::Other(kind) => kind,
        }
    }

    /// Returns the stream of a DATA frame or of a frame with a header block.
    pub(crate) const fn stream(self) -> Option<StreamId> {
        match self {
            Self::Data { stream, .. } | Self::Block { stream, .. } => Some(stream),
            _ => None,
        }
    }

    /// Returns the stream that this frame finishes. Only the first call returns it.
    pub(crate) fn take_fin(&mut self) -> Option<StreamId> {
        match self {
            Self::Data { stream, fin } | Self::Block { stream, fin, .. } => {
                mem::take(fin).then_some(*stream)
            }
            _ => None,
        }
    }
}

/// Takes `count` bytes off the front of `pieces`, and passes them to `take`.
fn split(pieces: &mut VecDeque<Bytes>, mut count: usize, mut take: impl FnMut(Bytes)) {
    while count > 0 {
        let front = pieces.front_mut().expect("the list has no more bytes");
        let piece = front.split_to(count.min(front.len()));
        count -= piece.len();
        if front.is_empty() {
            pieces.pop_front();
        }
        if !piece.is_empty() {
            take(piece);
        }
    }
}

/// Shows how many bytes there are and of which frames, but no contents: header blocks and payloads
/// may be secret.
impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transmit")
            .field("bytes", &self.remaining())
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

impl Buf for Transmit {
    fn remaining(&self) -> usize {
        self.payload + self.heads.len()
    }

    fn chunk(&self) -> &[u8] {
        match self.pieces.front() {
            None => &self.heads,
            Some(Piece { front: 0, payload }) => payload,
            Some(Piece { front, .. }) => &self.heads[..*front],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut fill = |chunk: &'a [u8]| {
            if let Some(slice) = slices.get_mut(filled)
                && !chunk.is_empty()
            {
                *slice = IoSlice::new(chunk);
                filled += 1;
            }
        };
        let mut heads = &self.heads[..];
        for piece in &self.pieces {
            let front;
            (front, heads) = heads.split_at(piece.front);
            fill(front);
            fill(&piece.payload);
        }
        fill(heads);
        filled
    }

    fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.remaining(), "advanced past the end");
        self.listed -= bytes;
        self.gone += bytes;
        self.taken += bytes as u64;
        let mut heads = 0;
        while let Some(piece) = self.pieces.front_mut() {
            let front = bytes.min(piece.front);
            piece.front -= front;
            heads += front;
            bytes -= front;
            let step = bytes.min(piece.payload.len());
            self.payload -= step;
            bytes -= step;
            if step < piece.payload.len() {
                piece.payload.advance(step);
                break;
            }
            self.pieces.pop_front();
        }
        self.fronts -= heads;
        self.heads.advance(heads + bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(transmit: &mut Transmit, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while transmit.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 3];
            let filled = transmit.chunks_vectored(&mut slices);
            assert!(filled > 0);
            let joined: Vec<u8> = slices[..filled]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            let take = step.min(joined.len());
            out.extend_from_slice(&joined[..take]);
            transmit.advance(take);
        }
        out
    }

    #[test]
    fn bytes_leave_in_the_order_they_came_whatever_the_step() {
        for step in [1, 7, 600, 100_000] {
            let mut transmit = Transmit::default();
            let mut expected = Vec::new();
            for round in 0..20_u8 {
                let head = [round; 8];
                transmit.frames().extend_from_slice(&head);
                expected.extend_from_slice(&head);
                let payload = vec![round; usize::from(round) * 97];
                expected.extend_from_slice(&payload);
                transmit.push_payload(Bytes::from(payload));
                transmit.list(Outbound::Pong);
            }
            assert_eq!(transmit.remaining(), expected.len());
            assert_eq!(drain(&mut transmit, step), expected);
        }
    }

    #[test]
    fn large_payloads_are_not_copied() {
        let payload = Bytes::from(vec![7; 10_000]);
        let mut transmit = Transmit::default();
        transmit.frames().extend_from_slice(b"head");
        transmit.push_payload(payload.clone());
        transmit.list(Outbound::Pong);
        assert_eq!(transmit.pieces[0].payload.as_ptr(), payload.as_ptr());
    }

    #[test]
    fn the_rest_of_a_long_piece_is_copied_when_the_transport_does_not_take_it() {
        let mut rest = Bytes::from(vec![7; 100_000]);
        let front = rest.split_to(90_000);
        let memory = [front.as_ptr(), rest.as_ptr()];
        let mut transmit = Transmit::default();
        for payload in [front, rest] {
            transmit.frames().extend_from_slice(b"head");
            transmit.push_payload(payload);
        }
        transmit.note_long();
        transmit.list(Outbound::Pong);
        transmit.advance(4);
        let payload = |piece: &Piece| piece.payload.as_ptr();
        let payloads =
            |transmit: &Transmit| transmit.pieces.iter().map(payload).collect::<Vec<_>>();
        assert_eq!(payloads(&transmit), memory);
        transmit.release();
        assert_eq!(payloads(&transmit)[0], memory[0]);
        assert_ne!(payloads(&transmit)[1], memory[1]);
        assert_eq!(drain(&mut transmit, 700)[90_004..], [7; 10_000]);
    }

    fn stream(raw: u32) -> StreamId {
        StreamId::new(raw).unwrap()
    }

    /// Adds a DATA frame. Each of its bytes is the id of its stream.
    fn push_data(transmit: &mut Transmit, raw: u32, bytes: usize, fin: bool) -> Vec<u8> {
        transmit.frames().extend_from_slice(&[raw as u8; 8]);
        transmit.push_payload(Bytes::from(vec![raw as u8; bytes]));
        let stream = stream(raw);
        transmit.list(Outbound::Data { stream, fin });
        vec![raw as u8; 8 + bytes]
    }

    fn push_block(transmit: &mut Transmit, raw: u32) -> Vec<u8> {
        transmit.frames().extend_from_slice(&[raw as u8; 20]);
        transmit.list(Outbound::Block {
            kind: FrameKind::Headers,
            stream: stream(raw),
            fin: false,
        });
        vec![raw as u8; 20]
    }

    fn sent(transmit: &mut Transmit) -> usize {
        std::iter::from_fn(|| transmit.pop_sent()).count()
    }

    #[test]
    fn frames_are_taken_back_unless_they_have_begun_to_leave() {
        for taken in [0, 1, 1500, 2017, 2018, 2250] {
            let mut transmit = Transmit::default();
            let mut expected = Vec::new();
            for bytes in [1000, 100, 0, 10_000] {
                expected.extend(push_data(&mut transmit, 1, bytes, false));
                expected.extend(push_data(&mut transmit, 3, bytes + 1, false));
            }
            // Frames of stream 1 that have left, or whose first byte has left, stay.
            let whole = |at: usize| at >= taken;
            let (mut at, mut left, mut payload) = (0, Vec::new(), 0);
            for bytes in [1008, 1009, 108, 109, 8, 9, 10_008, 10_009] {
                let frame = &expected[at..at + bytes];
                if frame[0] == 1 && whole(at) {
                    payload += bytes - 8;
                } else {
                    left.extend_from_slice(frame);
                }
                at += bytes;
            }
            transmit.advance(taken);
            assert_eq!(transmit.take_back(stream(1)), Some(payload), "{taken}");
            assert_eq!(transmit.take_back(stream(1)), None);
            assert_eq!(transmit.remaining(), left.len() - taken);
            assert_eq!(drain(&mut transmit, 700), left[taken..]);
            assert_eq!(transmit.taken(), left.len() as u64);
            sent(&mut transmit);
            assert!(transmit.frames.is_empty() && transmit.gone == 0 && transmit.listed == 0);
        }
    }

    #[test]
    fn nothing_is_taken_back_in_front_of_a_header_block_of_the_stream() {
        let mut transmit = Transmit::default();
        let mut left = push_data(&mut transmit, 1, 1000, false);
        left.extend(push_block(&mut transmit, 3));
        left.extend(push_block(&mut transmit, 1));
        push_data(&mut transmit, 1, 600, false);
        left.extend(push_block(&mut transmit, 3));
        push_data(&mut transmit, 1, 0, true);
        assert_eq!(transmit.take_back(stream(1)), Some(600));
        assert!(transmit.take_fins().is_empty());
        assert_eq!(transmit.take_back(stream(3)), None);
        assert_eq!(drain(&mut transmit, 5000), left);
        assert_eq!(sent(&mut transmit), 4);
    }

    #[test]
    fn a_frame_is_reported_when_its_last_byte_has_left() {
        let mut transmit = Transmit::default();
        push_data(&mut transmit, 1, 10, false);
        push_data(&mut transmit, 1, 600, true);
        transmit.advance(18);
        assert_eq!(sent(&mut transmit), 1);
        transmit.advance(607);
        assert_eq!(transmit.pop_sent(), None);
        transmit.advance(1);
        let mut last = transmit.pop_sent().unwrap();
        assert_eq!(last.take_fin(), Some(stream(1)));
        assert_eq!(last.take_fin(), None);
    }
}
