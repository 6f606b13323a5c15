//! Inflates header blocks (RFC 1951), on the window of their session.
//!
//! Most sessions are idle, and a general inflater takes 47 KiB. This one has no memory but the bytes that later blocks
//! may refer to, the [`Window`]: it reads them where they are, and puts behind them what came out. Where a block ends
//! with a sync flush, as it should, nothing else is kept. Any other end is fine too: then there is a [`Rest`] of less
//! than 1 KiB, with which the next block goes on.
//!
//! What it accepts, and what comes out of each block, is what zlib makes of it. A distance past the window that the
//! zlib header announces is an error.

mod bits;
mod code;
mod output;
#[cfg(test)]
mod tests;

use self::{
    bits::Bits,
    code::{Codes, DISTANCES, LENGTHS, Lengths},
    output::Output,
};
use super::window::Window;
use crate::HeaderError;

/// One direction of a session: a deflate stream that comes in blocks.
#[derive(Debug)]
pub(super) struct Inflater {
    window: Window,
    /// `None` where a deflate block and a byte have ended.
    rest: Option<Box<Rest>>,
    /// How many bytes came out of the last block, those that were dropped included.
    last: usize,
}

/// Where in the stream a block has ended.
#[derive(Debug)]
struct Rest {
    progress: Progress,
    /// The end of the block, from the last symbol on of which a part is missing.
    bytes: Vec<u8>,
    /// The bits of the first of these bytes that were read.
    bits: u32,
}

/// How far a deflate stream has been read.
#[derive(Debug, Default)]
struct Progress {
    place: Place,
    /// Whether this deflate block is the last one of the stream.
    is_last: bool,
    /// The codes of the deflate block, if it is one with its own.
    lengths: Lengths,
}

/// What comes next in a deflate stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The head of a deflate block.
    #[default]
    Head,
    /// So many bytes of a stored block.
    Stored(usize),
    /// A symbol in the fixed codes.
    Fixed,
    /// A symbol in the codes of the block.
    Dynamic,
}

/// What came out of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inflated {
    /// The first [`Bounds::kept`] bytes; those behind were dropped.
    Cut,
    /// All bytes.
    Whole,
    /// All bytes, and the whole block before inflated to the same ones.
    Again,
}

/// How many bytes may come out of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Those behind are inflated and dropped.
    pub(super) kept: usize,
    /// More are an error.
    pub(super) inflated: usize,
}

impl Inflater {
    /// Returns how many bytes it holds between two blocks.
    pub(super) fn memory(&self) -> usize {
        let rest = self.rest.as_ref();
        self.window.memory() + rest.map_or(0, |rest| size_of::<Rest>() + rest.bytes.capacity())
    }

    /// A stream whose zlib header announces that no distance exceeds `window`. Nothing is allocated yet.
    pub(super) const fn new(window: usize, dictionary: &'static [u8]) -> Self {
        // zlib does not tell 256 from 512.
        let size = if window < 512 { 512 } else { window };
        Self {
            window: Window::new(size, dictionary),
            rest: None,
            last: 0,
        }
    }

    /// Inflates a block to `octets`, which may have room already.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](HeaderError::Corrupt), [`Bomb`](HeaderError::Bomb) or
    /// [`EndOfStream`](HeaderError::EndOfStream), after which the stream is of no use.
    pub(super) fn inflate(
        &mut self,
        block: &[u8],
        octets: &mut Vec<u8>,
        bounds: Bounds,
    ) -> Result<Inflated, HeaderError> {
        let mut output = Output::new(octets, &mut self.window, bounds);
        self.rest = match self.rest.take() {
            None => Progress::default().read(Bits::new(block), &mut output)?,
            Some(rest) => rest.go_on(block, &mut output)?,
        };
        let (total, inflated) = output.finish(self.last);
        self.last = total;
        Ok(inflated)
    }
}

impl Rest {
    /// Reads on behind the end of the last block.
    fn go_on(
        self,
        block: &[u8],
        output: &mut Output<'_>,
    ) -> Result<Option<Box<Self>>, HeaderError> {
        let bytes = [&self.bytes, block].concat();
        let mut bits = Bits::new(&bytes);
        if self.bits > 0 {
            bits.refill();
            _ = bits.skip(self.bits);
        }
        self.progress.read(bits, output)
    }
}

impl Progress {
    /// Reads all that is there. Returns where that is, unless it is the border of two deflate blocks and of two bytes.
    fn read(
        mut self,
        mut bits: Bits<'_>,
        output: &mut Output<'_>,
    ) -> Result<Option<Box<Rest>>, HeaderError> {
        while self.step(&mut bits, output)? {
            if self.is_last && self.place == Place::Head {
                return Err(HeaderError::EndOfStream);
            }
        }
        if self.place == Place::Head && bits.is_at_end() {
            return Ok(None);
        }
        let (bytes, bits) = bits.rest();
        debug_assert!(bytes.len() <= MAX_REST, "more is missing than is there");
        Ok(Some(Box::new(Rest {
            progress: self,
            bytes: bytes.to_vec(),
            bits,
        })))
    }

    /// Reads the head of a deflate block, or its contents. Returns whether they were there as a whole; if not, `bits`
    /// stands at the first part that is missing a piece.
    #[inline]
    fn step(&mut self, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<bool, HeaderError> {
        let is_whole = match self.place {
            Place::Head => return self.head(bits),
            Place::Stored(length) => {
                let bytes = bits.bytes(length);
                output.extend(bytes)?;
                self.place = Place::Stored(length - bytes.len());
                bytes.len() == length
            }
            Place::Fixed => symbols(bits, Codes::FIXED, output)?,
            Place::Dynamic => {
                let mut codes = Codes::EMPTY;
                self.lengths.set(&mut codes)?;
                symbols(bits, &codes, output)?
            }
        };
        if is_whole {
            self.place = Place::Head;
        }
        Ok(is_whole)
    }

    /// Reads the head of a deflate block.
    fn head(&mut self, bits: &mut Bits<'_>) -> Result<bool, HeaderError> {
        let start = *bits;
        match self.try_head(bits)? {
            Some((is_last, place)) => {
                self.is_last = is_last;
                self.place = place;
                Ok(true)
            }
            None => {
                *bits = start;
                Ok(false)
            }
        }
    }

    /// `None`: a part of the head is missing.
    fn try_head(&mut self, bits: &mut Bits<'_>) -> Result<Option<(bool, Place)>, HeaderError> {
        bits.refill();
        let Some(head) = bits.take(3) else {
            return Ok(None);
        };
        let place = match head >> 1 {
            0 => match bits.stored_length() {
                Some((length, check)) if length == !check => Place::Stored(length.into()),
                Some(_) => return Err(HeaderError::Corrupt),
                None => return Ok(None),
            },
            1 => Place::Fixed,
            2 => match Lengths::read(bits)? {
                Some(lengths) => {
                    self.lengths = lengths;
                    Place::Dynamic
                }
                None => return Ok(None),
            },
            _ => return Err(HeaderError::Corrupt),
        };
        Ok(Some((head & 1 == 1, place)))
    }
}

/// Reads symbols up to the end of their deflate block. Returns whether it was there; if not, `bits` stands at the
/// symbol of which a part is missing.
fn symbols(
    bits: &mut Bits<'_>,
    codes: &Codes,
    output: &mut Output<'_>,
) -> Result<bool, HeaderError> {
    // A copy at hand, which registers can hold.
    let mut next = *bits;
    loop {
        let start = next;
        match codes.literals.decode(&mut next) {
            Some(literal @ 0..256) => {
                output.literal(literal as u8)?;
                continue;
            }
            Some(256) => {
                *bits = next;
                return Ok(true);
            }
            Some(symbol) => {
                if let Some((length, distance)) = copy(&mut next, symbol, codes)? {
                    output.copy(length, distance)?;
                    continue;
                }
            }
            None => {}
        }
        // A part of the symbol is not at hand, and perhaps not there.
        next = start;
        if !next.refill() {
            *bits = next;
            return Ok(false);
        }
    }
}

/// Reads the rest of a copy: its length and distance. `None`: a part of it is not at hand.
#[inline]
fn copy(
    bits: &mut Bits<'_>,
    symbol: u16,
    codes: &Codes,
) -> Result<Option<(usize, usize)>, HeaderError> {
    let value = |bits: &mut Bits<'_>, table: &[(u16, u8)], symbol: u16| {
        let (base, extra) = *table.get(usize::from(symbol)).ok_or(HeaderError::Corrupt)?;
        let more = bits.take(extra.into());
        Ok(more.map(|more| usize::from(base) + more as usize))
    };
    let Some(length) = value(bits, &LENGTHS, symbol - 257)? else {
        return Ok(None);
    };
    let Some(symbol) = codes.distances.decode(bits) else {
        return Ok(None);
    };
    let distance = value(bits, &DISTANCES, symbol)?;
    Ok(distance.map(|distance| (length, distance)))
}

/// The most bytes of a part that is not whole: the head of a deflate block with its own codes, in which each of at most
/// 316 lengths takes at most 14 bits.
const MAX_REST: usize = (3 + 14 + 19 * 3 + 316 * 14) / 8 + 2;
