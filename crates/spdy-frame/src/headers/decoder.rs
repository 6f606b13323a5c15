//! From compressed header blocks to fields: inflating within bounds, and the rules for what comes out.

use std::ops::Range;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::{
    HeaderBlock,
    dictionary::Dictionary,
    field::Entry,
    numbers::Numbers,
    rules::{NameError, check_name, count_values},
};
use crate::{CompressedBlock, HeaderError, Version};

/// Bounds on the header blocks that are received.
///
/// A *soft* limit costs fields: those that fit are delivered, and
/// [`is_truncated`](HeaderBlock::is_truncated) says that there were more. The *hard* limit costs the session.
/// Memory and time follow the octets that were inflated, never a number that the peer sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeaderLimits {
    /// Soft: octets that a block inflates to, with the lengths in it. Default 131,072.
    pub max_size: usize,
    /// Hard: octets that a block inflates to. Default 1,048,576.
    pub max_inflated: usize,
    /// Soft: fields of a block, counted after values are split at NUL. Default 128.
    pub max_fields: usize,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        Self {
            max_size: 128 * 1024,
            max_inflated: 1024 * 1024,
            max_fields: 128,
        }
    }
}

/// Inflates the header blocks of one direction of a session, in wire order.
///
/// Blocks continue the compression of those before, so all of them have to come here, wanted or not
/// (protocol.md §8.4). An error in the fields leaves the decoder usable. When the compression context is lost
/// ([`HeaderError::context_lost`]) the error is for good: it is the answer to every later block as well.
///
/// A decoder holds about 46 KiB from its first block to its end, and next to nothing before.
#[derive(Debug)]
pub struct HeaderDecoder {
    version: Version,
    limits: HeaderLimits,
    inflater: Inflater,
    /// Where a block is inflated to. Kept for the next one unless it got large.
    inflated: Vec<u8>,
}

impl HeaderDecoder {
    /// A decoder for one direction of a session. Nothing is allocated yet.
    #[must_use]
    pub const fn new(version: Version, mut limits: HeaderLimits) -> Self {
        // Places in a block have 32 bits.
        if limits.max_size > u32::MAX as usize {
            limits.max_size = u32::MAX as usize;
        }
        Self {
            version,
            limits,
            inflater: Inflater::Header(ZlibHeader::new()),
            inflated: Vec::new(),
        }
    }

    /// Inflates a block and takes it apart. A block of no octets has no fields and does not touch the context.
    ///
    /// # Errors
    ///
    /// See [`HeaderError`]. The context has been moved over the whole block unless it is lost.
    pub fn decode<B: AsRef<[u8]>>(
        &mut self,
        block: CompressedBlock<B>,
    ) -> Result<HeaderBlock, HeaderError> {
        if let Inflater::Lost(error) = &self.inflater {
            return Err(error.clone());
        }
        if block.is_empty() {
            return Ok(HeaderBlock::new());
        }
        let dropped = self.inflate(block.octets()).inspect_err(|error| {
            self.inflater = Inflater::Lost(error.clone());
            self.inflated = Vec::new();
        })?;
        let block = self.parse(dropped);
        if self.inflated.capacity() > KEPT {
            self.inflated = Vec::new();
        }
        block
    }

    /// Inflates a block to `self.inflated`. Whether octets past the soft limit were dropped is the answer.
    fn inflate(&mut self, mut block: &[u8]) -> Result<bool, HeaderError> {
        let limits = &self.limits;
        let inflated = &mut self.inflated;
        inflated.clear();
        let dictionary = Dictionary::of(self.version);
        let Some(inflater) = self.inflater.ready(&mut block, dictionary)? else {
            return Ok(false);
        };
        let mut total = 0;
        loop {
            make_room(inflated, limits.max_size);
            let (before, consumed) = (inflated.len(), inflater.total_in());
            let status = inflater
                .decompress_vec(block, inflated, FlushDecompress::Sync)
                .map_err(|_| HeaderError::Corrupt)?;
            block = &block[(inflater.total_in() - consumed) as usize..];
            total += inflated.len() - before;

            if total > limits.max_inflated {
                let limit = limits.max_inflated;
                return Err(HeaderError::Bomb { limit });
            }
            if status == Status::StreamEnd {
                return Err(HeaderError::EndOfStream);
            }
            // While there is room, the inflater stops for want of octets only.
            let finished = inflated.len() < inflated.capacity();
            debug_assert!(!finished || block.is_empty());
            inflated.truncate(limits.max_size);
            if finished {
                return Ok(total > inflated.len());
            }
        }
    }

    /// Takes the inflated octets apart and judges them (protocol.md §7.2).
    fn parse(&self, dropped: bool) -> Result<HeaderBlock, HeaderError> {
        let octets = &self.inflated[..];
        let mut pairs = Pairs {
            octets,
            numbers: Numbers::of(self.version),
            at: 0,
        };
        // That octets were dropped is the only excuse for a block that ends early.
        let ends_early = || {
            if dropped {
                Ok(())
            } else {
                Err(HeaderError::Truncated)
            }
        };

        let Some(count) = pairs.number() else {
            ends_early()?;
            return Ok(HeaderBlock::decoded(Bytes::new(), Vec::new(), true));
        };
        // Each pair has at least its lengths, so the octets that are there bound the count.
        let most = (octets.len() - pairs.at) / pairs.smallest();
        if count > most {
            ends_early()?;
        }
        let mut truncated = dropped;
        let mut entries = Vec::with_capacity(count.min(most).min(self.limits.max_fields));
        let mut values = 0;
        for _ in 0..count {
            let Some(entry) = pairs.pair() else {
                ends_early()?;
                break;
            };
            check_name(&octets[entry.name()]).map_err(|error| match error {
                NameError::Empty => HeaderError::EmptyName,
                NameError::Invalid | NameError::UpperCase => HeaderError::InvalidName,
            })?;
            values += count_values(&octets[entry.value()])?;
            if values > self.limits.max_fields {
                truncated = true;
                break;
            }
            entries.push(entry);
        }
        if !truncated && pairs.at < octets.len() {
            return Err(HeaderError::TrailingOctets);
        }
        if has_duplicates(octets, &entries) {
            return Err(HeaderError::DuplicateName);
        }
        let end = entries.last().map_or(0, |entry| entry.value().end);
        let octets = Bytes::copy_from_slice(&octets[..end]);
        Ok(HeaderBlock::decoded(octets, entries, truncated))
    }
}

/// The inflater through the life of a session.
#[derive(Debug)]
enum Inflater {
    /// The zlib header is not complete.
    Header(ZlibHeader),
    /// A raw inflater. So nothing is summed up for a checksum that never comes, and a last block is noticed at
    /// its end.
    Ready(Decompress),
    /// The context is lost, for this reason.
    Lost(HeaderError),
}

impl Inflater {
    /// Takes the rest of the zlib header off the front of `block`. There is no inflater before it is complete.
    fn ready(
        &mut self,
        block: &mut &[u8],
        dictionary: &Dictionary,
    ) -> Result<Option<&mut Decompress>, HeaderError> {
        if let Self::Header(header) = self {
            let Some(found) = header.read(block)? else {
                return Ok(None);
            };
            // Raw inflaters have a window of 32 KiB, which is the one that reads all streams.
            let mut inflater = Decompress::new(false);
            if let Some(found) = found.dictionary {
                if found != dictionary.id {
                    return Err(HeaderError::WrongDictionary { found });
                }
                inflater
                    .set_dictionary(dictionary.octets)
                    .map_err(|_| HeaderError::Corrupt)?;
            }
            *self = Self::Ready(inflater);
        }
        match self {
            Self::Ready(inflater) => Ok(Some(inflater)),
            Self::Lost(error) => Err(error.clone()),
            Self::Header(_) => unreachable!("the header is complete"),
        }
    }
}

/// The octets of the zlib header that have come (RFC 1950 §2.2).
#[derive(Debug)]
struct ZlibHeader {
    octets: [u8; 6],
    length: usize,
}

/// What a zlib header says.
struct Parameters {
    /// The id of the preset dictionary, if there is one.
    dictionary: Option<u32>,
}

impl ZlibHeader {
    const fn new() -> Self {
        Self {
            octets: [0; 6],
            length: 0,
        }
    }

    /// Reads on; `None` while the header is not complete.
    fn read(&mut self, block: &mut &[u8]) -> Result<Option<Parameters>, HeaderError> {
        while let Some((octet, rest)) = block.split_first() {
            *block = rest;
            self.octets[self.length] = *octet;
            self.length += 1;
            match self.octets[..self.length] {
                [method, flags] => {
                    let check = u16::from_be_bytes([method, flags]);
                    // Deflate with a window of up to 32 KiB.
                    if method & 0x0f != 8 || method >> 4 > 7 || check % 31 != 0 {
                        return Err(HeaderError::Corrupt);
                    }
                    if flags & PRESET_DICTIONARY == 0 {
                        return Ok(Some(Parameters { dictionary: None }));
                    }
                }
                [_, _, a, b, c, d] => {
                    let dictionary = Some(u32::from_be_bytes([a, b, c, d]));
                    return Ok(Some(Parameters { dictionary }));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// The flag of a zlib header that an id follows.
const PRESET_DICTIONARY: u8 = 0x20;

/// Makes room for the next step of inflating: as much as there is, up to the soft limit, so that memory grows with
/// the octets that came out; at least `STEP`.
fn make_room(inflated: &mut Vec<u8>, max_size: usize) {
    let length = inflated.len();
    if inflated.capacity() - length < STEP / 2 {
        let more = length.min(max_size.saturating_sub(length)).max(STEP);
        inflated.reserve_exact(more);
    }
}

/// Reads an inflated block.
struct Pairs<'a> {
    octets: &'a [u8],
    numbers: Numbers,
    /// Where the next number is.
    at: usize,
}

impl Pairs<'_> {
    /// Octets of a pair with an empty name and an empty value.
    const fn smallest(&self) -> usize {
        2 * self.numbers.width()
    }

    fn pair(&mut self) -> Option<Entry> {
        let name = self.string()?;
        let value = self.string()?;
        Some(Entry::new(name, value))
    }

    fn string(&mut self) -> Option<Range<usize>> {
        let length = self.number()?;
        let start = self.at;
        if length > self.octets.len() - start {
            return None;
        }
        self.at += length;
        Some(start..self.at)
    }

    fn number(&mut self) -> Option<usize> {
        let number = self.numbers.read(&self.octets[self.at..])?;
        self.at += self.numbers.width();
        Some(number)
    }
}

/// Whether a name occurs twice. No name is empty.
fn has_duplicates(octets: &[u8], entries: &[Entry]) -> bool {
    let name = |entry: &Entry| &octets[entry.name()];
    if entries.len() > FEW {
        // Sorting keeps the time near the number of octets.
        let mut names: Vec<&[u8]> = entries.iter().map(name).collect();
        names.sort_unstable();
        return names.windows(2).any(|pair| pair[0] == pair[1]);
    }
    // Equal names have equal marks, so that few names need a look at all those before.
    let mut marks = 0_u64;
    entries.iter().enumerate().any(|(index, entry)| {
        let name = name(entry);
        let (middle, last) = (name[name.len() / 2], name[name.len() - 1]);
        let sum = 5 * name.len() + 3 * usize::from(middle) + usize::from(last);
        let mark = 1 << (sum % 64);
        let suspect = marks & mark != 0;
        marks |= mark;
        suspect
            && entries[..index]
                .iter()
                .any(|other| octets[other.name()] == *name)
    })
}

/// The least room for a step of inflating. Below 260 octets of room the inflater is slow.
const STEP: usize = 2048;

/// The largest buffer that is kept between blocks.
const KEPT: usize = 4096;

/// Above so many names they are sorted to find duplicates.
const FEW: usize = 32;
