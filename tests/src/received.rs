//! The bytes of a peer, parsed with nothing but the codec.

use std::fmt;

use bytes::{Bytes, BytesMut};
use spdy_frame::{
    DecodeLimits, Decoder, Frame, FrameError, GoAway, HeaderBlock, HeaderDecoder, HeaderError,
    HeaderLimits, Ping, RstStream, Settings, Version, WindowUpdate,
};

/// A received frame. DATA is whole, and header blocks are inflated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of protocol.md §5 and §6")]
pub enum Received {
    Data {
        stream: u32,
        fin: bool,
        payload: Bytes,
    },
    SynStream {
        stream: u32,
        associated: u32,
        priority: u8,
        fin: bool,
        unidirectional: bool,
        fields: Fields,
    },
    SynReply {
        stream: u32,
        fin: bool,
        fields: Fields,
    },
    RstStream(RstStream),
    Settings(Settings),
    Noop,
    Ping(Ping),
    GoAway(GoAway),
    Headers {
        stream: u32,
        fin: bool,
        fields: Fields,
    },
    WindowUpdate(WindowUpdate),
    /// CREDENTIAL, or a control frame of an unknown type.
    Other {
        kind: u16,
    },
}

/// Names and values in wire order; several values of a name are joined by NUL.
pub type Fields = Vec<(String, String)>;

impl Received {
    /// Returns the value of a header field, or `None` if the field is missing or the type has no
    /// fields.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let (Self::SynStream { fields, .. }
        | Self::SynReply { fields, .. }
        | Self::Headers { fields, .. }) = self
        else {
            return None;
        };
        fields
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Parses one direction of a conversation.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    decoder: Decoder,
    headers: HeaderDecoder,
    /// The pieces of an incomplete DATA frame.
    data: BytesMut,
}

impl Reader {
    /// Returns a reader for a direction from its first byte.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self {
            buffer: BytesMut::new(),
            decoder: Decoder::new(version, DecodeLimits::default()),
            headers: HeaderDecoder::new(version, HeaderLimits::default()),
            data: BytesMut::new(),
        }
    }

    /// Returns the buffer to which bytes that have arrived are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Returns whether a frame has begun and is not complete.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty() || self.decoder.is_mid_frame()
    }

    /// Takes the next frame. Returns `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The error of the codec for the frame or its header block.
    pub fn next_frame(&mut self) -> Result<Option<Received>, ReadError> {
        while let Some(frame) = self.decoder.decode(&mut self.buffer)? {
            if let Some(frame) = self.receive(frame)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Makes the frame comparable. Returns `None` for a piece of DATA that is not the last one.
    fn receive(&mut self, frame: Frame) -> Result<Option<Received>, ReadError> {
        Ok(Some(match frame {
            Frame::Data(frame) => {
                self.data.extend_from_slice(&frame.payload);
                if frame.remaining > 0 {
                    return Ok(None);
                }
                let payload = self.data.split().freeze();
                Received::Data {
                    stream: frame.stream.get(),
                    fin: frame.fin,
                    payload,
                }
            }
            Frame::SynStream(frame) => Received::SynStream {
                stream: frame.stream.get(),
                associated: frame.associated.map_or(0, |stream| stream.get()),
                priority: frame.priority.get(),
                fin: frame.fin,
                unidirectional: frame.unidirectional,
                fields: fields(&self.headers.decode(frame.block)?),
            },
            Frame::SynReply(frame) => Received::SynReply {
                stream: frame.stream.get(),
                fin: frame.fin,
                fields: fields(&self.headers.decode(frame.block)?),
            },
            Frame::Headers(frame) => Received::Headers {
                stream: frame.stream.get(),
                fin: frame.fin,
                fields: fields(&self.headers.decode(frame.block)?),
            },
            Frame::RstStream(frame) => Received::RstStream(frame),
            Frame::Settings(frame) => Received::Settings(frame),
            Frame::Noop => Received::Noop,
            Frame::Ping(frame) => Received::Ping(frame),
            Frame::GoAway(frame) => Received::GoAway(frame),
            Frame::WindowUpdate(frame) => Received::WindowUpdate(frame),
            Frame::Credential(_) => Received::Other { kind: 10 },
            Frame::Unknown(frame) => Received::Other {
                kind: frame.type_number,
            },
        }))
    }
}

/// Bytes that the codec rejects.
#[derive(Debug)]
pub enum ReadError {
    /// The frame is wrong.
    Frame(FrameError),
    /// The header block is wrong.
    Headers(HeaderError),
}

impl From<FrameError> for ReadError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<HeaderError> for ReadError {
    fn from(error: HeaderError) -> Self {
        Self::Headers(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Headers(error) => error.fmt(f),
        }
    }
}

/// Names and values, as text.
pub(crate) fn fields(block: &HeaderBlock) -> Fields {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    block
        .fields()
        .map(|field| (text(field.name()), text(field.value())))
        .collect()
}
