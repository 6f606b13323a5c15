//! The memory that collections keep for more than they contain.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, Hash},
};

/// A collection whose spare memory can be freed.
///
/// A session at rest keeps room for a few streams, because getting it again costs more than its
/// memory. It keeps none for the hundreds that it may have had at once.
pub(crate) trait Spare {
    /// Frees memory, unless the collection has little or uses a part of it. Returns whether it did.
    fn free_spare(&mut self) -> bool;
}

/// The number of items up to which a collection keeps its memory, and the number of bytes.
const KEPT_ITEMS: usize = 16;
const KEPT_BYTES: usize = 512;

/// Returns the capacity that is enough for a list of items `T`, if it has far more.
fn enough<T>(length: usize, capacity: usize) -> Option<usize> {
    let kept = KEPT_ITEMS.min(KEPT_BYTES / size_of::<T>());
    (capacity > kept && capacity / 4 > length).then(|| kept.max(2 * length))
}

/// Does the same for a map. The capacity to which it rounds up can be far larger, so nothing is
/// kept for items that may come.
const fn enough_for_map(length: usize, capacity: usize) -> Option<usize> {
    if capacity > KEPT_ITEMS && capacity / 4 > length {
        Some(2 * length)
    } else {
        None
    }
}

impl<T> Spare for Vec<T> {
    fn free_spare(&mut self) -> bool {
        let enough = enough::<T>(self.len(), self.capacity());
        if let Some(enough) = enough {
            self.shrink_to(enough);
        }
        enough.is_some()
    }
}

impl<T> Spare for VecDeque<T> {
    fn free_spare(&mut self) -> bool {
        let enough = enough::<T>(self.len(), self.capacity());
        if let Some(enough) = enough {
            self.shrink_to(enough);
        }
        enough.is_some()
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Spare for HashMap<K, V, S> {
    fn free_spare(&mut self) -> bool {
        let enough = enough_for_map(self.len(), self.capacity());
        if let Some(enough) = enough {
            self.shrink_to(enough);
        }
        enough.is_some()
    }
}

impl<T: Eq + Hash, S: BuildHasher> Spare for HashSet<T, S> {
    fn free_spare(&mut self) -> bool {
        let enough = enough_for_map(self.len(), self.capacity());
        if let Some(enough) = enough {
            self.shrink_to(enough);
        }
        enough.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_many_is_freed_and_room_for_few_is_kept() {
        let mut items: VecDeque<u8> = (0..100).collect();
        items.truncate(30);
        let before = items.capacity();
        items.free_spare();
        assert_eq!(items.capacity(), before, "it is in use");
        items.truncate(5);
        items.free_spare();
        assert_eq!(items.capacity(), KEPT_ITEMS);
        assert!(items.iter().copied().eq(0..5));
        let mut large: Vec<[u8; 100]> = vec![[0; 100]; 100];
        large.truncate(20);
        large.free_spare();
        assert_eq!(large.capacity(), 40, "twice what it contains");
        large.clear();
        large.free_spare();
        assert_eq!(large.capacity(), KEPT_BYTES / 100);
        let mut ids: HashSet<u8> = (0..100).collect();
        ids.clear();
        ids.free_spare();
        assert_eq!(ids.capacity(), 0);
        ids.extend(0..10);
        let before = ids.capacity();
        ids.clear();
        ids.free_spare();
        assert_eq!(ids.capacity(), before, "it is little");
    }
}
