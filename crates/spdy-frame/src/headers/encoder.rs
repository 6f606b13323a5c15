//! From fields to compressed header blocks, and to whole frames with them.

use bytes::{BufMut, BytesMut};

use super::{
    HeaderBlock, deflate, dictionary::Dictionary, indexed::Context, numbers::Numbers, stored,
};
use crate::{
    EncodeError, Headers, SynReply, SynStream, Version,
    frame::head::{self, MAX_LENGTH},
};

/// How header blocks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderCompression {
    /// Fields that were sent before are short references to them, as in HPACK. Nothing but whole fields and names
    /// is ever referred to, and no value of a sensitive field, so that the length of a frame does not tell whether
    /// a guess shares a part with a secret (protocol.md §8.7). A block that would get longer is not compressed.
    #[default]
    Indexed,
    /// Nothing is compressed: for peers and people who want it so.
    Stored,
}

/// Compresses the header blocks of one direction of a session, and writes the frames that carry them.
///
/// Blocks continue the compression of those before: what is written has to go out, in this order. A frame that
/// cannot be written is an error before anything moves.
///
/// The output is a zlib stream with the version's preset dictionary, which any inflater reads. It is made here and
/// not by a general deflate: that costs fifty times the memory and ten times the time, and matches secrets against
/// text that an attacker chooses.
///
/// An encoder holds what it remembers of the fields it wrote: about 1 KiB if they are few, 7 KiB at most, and next to
/// nothing before the first block. Once that has grown it does not allocate for blocks, except that `dst` grows.
#[derive(Debug)]
pub struct HeaderEncoder {
    version: Version,
    mode: HeaderCompression,
    /// Whether the zlib header was written.
    started: bool,
    /// Made for the first block; never in stored mode.
    context: Option<Box<Context>>,
}

impl HeaderEncoder {
    /// An encoder for one direction of a session. Nothing is allocated yet.
    #[must_use]
    pub const fn new(version: Version, mode: HeaderCompression) -> Self {
        Self {
            version,
            mode,
            started: false,
            context: None,
        }
    }

    /// Writes a whole SYN_STREAM frame to `dst`.
    ///
    /// # Errors
    ///
    /// Nothing is written then:
    /// - [`EncodeError::TooLarge`] if the frame might get longer than 16,777,215 bytes,
    /// - [`EncodeError::FieldTooLarge`] and [`EncodeError::TooManyFields`] above 65,535 in SPDY/2.
    pub fn encode_syn_stream(
        &mut self,
        frame: &SynStream<&HeaderBlock>,
        dst: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let version = self.version;
        self.frame(frame.block, dst, |dst| frame.begin(version, dst))
    }

    /// Writes a whole SYN_REPLY frame to `dst`.
    ///
    /// # Errors
    ///
    /// As [`encode_syn_stream`](Self::encode_syn_stream).
    pub fn encode_syn_reply(
        &mut self,
        frame: &SynReply<&HeaderBlock>,
        dst: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let version = self.version;
        self.frame(frame.block, dst, |dst| frame.begin(version, dst))
    }

    /// Writes a whole HEADERS frame to `dst`. In SPDY/2 without FIN, see [`Headers::fin`].
    ///
    /// # Errors
    ///
    /// As [`encode_syn_stream`](Self::encode_syn_stream).
    pub fn encode_headers(
        &mut self,
        frame: &Headers<&HeaderBlock>,
        dst: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let version = self.version;
        self.frame(frame.block, dst, |dst| frame.begin(version, dst))
    }

    fn frame(
        &mut self,
        block: &HeaderBlock,
        dst: &mut BytesMut,
        begin: impl FnOnce(&mut BytesMut) -> usize,
    ) -> Result<(), EncodeError> {
        let serialized = self.check(block)?;
        let start = begin(dst);
        self.write(block, serialized, dst);
        head::finish_control(start, dst)
    }

    /// Checks that a block can be written, whatever the compression makes of it. Its bytes before compression
    /// (protocol.md §7.1) are the answer.
    fn check(&self, block: &HeaderBlock) -> Result<usize, EncodeError> {
        let numbers = Numbers::of(self.version);
        let mut serialized = numbers.width();
        for field in block.fields() {
            let (name, value) = (field.name_length(), field.value_length());
            let length = name.max(value);
            if length > numbers.most() {
                return Err(EncodeError::FieldTooLong { length });
            }
            serialized += 2 * numbers.width() + name + value;
        }
        let count = block.len();
        if count > numbers.most() {
            return Err(EncodeError::TooManyFields { count });
        }
        let length = FIXED_FIELDS + ZLIB_HEADER + self.bound(serialized);
        if length > MAX_LENGTH as usize {
            return Err(EncodeError::TooLarge { length });
        }
        Ok(serialized)
    }

    /// The most bytes that a block is compressed to.
    const fn bound(&self, serialized: usize) -> usize {
        match self.mode {
            HeaderCompression::Indexed => deflate::bound(serialized),
            HeaderCompression::Stored => stored::length(serialized),
        }
    }

    /// Compresses a block that was checked.
    fn write(&mut self, block: &HeaderBlock, serialized: usize, dst: &mut BytesMut) {
        let bound = self.bound(serialized);
        dst.reserve(ZLIB_HEADER + bound);
        if !self.started {
            self.started = true;
            // The second byte tells the level, which no inflater looks at; with the first it has to be a
            // multiple of 31.
            dst.put_slice(match self.mode {
                HeaderCompression::Indexed => &[0x78, 0xbb],
                HeaderCompression::Stored => &[0x78, 0x3f],
            });
            dst.put_u32(Dictionary::of(self.version).id);
        }
        match self.mode {
            HeaderCompression::Indexed => {
                let context = self
                    .context
                    .get_or_insert_with(|| Box::new(Context::new(self.version)));
                let start = dst.len();
                dst.resize(start + bound, 0);
                let length = context.write(block, &mut dst[start..]);
                dst.truncate(start + length);
                // Bytes above 143 take nine bits each. The context knows the bytes of the block, not their form.
                if length > stored::length(serialized) {
                    dst.truncate(start);
                    stored::write(block, Numbers::of(self.version), serialized, dst);
                }
            }
            HeaderCompression::Stored => {
                stored::write(block, Numbers::of(self.version), serialized, dst);
            }
        }
    }
}

/// The bytes before the first block: two with parameters, and the id of the dictionary.
const ZLIB_HEADER: usize = 6;

/// The most bytes that a frame has before its block: those of SYN_STREAM.
const FIXED_FIELDS: usize = 10;
