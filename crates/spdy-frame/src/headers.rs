//! Header blocks: names and values in order, as they are before compression (protocol.md §7).

mod decoder;
mod deflate;
mod dictionary;
mod encoder;
mod field;
mod indexed;
mod inflate;
mod join;
mod made;
mod names;
mod numbers;
mod recent;
mod rules;
mod same;
mod stored;
mod window;

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::HeaderError;

use self::{
    field::{Content, Entry},
    join::join,
    made::Made,
    names::Names,
    rules::{NameError, check_name, count_values},
    same::{Stretch, count_same},
};

pub use self::{
    decoder::{HeaderDecoder, HeaderLimits},
    encoder::{HeaderCompression, HeaderEncoder},
    field::{Field, Fields},
};

/// The header fields of a frame, in order.
///
/// Names are in lower case, and each name occurs once. Several values of one name are joined by NUL
/// ([protocol.md §7.2]).
///
/// A decoded block is one buffer with the positions of its fields, and [`Field::value_bytes`]
/// shares that buffer. [`append`](Self::append) makes a block and rejects what a block must not
/// contain:
///
/// ```
/// use spdy_frame::{HeaderBlock, HeaderError};
///
/// let mut block = HeaderBlock::new();
/// block.append(":status", "200 OK")?;
/// block.append("Set-Cookie", "a=1")?;
/// block.append("set-cookie", "b=2")?;
/// assert_eq!(block.append("x", "a\r\nb: c"), Err(HeaderError::InvalidValue));
///
/// assert_eq!(block.len(), 2);
/// assert_eq!(block.get("set-cookie"), Some(&b"a=1\0b=2"[..]));
/// let cookies = block.fields().last().unwrap();
/// assert!(cookies.values().eq(["a=1".as_bytes(), b"b=2"]));
/// # Ok::<(), HeaderError>(())
/// ```
///
/// Two blocks are equal if they have the same names and values in the same order.
///
/// [protocol.md §7.2]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#72-rules-and-what-a-violation-means
#[derive(Clone, Default)]
pub struct HeaderBlock {
    content: Content,
    names: Names,
    truncated: bool,
    /// Whether a value has moved away from its name.
    is_scattered: bool,
}

impl HeaderBlock {
    /// Returns an empty block. Nothing is allocated before the first field.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an empty block with room for `fields` fields and `bytes` bytes of names and values.
    #[must_use]
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self {
            content: Content::Own(Made::with_room(fields, bytes)),
            names: Names::default(),
            truncated: false,
            is_scattered: false,
        }
    }

    /// Returns a block of names and values, which are added as by [`append`](Self::append).
    ///
    /// # Errors
    ///
    /// Returns the first error of `append`.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, HeaderError> {
        let mut block = Self::new();
        for (name, value) in pairs {
            block.append(name, value)?;
        }
        Ok(block)
    }

    /// Returns a decoded block. The entries are in order and inside `bytes`.
    fn decoded(bytes: Bytes, entries: Arc<[Entry]>, truncated: bool) -> Self {
        Self {
            content: Content::Shared { bytes, entries },
            names: Names::unknown(),
            truncated,
            is_scattered: false,
        }
    }

    /// Adds a field.
    ///
    /// The name is converted to lower case. If the block has a field of this name, the field gets
    /// one more value. An empty value is left out then, because it would be written as two NULs in
    /// a row. `value` can be several values joined by NUL.
    ///
    /// # Errors
    ///
    /// Nothing is added after an error. The errors are:
    /// - [`EmptyName`](HeaderError::EmptyName),
    /// - [`InvalidName`](HeaderError::InvalidName) if the name contains NUL, CR or LF,
    /// - [`InvalidValue`](HeaderError::InvalidValue) if the value contains CR or LF, starts or ends
    ///   with NUL, or contains two NULs in a row; also if the block would become longer than 1 GiB,
    ///   which no frame can carry.
    pub fn append(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), HeaderError> {
        self.add(name.as_ref(), value.as_ref(), false)
    }

    /// Adds a field whose value is a secret.
    ///
    /// It works as [`append`](Self::append). In addition the encoder writes the value in full each
    /// time, so that the lengths of frames do not reveal it. [`Field::is_sensitive`] lists the
    /// names that the encoder always treats in this way.
    ///
    /// # Errors
    ///
    /// The errors are those of [`append`](Self::append).
    pub fn append_sensitive(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), HeaderError> {
        self.add(name.as_ref(), value.as_ref(), true)
    }

    /// Adds all fields of another block, as [`append`](Self::append) does one by one. This is
    /// faster, because they were checked when that block was made.
    ///
    /// ```
    /// use spdy_frame::HeaderBlock;
    ///
    /// let common = HeaderBlock::from_pairs([("server", "s"), ("vary", "accept")])?;
    /// let mut block = HeaderBlock::from_pairs([("etag", "1")])?;
    /// block.append_block(&common)?;
    /// assert_eq!(block.len(), 3);
    /// # Ok::<(), spdy_frame::HeaderError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`InvalidValue`](HeaderError::InvalidValue) if the block would become longer than
    /// 1 GiB. Some of the fields are added then.
    pub fn append_block(&mut self, other: &Self) -> Result<(), HeaderError> {
        let made = self.content.own();
        let (bytes, entries) = (other.content.bytes(), other.content.entries());
        let fields = made.entries.len() + entries.len();
        if made.bytes.len() + bytes.len() < LONGEST
            && !other.is_scattered
            && self.names.insert_all(&other.names, fields)
        {
            made.extend(bytes, entries);
            return Ok(());
        }
        other.fields().try_for_each(|field| {
            let is_secret = field.was_added_sensitive();
            self.add(field.name(), field.value(), is_secret)
        })
    }

    fn add(&mut self, name: &[u8], value: &[u8], sensitive: bool) -> Result<(), HeaderError> {
        let is_lower_case = match check_name(name) {
            Ok(()) => true,
            Err(NameError::UpperCase) => false,
            Err(NameError::Empty) => return Err(HeaderError::EmptyName),
            Err(NameError::Invalid) => return Err(HeaderError::InvalidName),
        };
        let joined = count_values(value)? > 1;
        let made = self.content.own();
        if made.bytes.len() + name.len() + value.len() >= LONGEST {
            return Err(HeaderError::InvalidValue);
        }

        let entry = match self.names.find(name, &made.bytes, &made.entries) {
            Some(place) => {
                if !value.is_empty() {
                    let (bytes, entries) = (&mut made.bytes, &mut made.entries);
                    join(bytes, entries, place, value, &mut self.is_scattered);
                }
                &mut made.entries[place]
            }
            None => made.push(name, value, is_lower_case),
        };
        entry.sensitive |= sensitive;
        entry.joined |= joined;
        Ok(())
    }

    /// Returns the whole value of a field, including NULs. `name` must be in lower case.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref();
        self.fields()
            .find(|field| field.name() == name)
            .map(|field| field.value())
    }

    /// Returns the number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.content.entries().len()
    }

    /// Returns whether the block has no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.entries().is_empty()
    }

    /// Returns the size that the block counts against memory limits: the bytes of names and values,
    /// and 32 for each field.
    #[must_use]
    pub fn size(&self) -> usize {
        let sizes = self.content.entries().iter().map(|entry| {
            let name = entry.name().len();
            name + entry.value().len() + 32
        });
        sizes.sum()
    }

    /// Returns whether fields were dropped when the block was decoded, because it exceeded a soft
    /// limit of [`HeaderLimits`].
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Returns an iterator over the fields in order.
    #[must_use]
    #[inline]
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.content, self.content.entries())
    }

    /// Returns the number of fields, counted from the field at index `start`, that are equal in
    /// both blocks. The count ends at the first field that differs or that one block does not have.
    /// It is 0 if `start` is past the end.
    ///
    /// Blocks of one session often differ in one or two fields. For them this is much faster than
    /// comparing field by field, because fields that lie at the same distances in both buffers are
    /// compared at once.
    ///
    /// ```
    /// use spdy_frame::HeaderBlock;
    ///
    /// let one = HeaderBlock::from_pairs([("a", "1"), ("b", "2"), ("c", "3")])?;
    /// let other = HeaderBlock::from_pairs([("a", "1"), ("b", "two"), ("c", "3")])?;
    /// assert_eq!(one.matching_fields(&other, 0), 1);
    /// assert_eq!(one.matching_fields(&other, 1), 0);
    /// assert_eq!(one.matching_fields(&other, 2), 1);
    /// # Ok::<(), spdy_frame::HeaderError>(())
    /// ```
    #[must_use]
    pub fn matching_fields(&self, other: &Self, start: usize) -> usize {
        let own = self.content.entries().get(start..).unwrap_or_default();
        let others = other.content.entries().get(start..).unwrap_or_default();
        let same = count_same(
            Stretch::new(self.content.bytes(), own),
            Stretch::new(other.content.bytes(), others),
        );
        // Fields at different distances, or with other bytes between them, can still be equal.
        let own = Fields::new(&self.content, &own[same..]);
        let others = Fields::new(&other.content, &others[same..]);
        same + own
            .zip(others)
            .take_while(|(own, other)| own == other)
            .count()
    }
}

impl PartialEq for HeaderBlock {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.matching_fields(other, 0) == self.len()
    }
}

impl Eq for HeaderBlock {}

/// Shows the fields as a map, without the values of sensitive fields, so that blocks can be logged.
impl fmt::Debug for HeaderBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for field in self.fields() {
            let name = format_args!("{}", field.name().escape_ascii());
            if field.is_sensitive() {
                map.entry(&name, &format_args!("<sensitive>"));
            } else {
                map.entry(&name, &format_args!("{}", field.value().escape_ascii()));
            }
        }
        if self.truncated {
            map.entry(&format_args!("<truncated>"), &true);
        }
        map.finish()
    }
}

impl<'a> IntoIterator for &'a HeaderBlock {
    type Item = Field<'a>;
    type IntoIter = Fields<'a>;

    fn into_iter(self) -> Fields<'a> {
        self.fields()
    }
}

/// The length limit of a block in bytes. A value that moves takes up to twice its length, and
/// positions have 32 bits.
const LONGEST: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn block(pairs: &[(&str, &str)]) -> HeaderBlock {
        HeaderBlock::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn pairs(block: &HeaderBlock) -> Vec<(&str, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        block
            .fields()
            .map(|field| (text(field.name()), text(field.value())))
            .collect()
    }

    #[test]
    fn c142_values_of_one_name_are_joined_wherever_the_field_stands() {
        let block = block(&[
            ("set-cookie", "a=1"),
            ("vary", "x"),
            ("Set-Cookie", "b=2"),
            ("etag", "y"),
            ("vary", "z"),
            ("etag", "q"),
        ]);
        let expected = [
            ("set-cookie", "a=1\0b=2"),
            ("vary", "x\0z"),
            ("etag", "y\0q"),
        ];
        assert_eq!(pairs(&block), expected);
        assert_eq!(block.size(), 10 + 7 + 4 + 3 + 4 + 3 + 3 * 32);
    }

    #[test]
    fn empty_values_are_skipped_when_there_are_others() {
        let block = block(&[
            ("a", ""),
            ("b", ""),
            ("a", "1"),
            ("a", ""),
            ("b", ""),
            ("c", "2"),
        ]);
        assert_eq!(pairs(&block), [("a", "1"), ("b", ""), ("c", "2")]);
    }

    #[test]
    fn a_field_tells_whether_it_has_several_values() {
        let block = block(&[
            ("a", "1"),
            ("b", "1\x002"),
            ("c", ""),
            ("c", "1"),
            ("A", "2"),
        ]);
        let joined: Vec<bool> = block.fields().map(|field| field.is_joined()).collect();
        assert_eq!(joined, [true, true, false]);
    }

    /// Comparing the names one by one would take minutes for 200,000 of them.
    #[test]
    fn names_are_found_in_very_large_blocks() {
        let mut block = HeaderBlock::new();
        let name = |index: usize| format!("x-name-{index}");
        for index in 0..200_000 {
            block.append(name(index), "1").unwrap();
        }
        for index in [199_999, 0, 63, 64, 65, 100_000] {
            block.append(name(index).to_uppercase(), "2").unwrap();
        }
        assert_eq!(block.len(), 200_000);
        let joined: Vec<&[u8]> = block
            .fields()
            .filter(|field| field.is_joined())
            .map(|field| field.name())
            .collect();
        assert_eq!(joined.len(), 6);
        assert_eq!(block.fields().nth(64).unwrap().value(), b"1\x002");

        let mut copy = block.clone();
        copy.append("x-name-199999", "3").unwrap();
        copy.append("new", "3").unwrap();
        assert_eq!((block.len(), copy.len()), (200_000, 200_001));
    }

    /// The same field is found for every number of names, however the block was made.
    #[test]
    fn names_are_found_in_small_and_large_blocks() {
        for count in [0, 1, 30, 62, 63, 64, 65, 66, 200] {
            let mut block = HeaderBlock::new();
            for index in 0..count {
                block
                    .append(format!("X-{index}"), format!("{index}"))
                    .unwrap();
            }
            let bytes = Bytes::copy_from_slice(block.content.bytes());
            let mut decoded = HeaderBlock::decoded(bytes, block.content.entries().into(), false);
            for block in [&mut block, &mut decoded] {
                for index in (0..count + 3).rev() {
                    block.append(format!("x-{index}"), "again").unwrap();
                }
                let expected = |index| match index {
                    0.. if index < count => format!("{index}\0again"),
                    _ => "again".to_owned(),
                };
                assert_eq!(block.len(), count + 3);
                for index in 0..count + 3 {
                    let value = block.get(format!("x-{index}")).unwrap();
                    assert_eq!(value, expected(index).as_bytes(), "{count}");
                }
            }
        }
    }

    #[test]
    fn a_block_that_is_added_gives_what_its_fields_give() {
        let many: Vec<(String, &str)> = (0..60).map(|n| (format!("n{n}"), "v")).collect();
        let mut large = HeaderBlock::from_pairs(many).unwrap();
        large.append("n0", "w".repeat(9000)).unwrap();
        let mut secret = block(&[("x-key", "1")]);
        secret.append_sensitive("x-key", "2").unwrap();
        let made = block(&[("a", "1"), ("bc", "2"), ("a", "3")]);
        let decoded = HeaderBlock::decoded(
            Bytes::copy_from_slice(made.content.bytes()),
            made.content.entries().into(),
            false,
        );
        let blocks = [
            block(&[]),
            block(&[("etag", "4")]),
            made,
            decoded,
            secret,
            large,
        ];
        for (one, other) in blocks
            .iter()
            .flat_map(|one| blocks.iter().map(move |other| (one, other)))
        {
            let (mut at_once, mut singly) = (one.clone(), one.clone());
            at_once.append_block(other).unwrap();
            for field in other {
                let (name, value) = (field.name(), field.value());
                singly
                    .add(name, value, field.was_added_sensitive())
                    .unwrap();
            }
            for block in [&mut at_once, &mut singly] {
                block.append("etag", "5").unwrap();
                block.append("new", "6").unwrap();
            }
            assert_eq!(at_once, singly, "{one:?} {other:?}");
            let flags = |block: &HeaderBlock| {
                let fields = block.fields();
                let flags = fields.map(|field| (field.is_joined(), field.is_sensitive()));
                flags.collect::<Vec<_>>()
            };
            assert_eq!(flags(&at_once), flags(&singly), "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_block_does_not_grow_within_its_capacity() {
        let mut block = HeaderBlock::with_capacity(2, 10);
        block.append("abc", "de").unwrap();
        block.append("fgh", "ij").unwrap();
        let made = block.content.own();
        assert_eq!(made.entries.capacity(), 2);
        assert_eq!(made.bytes.capacity(), 10);
    }

    #[test]
    fn c143_invalid_fields_are_rejected_and_nothing_is_added() {
        let mut block = block(&[("a", "1")]);
        for (name, value, error) in [
            ("", "x", HeaderError::EmptyName),
            ("x\0", "x", HeaderError::InvalidName),
            ("x\r", "x", HeaderError::InvalidName),
            ("X\n", "x", HeaderError::InvalidName),
            ("x", "\0", HeaderError::InvalidValue),
            ("x", "\0x", HeaderError::InvalidValue),
            ("x", "x\0", HeaderError::InvalidValue),
            ("x", "x\0\0x", HeaderError::InvalidValue),
            ("x", "x\rx", HeaderError::InvalidValue),
            ("a", "\n", HeaderError::InvalidValue),
        ] {
            assert_eq!(block.append(name, value), Err(error.clone()));
            assert_eq!(block.append_sensitive(name, value), Err(error));
        }
        assert_eq!(pairs(&block), [("a", "1")]);
        block.append("A", "2\0three\t").unwrap();
        assert_eq!(block.get("a"), Some(&b"1\x002\0three\t"[..]));
        assert_eq!(block.fields().next().unwrap().values().count(), 3);
    }

    #[test]
    fn fields_are_sensitive_by_name_or_by_how_they_were_added() {
        let mut block = block(&[("cookie", "x"), ("x-key", "1"), ("etag", "2")]);
        block.append_sensitive("X-Key", "3").unwrap();
        let sensitive: Vec<bool> = block.fields().map(|field| field.is_sensitive()).collect();
        assert_eq!(sensitive, [true, true, false]);
        assert_eq!(
            format!("{block:?}"),
            "{cookie: <sensitive>, x-key: <sensitive>, etag: 2}"
        );
    }

    #[test]
    fn blocks_are_equal_by_names_and_values() {
        let one = block(&[("a", "1"), ("b", "2")]);
        let bytes = Bytes::from_static(b"--a-1b2");
        let entries = vec![Entry::new(2..3, 4..5), Entry::new(5..6, 6..7)];
        let mut other = HeaderBlock::decoded(bytes, entries.into(), true);
        assert_eq!(one, other);
        assert_ne!(one, block(&[("b", "2"), ("a", "1")]));
        assert_ne!(one, block(&[("a", "1")]));

        let value = other.fields().next_back().unwrap().value_bytes();
        other.append("A", "three").unwrap();
        assert_eq!(pairs(&other), [("a", "1\0three"), ("b", "2")]);
        assert_eq!(value, "2", "what was taken out before stays");
    }
}
