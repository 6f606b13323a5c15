//! Compresses header fields into blocks, and writes the frames that contain them.

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
#[non_exhaustive]
pub enum HeaderCompression {
    /// Fields that were sent before become short references, as in HPACK.
    ///
    /// Only whole fields and names are referred to, and never the value of a sensitive field.
    /// Therefore the length of a frame does not reveal whether a guess shares a part with a secret
    /// ([protocol.md §8.7]). A block that compression would make longer is not compressed.
    ///
    /// [protocol.md §8.7]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#87-crime
    #[default]
    Indexed,
    /// Header blocks are valid zlib streams, but nothing is compressed.
    Stored,
}

/// Compresses the header blocks of one direction of a session, and writes the frames that contain
/// them.
///
/// Each block continues the compression of the previous ones, so the written frames must be sent,
/// in this order. If a method returns an error, nothing was written and the context is unchanged.
///
/// The output is a zlib stream with the preset dictionary of the version, which every inflater can
/// read. The encoder does not use a general deflate, which would need fifty times the memory and
/// ten times the time, and would match secrets against text that an attacker chooses.
///
/// An encoder holds the fields that it wrote recently: about 1 KiB for few fields, 7 KiB at most,
/// and almost nothing before the first block. Once this memory has grown, writing a block allocates
/// nothing, unless `dst` must grow.
#[derive(Debug)]
pub struct HeaderEncoder {
    version: Version,
    mode: HeaderCompression,
    /// Whether the zlib header was written.
    started: bool,
    /// Made for the first block. It is always `None` in stored mode.
    context: Option<Box<Context>>,
}

impl HeaderEncoder {
    /// Returns an encoder for one direction of a session. Nothing is allocated yet.
    #[must_use]
    pub const fn new(version: Version, mode: HeaderCompression) -> Self {
        Self {
            version,
            mode,
            started: false,
            context: None,
        }
    }

    /// Appends a whole SYN_STREAM frame to `dst`.
    ///
    /// # Errors
    ///
    /// After an error nothing was written. The errors are:
    /// - [`EncodeError::TooLarge`] if the payload might become longer than 16,777,215 bytes,
    /// - [`EncodeError::FieldTooLong`] and [`EncodeError::TooManyFields`] above 65,535 in SPDY/2.
    pub fn encode_syn_stream(
        &mut self,
        frame: &SynStream<&HeaderBlock>,
        dst: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let version = self.version;
        self.frame(frame.block, dst, |dst| frame.begin(version, dst))
    }

    /// Appends a whole SYN_REPLY frame to `dst`.
    ///
    /// # Errors
    ///
    /// The errors are those of [`encode_syn_stream`](Self::encode_syn_stream).
    pub fn encode_syn_reply(
        &mut self,
        frame: &SynReply<&HeaderBlock>,
        dst: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let version = self.version;
        self.frame(frame.block, dst, |dst| frame.begin(version, dst))
    }

    /// Appends a whole HEADERS frame to `dst`, in SPDY/2 without FIN, see [`Headers::fin`].
    ///
    /// # Errors
    ///
    /// The errors are those of [`encode_syn_stream`](Self::encode_syn_stream).
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

    /// Checks that a block can be written, however well it compresses. Returns its size in bytes
    /// before compression (protocol.md §7.1).
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

    /// Returns the largest size in bytes that a block is compressed to.
    const fn bound(&self, serialized: usize) -> usize {
        match self.mode {
            HeaderCompression::Indexed => deflate::bound(serialized),
            HeaderCompression::Stored => stored::length(serialized),
        }
    }

    /// Compresses a block that passed [`check`](Self::check).
    fn write(&mut self, block: &HeaderBlock, serialized: usize, dst: &mut BytesMut) {
        let bound = self.bound(serialized);
        dst.reserve(ZLIB_HEADER + bound);
        if !self.started {
            self.started = true;
            // The second byte contains the level, which inflaters ignore. Both bytes together must
            // be a multiple of 31.
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
                // A byte above 143 takes nine bits. The context decides by numbers of bytes and
                // does not know this.
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

/// The largest number of bytes in a frame between its head and its block: those of SYN_STREAM.
const FIXED_FIELDS: usize = 10;
