//! The octets on their way to the transport: frame heads in one buffer, payloads beside it uncopied; and beside them
//! the list of the frames, so that what has left can be told and what has not begun to leave can be taken back.

use std::{collections::VecDeque, fmt, io::IoSlice, mem};

use bytes::{Buf, Bytes, BytesMut};
use spdy_frame::{FrameKind, GoAwayStatus, RstStatus, StreamId};

/// Payloads up to this many octets are copied beside their heads: one slice less to write costs less than the
/// copy.
const COPY_LIMIT: usize = 512;

/// The room for frames that there is at first, in octets: some responses with short bodies.
const FIRST_HEADS: usize = 1000;

/// Places in the list of frames that an idle session keeps.
const KEPT_FRAMES: usize = 4;

/// The head of a DATA frame, in octets.
const DATA_HEAD: u32 = 8;

/// What is ready to be written, as a [`Buf`]: take it in order with
/// [`chunks_vectored`](Buf::chunks_vectored) and [`advance`](Buf::advance).
#[derive(Default)]
pub struct Transmit {
    /// Heads, and payloads that were copied beside them.
    heads: BytesMut,
    /// The other payloads, oldest first; then comes the rest of `heads`.
    pieces: VecDeque<Piece>,
    /// Octets of `heads` in front of a piece.
    fronts: usize,
    /// Octets of payload in `pieces`.
    payload: usize,
    /// The frames of all octets that are here, and in front of them those that have left and were not looked at.
    frames: VecDeque<Ready>,
    /// Octets of `frames` that are here.
    listed: usize,
    /// Octets of `frames` that have left.
    gone: usize,
    /// Octets that have left since the start.
    taken: u64,
    /// Where payloads end that keep long pieces in memory, in octets since the start. Some may have left.
    long: Vec<u64>,
}

/// A payload, and what comes before it.
struct Piece {
    /// Octets of `heads`, behind those of the pieces before.
    front: usize,
    payload: Bytes,
}

/// A frame that is ready.
#[derive(Clone, Copy, Debug)]
struct Ready {
    octets: u32,
    frame: Outbound,
}

const _: () = assert!(size_of::<Ready>() <= 16, "there may be thousands");

/// What has to be known of a frame when it leaves, or is not to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outbound {
    /// DATA; with `fin` it is to be told when it has left.
    Data {
        stream: StreamId,
        fin: bool,
    },
    /// A frame with a header block. It cannot be taken back: the blocks behind it refer to it.
    Block {
        kind: FrameKind,
        stream: StreamId,
        fin: bool,
    },
    /// A PING of ours, with its id.
    Ping(u32),
    /// An answer to a PING.
    Pong,
    Reset(RstStatus),
    GoAway(GoAwayStatus),
    /// Any other frame, of which only the kind matters.
    Other(FrameKind),
}

impl Transmit {
    /// The buffer that frames are encoded into.
    #[inline]
    pub(crate) fn frames(&mut self) -> &mut BytesMut {
        // Left to itself it would begin with the few octets of the first frame, and move with each that follows.
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

    /// The payload that was added last is the rest of a long piece, all of which it keeps in memory. It is copied if the
    /// transport does not take it at once.
    pub(crate) fn note_long(&mut self) {
        self.long.retain(|&end| end > self.taken);
        self.long.push(self.taken + self.remaining() as u64);
    }

    /// Copies what keeps long pieces in memory.
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

    /// Says which frame the octets are that were added since the last call.
    pub(crate) fn list(&mut self, frame: Outbound) {
        let octets = self.remaining() - self.listed;
        self.listed += octets;
        let octets = u32::try_from(octets).expect("a frame has less than 2^24 + 8 octets");
        self.frames.push_back(Ready { octets, frame });
    }

    /// Takes the next frame off the list that has left whole.
    pub(crate) fn pop_sent(&mut self) -> Option<Outbound> {
        let octets = self.frames.front()?.octets as usize;
        self.gone = self.gone.checked_sub(octets)?;
        self.frames.pop_front().map(|ready| ready.frame)
    }

    /// Takes DATA of a stream back of which no octet has left. What remains of the stream is the front of it without a
    /// gap, so nothing is taken that has a header block of the stream behind it. Gives how many octets of payload it
    /// was; `None` if there was nothing to take.
    pub(crate) fn take_back(&mut self, stream: StreamId) -> Option<usize> {
        let (first, front) = self.first_to_take(stream)?;
        // Their places change.
        self.copy_long();
        let mut old = self.take_all();
        let mut keep = |payload: Bytes| {
            self.payload += payload.len();
            self.pieces.push_back(Piece { front: 0, payload });
        };
        let (mut kept, mut payload) = (front, 0);
        for ready in self.frames.range(first..) {
            let octets = ready.octets as usize;
            if ready.frame.stream() == Some(stream) {
                split(&mut old, kept, &mut keep);
                split(&mut old, octets, drop);
                kept = 0;
                payload += (ready.octets - DATA_HEAD) as usize;
                self.listed -= octets;
            } else {
                kept += octets;
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

    /// Takes all octets, in order.
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

    /// Where in the list the frames of a stream begin that can be taken back, and how many octets stand in front.
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
            at += ready.octets as usize;
        }
        first
    }

    /// Whether it is to be told when the FIN of a stream has left.
    pub(crate) fn has_fin(&self, stream: StreamId) -> bool {
        let frames = self.frames.iter();
        frames
            .map(|ready| ready.frame)
            .any(|mut frame| frame.take_fin() == Some(stream))
    }

    /// Does not tell any more when the FIN of a stream has left.
    pub(crate) fn forget_fin(&mut self, stream: StreamId) {
        for ready in &mut self.frames {
            if ready.frame.stream() == Some(stream) {
                ready.frame.take_fin();
            }
        }
    }

    /// Gives the streams whose FIN has not left, and does not tell any more when it has.
    pub(crate) fn take_fins(&mut self) -> Vec<StreamId> {
        let frames = self.frames.iter_mut();
        frames.filter_map(|ready| ready.frame.take_fin()).collect()
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            taken: self.taken,
            ..Self::default()
        };
    }

    /// How much memory it takes, in octets: frames of one octet would take more than they have.
    pub(crate) fn held(&self) -> usize {
        self.remaining() + self.frames.len() * size_of::<Ready>()
    }

    /// How many octets have left since the start.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Gives the memory back that a session does not need which is idle, or whose transport takes nothing. A list of a
    /// few frames takes less than it costs to get it again.
    pub(crate) fn release(&mut self) {
        if !self.long.is_empty() {
            self.copy_long();
        }
        if !self.has_remaining() && self.frames.is_empty() {
            self.heads = BytesMut::new();
            self.pieces = VecDeque::new();
            if self.frames.capacity() > KEPT_FRAMES {
                self.frames = VecDeque::new();
            }
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

    /// The stream whose payload, headers or end it has.
    pub(crate) const fn stream(self) -> Option<StreamId> {
        match self {
            Self::Data { stream, .. } | Self::Block { stream, .. } => Some(stream),
            _ => None,
        }
    }

    /// The stream that is finished by it; asked for once.
    pub(crate) fn take_fin(&mut self) -> Option<StreamId> {
        match self {
            Self::Data { stream, fin } | Self::Block { stream, fin, .. } => {
                mem::take(fin).then_some(*stream)
            }
            _ => None,
        }
    }
}

/// Takes `octets` off the front of `pieces`.
fn split(pieces: &mut VecDeque<Bytes>, mut octets: usize, mut take: impl FnMut(Bytes)) {
    while octets > 0 {
        let front = pieces.front_mut().expect("the list has no more octets");
        let piece = front.split_to(octets.min(front.len()));
        octets -= piece.len();
        if front.is_empty() {
            pieces.pop_front();
        }
        if !piece.is_empty() {
            take(piece);
        }
    }
}

/// Shows how much there is, and of which frames: header blocks and payloads may hold secrets.
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

    fn advance(&mut self, mut octets: usize) {
        assert!(octets <= self.remaining(), "advanced past the end");
        self.listed -= octets;
        self.gone += octets;
        self.taken += octets as u64;
        let mut heads = 0;
        while let Some(piece) = self.pieces.front_mut() {
            let front = octets.min(piece.front);
            piece.front -= front;
            heads += front;
            octets -= front;
            let step = octets.min(piece.payload.len());
            self.payload -= step;
            octets -= step;
            if step < piece.payload.len() {
                piece.payload.advance(step);
                break;
            }
            self.pieces.pop_front();
        }
        self.fronts -= heads;
        self.heads.advance(heads + octets);
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
    fn octets_leave_in_the_order_they_came_whatever_the_step() {
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

    /// Adds a DATA frame whose octets say where they are from.
    fn push_data(transmit: &mut Transmit, raw: u32, octets: usize, fin: bool) -> Vec<u8> {
        transmit.frames().extend_from_slice(&[raw as u8; 8]);
        transmit.push_payload(Bytes::from(vec![raw as u8; octets]));
        let stream = stream(raw);
        transmit.list(Outbound::Data { stream, fin });
        vec![raw as u8; 8 + octets]
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
            for octets in [1000, 100, 0, 10_000] {
                expected.extend(push_data(&mut transmit, 1, octets, false));
                expected.extend(push_data(&mut transmit, 3, octets + 1, false));
            }
            // The frames of stream 1 in front of this one have left, or a part of the last.
            let whole = |at: usize| at >= taken;
            let (mut at, mut left, mut payload) = (0, Vec::new(), 0);
            for octets in [1008, 1009, 108, 109, 8, 9, 10_008, 10_009] {
                let frame = &expected[at..at + octets];
                if frame[0] == 1 && whole(at) {
                    payload += octets - 8;
                } else {
                    left.extend_from_slice(frame);
                }
                at += octets;
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
    fn a_frame_is_told_when_its_last_octet_has_left() {
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
