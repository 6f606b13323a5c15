//! Compresses header blocks: fields that were sent before become references.

use std::ops::Range;

use super::{
    Field, HeaderBlock,
    deflate::{BlockWriter, MIN_MATCH, WINDOW},
    dictionary::Dictionary,
    numbers::{Number, Numbers},
    recent::Recent,
};
use crate::Version;

/// The state of the compression of one direction: what it knows of the bytes before.
#[derive(Debug)]
pub(super) struct Context {
    numbers: Numbers,
    dictionary: &'static Dictionary,
    recent: Recent,
    /// The number of bytes in all blocks before the next byte.
    position: u64,
    /// The number of fields of the last block, and its position.
    count: Option<(usize, u64)>,
}

impl Context {
    pub(super) fn new(version: Version) -> Self {
        Self {
            numbers: Numbers::of(version),
            dictionary: Dictionary::of(version),
            recent: Recent::new(),
            position: 0,
            count: None,
        }
    }

    /// Writes a deflate block and a sync marker to `dst`, which is large enough. Returns the number
    /// of bytes written.
    pub(super) fn write(&mut self, block: &HeaderBlock, dst: &mut [u8]) -> usize {
        self.recent.begin();
        let mut writer = BlockWriter::begin(dst);
        let mut run = self.write_count(block.len(), &mut writer);
        for field in block.fields() {
            let length = self.length(field);
            match self.recent.touch(field, self.position) {
                Some(distance) if distance <= WINDOW => run.add(length, distance, &mut writer),
                found => {
                    run.end(&mut writer);
                    self.write_in_full(field, found.is_none(), &mut writer);
                }
            }
            self.position += length as u64;
        }
        run.end(&mut writer);
        writer.finish()
    }

    /// Returns the number of bytes of a field in the stream.
    #[inline]
    fn length(&self, field: Field<'_>) -> usize {
        2 * self.numbers.width() + field.name_length() + field.value_length()
    }

    /// Writes the number of fields. If the last block had the same number, it becomes the start of
    /// a run.
    fn write_count(&mut self, count: usize, writer: &mut BlockWriter<'_>) -> Run {
        let position = self.position;
        let bytes = self.numbers.bytes(count);
        self.position += self.numbers.width() as u64;
        let mut run = Run::default();
        match self.count.replace((count, position)) {
            Some((last, at)) if last == count && position - at <= WINDOW => {
                run.distance = position - at;
                run.length = bytes.as_slice().len();
                run.count = bytes;
            }
            _ => writer.literals(bytes.as_slice()),
        }
        run
    }

    /// Writes a field that is not a copy, and remembers it if it is new. Its name can be a copy
    /// that includes the part of the length of its value that is equal. So can a value in the
    /// dictionary.
    #[inline(never)]
    fn write_in_full(&mut self, field: Field<'_>, is_new: bool, writer: &mut BlockWriter<'_>) {
        let (name, value) = (field.name(), field.value());
        let sensitive = field.is_sensitive();
        let name_length = self.numbers.bytes(name.len());
        let value_length = self.numbers.bytes(value.len());
        let parts = [name_length.as_slice(), name, value_length.as_slice(), value];
        let copy = self
            .find_name(name, value_length, sensitive)
            .or_else(|| self.find_word(parts, sensitive))
            .filter(|copy| copy.length >= MIN_MATCH);
        match copy {
            Some(copy) => {
                literals(parts, 0..copy.from, writer);
                writer.copy(copy.length, copy.distance);
                literals(parts, copy.from + copy.length..usize::MAX, writer);
            }
            None => literals(parts, 0..usize::MAX, writer),
        }
        if is_new {
            let value = (!sensitive).then_some(value);
            self.recent.insert(name, value, self.position);
        }
    }

    /// Finds a name in an earlier field.
    fn find_name(&self, name: &[u8], value_length: Number, sensitive: bool) -> Option<Match> {
        let (distance, earlier) = self.recent.find_name(name, self.position)?;
        let shared = match earlier {
            Some(earlier) if !sensitive => {
                let earlier = self.numbers.bytes(earlier);
                shared_bytes(&[value_length.as_slice()], earlier.as_slice())
            }
            _ => 0,
        };
        (distance <= WINDOW).then_some(Match {
            from: 0,
            length: self.numbers.width() + name.len() + shared,
            distance,
        })
    }

    /// Finds the name of a field in the dictionary, which contains it without a colon. In SPDY/3
    /// the length of the name precedes it there, and the value might follow.
    fn find_word(&self, parts: [&[u8]; 4], sensitive: bool) -> Option<Match> {
        let [name_length, name, value_length, value] = parts;
        let colon = usize::from(name.first() == Some(&b':'));
        let dictionary = self.dictionary.bytes;
        let mut start = self.dictionary.find(&name[colon..])?;
        let end = start + name.len() - colon;
        let mut from = name_length.len() + colon;
        let mut shared = 0;
        if matches!(self.numbers, Numbers::Long) {
            if colon == 0 {
                start -= name_length.len();
                from = 0;
            }
            if !sensitive {
                shared = shared_bytes(&[value_length, value], &dictionary[end..]);
                // A value is copied as a whole or not at all.
                if shared < value_length.len() + value.len() {
                    shared = shared.min(value_length.len());
                }
            }
        }
        let distance = self.position + (from + dictionary.len() - start) as u64;
        (distance <= WINDOW).then_some(Match {
            from,
            length: end - start + shared,
            distance,
        })
    }
}

/// Copies that are not written yet, because the next copy might have the same distance and join
/// them.
#[derive(Debug, Default)]
struct Run {
    length: usize,
    distance: u64,
    /// The number of fields, if the run starts with it.
    count: Number,
}

impl Run {
    /// Adds a copy after those before.
    #[inline]
    fn add(&mut self, length: usize, distance: u64, writer: &mut BlockWriter<'_>) {
        if distance != self.distance {
            self.end(writer);
            self.distance = distance;
        }
        self.length += length;
    }

    /// Writes the pending copies.
    #[inline]
    fn end(&mut self, writer: &mut BlockWriter<'_>) {
        if self.length >= MIN_MATCH {
            writer.copy(self.length, self.distance);
        } else if self.length > 0 {
            // Only the number of fields of SPDY/2 is too short for a match.
            writer.literals(self.count.as_slice());
        }
        self.length = 0;
    }
}

/// A part of a serialized field that occurs in the stream or the dictionary.
#[derive(Clone, Copy, Debug)]
struct Match {
    /// The start of the part in the field.
    from: usize,
    length: usize,
    /// The distance back to its occurrence.
    distance: u64,
}

/// Writes a range of adjacent parts.
fn literals(parts: [&[u8]; 4], range: Range<usize>, writer: &mut BlockWriter<'_>) {
    let mut before = 0;
    for part in parts {
        let start = range.start.saturating_sub(before).min(part.len());
        let end = range.end.saturating_sub(before).min(part.len());
        writer.literals(&part[start..end]);
        before += part.len();
    }
}

/// Returns the number of leading bytes that adjacent parts have in common with `others`.
fn shared_bytes(parts: &[&[u8]], others: &[u8]) -> usize {
    let bytes = parts.iter().copied().flatten();
    let pairs = bytes.zip(others);
    pairs.take_while(|(one, other)| one == other).count()
}
