//! Maps and sets of streams.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use spdy_frame::StreamId;

/// A map by stream id.
pub(crate) type ById<T> = HashMap<StreamId, T, BuildHasherDefault<IdHasher>>;

/// A set of stream ids.
pub(crate) type StreamIds = HashSet<StreamId, BuildHasherDefault<IdHasher>>;

/// Hashes stream ids. A peer can choose ids that collide, but only as many as it may have open at
/// once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        // The golden ratio in 64 bits spreads neighbouring ids, in the top bits too.
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
