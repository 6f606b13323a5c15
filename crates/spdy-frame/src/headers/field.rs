//! The fields of a header block, and their representation.

use std::{fmt, iter::FusedIterator, ops::Range, slice, sync::Arc};

use bytes::Bytes;

use super::made::Made;

/// An iterator over the fields of a block, in order.
#[derive(Clone)]
pub struct Fields<'a> {
    content: &'a Content,
    bytes: &'a [u8],
    entries: slice::Iter<'a, Entry>,
}

impl<'a> Fields<'a> {
    #[inline]
    pub(super) fn new(content: &'a Content, entries: &'a [Entry]) -> Self {
        Self {
            content,
            bytes: content.bytes(),
            entries: entries.iter(),
        }
    }

    #[inline]
    const fn field(&self, entry: &'a Entry) -> Field<'a> {
        Field {
            content: self.content,
            bytes: self.bytes,
            entry,
        }
    }
}

/// Shows the remaining fields, as [`Field`] does.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let entry = self.entries.next()?;
        Some(self.field(entry))
    }

    #[inline]
    fn nth(&mut self, places: usize) -> Option<Field<'a>> {
        let entry = self.entries.nth(places)?;
        Some(self.field(entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl DoubleEndedIterator for Fields<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next_back()?;
        Some(self.field(entry))
    }
}

impl ExactSizeIterator for Fields<'_> {}

impl FusedIterator for Fields<'_> {}

/// One field of a block.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    content: &'a Content,
    /// The bytes of `content`.
    bytes: &'a [u8],
    entry: &'a Entry,
}

impl<'a> Field<'a> {
    /// Returns the name, in lower case.
    #[must_use]
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        &self.bytes[self.entry.name()]
    }

    /// Returns the whole value. Several values are joined by NUL.
    #[must_use]
    #[inline]
    pub fn value(&self) -> &'a [u8] {
        &self.bytes[self.entry.value()]
    }

    /// Returns whether the field has several values, joined by NUL.
    #[must_use]
    #[inline]
    pub const fn is_joined(&self) -> bool {
        self.entry.joined
    }

    /// Returns an iterator over the values.
    pub fn values(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.value().split(|byte| *byte == 0)
    }

    /// Returns the whole value, as [`value`](Self::value) does. It shares the buffer of a decoded
    /// block. If the block was made or changed by [`append`](crate::HeaderBlock::append), it is a
    /// copy.
    #[must_use]
    pub fn value_bytes(&self) -> Bytes {
        match self.content {
            Content::Shared { bytes, .. } => bytes.slice(self.entry.value()),
            Content::Own(_) => Bytes::copy_from_slice(self.value()),
        }
    }

    /// Returns name and value as one slice, if they are adjacent in the buffer.
    #[inline]
    pub(super) fn whole(&self) -> Option<&'a [u8]> {
        let (name, value) = (self.entry.name(), self.entry.value());
        (name.end == value.start).then(|| &self.bytes[name.start..value.end])
    }

    #[inline]
    pub(super) const fn name_length(&self) -> usize {
        (self.entry.name_end - self.entry.name_start) as usize
    }

    #[inline]
    pub(super) const fn value_length(&self) -> usize {
        (self.entry.value_end - self.entry.value_start) as usize
    }

    /// Returns whether the field was added as a secret. Its name is not considered.
    #[inline]
    pub(super) const fn was_added_sensitive(&self) -> bool {
        self.entry.sensitive
    }

    /// Returns whether the encoder writes the value in full each time. It does for fields that were
    /// added with [`append_sensitive`](crate::HeaderBlock::append_sensitive), and for
    /// `authorization`, `cookie`, `proxy-authorization`, `set-cookie` and `www-authenticate`.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.entry.sensitive
            || matches!(
                self.name(),
                b"authorization"
                    | b"cookie"
                    | b"proxy-authorization"
                    | b"set-cookie"
                    | b"www-authenticate"
            )
    }
}

impl PartialEq for Field<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.value() == other.value()
    }
}

impl Eq for Field<'_> {}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().escape_ascii();
        if self.is_sensitive() {
            write!(f, "{name}: <sensitive>")
        } else {
            write!(f, "{name}: {}", self.value().escape_ascii())
        }
    }
}

/// The names and values of a block, and their positions.
#[derive(Clone)]
pub(super) enum Content {
    /// Those of a decoded block. Its clones share them, and values that were taken out share the
    /// bytes.
    Shared { bytes: Bytes, entries: Arc<[Entry]> },
    /// Those of a block that was made or changed.
    Own(Made),
}

impl Content {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared { bytes, .. } => bytes,
            Self::Own(made) => &made.bytes,
        }
    }

    #[inline]
    pub(super) fn entries(&self) -> &[Entry] {
        match self {
            Self::Shared { entries, .. } => entries,
            Self::Own(made) => &made.entries,
        }
    }

    /// Returns the content for writing. What is shared is copied first.
    #[inline]
    pub(super) fn own(&mut self) -> &mut Made {
        if let Self::Shared { bytes, entries } = self {
            *self = Self::Own(Made::copy(bytes, entries));
        }
        match self {
            Self::Own(made) => made,
            Self::Shared { .. } => unreachable!("what was shared is copied"),
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::Own(Made::default())
    }
}

/// The positions of a field in the buffer of its block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) name_start: u32,
    pub(super) name_end: u32,
    pub(super) value_start: u32,
    pub(super) value_end: u32,
    /// Whether the field was added as a secret.
    pub(super) sensitive: bool,
    /// Whether the field has several values.
    pub(super) joined: bool,
    /// Whether the value has moved to a place where it has room to grow.
    pub(super) moved: bool,
}

impl Entry {
    /// Returns the entry for two ranges of a buffer of at most 4 GiB.
    pub(super) fn new(name: Range<usize>, value: Range<usize>) -> Self {
        debug_assert!(name.end <= value.start && value.end <= u32::MAX as usize);
        Self {
            name_start: name.start as u32,
            name_end: name.end as u32,
            value_start: value.start as u32,
            value_end: value.end as u32,
            sensitive: false,
            joined: false,
            moved: false,
        }
    }

    /// Returns the length to which the value can grow where it is. The last value of the buffer has
    /// no such limit.
    pub(super) fn room(&self) -> usize {
        let length = self.value().len();
        if self.moved {
            length.next_power_of_two()
        } else {
            length
        }
    }

    #[inline]
    pub(super) fn name(&self) -> Range<usize> {
        self.name_start as usize..self.name_end as usize
    }

    #[inline]
    pub(super) fn value(&self) -> Range<usize> {
        self.value_start as usize..self.value_end as usize
    }

    pub(super) fn shift(&mut self, by: u32) {
        self.name_start += by;
        self.name_end += by;
        self.value_start += by;
        self.value_end += by;
    }
}
