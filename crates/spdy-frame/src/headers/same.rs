//! Compares blocks that are mostly equal, as the blocks of one session are.

use std::ptr;

use super::field::Entry;

/// Returns the number of leading entries that are equal without being compared one by one: they
/// have the same layout in both buffers, and the bytes there are equal.
pub(super) fn count_same(one: Stretch<'_>, other: Stretch<'_>) -> usize {
    let alike = one.count_alike(other);
    let (bytes, others) = (one.bytes(alike), other.bytes(alike));
    if bytes == others {
        return alike;
    }
    let pairs = bytes.as_chunks::<16>().0.iter().zip(others.as_chunks().0);
    let same = 16 * pairs.take_while(|(one, other)| one == other).count();
    let end = one.start() as usize + same;
    let is_before = |entry: &&Entry| entry.value_end as usize <= end;
    one.entries[..alike].iter().take_while(is_before).count()
}

/// Consecutive entries with their buffer.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a> {
    buffer: &'a [u8],
    entries: &'a [Entry],
}

impl<'a> Stretch<'a> {
    pub(super) const fn new(buffer: &'a [u8], entries: &'a [Entry]) -> Self {
        Self { buffer, entries }
    }

    fn start(self) -> u32 {
        self.entries.first().map_or(0, |entry| entry.name_start)
    }

    /// Returns the bytes from the first name to the end of the given number of entries, including
    /// the bytes between them.
    fn bytes(self, entries: usize) -> &'a [u8] {
        match self.entries[..entries].last() {
            Some(last) => &self.buffer[self.start() as usize..last.value_end as usize],
            None => &[],
        }
    }

    /// Returns the number of leading entries that are at the same distances from the first one as
    /// those of another stretch.
    fn count_alike(self, other: Self) -> usize {
        // Decoded blocks often share them.
        if ptr::eq(self.entries, other.entries) {
            return self.entries.len();
        }
        let shift = self.start().wrapping_sub(other.start());
        let is_shifted = |one: u32, other: u32| one.wrapping_sub(other) == shift;
        let pairs = self.entries.iter().zip(other.entries);
        let alike = pairs.take_while(|(one, other)| {
            is_shifted(one.name_start, other.name_start)
                & is_shifted(one.name_end, other.name_end)
                & is_shifted(one.value_start, other.value_start)
                & is_shifted(one.value_end, other.value_end)
                // The bytes of a value that has moved are outside the stretch.
                & !(one.moved | other.moved)
        });
        alike.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Field, HeaderBlock};

    fn block(pairs: &[(&str, &str)]) -> HeaderBlock {
        HeaderBlock::from_pairs(pairs.iter().copied()).unwrap()
    }

    const LONG: &str = "longer than the pieces in which bytes are compared";

    /// Compares the results with those of a comparison field by field.
    #[test]
    fn fields_compare_equal_in_any_memory_layout() {
        let made = [
            block(&[("a", "1"), ("bc", "23"), ("d", "")]),
            block(&[("a", "1"), ("bc", "24"), ("d", "")]),
            block(&[("a", "1"), ("bc", ""), ("d", "")]),
            block(&[("a", "1"), ("b", "c23"), ("d", "")]),
            block(&[("x", "123"), ("bc", "23"), ("d", "")]),
            block(&[("a", "1"), ("bc", "23")]),
            block(&[("a", LONG), ("bc", "23"), ("d", LONG)]),
            block(&[("a", LONG), ("bc", "24"), ("d", LONG)]),
            block(&[("a", LONG), ("bc", ""), ("d", LONG)]),
            block(&[]),
        ];
        let apart = |block: &HeaderBlock, gap: &[u8]| {
            let (mut bytes, mut entries) = (Vec::new(), Vec::new());
            for field in block {
                let name = bytes.len() + gap.len()..bytes.len() + gap.len() + field.name().len();
                let value = name.end + gap.len()..name.end + gap.len() + field.value().len();
                bytes.extend([gap, field.name(), gap, field.value()].concat());
                entries.push(Entry::new(name, value));
            }
            HeaderBlock::decoded(bytes.into(), entries.into(), false)
        };
        let blocks: Vec<HeaderBlock> = [&b""[..], b"-", b"+", b"bc23"]
            .iter()
            .flat_map(|gap| made.each_ref().map(|block| apart(block, gap)))
            .chain(made.clone())
            .collect();
        for (one, other) in blocks
            .iter()
            .flat_map(|one| blocks.iter().map(move |other| (one, other)))
        {
            for place in 0..5 {
                let fields = one.fields().zip(other.fields()).skip(place);
                let same = fields.take_while(|(one, other)| pair(one) == pair(other));
                assert_eq!(
                    one.matching_fields(other, place),
                    same.count(),
                    "{one:?} {other:?} {place}"
                );
            }
            assert_eq!(one == other, one.fields().eq(other.fields()));
        }
    }

    fn pair<'a>(field: &Field<'a>) -> (&'a [u8], &'a [u8]) {
        (field.name(), field.value())
    }
}
