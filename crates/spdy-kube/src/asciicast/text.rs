//! Bytes of a command as text in JSON.

use std::{borrow::Cow, io::Write, mem};

/// Finds the characters in pieces of bytes. A character can be split between pieces.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of a character.
    begun: Vec<u8>,
}

impl Decoder {
    /// Returns the bytes of whole characters: those of this piece, and behind the beginning of one
    /// that was kept. The beginning of one at the end is kept.
    pub(super) fn whole<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut whole = Cow::from(bytes);
        if !self.begun.is_empty() {
            let mut joined = mem::take(&mut self.begun);
            joined.extend_from_slice(bytes);
            whole = joined.into();
        }
        let Some(kept) = (1..4).find(|&kept| is_begun(&whole, kept)) else {
            return whole;
        };
        let end = whole.len() - kept;
        self.begun = whole[end..].to_vec();
        match whole {
            Cow::Borrowed(bytes) => bytes[..end].into(),
            Cow::Owned(mut bytes) => {
                bytes.truncate(end);
                bytes.into()
            }
        }
    }

    /// Returns what is kept, if nothing completes it.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        mem::take(&mut self.begun)
    }
}

/// Returns whether the last `length` bytes are the beginning of a character.
fn is_begun(bytes: &[u8], length: usize) -> bool {
    let last = bytes.len().checked_sub(length).map(|at| &bytes[at..]);
    let error = last.and_then(|last| str::from_utf8(last).err());
    error.is_some_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

/// Adds bytes as the content of a string in JSON. What is not UTF-8 becomes U+FFFD.
pub(super) fn add(bytes: &[u8], to: &mut Vec<u8>) {
    to.reserve(bytes.len() + bytes.len() / 16);
    if let Ok(text) = str::from_utf8(bytes) {
        return add_text(text, to);
    }
    for chunk in bytes.utf8_chunks() {
        add_text(chunk.valid(), to);
        if !chunk.invalid().is_empty() {
            to.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Adds a text as [`serde_json`] does, which takes several times as long, because it decides for
/// each byte by itself.
fn add_text(text: &str, to: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = find_special(rest) {
        to.extend_from_slice(&rest[..at]);
        let escape: &[u8] = match rest[at] {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            8 => b"\\b",
            12 => b"\\f",
            byte => {
                // Writing to memory cannot fail.
                _ = write!(to, "\\u{byte:04x}");
                b""
            }
        };
        to.extend_from_slice(escape);
        rest = &rest[at + 1..];
    }
    to.extend_from_slice(rest);
}

/// Returns the place of the first byte that has to be escaped.
fn find_special(bytes: &[u8]) -> Option<usize> {
    let is_special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    // There is no branch for each byte, so the compiler can look at a whole block at once.
    let has_special = |block: &[u8; 16]| {
        let add = |found, byte| found | is_special(byte);
        block.iter().fold(false, add)
    };
    let (blocks, _) = bytes.as_chunks();
    let plain = blocks
        .iter()
        .take_while(|block| !has_special(block))
        .count()
        * 16;
    let place = bytes[plain..].iter().position(is_special)?;
    Some(plain + place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_may_be_split_anywhere() {
        let bytes = "a\u{e9}\u{20ac}\u{1f600}b\u{0}\n\"".as_bytes();
        let bytes = [
            bytes,
            b"\xff\xe2\x82\xffz\xe2\xe2\x82\xacy\xf0\x9f\xc3".as_slice(),
        ]
        .concat();
        let expected = String::from_utf8_lossy(&bytes);
        for cut in 0..=bytes.len() {
            for length in 1..4 {
                let (first, second) = bytes.split_at(cut);
                let mut decoder = Decoder::default();
                let mut text = String::from_utf8_lossy(&decoder.whole(first)).into_owned();
                for piece in second.chunks(length) {
                    text += &String::from_utf8_lossy(&decoder.whole(piece));
                    assert!(decoder.begun.len() < 4);
                }
                text += &String::from_utf8_lossy(&decoder.rest());
                assert_eq!(text, expected, "cut at {cut}");
            }
        }
    }

    #[test]
    fn the_text_is_that_of_serde_json() {
        let all: String = (0..0x180).filter_map(char::from_u32).collect();
        let long = format!("{}\n{}\"\\", "x".repeat(100), "y\u{20ac}".repeat(20));
        for text in ["", "a", &all, &long] {
            for start in 0..text.len() {
                let Some(text) = text.get(start..) else {
                    continue;
                };
                let mut added = vec![b'"'];
                add(text.as_bytes(), &mut added);
                added.push(b'"');
                assert_eq!(added, serde_json::to_vec(text).unwrap(), "{text:?}");
            }
        }
        let mut added = Vec::new();
        add(b"\xffa\xe2\x82\"\xff", &mut added);
        assert_eq!(
            String::from_utf8(added).unwrap(),
            "\u{fffd}a\u{fffd}\\\"\u{fffd}"
        );
    }
}
