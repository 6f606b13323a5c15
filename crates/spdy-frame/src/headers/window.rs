//! The bytes that were inflated last, which later blocks can refer to.

use std::fmt;

use crate::hidden::Hidden;

/// The last bytes of a deflate stream, at most as many as the window size, preceded by the
/// dictionary.
///
/// Memory grows with the bytes that came. Nothing is allocated before the first byte.
pub(super) struct Window {
    dictionary: &'static [u8],
    /// Once it holds `size` bytes, it is a ring.
    bytes: Vec<u8>,
    /// The position of the next byte in a full ring.
    next: usize,
    size: usize,
}

impl Window {
    /// Returns the number of bytes that the window holds in memory.
    pub(super) const fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Returns an empty window for distances up to `size`.
    pub(super) const fn new(size: usize, dictionary: &'static [u8]) -> Self {
        Self {
            dictionary,
            bytes: Vec::new(),
            next: 0,
            size,
        }
    }

    /// Returns the largest distance.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// Appends bytes.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.size)..];
        let (first, rest) = bytes.split_at(bytes.len().min(self.size - self.bytes.len()));
        if !first.is_empty() {
            self.make_room(first.len());
            self.bytes.extend_from_slice(first);
        }
        if !rest.is_empty() {
            self.overwrite(rest);
        }
    }

    /// Writes bytes to a full ring, over the oldest ones.
    fn overwrite(&mut self, bytes: &[u8]) {
        let (end, start) = bytes.split_at(bytes.len().min(self.size - self.next));
        self.bytes[self.next..][..end.len()].copy_from_slice(end);
        self.bytes[..start.len()].copy_from_slice(start);
        self.next = (self.next + bytes.len()) % self.size;
    }

    /// Reserves memory in small steps, because the window is most of what an idle session holds.
    fn make_room(&mut self, more: usize) {
        let length = self.bytes.len() + more;
        if length > self.bytes.capacity() {
            let room = (length + length / 8).next_multiple_of(STEP).min(self.size);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
    }

    /// Returns whether the last bytes are these.
    pub(super) fn ends_with(&self, bytes: &[u8]) -> bool {
        // The last bytes end at `next`, and older ones at the end of the ring.
        let (new, old) = self.bytes.split_at(self.next);
        match bytes.len().checked_sub(new.len()) {
            None | Some(0) => new.ends_with(bytes),
            Some(more) => bytes.ends_with(new) && old.ends_with(&bytes[..more]),
        }
    }

    /// Appends to `to` the bytes from `back` bytes before the end, at most `length` and not past
    /// the end. Returns their number, or `None` if the window does not reach that far back.
    #[inline]
    pub(super) fn repeat(&self, back: usize, length: usize, to: &mut Vec<u8>) -> Option<usize> {
        let parts = self.parts();
        let all: usize = parts.iter().map(|part| part.len()).sum();
        let mut from = all.checked_sub(back)?;
        let length = length.min(back);
        let mut rest = length;
        for part in parts {
            let Some(bytes) = part.get(from..) else {
                from -= part.len();
                continue;
            };
            let bytes = &bytes[..bytes.len().min(rest)];
            to.extend_from_slice(bytes);
            rest -= bytes.len();
            from = 0;
        }
        Some(length)
    }

    /// Returns all bytes that a block can refer to, oldest first: the end of the dictionary, and
    /// the two parts of the ring.
    fn parts(&self) -> [&[u8]; 3] {
        let (new, old) = self.bytes.split_at(self.next);
        let room = self.size - self.bytes.len();
        let dictionary = &self.dictionary[self.dictionary.len().saturating_sub(room)..];
        [dictionary, old, new]
    }
}

/// Shows only the number of bytes, which contain all secrets of the session.
impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Window")
            .field(&Hidden(self.bytes.len()))
            .finish()
    }
}

/// The capacity of a window is a multiple of this number of bytes, unless it has its full size.
const STEP: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the window with a plain copy of all bytes.
    #[test]
    fn a_window_has_the_last_bytes_and_before_them_the_dictionary() {
        for piece in [1, 2, 3, 5, 8, 13, 40] {
            let mut window = Window::new(16, b"dictionary");
            let mut all = b"dictionary".to_vec();
            for round in 0..20 {
                let bytes: Vec<u8> = (0..piece).map(|n| (round * piece + n) as u8).collect();
                window.extend(&bytes);
                all.extend(bytes);
                for length in 0..=window.bytes.len() {
                    let mut last = all[all.len() - length..].to_vec();
                    assert!(window.ends_with(&last));
                    if let Some(first) = last.first_mut() {
                        *first ^= 1;
                        assert!(!window.ends_with(&last));
                    }
                }
                let last = &all[all.len().saturating_sub(window.size())..];
                assert_eq!(window.parts().concat(), last, "{piece} {round}");
                for back in 1..=last.len() {
                    for length in 1..20 {
                        let mut read = Vec::new();
                        let copied = window.repeat(back, length, &mut read);
                        assert_eq!(copied, Some(length.min(back)));
                        assert_eq!(read, last[last.len() - back..][..length.min(back)]);
                    }
                }
                let beyond = window.repeat(last.len() + 1, 3, &mut Vec::new());
                assert_eq!(beyond, None);
            }
        }
    }

    #[test]
    fn the_buffer_grows_in_proportion_to_its_bytes() {
        let mut window = Window::new(1 << 15, b"");
        assert_eq!(window.bytes.capacity(), 0);
        for round in 1..=1000 {
            window.extend(&[7; 100]);
            let room = window.bytes.capacity();
            assert!(room <= (100 * round + 100 * round / 8 + STEP).min(1 << 15));
        }
    }
}
