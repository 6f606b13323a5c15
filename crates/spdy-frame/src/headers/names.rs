//! Finds the field of a block that has a given name.

use std::collections::HashMap;

use super::field::Entry;

/// The names of a block. A set of bits recognizes nearly all new names while they are few, as in
/// most blocks. Many names are looked up in a hash table.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    marks: Marks,
    /// The index of each name, once there are many.
    places: Option<Box<Places>>,
}

/// The indexes of names in lower case.
#[derive(Clone, Debug)]
struct Places(HashMap<Box<[u8]>, usize>);

impl Names {
    /// Returns the names of a block that was made without them.
    pub(super) const fn unknown() -> Self {
        Self {
            marks: Marks::ALL,
            places: None,
        }
    }

    /// Finds the entry of a name, whatever its case, among all entries of a block. If it returns
    /// `None`, the name is new and the caller must add an entry for it.
    #[inline]
    pub(super) fn find(&mut self, name: &[u8], bytes: &[u8], entries: &[Entry]) -> Option<usize> {
        if entries.len() >= MANY {
            return self.look_up(name, bytes, entries);
        }
        if self.marks.insert(name) {
            return None;
        }
        // The search starts at the end, because a repeated name mostly follows itself.
        entries
            .iter()
            .rposition(|entry| bytes[entry.name()].eq_ignore_ascii_case(name))
    }

    /// Adds the names of another block. Returns whether all of them are certainly new in a block
    /// that has `count` names then, which are few. Otherwise nothing is added.
    #[inline]
    pub(super) fn insert_all(&mut self, other: &Self, count: usize) -> bool {
        let are_new = count <= MANY && self.marks.0 & other.marks.0 == 0;
        if are_new {
            self.marks.0 |= other.marks.0;
        }
        are_new
    }

    #[cold]
    fn look_up(&mut self, name: &[u8], bytes: &[u8], entries: &[Entry]) -> Option<usize> {
        let Places(places) = &mut **self.places.get_or_insert_with(|| {
            let names = entries.iter().map(|entry| bytes[entry.name()].into());
            Box::new(Places(names.zip(0..).collect()))
        });
        let name = name.to_ascii_lowercase();
        if let Some(place) = places.get(&name[..]) {
            return Some(*place);
        }
        places.insert(name.into(), entries.len());
        None
    }
}

/// A set that might contain a name: names with the same mark share one bit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks(u64);

impl Marks {
    /// The set that might contain any name.
    const ALL: Self = Self(u64::MAX);

    /// Adds a name, whatever its case, which must not be empty. Returns whether it is certainly
    /// new.
    #[inline]
    pub(super) fn insert(&mut self, name: &[u8]) -> bool {
        let lower = |at: usize| usize::from(name[at] | 0x20);
        let sum = 5 * name.len() + 3 * lower(name.len() / 2) + lower(name.len() - 1);
        let mark = 1 << (sum % 64);
        let is_new = self.0 & mark == 0;
        self.0 |= mark;
        is_new
    }
}

/// The number of names from which on they are looked up. Below it, comparing each is faster.
const MANY: usize = 64;
