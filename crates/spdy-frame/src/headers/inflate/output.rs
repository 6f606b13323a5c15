//! The output of an inflater: the bytes of a block after all earlier ones.

use super::{Bounds, Inflated};
use crate::{HeaderError, headers::window::Window};

/// The bytes of a block while it is inflated.
pub(super) struct Output<'a> {
    /// The bytes that are kept, followed by the last of those that are dropped.
    bytes: &'a mut Vec<u8>,
    /// The bytes before `bytes[noted..]`.
    window: &'a mut Window,
    noted: usize,
    /// The number of bytes that were dropped.
    dropped: usize,
    /// The length of `bytes` above which [`make_room`](Self::make_room) must be called.
    room: usize,
    /// The number of deflate blocks with codes of their own.
    codes: usize,
    bounds: Bounds,
}

impl<'a> Output<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>, window: &'a mut Window, bounds: Bounds) -> Self {
        bytes.clear();
        let mut output = Self {
            bytes,
            window,
            noted: 0,
            dropped: 0,
            room: 0,
            codes: 0,
            bounds,
        };
        output.set_room();
        output
    }

    fn set_room(&mut self) {
        let kept = self.bounds.kept.saturating_add(SPARE);
        let inflated = self.bounds.inflated - self.dropped;
        self.room = self.bytes.capacity().min(kept).min(inflated);
    }

    /// Counts a deflate block with codes of its own, whose tables take time though it might be
    /// empty.
    ///
    /// # Errors
    ///
    /// Returns [`Bomb`](HeaderError::Bomb) if there are too many of them.
    #[cold]
    pub(super) fn count_codes(&mut self) -> Result<(), HeaderError> {
        let limit = self.bounds.inflated;
        if self.codes >= FEW_CODES + limit / CODE_COST {
            return Err(HeaderError::Bomb { limit });
        }
        self.codes += 1;
        Ok(())
    }

    #[inline(always)]
    pub(super) fn literal(&mut self, byte: u8) -> Result<(), HeaderError> {
        if self.bytes.len() >= self.room {
            self.make_room(1)?;
        }
        self.bytes.push(byte);
        Ok(())
    }

    /// Adds bytes of a stored block.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), HeaderError> {
        for bytes in bytes.chunks(LONGEST) {
            if self.bytes.len() + bytes.len() > self.room {
                self.make_room(bytes.len())?;
            }
            self.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Repeats `length` bytes that start `distance` bytes back.
    ///
    /// # Errors
    ///
    /// Returns [`Corrupt`](HeaderError::Corrupt) if `distance` exceeds the window or the stream.
    #[inline]
    pub(super) fn copy(&mut self, mut length: usize, distance: usize) -> Result<(), HeaderError> {
        if self.bytes.len() + length > self.room {
            self.make_room(length)?;
        }
        if distance > self.window.size() {
            return Err(HeaderError::Corrupt);
        }
        if let Some(back) = distance.checked_sub(self.bytes.len() - self.noted)
            && back > 0
        {
            length -= self
                .window
                .repeat(back, length, self.bytes)
                .ok_or(HeaderError::Corrupt)?;
        }
        // A copy that is longer than its distance repeats its own output.
        let mut distance = distance;
        while length > 0 {
            let start = self.bytes.len() - distance;
            let step = length.min(distance);
            self.bytes.extend_from_within(start..start + step);
            length -= step;
            distance += step;
        }
        Ok(())
    }

    /// Makes room for at most [`LONGEST`] bytes. First the buffer grows up to the bytes that are
    /// kept, so that memory grows with the output. Then the bytes above them are dropped.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, more: usize) -> Result<(), HeaderError> {
        let limit = self.bounds.inflated;
        if self.dropped + self.bytes.len() + more > limit {
            return Err(HeaderError::Bomb { limit });
        }
        let kept = self.bounds.kept;
        if self.bytes.len() + more > kept.saturating_add(SPARE) {
            self.note();
            self.dropped += self.bytes.len() - kept;
            self.bytes.truncate(kept);
            self.noted = kept;
        }
        let length = self.bytes.len();
        if length + more > self.bytes.capacity() {
            let step = length.min(kept.saturating_sub(length)).max(SPARE);
            self.bytes.reserve_exact(step);
        }
        self.set_room();
        Ok(())
    }

    /// Adds the bytes that the window does not have yet.
    fn note(&mut self) {
        self.window.extend(&self.bytes[self.noted..]);
    }

    /// Ends the block. `last` is the size of the block before. Returns the size of this one, and
    /// how much of it is in the output.
    pub(super) fn finish(mut self, last: usize) -> (usize, Inflated) {
        let kept = self.bounds.kept;
        let total = self.dropped + self.bytes.len();
        let inflated = if total > kept {
            Inflated::Cut
        } else if total == last && self.window.ends_with(self.bytes) {
            Inflated::Again
        } else {
            Inflated::Whole
        };
        self.note();
        self.bytes.truncate(kept);
        (total, inflated)
    }
}

/// The length of the longest copy, and of the longest piece of a stored block that is added at
/// once.
const LONGEST: usize = 258;

/// The smallest step in which the buffer grows, and the room for bytes that are dropped.
const SPARE: usize = 2048;

/// A block can have one deflate block with codes of its own for each span of this many bytes that
/// it can inflate to. zlib has at least 127 bytes in each but the last before a flush.
const CODE_COST: usize = 256;

/// A block may always have this number of codes, however small the limit is.
const FEW_CODES: usize = 64;
