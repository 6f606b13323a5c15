//! Inflates header blocks, with inflaters that all sessions of a thread share.
//!
//! An inflater takes 47 KiB, and most sessions are idle. So a session keeps the octets that its next block may refer
//! to, and borrows an inflater for each block: one that was prepared with these octets cannot be told from one that
//! has inflated them.
//!
//! That holds where a block ends at the boundary of two deflate blocks and of two octets, as it does with the marker
//! of `Z_SYNC_FLUSH`. A session with a block that does not end so gets an inflater of its own. (What ends with the marker's octets ends there: behind
//! a partial flush the last octet has a bit that is 0, and a peer that does not flush at all sends blocks that nobody
//! can read to their end. One that forges the marker garbles its own later blocks.)

use std::{
    cell::RefCell,
    sync::atomic::{AtomicU64, Ordering},
};

use flate2::{Decompress, FlushDecompress, Status};

use super::window::Window;
use crate::HeaderError;

/// One direction of a session: a deflate stream that comes in blocks.
#[derive(Debug)]
pub(super) enum Inflater {
    /// All blocks so far have ended with the marker.
    Shared(Shared),
    Own(Decompress),
}

/// What is kept of a stream that borrows its inflaters.
#[derive(Debug)]
pub(super) struct Shared {
    window: Window,
    stream: u64,
    /// Octets that have come out so far.
    total: u64,
    /// How many of them came out of the last block, those that were dropped included.
    last: usize,
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

/// How many octets may come out of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Those behind are inflated and dropped.
    pub(super) kept: usize,
    /// More are an error.
    pub(super) inflated: usize,
}

impl Inflater {
    /// A stream whose zlib header announces that no distance exceeds `window`. Nothing is allocated yet.
    pub(super) fn new(window: usize, dictionary: &'static [u8]) -> Self {
        static STREAMS: AtomicU64 = AtomicU64::new(0);
        let size = if window <= SMALL {
            window.max(SMALLEST)
        } else {
            LARGEST
        };
        Self::Shared(Shared {
            window: Window::new(size, dictionary),
            stream: STREAMS.fetch_add(1, Ordering::Relaxed),
            total: 0,
            last: 0,
        })
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
        let mut again = false;
        let total = match self {
            Self::Own(inflater) => run(inflater, block, octets, bounds, |_, _| {})?,
            Self::Shared(shared) => {
                let mut inflater = borrow(shared.tag(), &shared.window)?;
                let result = run(&mut inflater, block, octets, bounds, |octets, is_all| {
                    again =
                        is_all && octets.len() == shared.last && shared.window.ends_with(octets);
                    shared.window.extend(octets);
                    shared.total += octets.len() as u64;
                });
                if let Ok(total) = result {
                    shared.last = total;
                }
                match result {
                    Ok(_) if block.ends_with(&MARKER) => give_back(shared.tag(), inflater),
                    Ok(_) => *self = Self::Own(inflater),
                    Err(_) => give_back(None, inflater),
                }
                result?
            }
        };
        Ok(match again {
            _ if total > octets.len() => Inflated::Cut,
            true => Inflated::Again,
            false => Inflated::Whole,
        })
    }
}

impl Shared {
    /// What an inflater that has come to where the stream is now is known by. `None` if it is not to be known again:
    /// one that has inflated the stream knows octets from before a small window, and whether these can be referred to
    /// must not depend on which inflater there is.
    fn tag(&self) -> Option<Tag> {
        (self.window.size() > SMALL).then_some(Tag {
            stream: self.stream,
            total: self.total,
        })
    }
}

/// Inflates a block in steps. Each step's octets are noted, and whether they are all. Returns how
/// many bytes came out.
fn run(
    inflater: &mut Decompress,
    mut block: &[u8],
    octets: &mut Vec<u8>,
    bounds: Bounds,
    mut note: impl FnMut(&[u8], bool),
) -> Result<usize, HeaderError> {
    octets.clear();
    let mut total = 0;
    loop {
        make_room(octets, bounds.kept);
        let (start, consumed) = (octets.len(), inflater.total_in());
        let status = inflater
            .decompress_vec(block, octets, FlushDecompress::Sync)
            .map_err(|_| HeaderError::Corrupt)?;
        block = &block[(inflater.total_in() - consumed) as usize..];
        let more = &octets[start..];
        total += more.len();
        if total > bounds.inflated {
            let limit = bounds.inflated;
            return Err(HeaderError::Bomb { limit });
        }
        if status == Status::StreamEnd {
            return Err(HeaderError::EndOfStream);
        }
        // While there is room, the inflater stops for want of octets only.
        let finished = octets.len() < octets.capacity();
        debug_assert!(!finished || block.is_empty());
        note(more, finished && more.len() == total);
        octets.truncate(bounds.kept);
        if finished {
            return Ok(total);
        }
    }
}

/// A stream, and how far it was inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    stream: u64,
    total: u64,
}

/// An inflater that nobody uses now.
#[derive(Debug)]
struct Idle {
    tag: Option<Tag>,
    inflater: Decompress,
}

thread_local! {
    /// The inflaters of the thread, the one used last at the end.
    static IDLE: RefCell<Vec<Idle>> = const { RefCell::new(Vec::new()) };
}

/// Gives an inflater that has inflated what `window` holds, or might have.
fn borrow(tag: Option<Tag>, window: &Window) -> Result<Decompress, HeaderError> {
    // Where the thread is ending already, there are none left.
    let found = IDLE.try_with(|idle| take(&mut idle.borrow_mut(), tag));
    match found.ok().flatten() {
        Some(Idle {
            tag: known,
            inflater,
        }) if tag.is_some() && known == tag => Ok(inflater),
        Some(Idle { mut inflater, .. }) => {
            inflater.reset(false);
            window.prepare(inflater)
        }
        // Raw, so nothing is summed up for a checksum that never comes, and a last deflate block is noticed at its end.
        None => window.prepare(Decompress::new(false)),
    }
}

/// Takes the inflater with the tag, or the one that was not used for the longest time if there are enough.
fn take(idle: &mut Vec<Idle>, tag: Option<Tag>) -> Option<Idle> {
    let known = tag.and_then(|tag| idle.iter().rposition(|idle| idle.tag == Some(tag)));
    let place = match (known, tag) {
        (Some(place), _) => place,
        // What was used last is warm, and nobody misses it.
        (None, None) => idle.iter().rposition(|idle| idle.tag.is_none())?,
        (None, Some(_)) if idle.len() < INFLATERS => return None,
        (None, Some(_)) => 0,
    };
    Some(idle.remove(place))
}

fn give_back(tag: Option<Tag>, inflater: Decompress) {
    _ = IDLE.try_with(|idle| {
        let mut idle = idle.borrow_mut();
        if idle.len() == INFLATERS {
            idle.remove(0);
        }
        idle.push(Idle { tag, inflater });
    });
}

impl Window {
    /// Makes a new inflater one that has inflated what is in the window.
    fn prepare(&self, mut inflater: Decompress) -> Result<Decompress, HeaderError> {
        for octets in self.parts().into_iter().filter(|part| !part.is_empty()) {
            // Raw inflaters take any octets.
            inflater
                .set_dictionary(octets)
                .map_err(|_| HeaderError::Corrupt)?;
        }
        Ok(inflater)
    }
}

/// Makes room for the next step: as much as there is, up to what is kept, so that memory grows with the octets that
/// came out; at least `STEP`.
fn make_room(octets: &mut Vec<u8>, kept: usize) {
    let length = octets.len();
    if octets.capacity() - length < STEP / 2 {
        let more = length.min(kept.saturating_sub(length)).max(STEP);
        octets.reserve_exact(more);
    }
}

/// What a sync or full flush ends with: a stored block of no octets.
const MARKER: [u8; 4] = [0, 0, 0xff, 0xff];

/// The most inflaters that a thread keeps: 750 KiB.
const INFLATERS: usize = 16;

/// An inflater is prepared for so many octets in no time that is worth mentioning (0.1 µs).
const SMALL: usize = 8 * 1024;

/// zlib does not tell 256 from 512.
const SMALLEST: usize = 512;

/// The largest distance of deflate.
const LARGEST: usize = 32 * 1024;

/// The least room for a step. Below 260 octets of room the inflater is slow.
const STEP: usize = 2048;

#[cfg(test)]
mod tests;
