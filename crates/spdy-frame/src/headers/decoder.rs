//! From compressed header blocks to fields: inflating within bounds, and the rules for what comes out.

use std::ops::Range;

use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};

use super::{Entry, HeaderBlock, NameError, check_name, count_values, dictionary::Dictionary};
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
/// A decoder holds about 50 KiB from its first block to its end, and next to nothing before.
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
    pub const fn new(version: Version, limits: HeaderLimits) -> Self {
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

    /// Takes the inflated octets apart and judges them (protocol.md §7.2). This is the place of all those rules.
    fn parse(&self, dropped: bool) -> Result<HeaderBlock, HeaderError> {
        let end = self.inflated.len();
        let mut pairs = Pairs {
            octets: &self.inflated,
            wide: self.version != Version::V2,
            at: 0,
        };
        // Octets that were dropped are the only reason to go on with a block that is too short.
        let or_dropped = |error: HeaderError| if dropped { Ok(()) } else { Err(error) };

        let Some(count) = pairs.number() else {
            or_dropped(HeaderError::Truncated)?;
            return Ok(HeaderBlock::decoded(Bytes::new(), Vec::new(), true));
        };
        // Each pair takes its lengths at least, so what is there bounds the count (protocol.md §7.3).
        let most = (end - pairs.at) / pairs.smallest();
        if count > most {
            or_dropped(HeaderError::Truncated)?;
        }
        let mut entries = Vec::with_capacity(count.min(most).min(self.limits.max_fields));
        let mut fields = 0;
        let mut truncated = dropped;
        for _ in 0..count {
            let Some(entry) = pairs.pair() else {
                or_dropped(HeaderError::Truncated)?;
                break;
            };
            check_name(&self.inflated[entry.name()]).map_err(|error| match error {
                NameError::Empty => HeaderError::EmptyName,
                NameError::Invalid | NameError::UpperCase => HeaderError::InvalidName,
            })?;
            fields += count_values(&self.inflated[entry.value()])?;
            if fields > self.limits.max_fields {
                truncated = true;
                break;
            }
            entries.push(entry);
        }
        if !truncated && pairs.at < end {
            return Err(HeaderError::TrailingOctets);
        }
        if has_duplicates(&self.inflated, &entries) {
            return Err(HeaderError::DuplicateName);
        }
        let octets = Bytes::copy_from_slice(&self.inflated[..pairs.at]);
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
    /// Whether numbers have 32 bits; 16 in SPDY/2.
    wide: bool,
    /// Where the next number is.
    at: usize,
}

impl Pairs<'_> {
    /// Octets of a pair with an empty name and an empty value.
    const fn smallest(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    fn number(&mut self) -> Option<usize> {
        let mut rest = &self.octets[self.at..];
        let number = if self.wide {
            rest.try_get_u32().ok()? as usize
        } else {
            usize::from(rest.try_get_u16().ok()?)
        };
        self.at = self.octets.len() - rest.len();
        Some(number)
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
}

/// Whether a name occurs twice. Few names are compared in pairs, many after sorting, so that the time stays near
/// the number of octets.
fn has_duplicates(octets: &[u8], entries: &[Entry]) -> bool {
    let name = |entry: &Entry| &octets[entry.name()];
    if entries.len() <= FEW {
        let mut rest = entries.iter();
        return rest.by_ref().any(|entry| {
            let name = name(entry);
            let others = entries.iter();
            others
                .take_while(|other| other.name_start < entry.name_start)
                .any(|other| octets[other.name()] == *name)
        });
    }
    let mut names: Vec<&[u8]> = entries.iter().map(name).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// The least room for a step of inflating. Below 260 octets of room the inflater is slow.
const STEP: usize = 2048;

/// The largest buffer that is kept between blocks.
const KEPT: usize = 4096;

/// Up to so many names are compared in pairs.
const FEW: usize = 32;
