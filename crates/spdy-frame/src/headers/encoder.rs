//! From fields to compressed header blocks, and to whole frames with them.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::{
    HeaderBlock,
    deflate::{self, BlockWriter, MIN_MATCH, WINDOW},
    dictionary::Dictionary,
    recent::Recent,
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
    /// a guess shares a part with a secret (protocol.md §8.7).
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
/// An encoder holds about 7 KiB from its first block to its end, and next to nothing before. It does not allocate
/// for blocks, except that `dst` grows.
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
    /// [`EncodeError::TooLong`] if the frame might get longer than 16,777,215 octets;
    /// [`EncodeError::FieldTooLong`] and [`EncodeError::TooManyFields`] in SPDY/2 above 65,535. Nothing is written
    /// then.
    pub fn syn_stream(
        &mut self,
        frame: &SynStream<&HeaderBlock>,
        dst: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let size = self.check(frame.block)?;
        let start = frame.begin(self.version, dst);
        self.write(frame.block, size, dst);
        head::finish_control(start, dst)
    }

    /// Writes a whole SYN_REPLY frame to `dst`.
    ///
    /// # Errors
    ///
    /// As [`syn_stream`](Self::syn_stream).
    pub fn syn_reply(
        &mut self,
        frame: &SynReply<&HeaderBlock>,
        dst: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let size = self.check(frame.block)?;
        let start = frame.begin(self.version, dst);
        self.write(frame.block, size, dst);
        head::finish_control(start, dst)
    }

    /// Writes a whole HEADERS frame to `dst`. In SPDY/2 without FIN, see [`Headers::fin`].
    ///
    /// # Errors
    ///
    /// As [`syn_stream`](Self::syn_stream).
    pub fn headers(
        &mut self,
        frame: &Headers<&HeaderBlock>,
        dst: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let size = self.check(frame.block)?;
        let start = frame.begin(self.version, dst);
        self.write(frame.block, size, dst);
        head::finish_control(start, dst)
    }

    /// Checks that a block can be written, whatever the compression makes of it.
    fn check(&self, block: &HeaderBlock) -> Result<Size, EncodeError> {
        let numbers = Numbers::of(self.version);
        let mut serialized = numbers.width();
        for field in block.fields() {
            let (name, value) = (field.name().len(), field.value().len());
            let length = name.max(value);
            if length > numbers.most() {
                return Err(EncodeError::FieldTooLong { length });
            }
            serialized += 2 * numbers.width() + name + value;
        }
        if block.len() > numbers.most() {
            let count = block.len();
            return Err(EncodeError::TooManyFields { count });
        }
        let bound = ZLIB_HEADER
            + match self.mode {
                HeaderCompression::Indexed => deflate::bound(serialized),
                HeaderCompression::Stored => stored_bound(serialized),
            };
        let length = bound + FIXED_FIELDS;
        if length > MAX_LENGTH as usize {
            return Err(EncodeError::TooLong { length });
        }
        Ok(Size { serialized, bound })
    }

    /// Compresses a block that was checked.
    fn write(&mut self, block: &HeaderBlock, size: Size, dst: &mut BytesMut) {
        dst.reserve(size.bound);
        let dictionary = Dictionary::of(self.version);
        if !self.started {
            self.started = true;
            dst.put_slice(match self.mode {
                HeaderCompression::Indexed => &[0x78, 0xbb],
                HeaderCompression::Stored => &[0x78, 0x3f],
            });
            dst.put_u32(dictionary.id);
        }
        match self.mode {
            HeaderCompression::Indexed => {
                let context = self
                    .context
                    .get_or_insert_with(|| Box::new(Context::new(self.version)));
                let start = dst.len();
                dst.resize(start + deflate::bound(size.serialized), 0);
                let length = context.write(block, &mut dst[start..]);
                dst.truncate(start + length);
            }
            HeaderCompression::Stored => {
                write_stored(block, Numbers::of(self.version), size.serialized, dst)
            }
        }
    }
}

/// What is known of a block before it is compressed.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Octets of the block as protocol.md §7.1 has it.
    serialized: usize,
    /// The most octets that it can take in a frame.
    bound: usize,
}

/// How numbers are written in blocks: with 16 bits in SPDY/2, with 32 later.
#[derive(Clone, Copy, Debug)]
enum Numbers {
    Short,
    Long,
}

impl Numbers {
    const fn of(version: Version) -> Self {
        match version {
            Version::V2 => Self::Short,
            Version::V3 | Version::V3_1 => Self::Long,
        }
    }

    const fn width(self) -> usize {
        match self {
            Self::Short => 2,
            Self::Long => 4,
        }
    }

    /// The largest number.
    const fn most(self) -> usize {
        match self {
            Self::Short => u16::MAX as usize,
            Self::Long => u32::MAX as usize,
        }
    }

    /// The octets of a number.
    #[inline]
    fn octets(self, number: usize) -> Number {
        Number {
            octets: (number as u32).to_be_bytes(),
            width: self.width(),
        }
    }
}

/// A number as octets.
#[derive(Clone, Copy, Debug, Default)]
struct Number {
    octets: [u8; 4],
    width: usize,
}

impl Number {
    #[inline]
    fn as_slice(&self) -> &[u8] {
        &self.octets[4 - self.width..]
    }
}

/// What the compression of one direction knows of the octets that went before.
#[derive(Debug)]
struct Context {
    numbers: Numbers,
    dictionary: &'static Dictionary,
    recent: Recent,
    /// Octets of all blocks before the next octet.
    position: u64,
    /// The number of fields of the last block, and where it was written.
    count: Option<(usize, u64)>,
}

impl Context {
    fn new(version: Version) -> Self {
        Self {
            numbers: Numbers::of(version),
            dictionary: Dictionary::of(version),
            recent: Recent::new(),
            position: 0,
            count: None,
        }
    }

    /// Writes a deflate block and a sync marker to `dst`, which is large enough. The length is the answer.
    fn write(&mut self, block: &HeaderBlock, dst: &mut [u8]) -> usize {
        let mut writer = BlockWriter::begin(dst);
        let mut run = self.write_count(block.len(), &mut writer);
        for field in block.fields() {
            let (name, value) = (field.name(), field.value());
            let sensitive = field.is_sensitive();
            let found = if sensitive {
                None
            } else {
                self.recent.find(name, value, self.position)
            };
            let length = 2 * self.numbers.width() + name.len() + value.len();
            match found {
                Some(distance) if distance <= WINDOW => {
                    run.add(length, distance, &mut writer);
                }
                _ => {
                    run.end(&mut writer);
                    self.write_in_full(name, value, sensitive, &mut writer);
                    if found.is_none() {
                        let value = (!sensitive).then_some(value);
                        self.recent.insert(name, value, self.position);
                    }
                }
            }
            self.position += length as u64;
        }
        run.end(&mut writer);
        writer.finish()
    }

    /// Writes the number of fields, or makes it the start of a run if the last block had as many.
    fn write_count(&mut self, count: usize, writer: &mut BlockWriter<'_>) -> Run {
        let position = self.position;
        let octets = self.numbers.octets(count);
        self.position += self.numbers.width() as u64;
        let mut run = Run::default();
        match self.count.replace((count, position)) {
            Some((last, at)) if last == count && position - at <= WINDOW => {
                run.distance = position - at;
                run.length = octets.as_slice().len();
                run.count = octets;
            }
            _ => writer.literals(octets.as_slice()),
        }
        run
    }

    /// Writes a field that is no copy. Its name may be one, with what the length of its value shares with the
    /// length there; so may a value in the dictionary be.
    fn write_in_full(
        &self,
        name: &[u8],
        value: &[u8],
        sensitive: bool,
        writer: &mut BlockWriter<'_>,
    ) {
        let name_length = self.numbers.octets(name.len());
        let value_length = self.numbers.octets(value.len());
        let parts = [name_length.as_slice(), name, value_length.as_slice(), value];
        let copy = self
            .find_name(name, value_length, sensitive)
            .or_else(|| self.find_word(parts, sensitive))
            .filter(|copy| copy.length >= MIN_MATCH);
        match copy {
            Some(copy) => {
                literals(parts, 0..copy.from, writer);
                writer.copy(copy.length, copy.distance);
                literals(parts, copy.from + copy.length..usize::MAX, writer);
            }
            None => literals(parts, 0..usize::MAX, writer),
        }
    }

    /// Finds a name in an earlier field.
    fn find_name(&self, name: &[u8], value_length: Number, sensitive: bool) -> Option<Match> {
        let (distance, earlier) = self.recent.find_name(name, self.position)?;
        let shared = match earlier {
            Some(earlier) if !sensitive => {
                let earlier = self.numbers.octets(earlier);
                shared_octets(&[value_length.as_slice()], earlier.as_slice())
            }
            _ => 0,
        };
        (distance <= WINDOW).then_some(Match {
            from: 0,
            length: self.numbers.width() + name.len() + shared,
            distance,
        })
    }

    /// Finds the name of a field in the dictionary, which has it without a colon. In SPDY/3 its length is there in
    /// front, and perhaps its value behind.
    fn find_word(&self, parts: [&[u8]; 4], sensitive: bool) -> Option<Match> {
        let [name_length, name, value_length, value] = parts;
        let colon = usize::from(name.first() == Some(&b':'));
        let dictionary = self.dictionary.octets;
        let mut start = self.dictionary.find(&name[colon..])?;
        let end = start + name.len() - colon;
        let mut from = name_length.len() + colon;
        let mut shared = 0;
        if matches!(self.numbers, Numbers::Long) {
            if colon == 0 {
                start -= name_length.len();
                from = 0;
            }
            if !sensitive {
                shared = shared_octets(&[value_length, value], &dictionary[end..]);
                // Of a value it is all or nothing.
                if shared < value_length.len() + value.len() {
                    shared = shared.min(value_length.len());
                }
            }
        }
        let distance = self.position + (from + dictionary.len() - start) as u64;
        (distance <= WINDOW).then_some(Match {
            from,
            length: end - start + shared,
            distance,
        })
    }
}

/// Copies that are put off, since their neighbour may come from the same distance and join.
#[derive(Debug, Default)]
struct Run {
    length: usize,
    distance: u64,
    /// The number of fields, if the run starts with it.
    count: Number,
}

impl Run {
    /// Adds a copy behind those that are there.
    #[inline]
    fn add(&mut self, length: usize, distance: u64, writer: &mut BlockWriter<'_>) {
        if distance != self.distance {
            self.end(writer);
            self.distance = distance;
        }
        self.length += length;
    }

    /// Writes what was put off.
    #[inline]
    fn end(&mut self, writer: &mut BlockWriter<'_>) {
        if self.length >= MIN_MATCH {
            writer.copy(self.length, self.distance);
        } else if self.length > 0 {
            // Only the number of fields of SPDY/2 is too short for a match.
            writer.literals(self.count.as_slice());
        }
        self.length = 0;
    }
}

/// A part of a serialized field that stands somewhere in the stream or the dictionary.
#[derive(Clone, Copy, Debug)]
struct Match {
    /// Where the part starts in the field.
    from: usize,
    length: usize,
    /// How far back it is.
    distance: u64,
}

/// Writes a range of parts that follow each other.
fn literals(parts: [&[u8]; 4], range: Range<usize>, writer: &mut BlockWriter<'_>) {
    let mut before = 0;
    for part in parts {
        let start = range.start.saturating_sub(before).min(part.len());
        let end = range.end.saturating_sub(before).min(part.len());
        writer.literals(&part[start..end]);
        before += part.len();
    }
}

/// How many octets parts that follow each other share with `others` from the start.
fn shared_octets(parts: &[&[u8]], others: &[u8]) -> usize {
    let octets = parts.iter().copied().flatten();
    let pairs = octets.zip(others);
    pairs.take_while(|(one, other)| one == other).count()
}

/// Writes a block in stored deflate blocks and a sync marker (protocol.md §8.3).
fn write_stored(block: &HeaderBlock, numbers: Numbers, serialized: usize, dst: &mut BytesMut) {
    let mut writer = StoredWriter {
        dst,
        block: 0,
        rest: serialized,
    };
    writer.put(numbers.octets(block.len()).as_slice());
    for field in block.fields() {
        for part in [field.name(), field.value()] {
            writer.put(numbers.octets(part.len()).as_slice());
            writer.put(part);
        }
    }
    writer.begin_block(0);
}

/// Cuts octets into stored deflate blocks.
struct StoredWriter<'a> {
    dst: &'a mut BytesMut,
    /// Octets that the stored block still takes.
    block: usize,
    /// Octets that come after it.
    rest: usize,
}

impl StoredWriter<'_> {
    fn put(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            if self.block == 0 {
                self.block = self.rest.min(STORED_BLOCK);
                self.rest -= self.block;
                self.begin_block(self.block as u16);
            }
            let (now, later) = octets.split_at(octets.len().min(self.block));
            self.dst.put_slice(now);
            self.block -= now.len();
            octets = later;
        }
    }

    /// Writes the head of a stored block; with no octets it is the sync marker.
    fn begin_block(&mut self, length: u16) {
        self.dst.put_u8(0);
        self.dst.put_u16_le(length);
        self.dst.put_u16_le(!length);
    }
}

/// The most octets that stored blocks for `octets` octets and the sync marker take.
const fn stored_bound(octets: usize) -> usize {
    octets + 5 * (octets / STORED_BLOCK + 2)
}

/// The longest stored block.
const STORED_BLOCK: usize = u16::MAX as usize;

/// The octets before the first block: two with parameters, and the id of the dictionary.
const ZLIB_HEADER: usize = 6;

/// The most octets that a frame has before its block: those of SYN_STREAM.
const FIXED_FIELDS: usize = 10;
