//! Turns bytes into frames: [`parse`] for a buffer that holds whole frames, [`Decoder`] for bytes
//! as they arrive.

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    Data, Frame, FrameError, FrameKind, StreamId, Version,
    frame::head::{self, ControlHead, DataHead, HEAD_LENGTH, Head, MAX_LENGTH, Rules},
    payload::{Payload, Shared},
};

/// Limits on what a [`Decoder`] accepts.
///
/// All fields have defaults; set those that differ:
///
/// ```
/// use spdy_frame::DecodeLimits;
///
/// let limits = DecodeLimits::default().max_control_frame(64 * 1024).strict(true);
/// assert_eq!(limits.max_control_frame, 65_536);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DecodeLimits {
    /// The longest payload of a control frame, in bytes. Default 262,144. A smaller value than
    /// 8,192 means 8,192, which every receiver must accept ([protocol.md §4.3]).
    ///
    /// DATA frames have no such limit, because the decoder does not hold them: it returns their
    /// bytes as they arrive.
    ///
    /// [protocol.md §4.3]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#43-frame-size-limits
    pub max_control_frame: u32,
    /// Whether unknown flag bits, and bytes after the status of RST_STREAM, are session errors.
    /// Default `false`: both are ignored.
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

impl DecodeLimits {
    /// Sets [`max_control_frame`](#structfield.max_control_frame), in bytes.
    #[must_use]
    pub const fn max_control_frame(mut self, bytes: u32) -> Self {
        self.max_control_frame = bytes;
        self
    }

    /// Sets [`strict`](#structfield.strict).
    #[must_use]
    pub const fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }
}

/// Takes frames off the front of a buffer into which the caller reads what arrives.
///
/// The decoder holds no bytes and reserves none. A control frame stays in the buffer until it is
/// complete, so the buffer grows with what the peer has sent, up to
/// [`max_control_frame`](DecodeLimits::max_control_frame) plus 8 bytes. Payloads and header blocks
/// are slices of the buffer and keep its memory alive until they are dropped.
///
/// After an error whose [`go_away`](FrameError::go_away) is `Some`, the session must end.
#[derive(Debug)]
pub struct Decoder {
    rules: &'static Rules,
    limits: DecodeLimits,
    state: State,
}

/// The position of the decoder in its input.
#[derive(Debug)]
enum State {
    /// Between two frames, as far as the decoder has looked.
    Between,
    /// At the start of a frame that is not complete.
    Waiting,
    /// Inside a DATA frame.
    Data(Data<[u8; 0]>),
    /// Inside a control frame that is skipped, with the number of bytes still to come.
    Skipping(u32),
}

impl Decoder {
    /// Returns a decoder for one direction of a session.
    #[must_use]
    pub fn new(version: Version, mut limits: DecodeLimits) -> Self {
        limits.max_control_frame = limits.max_control_frame.max(MIN_CONTROL_FRAME_LIMIT);
        Self {
            rules: Rules::of(version, limits.strict),
            limits,
            state: State::Between,
        }
    }

    /// Takes one frame, or one piece of a DATA frame, off the front of `src` without copying.
    /// Returns `None` if it needs more bytes.
    ///
    /// DATA frames are returned in pieces, so that a receiver does not hold up to 16 MiB and can
    /// reject a frame that exceeds a window when it sees the head. The first piece is returned with
    /// the head, even if it is empty and [`remaining`](Data::remaining) is greater than 0. Each
    /// later piece has at least one byte.
    ///
    /// Frames without a meaning in this session are returned as [`Frame::Unknown`]. If such a frame
    /// is longer than [`max_control_frame`](DecodeLimits::max_control_frame), it is returned
    /// without its payload, and its bytes are dropped as they arrive.
    ///
    /// # Errors
    ///
    /// After an error whose [`go_away`](FrameError::go_away) is `None`, the frame has been taken
    /// off `src`, and decoding continues. After any other error `src` is unchanged and the session
    /// must end; another call returns the same error.
    ///
    /// An error is returned as soon as it is certain, which for most is when the head of the frame
    /// is complete. [`FrameError::TooLarge`] and [`FrameError::Version`] also need the stream id
    /// after the head, if the frame has one that can be reset.
    #[inline]
    pub fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        match self.state {
            State::Between | State::Waiting => self.next_frame(src),
            State::Data(_) | State::Skipping(_) => self.go_on(src),
        }
    }

    /// Returns whether the input so far ends inside a frame.
    ///
    /// Call it when the peer has closed its side and [`decode`](Self::decode) has returned `None`:
    /// `true` means that the connection broke off.
    #[must_use]
    pub const fn is_mid_frame(&self) -> bool {
        !matches!(self.state, State::Between)
    }

    /// Reads the next frame from its head on.
    #[inline]
    fn next_frame(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        match Head::read(src) {
            Some(Head::Data(head)) => self.begin_data(head, src),
            Some(Head::Control(head)) => self.control(head, src),
            None => Ok(self.wait(src)),
        }
    }

    /// Continues inside a frame.
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

    /// Takes a control frame without a meaning. Its payload need not be held.
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

    /// Records that the frame at the front of `src` is not complete.
    fn wait(&mut self, src: &BytesMut) -> Option<Frame> {
        self.state = if src.is_empty() {
            State::Between
        } else {
            State::Waiting
        };
        None
    }
}

/// Parses the frame at the front of `src` and returns it with its length in bytes, or `None` if the
/// frame is not complete.
///
/// This function is for captures and tools: it returns a DATA frame in one piece, and applies no
/// limit to the length. For bytes from a network use a [`Decoder`].
///
/// # Errors
///
/// Returns the errors of [`Decoder::decode`] that do not depend on [`DecodeLimits`]: never
/// [`FrameError::TooLarge`] or [`FrameError::Flags`]. The one frame that the caller can skip after
/// an error, a WINDOW_UPDATE of 0 bytes for a stream, is 16 bytes long.
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
        // The whole frame is there, so waiting for its stream id has ended.
        (Head::Control(head), Verdict::Skip | Verdict::Wait) => Frame::unknown(head, payload),
    };
    Ok(Some((frame, end)))
}

/// What to do with a control frame, judging by its head.
enum Verdict {
    /// Read it.
    Read,
    /// Skip it, because it has no meaning in this session.
    Skip,
    /// Wait for the stream id, which the error needs.
    Wait,
}

/// Judges a control frame by the head at the front of `src`.
///
/// # Errors
///
/// Returns an error if the version, the length or, in strict decoding, the flags are wrong.
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

/// Judges a frame of another version (protocol.md §4.4). SPDY/2 ignores it, unless it contains a
/// header block: without that block the compression context is lost.
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

/// Returns the stream id at the start of a payload: `None` if it has not arrived, `Some(None)` if
/// it is 0 or the payload is too short to have one.
fn leading_id(head: ControlHead, src: &[u8]) -> Option<Option<StreamId>> {
    match src[HEAD_LENGTH..].first_chunk::<4>() {
        _ if head.length() < 4 => Some(None),
        Some(field) => Some(StreamId::from_field(u32::from_be_bytes(*field))),
        None => None,
    }
}

/// The payload that every receiver must accept, in bytes (protocol.md §4.3).
const MIN_CONTROL_FRAME_LIMIT: u32 = 8192;
