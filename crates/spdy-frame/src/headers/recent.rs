//! The fields that the encoder wrote recently, and their positions in the stream.

use std::{array, cmp::Reverse, fmt, ops::Range};

use super::{Field, deflate::WINDOW};

/// The fields that were written recently: contents to compare with, and positions to copy from.
///
/// The value of a secret is never stored here, only its name. The memory grows with use up to a
/// fixed size. When it is full, a sweep keeps the fields that were written twice since the last
/// sweep.
pub(super) struct Recent {
    fields: Vec<Sent>,
    /// The names and values of the fields, concatenated in the same order.
    contents: Vec<u8>,
    /// Indexes into `fields` by the hash of name and value.
    by_field: Index,
    /// Indexes into `fields` by the hash of the name: for each name the field that was added last.
    by_name: Index,
    /// The index of the next field, if this block repeats an earlier one.
    guess: usize,
    /// The index of the first field of the block.
    first: Option<usize>,
}

/// A field that was written.
#[derive(Clone, Copy)]
struct Sent {
    /// The position in the stream where it was written last. The field includes its length fields.
    position: u64,
    name_hash: u32,
    field_hash: u32,
    /// The position of its name in `contents`. The value follows.
    at: u16,
    name_length: u16,
    /// 0 if the value is not in `contents`.
    value_length: u16,
    /// Whether the value is in `contents`: it is no secret, and not too long.
    has_value: bool,
    /// Whether it was written again since the last sweep.
    used: bool,
}

const _: () = assert!(size_of::<Sent>() <= 24, "every session has several");

impl Recent {
    pub(super) fn new() -> Self {
        Self {
            fields: Vec::new(),
            contents: Vec::new(),
            by_field: Index::new(0),
            by_name: Index::new(0),
            guess: 0,
            first: None,
        }
    }

    /// Begins a block.
    pub(super) const fn begin(&mut self) {
        if let Some(first) = self.first.take() {
            self.guess = first;
        }
    }

    /// Looks for a field and records that it is written at `position`. Returns the distance back to
    /// where it was written before.
    #[inline]
    pub(super) fn touch(&mut self, field: Field<'_>, position: u64) -> Option<u64> {
        let Some(place) = self.find(field) else {
            self.guess += 1;
            return None;
        };
        self.guess = place + 1;
        self.first.get_or_insert(place);
        let sent = &mut self.fields[place];
        let distance = position - sent.position;
        sent.position = position;
        sent.used = true;
        Some(distance)
    }

    /// Returns the index of a field. A secret is never found, because its value is not stored.
    #[inline]
    fn find(&self, field: Field<'_>) -> Option<usize> {
        if field.was_added_sensitive() {
            return None;
        }
        if self.is_field(self.guess, field) {
            return Some(self.guess);
        }
        self.look_up(field)
    }

    #[inline(never)]
    fn look_up(&self, field: Field<'_>) -> Option<usize> {
        let hash = hash(hash(0, field.name()), field.value());
        self.by_field.find(hash, |place| {
            self.fields[place].field_hash == hash && self.is_field(place, field)
        })
    }

    /// Looks for an earlier field with a name. Returns its distance and the length of its value,
    /// which is `None` for secrets.
    pub(super) fn find_name(&self, name: &[u8], position: u64) -> Option<(u64, Option<usize>)> {
        let hash = hash(0, name);
        let place = self
            .by_name
            .find(hash, |place| self.is_name(place, hash, name))?;
        let field = &self.fields[place];
        let distance = position - field.position;
        // The field itself is not an earlier one.
        let value = usize::from(field.value_length);
        (distance > 0).then_some((distance, field.has_value.then_some(value)))
    }

    /// Adds a field that was not found. For a value that must not be matched, `value` is `None`.
    pub(super) fn insert(&mut self, name: &[u8], value: Option<&[u8]>, position: u64) {
        let value = value.filter(|value| name.len() + value.len() <= LONGEST);
        if name.len() > LONGEST {
            return;
        }
        let name_hash = hash(0, name);
        if value.is_none() {
            let known = self.by_name.find(name_hash, |place| {
                self.is_name(place, name_hash, name) && !self.fields[place].has_value
            });
            if let Some(place) = known {
                self.fields[place].position = position;
                self.fields[place].used = true;
                return;
            }
        }

        let length = name.len() + value.map_or(0, <[u8]>::len);
        if self.fields.len() == FIELDS || self.contents.len() + length > CONTENTS {
            self.sweep(position);
        }
        let sent = Sent {
            position,
            name_hash,
            field_hash: value.map_or(0, |value| hash(name_hash, value)),
            at: self.contents.len() as u16,
            name_length: name.len() as u16,
            value_length: value.map_or(0, |value| value.len() as u16),
            has_value: value.is_some(),
            used: false,
        };
        reserve(&mut self.contents, length, FIRST_CONTENTS, CONTENTS);
        let capacity = self.fields.capacity();
        reserve(&mut self.fields, 1, FIRST_FIELDS, FIELDS);
        if self.fields.capacity() > capacity {
            self.by_field = Index::new(self.fields.capacity());
            self.by_name = Index::new(self.fields.capacity());
            self.index();
        }
        self.contents.extend_from_slice(name);
        self.contents.extend_from_slice(value.unwrap_or_default());
        self.fields.push(sent);
        self.enter(self.fields.len() - 1);
    }

    /// Frees at least half of the table. Fields that were used stay, the latest first.
    #[cold]
    fn sweep(&mut self, position: u64) {
        let mut places: [usize; FIELDS] = array::from_fn(|place| place);
        let places = &mut places[..self.fields.len()];
        places.sort_unstable_by_key(|place| Reverse(self.fields[*place].position));
        let mut fields_left = FIELDS / 2;
        let mut contents_left = CONTENTS / 2;
        for place in places {
            let field = &mut self.fields[*place];
            let near = position - field.position <= WINDOW;
            field.used &= near && fields_left > 0 && field.length() <= contents_left;
            if field.used {
                fields_left -= 1;
                contents_left -= field.length();
            }
        }
        let mut end = 0;
        self.fields.retain_mut(|field| {
            if field.used {
                let at = usize::from(field.at);
                self.contents.copy_within(at..at + field.length(), end);
                field.at = end as u16;
                field.used = false;
                end += field.length();
                true
            } else {
                false
            }
        });
        self.contents.truncate(end);
        self.index();
    }

    /// Makes the contents of both indexes again.
    fn index(&mut self) {
        self.by_field.clear();
        self.by_name.clear();
        (0..self.fields.len()).for_each(|place| self.enter(place));
    }

    /// Adds a field to the indexes.
    fn enter(&mut self, place: usize) {
        let Sent {
            name_hash,
            field_hash,
            has_value,
            ..
        } = self.fields[place];
        let name = self.fields[place].name();
        let slot = self.by_name.slot(name_hash, |other| {
            let other = &self.fields[other];
            other.name_hash == name_hash
                && self.contents[other.name()] == self.contents[name.clone()]
        });
        self.by_name.0[slot] = place as u8;
        if has_value {
            let slot = self.by_field.slot(field_hash, |_| false);
            self.by_field.0[slot] = place as u8;
        }
    }

    fn is_name(&self, place: usize, hash: u32, name: &[u8]) -> bool {
        let field = &self.fields[place];
        field.name_hash == hash && self.contents[field.name()] == *name
    }

    #[inline(always)]
    fn is_field(&self, place: usize, field: Field<'_>) -> bool {
        let Some(sent) = self.fields.get(place) else {
            return false;
        };
        // Lengths differ for most fields, so they are compared first.
        if usize::from(sent.name_length) != field.name_length()
            || usize::from(sent.value_length) != field.value_length()
            || !sent.has_value
        {
            return false;
        }
        let at = usize::from(sent.at);
        let own = &self.contents[at..at + sent.length()];
        match field.whole() {
            Some(whole) => own == whole,
            None => {
                let (name, value) = own.split_at(field.name_length());
                name == field.name() && value == field.value()
            }
        }
    }
}

/// Shows only the number of fields: a value that the application did not mark might still be a
/// secret.
impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent")
            .field("fields", &self.fields.len())
            .finish_non_exhaustive()
    }
}

impl Sent {
    fn name(&self) -> Range<usize> {
        let at = usize::from(self.at);
        at..at + usize::from(self.name_length)
    }

    fn length(&self) -> usize {
        usize::from(self.name_length) + usize::from(self.value_length)
    }
}

/// A hash table of indexes, with twice as many slots as indexes, a power of two. Entries are never
/// removed.
struct Index(Box<[u8]>);

impl Index {
    const FREE: u8 = u8::MAX;

    /// Returns an index with room for a number of fields.
    fn new(fields: usize) -> Self {
        let slots = match fields {
            0 => 0,
            fields => 2 * fields.next_power_of_two(),
        };
        Self(vec![Self::FREE; slots].into())
    }

    fn clear(&mut self) {
        self.0.fill(Self::FREE);
    }

    /// Returns the slot with the index that `is` accepts, or else a free slot.
    #[inline]
    fn slot(&self, hash: u32, mut is: impl FnMut(usize) -> bool) -> usize {
        let last = self.0.len() - 1;
        let mut slot = hash as usize & last;
        while self.0[slot] != Self::FREE && !is(usize::from(self.0[slot])) {
            slot = (slot + 1) & last;
        }
        slot
    }

    #[inline]
    fn find(&self, hash: u32, is: impl FnMut(usize) -> bool) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        let place = self.0[self.slot(hash, is)];
        (place != Self::FREE).then_some(usize::from(place))
    }
}

/// Reserves room for more items, of which there are never more than `most`: first for `first` of
/// them, then for twice as many each time.
fn reserve<T>(items: &mut Vec<T>, more: usize, first: usize, most: usize) {
    let length = items.len() + more;
    if length > items.capacity() {
        let room = length.max(2 * items.capacity()).max(first).min(most);
        items.reserve_exact(room - items.len());
    }
}

/// Returns a hash of the bytes that continues `seed`. Contents are compared as well, so the hash
/// need not be strong.
fn hash(seed: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = u64::from(seed) ^ bytes.len() as u64;
    for word in words.iter().chain([&last]) {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 32;
    }
    hash as u32
}

/// The number of fields that are remembered.
const FIELDS: usize = 64;

/// The number of bytes of names and values that are remembered.
const CONTENTS: usize = 4096;

/// The initial capacity in fields.
const FIRST_FIELDS: usize = 8;

/// The initial capacity in bytes.
const FIRST_CONTENTS: usize = 256;

/// The longest field that is stored, in bytes.
const LONGEST: usize = CONTENTS / 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeaderBlock;

    fn touch(recent: &mut Recent, name: &[u8], value: &[u8], position: u64) -> Option<u64> {
        let block = HeaderBlock::from_pairs([(name, value)]).unwrap();
        recent.touch(block.fields().next().unwrap(), position)
    }

    #[test]
    fn a_field_is_found_where_it_was_written_last() {
        let mut recent = Recent::new();
        assert_eq!(touch(&mut recent, b"a", b"1", 10), None);
        recent.insert(b"a", Some(b"1"), 10);
        assert_eq!(touch(&mut recent, b"a", b"1", 30), Some(20));
        assert_eq!(touch(&mut recent, b"a", b"1", 35), Some(5));
        for (name, value) in [("a", "2"), ("a", ""), ("a1", ""), ("a", "11")] {
            assert_eq!(
                touch(&mut recent, name.as_bytes(), value.as_bytes(), 40),
                None
            );
        }
    }

    #[test]
    fn only_the_name_of_a_secret_is_remembered() {
        let mut recent = Recent::new();
        recent.insert(b"cookie", None, 10);
        assert_eq!(touch(&mut recent, b"cookie", b"", 50), None);
        assert_eq!(recent.find_name(b"cookie", 50), Some((40, None)));
        recent.insert(b"cookie", None, 50);
        assert_eq!(recent.find_name(b"cookie", 60), Some((10, None)));
        assert_eq!(recent.fields.len(), 1);
        assert_eq!(recent.contents, b"cookie");
    }

    #[test]
    fn a_name_leads_to_its_last_new_field() {
        let mut recent = Recent::new();
        recent.insert(b"date", Some(b"monday"), 10);
        recent.insert(b"date", Some(b"tuesday"), 30);
        assert_eq!(recent.find_name(b"date", 50), Some((20, Some(7))));
        assert_eq!(recent.find_name(b"dat", 50), None);
        // The field that is being written is not an earlier one.
        assert_eq!(touch(&mut recent, b"date", b"tuesday", 60), Some(30));
        assert_eq!(recent.find_name(b"date", 60), None);
    }

    #[test]
    fn a_sweep_keeps_used_fields_within_the_window() {
        let mut recent = Recent::new();
        recent.insert(b"far", Some(b"away"), 0);
        recent.insert(b"near", Some(b"by"), 10);
        recent.insert(b"unused", Some(b""), 20);
        assert_eq!(touch(&mut recent, b"far", b"away", 30), Some(30));
        let position = 30 + WINDOW + 1;
        assert_eq!(
            touch(&mut recent, b"near", b"by", position),
            Some(WINDOW + 21)
        );
        for index in 0..200_u64 {
            let name = format!("{index}").into_bytes();
            recent.insert(&name, Some(b"value"), position + index);
            assert!(touch(&mut recent, b"near", b"by", position + index).is_some());
            assert!(touch(&mut recent, &name, b"value", position + index).is_some());
            assert!(recent.fields.len() <= FIELDS && recent.contents.len() <= CONTENTS);
        }
        assert_eq!(touch(&mut recent, b"far", b"away", position + 200), None);
        assert_eq!(touch(&mut recent, b"unused", b"", position + 200), None);
    }

    #[test]
    fn fields_that_are_too_long_are_not_remembered() {
        let mut recent = Recent::new();
        let long = vec![b'x'; LONGEST + 1];
        recent.insert(&long, Some(b""), 10);
        recent.insert(b"x", Some(&long), 20);
        assert_eq!(touch(&mut recent, b"x", &long, 30), None);
        assert_eq!(recent.find_name(b"x", 30), Some((10, None)));
        assert_eq!(recent.contents, b"x");
        let long = &long[2..];
        recent.insert(b"x", Some(long), 40);
        assert_eq!(touch(&mut recent, b"x", long, 50), Some(10));
    }
}
