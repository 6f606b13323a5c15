//! From bytes to frames: [`parse`] for a buffer that holds whole frames, [`Decoder`] for bytes as they arrive.

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    Data, Frame, FrameError, FrameKind, StreamId, Version,
    frame::head::{self, ControlHead, DataHead, HEAD_LENGTH, Head, MAX_LENGTH, Rules},
    payload::{Payload, Shared},
};

/// Bounds on what the decoder accepts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DecodeLimits {
    /// The longest control frame in bytes of payload. Default 262,144; never below 8,192, which every
    /// receiver has to accept (protocol.md §4.3).
    ///
    /// DATA frames have no such bound, as they are never held: their bytes are handed on as they arrive.
    pub max_control_frame: u32,
    /// Session errors for what is tolerated otherwise: flag bits that a type does not have, and bytes behind
    /// the status of RST_STREAM. Default false.
    pub strict: bool,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            max_control_frame: 256 * 1024,
            strict: false,
        }
    }
}

/// Takes frames off a buffer into which somebody reads what arrives.
///
/// It holds no bytes itself and reserves nothing: a control frame stays in the buffer until it is complete, so
/// the buffer grows with what the peer has really sent, to at most
/// [`max_control_frame`](DecodeLimits::max_control_frame) and 8 bytes. Payloads and header blocks are slices of
/// the buffer, which lives as long as one of them does.
#[derive(Debug)]
pub struct Decoder {
    rules: &'static Rules,
    limits: DecodeLimits,
    state: State,
}

/// Where in the input the decoder stands.
#[derive(Debug)]
enum State {
    /// Between two frames, as far as is known.
    Between,
    /// In front of a frame of which the buffer holds a part.
    Waiting,
    /// Inside a DATA frame.
    Data(Data<[u8; 0]>),
    /// Inside a control frame that is thrown away, with this many bytes still to come.
    Skipping(u32),
}

impl Decoder {
    /// Makes a decoder for one direction of a session.
    #[must_use]
    pub fn new(version: Version, mut limits: DecodeLimits) -> Self {
        limits.max_control_frame = limits.max_control_frame.max(MIN_CONTROL_FRAME_LIMIT);
        Self {
            rules: Rules::of(version, limits.strict),
            limits,
            state: State::Between,
        }
    }

    /// Takes one frame, or one piece of a DATA frame, off the front of `src` without copying. `None` means that
    /// more bytes are needed.
    ///
    /// DATA comes in pieces, so that a receiver need not hold up to 16 MiB and can answer a broken window at
    /// the head: the first piece comes with the head, also when it is empty and [`remaining`](Data::remaining) says
    /// that bytes will follow; each later piece has at least one byte.
    ///
    /// Frames without a meaning in this session come as [`Frame::Unknown`]. If one is longer than
    /// [`max_control_frame`](DecodeLimits::max_control_frame), it comes with its head and without payload, and
    /// its bytes are dropped as they arrive.
    ///
    /// # Errors
    ///
    /// An error whose [`go_away`](FrameError::go_away) is `None` has taken its frame off `src`, and decoding
    /// goes on. Every other error takes nothing: the session has to end, and the decoder repeats the error if
    /// it is asked again. It comes as soon as it is certain, for most with the head of the frame;
    /// [`FrameError::TooLarge`] and [`FrameError::Version`] wait for the stream id behind it, if the frame has
    /// one that can be reset.
    #[inline]
    pub fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        match self.state {
            State::Between | State::Waiting => self.next_frame(src),
            State::Data(_) | State::Skipping(_) => self.go_on(src),
        }
    }

    /// Whether the input so far ends inside a frame: asked after [`decode`](Self::decode) said `None`, at the
    /// end of the peer's bytes, it tells an orderly end from a broken one.
    #[must_use]
    pub const fn is_mid_frame(&self) -> bool {
        !matches!(self.state, State::Between)
    }

    /// Takes what comes between two frames, as far as is known.
    #[inline]
    fn next_frame(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        match Head::read(src) {
            Some(Head::Data(head)) => self.begin_data(head, src),
            Some(Head::Control(head)) => self.control(head, src),
            None => Ok(self.wait(src)),
        }
    }

    /// Goes on inside a frame.
    fn go_on(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        match &mut self.state {
            State::Between | State::Waiting => self.next_frame(src),
            State::Data(_) if src.is_empty() => Ok(None),
            State::Data(frame) => {
                let length = src.len().min(frame.remaining as usize);
                let piece = frame.cut(length as u32, src.split_to(length).freeze());
                if frame.remaining == 0 {
                    self.state = State::Between;
                }
                Ok(Some(Frame::Data(piece)))
            }
            State::Skipping(rest) => {
                let length = src.len().min(*rest as usize);
                src.advance(length);
                *rest -= length as u32;
                if *rest > 0 {
                    return Ok(None);
                }
                self.state = State::Between;
                self.next_frame(src)
            }
        }
    }

    fn begin_data(
        &mut self,
        head: DataHead,
        src: &mut BytesMut,
    ) -> Result<Option<Frame>, FrameError> {
        let mut frame = Data::begin(head, self.limits.strict)?;
        let length = (src.len() - HEAD_LENGTH).min(head.length as usize);
        let end = HEAD_LENGTH + length;
        let payload = Shared { src, end }.keep_from(0);
        let piece = frame.cut(length as u32, payload);
        self.state = if frame.remaining == 0 {
            State::Between
        } else {
            State::Data(frame)
        };
        Ok(Some(Frame::Data(piece)))
    }

    fn control(
        &mut self,
        head: ControlHead,
        src: &mut BytesMut,
    ) -> Result<Option<Frame>, FrameError> {
        let end = HEAD_LENGTH + head.length() as usize;
        match judge(self.rules, self.limits.max_control_frame, head, src)? {
            Verdict::Read if src.len() >= end => {
                self.state = State::Between;
                Frame::parse_control(self.rules.version, head, Shared { src, end })
            }
            Verdict::Skip => Ok(self.skip(head, src)),
            Verdict::Read | Verdict::Wait => Ok(self.wait(src)),
        }
    }

    /// Takes a control frame without a meaning, whose payload nobody has to hold.
    #[cold]
    fn skip(&mut self, head: ControlHead, src: &mut BytesMut) -> Option<Frame> {
        let end = HEAD_LENGTH + head.length() as usize;
        if head.length() > self.limits.max_control_frame {
            src.advance(HEAD_LENGTH);
            self.state = State::Skipping(head.length());
            Some(Frame::unknown(head, Bytes::new()))
        } else if src.len() >= end {
            self.state = State::Between;
            Some(Frame::unknown(head, Shared { src, end }.keep_from(0)))
        } else {
            self.wait(src)
        }
    }

    /// Notes that the frame at the front of `src` is not complete.
    fn wait(&mut self, src: &BytesMut) -> Option<Frame> {
        self.state = if src.is_empty() {
            State::Between
        } else {
            State::Waiting
        };
        None
    }
}

/// Parses the frame at the front of `src`, if it is there as a whole, and tells how many bytes it took.
///
/// This is for captures and tools: a DATA frame comes in one piece, and no frame is too long. A [`Decoder`] is
/// for bytes from a network.
///
/// # Errors
///
/// As [`Decoder::decode`] in tolerant mode, but [`FrameError::TooLarge`] does not occur. The one frame that may
/// be skipped after an error, a WINDOW_UPDATE of 0 bytes for a stream, has 16 bytes.
#[expect(
    clippy::type_complexity,
    reason = "an alias would hide the three things that can happen"
)]
pub fn parse(version: Version, src: &[u8]) -> Result<Option<(Frame<&[u8]>, usize)>, FrameError> {
    let Some(head) = Head::read(src) else {
        return Ok(None);
    };
    let (verdict, length) = match head {
        Head::Data(head) => (Verdict::Read, head.length),
        Head::Control(head) => (
            judge(Rules::of(version, false), MAX_LENGTH, head, src)?,
            head.length(),
        ),
    };
    let end = HEAD_LENGTH + length as usize;
    let Some(payload) = src.get(HEAD_LENGTH..end) else {
        return Ok(None);
    };
    let frame = match (head, verdict) {
        (Head::Data(head), _) => Frame::Data(Data::begin(head, false)?.cut(length, payload)),
        (Head::Control(head), Verdict::Read) => Frame::parse_control(version, head, payload)?,
        // Nothing waits here: the whole frame is there.
        (Head::Control(head), Verdict::Skip | Verdict::Wait) => Frame::unknown(head, payload),
    };
    Ok(Some((frame, end)))
}

/// What is to be done with a control frame, as far as its head tells.
enum Verdict {
    /// Read it.
    Read,
    /// Skip it: it has no meaning here.
    Skip,
    /// Ask again when the stream id has come: it is wanted for an error.
    Wait,
}

/// Judges a control frame by its head, which `src` begins with.
///
/// # Errors
///
/// A wrong version, length or, in strict decoding, flags.
#[inline]
fn judge(rules: &Rules, limit: u32, head: ControlHead, src: &[u8]) -> Result<Verdict, FrameError> {
    if head.version() != rules.wire {
        return judge_other_version(rules.version, head, src);
    }
    let Some(shape) = rules.shape(head.number()) else {
        return Ok(Verdict::Skip);
    };
    shape.check(head)?;
    if head.length() > limit {
        return judge_too_large(shape.kind, limit, head, src);
    }
    Ok(Verdict::Read)
}

/// A frame of another version (protocol.md §4.4). SPDY/2 ignores it, unless a header block is in it: without
/// that block the compression context is lost.
#[cold]
fn judge_other_version(
    version: Version,
    head: ControlHead,
    src: &[u8],
) -> Result<Verdict, FrameError> {
    let syn_stream = match head.number() {
        head::SYN_STREAM => match leading_id(head, src) {
            Some(id) => id,
            None => return Ok(Verdict::Wait),
        },
        head::SYN_REPLY | head::HEADERS => None,
        _ if version == Version::V2 => return Ok(Verdict::Skip),
        _ => None,
    };
    Err(FrameError::Version {
        found: head.version(),
        expected: version,
        syn_stream,
    })
}

#[cold]
fn judge_too_large(
    kind: FrameKind,
    limit: u32,
    head: ControlHead,
    src: &[u8],
) -> Result<Verdict, FrameError> {
    let stream = match kind {
        FrameKind::SynStream | FrameKind::SynReply | FrameKind::Headers => {
            match leading_id(head, src) {
                Some(id) => id,
                None => return Ok(Verdict::Wait),
            }
        }
        _ => None,
    };
    Err(FrameError::TooLarge {
        kind,
        length: head.length(),
        limit,
        stream,
    })
}

/// The stream id that leads a payload: `None` while it has not come, `Some(None)` if it is 0 or never comes.
fn leading_id(head: ControlHead, src: &[u8]) -> Option<Option<StreamId>> {
    match src[HEAD_LENGTH..].first_chunk::<4>() {
        _ if head.length() < 4 => Some(None),
        Some(field) => Some(StreamId::from_field(u32::from_be_bytes(*field))),
        None => None,
    }
}

/// What every receiver has to accept, in bytes (protocol.md §4.3).
const MIN_CONTROL_FRAME_LIMIT: u32 = 8192;
