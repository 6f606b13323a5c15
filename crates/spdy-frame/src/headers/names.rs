//! Which names a block has, so that a name that comes again is found.

use std::collections::HashMap;

use super::field::Entry;

/// The names of a block. For the few that most blocks have it is some bits, which tell nearly all that are new; among
/// many a name is looked up.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    marks: Marks,
    /// The place of each name, once there are many.
    places: Option<Box<Places>>,
}

/// The places of names in lower case.
#[derive(Clone, Debug)]
struct Places(HashMap<Box<[u8]>, usize>);

impl Names {
    /// Those of a block that was made without them.
    pub(super) const fn unknown() -> Self {
        Self {
            marks: Marks::ALL,
            places: None,
        }
    }

    /// Finds the entry of a name, whatever its case, among all entries of a block. `None`: the name is new, and the
    /// caller adds an entry for it.
    #[inline]
    pub(super) fn find(&mut self, name: &[u8], bytes: &[u8], entries: &[Entry]) -> Option<usize> {
        if entries.len() >= MANY {
            return self.look_up(name, bytes, entries);
        }
        if self.marks.insert(name) {
            return None;
        }
        // From the end, since a name that is repeated mostly follows itself.
        entries
            .iter()
            .rposition(|entry| bytes[entry.name()].eq_ignore_ascii_case(name))
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

/// Which names there may be: one bit for all names that look alike.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks(u64);

impl Marks {
    /// Any name.
    const ALL: Self = Self(u64::MAX);

    /// Takes a name in, whatever its case, which is not empty. Returns whether it is surely new.
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

/// From so many names on they are looked up: below, a look at each costs less.
const MANY: usize = 64;
