//! Inflates header blocks (RFC 1951) on the window of their session.
//!
//! Most sessions are idle, and a general inflater takes 47 KiB. The only memory of this one is the
//! [`Window`], the bytes that later blocks can refer to. It copies from them in place and appends
//! the bytes of each block. If a block ends with a sync flush, as it should, nothing else is kept.
//! After any other end there is a [`Rest`] of less than 1 KiB, from which the next block continues.
//!
//! It accepts the same streams as zlib, and each block inflates to the same bytes. A distance that
//! exceeds the window announced in the zlib header is an error.

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

/// The deflate stream of one direction of a session, which comes in blocks.
#[derive(Debug)]
pub(super) struct Inflater {
    window: Window,
    /// `None` if the last block ended at the end of a deflate block and of a byte.
    rest: Option<Box<Rest>>,
    /// The number of bytes that the last block inflated to, including dropped ones.
    last: usize,
}

/// The point in the stream where a block has ended.
#[derive(Debug)]
struct Rest {
    progress: Progress,
    /// The end of the block, starting with the first symbol that is not complete.
    bytes: Vec<u8>,
    /// The number of bits of the first of these bytes that were read.
    bits: u32,
}

/// The progress in a deflate stream.
#[derive(Debug, Default)]
struct Progress {
    place: Place,
    /// Whether this deflate block is the last one of the stream.
    is_last: bool,
    /// The code lengths of the deflate block, if it has codes of its own.
    lengths: Lengths,
}

/// The next element of a deflate stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The head of a deflate block.
    #[default]
    Head,
    /// This number of bytes of a stored block.
    Stored(usize),
    /// A symbol in the fixed codes.
    Fixed,
    /// A symbol in the codes of the deflate block.
    Dynamic,
}

/// How much of a block is in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inflated {
    /// The first [`Bounds::kept`] bytes. The following ones were dropped.
    Cut,
    /// All bytes.
    Whole,
    /// All bytes, and they are the same as those of the whole block before.
    Again,
}

/// Limits on the number of bytes that a block inflates to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes above this number are inflated and dropped.
    pub(super) kept: usize,
    /// A block with more bytes is an error, and so is one with too many codes of its own for so
    /// many.
    pub(super) inflated: usize,
}

impl Inflater {
    /// Returns the number of bytes that the inflater holds between two blocks.
    pub(super) fn memory(&self) -> usize {
        let rest = self.rest.as_ref();
        self.window.memory() + rest.map_or(0, |rest| size_of::<Rest>() + rest.bytes.capacity())
    }

    /// Returns an inflater for a stream whose zlib header announces that no distance exceeds
    /// `window`. Nothing is allocated yet.
    pub(super) const fn new(window: usize, dictionary: &'static [u8]) -> Self {
        // zlib treats 256 as 512.
        let size = if window < 512 { 512 } else { window };
        Self {
            window: Window::new(size, dictionary),
            rest: None,
            last: 0,
        }
    }

    /// Inflates a block into `bytes`, whose capacity is reused.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](HeaderError::Corrupt), [`Bomb`](HeaderError::Bomb) or
    /// [`EndOfStream`](HeaderError::EndOfStream). The stream cannot be used after an error.
    pub(super) fn inflate(
        &mut self,
        block: &[u8],
        bytes: &mut Vec<u8>,
        bounds: Bounds,
    ) -> Result<Inflated, HeaderError> {
        let mut output = Output::new(bytes, &mut self.window, bounds);
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
    /// Continues after the end of the last block.
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
    /// Reads all elements that are complete. Returns the point in the stream, or `None` if it is
    /// the end of a deflate block and of a byte.
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
        debug_assert!(
            bytes.len() <= MAX_REST,
            "an element is longer than its limit"
        );
        Ok(Some(Box::new(Rest {
            progress: self,
            bytes: bytes.to_vec(),
            bits,
        })))
    }

    /// Reads the head of a deflate block, or its contents. Returns whether they were complete. If
    /// not, `bits` is at the first element that is not complete.
    #[inline]
    fn step(&mut self, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<bool, HeaderError> {
        let is_whole = match self.place {
            Place::Head => return self.head(bits, output),
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

    /// Reads the head of a deflate block. Returns whether it was complete.
    fn head(&mut self, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<bool, HeaderError> {
        let start = *bits;
        match self.try_head(bits, output)? {
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

    /// Returns `None` if the head is not complete.
    fn try_head(
        &mut self,
        bits: &mut Bits<'_>,
        output: &mut Output<'_>,
    ) -> Result<Option<(bool, Place)>, HeaderError> {
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
            2 => {
                output.count_codes()?;
                match Lengths::read(bits)? {
                    Some(lengths) => {
                        self.lengths = lengths;
                        Place::Dynamic
                    }
                    None => return Ok(None),
                }
            }
            _ => return Err(HeaderError::Corrupt),
        };
        Ok(Some((head & 1 == 1, place)))
    }
}

/// Reads symbols up to the end of their deflate block. Returns whether the end was reached. If not,
/// `bits` is at the first symbol that is not complete.
fn symbols(
    bits: &mut Bits<'_>,
    codes: &Codes,
    output: &mut Output<'_>,
) -> Result<bool, HeaderError> {
    // A local copy can stay in registers.
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
        // The buffer does not have the whole symbol, and the block might not have it either.
        next = start;
        if !next.refill() {
            *bits = next;
            return Ok(false);
        }
    }
}

/// Reads the rest of a copy and returns its length and distance, or `None` if the buffer does not
/// have all of it.
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

/// The largest number of bytes in an element that is not complete: the head of a deflate block with
/// its own codes, in which each of up to 316 lengths takes up to 14 bits.
const MAX_REST: usize = (3 + 14 + 19 * 3 + 316 * 14) / 8 + 2;
