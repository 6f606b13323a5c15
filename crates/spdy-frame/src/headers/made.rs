//! The content of a block that is made field by field, and the reuse of its memory.

use std::{cell::RefCell, mem};

use super::field::Entry;

/// The content of a block that was made or changed.
///
/// Its memory is used again by a later block of the same thread, because each response needs some,
/// and it is mostly free again before the next one is made.
#[derive(Default)]
pub(super) struct Made {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

impl Made {
    /// Returns an empty content with room for `fields` fields and `size` bytes.
    pub(super) fn with_room(fields: usize, size: usize) -> Self {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        let (mut bytes, mut entries) = spare.ok().flatten().unwrap_or_default();
        bytes.reserve_exact(size);
        entries.reserve_exact(fields);
        Self { bytes, entries }
    }

    pub(super) fn copy(bytes: &[u8], entries: &[Entry]) -> Self {
        let mut made = Self::with_room(entries.len(), bytes.len());
        made.bytes.extend_from_slice(bytes);
        made.entries.extend_from_slice(entries);
        made
    }

    /// Adds the fields of another content, whose names are new.
    pub(super) fn extend(&mut self, bytes: &[u8], entries: &[Entry]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        self.entries.extend(entries.iter().map(|entry| {
            let mut entry = *entry;
            entry.shift(start);
            entry
        }));
    }

    /// Adds a field with a new name.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8], is_lower_case: bool) -> &mut Entry {
        if self.bytes.capacity() == 0 {
            // Most blocks are no larger, and growing in small steps takes longer than everything
            // else here.
            *self = Self::with_room(USUAL_FIELDS, USUAL_BYTES);
        }
        let bytes = &mut self.bytes;
        bytes.reserve(name.len() + value.len());
        let name_start = bytes.len();
        bytes.extend_from_slice(name);
        if !is_lower_case {
            bytes[name_start..].make_ascii_lowercase();
        }
        let value_start = bytes.len();
        bytes.extend_from_slice(value);
        let entry = Entry::new(name_start..value_start, value_start..bytes.len());
        self.entries.push(entry);
        self.entries.last_mut().expect("the entry was just pushed")
    }
}

impl Clone for Made {
    fn clone(&self) -> Self {
        if self.bytes.is_empty() {
            return Self::default();
        }
        Self::copy(&self.bytes, &self.entries)
    }
}

impl Drop for Made {
    #[inline]
    fn drop(&mut self) {
        let (bytes, entries) = (self.bytes.capacity(), self.entries.capacity());
        if bytes == 0 || bytes > MAX_BYTES || entries > MAX_FIELDS {
            return;
        }
        self.bytes.clear();
        self.entries.clear();
        let memory = (mem::take(&mut self.bytes), mem::take(&mut self.entries));
        // If the thread is ending, the memory is dropped.
        _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MAX_SPARE {
                spare.push(memory);
            }
        });
    }
}

thread_local! {
    /// The empty memory of blocks that are gone. All sessions of a thread share it.
    static SPARE: RefCell<Vec<(Vec<u8>, Vec<Entry>)>> = const { RefCell::new(Vec::new()) };
}

/// The number of blocks whose memory a thread keeps, as many as a session starts responses before
/// it writes them.
const MAX_SPARE: usize = 32;

/// The number of fields for which a new block reserves room.
const USUAL_FIELDS: usize = 12;

/// The number of bytes of names and values for which a new block reserves room.
const USUAL_BYTES: usize = 512;

/// The largest capacity that is kept of a block, in bytes of names and values.
const MAX_BYTES: usize = 1024;

/// The largest capacity that is kept of a block, in fields.
const MAX_FIELDS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn spare() -> usize {
        SPARE.with(|spare| spare.borrow().len())
    }

    #[test]
    fn the_memory_of_a_block_that_is_gone_is_empty_and_used_again() {
        let mut made = Made::with_room(4, 100);
        made.bytes.extend_from_slice(b"secret");
        let place = made.bytes.as_ptr();
        drop(made);
        assert_eq!(spare(), 1);
        let mut made = Made::with_room(2, 50);
        assert_eq!(made.bytes.as_ptr(), place);
        assert!(made.bytes.is_empty() && made.entries.is_empty());
        assert_eq!(spare(), 0);
        made.push(b"name", b"value", true);
        drop(made.clone());
        assert_eq!(spare(), 1);
        assert_eq!(made.clone().bytes, b"namevalue");
        assert_eq!(spare(), 1);
    }

    #[test]
    fn a_thread_keeps_the_memory_of_few_and_small_blocks() {
        drop(Made::with_room(MAX_FIELDS, MAX_BYTES + 1));
        drop(Made::with_room(MAX_FIELDS + 1, MAX_BYTES));
        drop(Made::default());
        assert_eq!(spare(), 0);
        let many = [(); MAX_SPARE + 3].map(|()| Made::with_room(1, 1));
        drop(many);
        assert_eq!(spare(), MAX_SPARE);
    }
}
