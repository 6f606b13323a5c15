//! Decodes header blocks: inflates them within limits, and checks the fields.

use std::{cell::Cell, sync::Arc};

use bytes::Bytes;

use super::{
    HeaderBlock,
    dictionary::Dictionary,
    field::{Content, Entry},
    inflate::{Bounds, Inflated, Inflater},
    names::Marks,
    numbers::Numbers,
    rules::{NameError, check_name, count_values},
};
use crate::{CompressedBlock, HeaderError, Version};

/// Limits on received header blocks.
///
/// A *soft* limit drops fields: those that fit are returned, and
/// [`is_truncated`](HeaderBlock::is_truncated) returns `true`. The *hard* limit ends the session.
/// Memory and time depend on the bytes that were inflated, never on a number that the peer sent.
///
/// All fields have defaults; set those that differ:
///
/// ```
/// use spdy_frame::HeaderLimits;
///
/// let limits = HeaderLimits::default().max_size(64 * 1024).max_fields(100);
/// assert_eq!(limits.max_size, 65_536);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeaderLimits {
    /// Soft: the inflated size of a block, in bytes, including length fields. Default 131,072.
    /// Every value is valid: if the first field does not fit, blocks have no fields, and below 4 (2
    /// in SPDY/2) all blocks are truncated.
    pub max_size: usize,
    /// Hard: the inflated size of a block, in bytes. A larger block is [`HeaderError::Bomb`], and
    /// so is one with more than 64 Huffman codes and one more for each 256 of these bytes: to
    /// read a code takes time, though nothing might follow. Default 1,048,576.
    pub max_inflated: usize,
    /// Soft: the number of values in a block, counted after values are split at NUL. Default 128.
    pub max_fields: usize,
    /// Whether an empty value is an error in SPDY/2. The draft demands it, but browsers send empty
    /// values ([protocol.md §7.2]). Default `false`.
    ///
    /// [protocol.md §7.2]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#72-rules-and-what-a-violation-means
    pub strict: bool,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        Self {
            max_size: 128 * 1024,
            max_inflated: 1024 * 1024,
            max_fields: 128,
            strict: false,
        }
    }
}

impl HeaderLimits {
    /// Sets [`max_size`](#structfield.max_size), in bytes.
    #[must_use]
    pub const fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Sets [`max_inflated`](#structfield.max_inflated), in bytes.
    #[must_use]
    pub const fn max_inflated(mut self, bytes: usize) -> Self {
        self.max_inflated = bytes;
        self
    }

    /// Sets [`max_fields`](#structfield.max_fields).
    #[must_use]
    pub const fn max_fields(mut self, fields: usize) -> Self {
        self.max_fields = fields;
        self
    }

    /// Sets [`strict`](#structfield.strict).
    #[must_use]
    pub const fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }
}

/// Inflates and parses the header blocks of one direction of a session.
///
/// Each block continues the compression of the previous ones, so *every* block must be decoded, in
/// order, even if its fields are not needed ([protocol.md §8.4]). After an error in the fields the
/// decoder can be used on. If the compression context is lost ([`HeaderError::is_context_lost`]),
/// every later call returns the same error.
///
/// Between two blocks a decoder holds the last inflated bytes, at most the window size that the
/// peer's zlib header announces, plus less than 1 KiB. If the last block did not end with a sync
/// flush, it holds less than 2 KiB more instead.
///
/// [protocol.md §8.4]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#84-the-state-rule
#[derive(Debug)]
pub struct HeaderDecoder {
    version: Version,
    limits: HeaderLimits,
    stream: Stream,
    /// The positions of the fields of the last block, if that was complete and valid and has few. A
    /// block that inflates to the same bytes shares them, because many clients repeat blocks.
    last: Option<Arc<[Entry]>>,
}

impl HeaderDecoder {
    /// Returns a decoder for one direction of a session. Nothing is allocated yet.
    #[must_use]
    pub const fn new(version: Version, mut limits: HeaderLimits) -> Self {
        // Positions in a block have 32 bits.
        if limits.max_size > u32::MAX as usize {
            limits.max_size = u32::MAX as usize;
        }
        Self {
            version,
            limits,
            stream: Stream::Header(ZlibHeader::new()),
            last: None,
        }
    }

    /// Returns the number of bytes that the decoder holds between two blocks, mostly for references
    /// from the next block.
    #[must_use]
    pub fn memory(&self) -> usize {
        let stream = match &self.stream {
            Stream::Deflate(inflater) => inflater.memory(),
            Stream::Header(_) | Stream::Lost(_) => 0,
        };
        stream
            + self
                .last
                .as_ref()
                .map_or(0, |entries| size_of_val(&**entries))
    }

    /// Inflates and parses a block. A block of no bytes has no fields and does not change the
    /// context.
    ///
    /// # Errors
    ///
    /// Returns a [`HeaderError`] if the block is invalid. Unless
    /// [`is_context_lost`](HeaderError::is_context_lost) returns `true`, the context includes the
    /// block.
    pub fn decode<B: AsRef<[u8]>>(
        &mut self,
        block: CompressedBlock<B>,
    ) -> Result<HeaderBlock, HeaderError> {
        if let Stream::Lost(error) = &self.stream {
            return Err(error.clone());
        }
        if block.is_empty() {
            return Ok(HeaderBlock::new());
        }
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let result = self.decode_with(&mut scratch, block.as_bytes());
        if scratch.is_small() {
            // If the thread is ending, the buffers are dropped.
            _ = SCRATCH.try_with(|place| place.set(scratch));
        }
        result
    }

    fn decode_with(
        &mut self,
        scratch: &mut Scratch,
        block: &[u8],
    ) -> Result<HeaderBlock, HeaderError> {
        let Scratch { bytes, entries } = scratch;
        let inflated = self.inflate(block, bytes).inspect_err(|error| {
            self.stream = Stream::Lost(error.clone());
        })?;
        if inflated == Inflated::Again
            && let Some(entries) = &self.last
        {
            let bytes = Bytes::copy_from_slice(bytes);
            return Ok(HeaderBlock::decoded(bytes, Arc::clone(entries), false));
        }
        let result = self.parse(bytes, entries, inflated == Inflated::Cut);
        self.last = result.as_ref().ok().and_then(|block| match &block.content {
            Content::Shared { entries, .. } if !block.truncated && block.len() <= FEW => {
                Some(Arc::clone(entries))
            }
            _ => None,
        });
        result
    }

    /// Inflates a block within the limits.
    fn inflate(&mut self, mut block: &[u8], bytes: &mut Vec<u8>) -> Result<Inflated, HeaderError> {
        let bounds = Bounds {
            kept: self.limits.max_size,
            inflated: self.limits.max_inflated,
        };
        match self.stream.ready(&mut block, self.version)? {
            Some(inflater) => inflater.inflate(block, bytes, bounds),
            None => {
                bytes.clear();
                Ok(Inflated::Whole)
            }
        }
    }

    /// Parses the inflated bytes and checks them (protocol.md §7.2).
    fn parse(
        &self,
        bytes: &[u8],
        entries: &mut Vec<Entry>,
        dropped: bool,
    ) -> Result<HeaderBlock, HeaderError> {
        let mut pairs = Pairs::new(bytes, Numbers::of(self.version));
        // A block that ends early is valid only if bytes were dropped.
        let ends_early = || {
            if dropped {
                Ok(())
            } else {
                Err(HeaderError::UnexpectedEnd)
            }
        };

        let Some(count) = pairs.number() else {
            ends_early()?;
            return Ok(HeaderBlock::decoded(Bytes::new(), Arc::default(), true));
        };
        // Each pair has at least its length fields, so the number of bytes limits the count.
        let most = pairs.rest.len() / pairs.smallest();
        if count > most {
            ends_early()?;
        }
        let mut truncated = dropped;
        entries.clear();
        entries.reserve(count.min(most).min(self.limits.max_fields));
        let mut names = Names::new(count);
        let mut values = 0;
        let refuses_empty = self.limits.strict && self.version == Version::V2;
        for _ in 0..count {
            let Some(pair) = pairs.pair() else {
                ends_early()?;
                break;
            };
            if refuses_empty && pair.value.is_empty() {
                return Err(HeaderError::EmptyValue);
            }
            let (entry, count) = pair.judge()?;
            values += count;
            if values > self.limits.max_fields {
                truncated = true;
                break;
            }
            if names.may_have(pair.name) && has_name(bytes, entries, pair.name) {
                return Err(HeaderError::DuplicateName);
            }
            entries.push(entry);
        }
        if !truncated && !pairs.rest.is_empty() {
            return Err(HeaderError::TrailingBytes);
        }
        if names.are_many() && has_duplicates(bytes, entries) {
            return Err(HeaderError::DuplicateName);
        }
        let end = entries.last().map_or(0, |entry| entry.value().end);
        let bytes = Bytes::copy_from_slice(&bytes[..end]);
        Ok(HeaderBlock::decoded(bytes, entries[..].into(), truncated))
    }
}

/// The zlib stream of one direction, throughout a session.
#[derive(Debug)]
enum Stream {
    /// The zlib header is not complete.
    Header(ZlibHeader),
    /// The deflate stream after the header. It has no end: a checksum never comes, and a last
    /// deflate block is an error.
    Deflate(Inflater),
    /// The context is lost for this reason.
    Lost(HeaderError),
}

impl Stream {
    /// Takes the rest of the zlib header off the front of `block`. Returns `None` until the header
    /// is complete.
    fn ready(
        &mut self,
        block: &mut &[u8],
        version: Version,
    ) -> Result<Option<&mut Inflater>, HeaderError> {
        if let Self::Header(header) = self {
            let Some(found) = header.read(block)? else {
                return Ok(None);
            };
            let dictionary = match (found.dictionary, Dictionary::of(version)) {
                (None, _) => &[],
                (Some(found), dictionary) if found == dictionary.id => dictionary.bytes,
                (Some(found), _) => return Err(HeaderError::WrongDictionary { found }),
            };
            *self = Self::Deflate(Inflater::new(found.window, dictionary));
        }
        match self {
            Self::Deflate(inflater) => Ok(Some(inflater)),
            Self::Lost(error) => Err(error.clone()),
            Self::Header(_) => unreachable!("the header is complete"),
        }
    }
}

/// The bytes of the zlib header that have arrived (RFC 1950 §2.2).
#[derive(Debug)]
struct ZlibHeader {
    bytes: [u8; 6],
    length: usize,
}

/// The contents of a zlib header.
struct Parameters {
    /// The largest distance in bytes.
    window: usize,
    /// The id of the preset dictionary, if the header names one.
    dictionary: Option<u32>,
}

impl Parameters {
    const fn new(method: u8, dictionary: Option<u32>) -> Self {
        Self {
            window: 256 << (method >> 4),
            dictionary,
        }
    }
}

impl ZlibHeader {
    const fn new() -> Self {
        Self {
            bytes: [0; 6],
            length: 0,
        }
    }

    /// Reads more of the header. Returns `None` until it is complete.
    fn read(&mut self, block: &mut &[u8]) -> Result<Option<Parameters>, HeaderError> {
        while let Some((byte, rest)) = block.split_first() {
            *block = rest;
            self.bytes[self.length] = *byte;
            self.length += 1;
            match self.bytes[..self.length] {
                [method, flags] => {
                    let check = u16::from_be_bytes([method, flags]);
                    // The method is deflate, and the window at most 32 KiB.
                    if method & 0x0f != 8 || method >> 4 > 7 || check % 31 != 0 {
                        return Err(HeaderError::Corrupt);
                    }
                    if flags & PRESET_DICTIONARY == 0 {
                        return Ok(Some(Parameters::new(method, None)));
                    }
                }
                [method, _, a, b, c, d] => {
                    let dictionary = Some(u32::from_be_bytes([a, b, c, d]));
                    return Ok(Some(Parameters::new(method, dictionary)));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// The flag of a zlib header that contains the id of a dictionary.
const PRESET_DICTIONARY: u8 = 0x20;

/// Parses an inflated block.
struct Pairs<'a> {
    /// The bytes that are not read yet, beginning with a number.
    rest: &'a [u8],
    /// The length of the block.
    length: usize,
    numbers: Numbers,
}

impl<'a> Pairs<'a> {
    const fn new(bytes: &'a [u8], numbers: Numbers) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
            numbers,
        }
    }

    /// Returns the length of a pair with an empty name and an empty value.
    const fn smallest(&self) -> usize {
        2 * self.numbers.width()
    }

    #[inline]
    fn pair(&mut self) -> Option<Pair<'a>> {
        let name = self.string()?;
        let name_end = self.length - self.rest.len();
        let value = self.string()?;
        Some(Pair {
            name,
            name_end,
            value,
            value_end: self.length - self.rest.len(),
        })
    }

    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        let (string, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(string)
    }

    #[inline]
    fn number(&mut self) -> Option<usize> {
        let (number, rest) = self.numbers.read(self.rest)?;
        self.rest = rest;
        Some(number)
    }
}

/// A name with its value, and the positions in the block where they end.
#[derive(Clone, Copy)]
struct Pair<'a> {
    name: &'a [u8],
    name_end: usize,
    value: &'a [u8],
    value_end: usize,
}

impl Pair<'_> {
    /// Checks name and value. Returns the entry and its number of values.
    #[inline]
    fn judge(&self) -> Result<(Entry, usize), HeaderError> {
        check_name(self.name).map_err(|error| match error {
            NameError::Empty => HeaderError::EmptyName,
            NameError::Invalid | NameError::UpperCase => HeaderError::InvalidName,
        })?;
        let values = count_values(self.value)?;
        let (name_end, value_end) = (self.name_end, self.value_end);
        let mut entry = Entry::new(
            name_end - self.name.len()..name_end,
            value_end - self.value.len()..value_end,
        );
        entry.joined = values > 1;
        Ok((entry, values))
    }
}

/// Finds names that occur twice. Few names are looked up as they come. Many are sorted at the end,
/// so that the time stays nearly proportional to the number of bytes.
#[derive(Debug)]
enum Names {
    Few(Marks),
    Many,
}

impl Names {
    fn new(count: usize) -> Self {
        if count > FEW {
            Self::Many
        } else {
            Self::Few(Marks::default())
        }
    }

    /// Returns whether a name, which must not be empty, might have come before.
    #[inline]
    fn may_have(&mut self, name: &[u8]) -> bool {
        match self {
            Self::Few(marks) => !marks.insert(name),
            Self::Many => false,
        }
    }

    const fn are_many(&self) -> bool {
        matches!(self, Self::Many)
    }
}

fn has_name(bytes: &[u8], entries: &[Entry], name: &[u8]) -> bool {
    entries.iter().any(|entry| bytes[entry.name()] == *name)
}

fn has_duplicates(bytes: &[u8], entries: &[Entry]) -> bool {
    let mut names: Vec<&[u8]> = entries.iter().map(|entry| &bytes[entry.name()]).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// The buffers for a block whose length and number of fields are not known yet.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Scratch {
    fn is_small(&self) -> bool {
        self.bytes.capacity() <= KEPT && self.entries.capacity() * size_of::<Entry>() <= KEPT
    }
}

thread_local! {
    /// All sessions of a thread share it.
    static SCRATCH: Cell<Scratch> = const {
        Cell::new(Scratch {
            bytes: Vec::new(),
            entries: Vec::new(),
        })
    };
}

/// The largest capacity of a shared buffer, in bytes. Larger ones are dropped.
const KEPT: usize = 4096;

/// The largest number of names that are looked up one by one for duplicates. More are sorted.
const FEW: usize = 32;
