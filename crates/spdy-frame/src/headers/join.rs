//! Adds values to existing fields.

use super::field::Entry;

/// Adds a value to a field of the block in `bytes` and `entries`, after a NUL if the field has a
/// value.
///
/// If few bytes follow the field, they move. In the middle of a large block the value moves to the
/// end instead, where it gets room to grow. Therefore adding values takes time proportional to
/// their bytes, in whatever order they come. `is_scattered` is set when a value of the block has
/// moved: then the bytes after a value are not those of the following fields.
pub(super) fn join(
    bytes: &mut Vec<u8>,
    entries: &mut [Entry],
    place: usize,
    value: &[u8],
    is_scattered: &mut bool,
) {
    let entry = &mut entries[place];
    let old = entry.value();
    let separator: &[u8] = if old.is_empty() { b"" } else { b"\0" };
    let end = old.end + separator.len() + value.len();
    entry.joined |= !old.is_empty();

    if end <= old.start + entry.room() {
        bytes[old.end..end - value.len()].copy_from_slice(separator);
        bytes[end - value.len()..end].copy_from_slice(value);
        entry.value_end = end as u32;
        return;
    }
    if old.start + entry.room() == bytes.len() {
        bytes.truncate(old.end);
    } else if bytes.len() - old.end <= NEAR && !*is_scattered {
        return insert(bytes, &mut entries[place..], separator, value);
    } else {
        *is_scattered = true;
        entry.moved = true;
        entry.value_start = bytes.len() as u32;
        bytes.extend_from_within(old);
    }
    bytes.extend_from_slice(separator);
    bytes.extend_from_slice(value);
    entry.value_end = bytes.len() as u32;
    bytes.resize(entry.value_start as usize + entry.room(), 0);
}

/// Inserts bytes after the value of the first entry.
fn insert(bytes: &mut Vec<u8>, entries: &mut [Entry], separator: &[u8], value: &[u8]) {
    let (entry, behind) = entries.split_first_mut().expect("the entry exists");
    let end = entry.value_end as usize;
    bytes.splice(end..end, separator.iter().chain(value).copied());
    let added = (separator.len() + value.len()) as u32;
    entry.value_end += added;
    for entry in behind {
        entry.shift(added);
    }
}

/// The largest number of bytes after a value that move for it.
const NEAR: usize = 4096;

#[cfg(test)]
mod tests {
    use crate::{Field, HeaderBlock};

    fn pair<'a>(field: Field<'a>) -> (&'a [u8], &'a [u8]) {
        (field.name(), field.value())
    }

    /// Compares blocks with blocks made at once from a list of the values of each name.
    #[test]
    fn values_are_joined_in_order_wherever_their_fields_stand() {
        let mut seed = 1_u64;
        let mut random = |end: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(7);
            (seed >> 33) as usize % end
        };
        for longest in [3, 300, 9000] {
            for names in [1, 2, 5, 40, 100] {
                let mut block = HeaderBlock::new();
                let mut all: Vec<(String, Vec<String>)> = Vec::new();
                for round in 0..300 {
                    let name = format!("name-{}", random(names));
                    let value = format!("{round}").repeat(random(longest) / 3);
                    block.append(&name, &value).unwrap();
                    match all.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, values)) => values.push(value),
                        None => all.push((name, vec![value])),
                    }
                    if round % 20 == 0 {
                        check(&block, &all);
                    }
                }
                check(&block, &all);
            }
        }
    }

    fn check(block: &HeaderBlock, all: &[(String, Vec<String>)]) {
        let joined = all.iter().map(|(name, values)| {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let values = values.into_iter().filter(|value| !value.is_empty());
            (name, values.collect::<Vec<_>>().join("\0"))
        });
        let expected = HeaderBlock::from_pairs(joined).unwrap();
        assert!(expected.fields().map(pair).eq(block.fields().map(pair)));
        assert!(*block == expected && expected == block.clone());
        for (own, other) in block.fields().zip(expected.fields()) {
            assert_eq!(own.is_joined(), other.is_joined());
            assert_eq!(own.value_bytes(), other.value_bytes());
        }
        // Two blocks with the same layout differ in one value of the same length.
        for (place, field) in expected.fields().enumerate().step_by(7) {
            let (mut one, mut other) = (block.clone(), block.clone());
            one.append(field.name(), "one").unwrap();
            other.append(field.name(), "two").unwrap();
            assert!(one != other);
            assert_eq!(one.matching_fields(&other, 0), place);
        }
    }

    /// The memory of a block is proportional to the bytes that were added.
    #[test]
    fn the_memory_of_a_block_is_proportional_to_its_values() {
        let mut block = HeaderBlock::new();
        for round in 0..100_000 {
            block
                .append(format!("x-{}", round % 40_000), "value")
                .unwrap();
        }
        for round in 0..100_000 {
            block.append(format!("x-{}", round % 2), "value").unwrap();
        }
        let used = block.size() - 32 * block.len();
        assert!(
            block.content.bytes().len() < 4 * used,
            "{} for {used}",
            block.content.bytes().len()
        );
    }
}
