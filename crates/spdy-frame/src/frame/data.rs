//! DATA (protocol.md §6).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    FlagNames,
    head::{DataHead, FLAG_COMPRESSED, FLAG_FIN, MAX_LENGTH},
};
use crate::{EncodeError, FrameError, FrameKind, StreamId, hidden::Hidden};

/// DATA ([protocol.md §6]): payload of a stream, or a piece of it.
///
/// [protocol.md §6]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#6-data-frames
#[derive(PartialEq, Eq)]
pub struct Data<B = Bytes> {
    /// The stream.
    pub stream: StreamId,
    /// Whether the sender finishes the stream with this piece. Only the last piece of a frame has
    /// it.
    pub fin: bool,
    /// Flag 0x02 of an early SPDY/3 text, "compressed": the payload cannot be interpreted. Sessions
    /// never send it, and treat it as a stream error on receipt.
    pub compressed: bool,
    /// The number of bytes of the same frame that follow in further pieces: 0 in the last piece.
    pub remaining: u32,
    /// The payload. It can be empty, even if `remaining` is greater than 0: then only the head has
    /// arrived.
    pub payload: B,
}

impl Data {
    /// Appends the head of a DATA frame to `dst`. The caller sends `length` bytes of payload after
    /// it, and need not copy them.
    ///
    /// `length` must be at most 16,777,215 bytes, because the field has 24 bits. Only debug builds
    /// check this.
    #[inline]
    pub fn encode_head(stream: StreamId, fin: bool, length: u32, dst: &mut BytesMut) {
        put_head(stream, if fin { FLAG_FIN } else { 0 }, length, dst);
    }
}

impl<B: AsRef<[u8]>> Data<B> {
    /// Appends a whole frame with this payload to `dst`. A piece becomes a frame of its own, which
    /// has the same meaning: the boundaries of DATA frames carry none.
    ///
    /// # Errors
    ///
    /// Returns [`EncodeError::TooLarge`] if the payload is longer than 16,777,215 bytes. After an
    /// error `dst` is unchanged.
    pub fn encode(&self, dst: &mut BytesMut) -> Result<(), EncodeError> {
        let payload = self.payload.as_ref();
        if payload.len() > MAX_LENGTH as usize {
            return Err(EncodeError::TooLarge {
                length: payload.len(),
            });
        }
        let fin = if self.fin { FLAG_FIN } else { 0 };
        let compressed = if self.compressed { FLAG_COMPRESSED } else { 0 };
        put_head(self.stream, fin | compressed, payload.len() as u32, dst);
        dst.extend_from_slice(payload);
        Ok(())
    }
}

/// A frame that is being cut into pieces: `remaining` is what no piece has taken, `fin` is the flag
/// of the whole frame.
impl Data<[u8; 0]> {
    /// Starts a frame with its head.
    ///
    /// # Errors
    ///
    /// Returns [`FrameError::StreamIdZero`] and, in strict decoding, [`FrameError::Flags`].
    #[inline]
    pub(crate) fn begin(head: DataHead, strict: bool) -> Result<Self, FrameError> {
        if strict && head.flags & !(FLAG_FIN | FLAG_COMPRESSED) != 0 {
            return Err(FrameError::Flags {
                kind: FrameKind::Data,
                flags: head.flags,
            });
        }
        Ok(Self {
            stream: head.stream.ok_or(FrameError::StreamIdZero {
                kind: FrameKind::Data,
            })?,
            fin: head.flags & FLAG_FIN != 0,
            compressed: head.flags & FLAG_COMPRESSED != 0,
            remaining: head.length,
            payload: [],
        })
    }

    /// Cuts a piece of `length` bytes off the frame. `length` must be at most `remaining`.
    #[inline]
    pub(crate) fn cut<B>(&mut self, length: u32, payload: B) -> Data<B> {
        self.remaining -= length;
        Data {
            stream: self.stream,
            fin: self.fin && self.remaining == 0,
            compressed: self.compressed,
            remaining: self.remaining,
            payload,
        }
    }
}

/// Shows only the length of the payload, which might hold secrets.
impl<B: AsRef<[u8]>> fmt::Debug for Data<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data")
            .field("stream", &self.stream)
            .field("fin", &self.fin)
            .field("compressed", &self.compressed)
            .field("remaining", &self.remaining)
            .field("payload", &Hidden(self.payload.as_ref().len()))
            .finish()
    }
}

impl<B: AsRef<[u8]>> fmt::Display for Data<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = FlagNames([(self.fin, "FIN"), (self.compressed, "COMPRESSED")]);
        write!(
            f,
            "DATA stream={} flags={flags} length={}",
            self.stream,
            self.payload.as_ref().len()
        )?;
        if self.remaining > 0 {
            write!(f, " remaining={}", self.remaining)?;
        }
        Ok(())
    }
}

#[inline]
fn put_head(stream: StreamId, flags: u8, length: u32, dst: &mut BytesMut) {
    debug_assert!(length <= MAX_LENGTH, "DATA frame of {length} bytes");
    dst.put_u64(
        u64::from(stream.get()) << 32 | u64::from(flags) << 24 | u64::from(length & MAX_LENGTH),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: DataHead = DataHead {
        stream: StreamId::new(1),
        flags: 0,
        length: 5,
    };

    #[test]
    fn a_frame_is_a_head_and_its_payload() {
        let mut dst = BytesMut::new();
        let stream = StreamId::new(1).unwrap();
        let frame = Data {
            stream,
            fin: true,
            compressed: false,
            remaining: 0,
            payload: "hello",
        };
        frame.encode(&mut dst).unwrap();
        assert_eq!(dst[..], *b"\x00\x00\x00\x01\x01\x00\x00\x05hello");

        dst.clear();
        Data::encode_head(StreamId::MAX, false, MAX_LENGTH, &mut dst);
        assert_eq!(dst[..], [0x7f, 0xff, 0xff, 0xff, 0x00, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn a_payload_past_24_bits_of_length_is_not_written() {
        let mut dst = BytesMut::new();
        let payload = vec![0; 0x0100_0000];
        let frame = Data {
            stream: StreamId::MAX,
            fin: true,
            compressed: false,
            remaining: 0,
            payload,
        };
        assert_eq!(
            frame.encode(&mut dst),
            Err(EncodeError::TooLarge {
                length: 0x0100_0000
            })
        );
        assert!(dst.is_empty());
    }

    #[test]
    fn the_last_piece_alone_has_fin() {
        let mut frame = Data::begin(
            DataHead {
                flags: FLAG_FIN,
                ..HEAD
            },
            false,
        )
        .unwrap();
        let head_alone = frame.cut(0, ());
        let middle = frame.cut(3, ());
        let last = frame.cut(2, ());
        assert_eq!((head_alone.fin, head_alone.remaining), (false, 5));
        assert_eq!((middle.fin, middle.remaining), (false, 2));
        assert_eq!((last.fin, last.remaining), (true, 0));
    }

    #[test]
    fn c118_data_of_stream_0_is_a_session_error() {
        let error = Data::begin(
            DataHead {
                stream: None,
                ..HEAD
            },
            false,
        )
        .unwrap_err();
        assert_eq!(
            error,
            FrameError::StreamIdZero {
                kind: FrameKind::Data
            }
        );
        assert!(error.go_away().is_some());
    }

    #[test]
    fn c119_the_compressed_flag_is_reported_in_either_mode() {
        for strict in [false, true] {
            let frame = Data::begin(
                DataHead {
                    flags: FLAG_COMPRESSED,
                    ..HEAD
                },
                strict,
            )
            .unwrap();
            assert!(frame.compressed && !frame.fin);
        }
    }

    #[test]
    fn unknown_flags_are_an_error_in_strict_decoding_only() {
        let head = DataHead {
            flags: 0x85,
            ..HEAD
        };
        assert!(Data::begin(head, false).unwrap().fin);
        let error = Data::begin(head, true).unwrap_err();
        assert_eq!(
            error,
            FrameError::Flags {
                kind: FrameKind::Data,
                flags: 0x85
            }
        );
    }
}
