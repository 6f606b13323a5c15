//! Bytes of a command as text in JSON.

use std::{borrow::Cow, mem};

use base64::{Engine, engine::general_purpose::STANDARD};

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

/// Returns whether a piece is UTF-8, and at most one third of its first KiB are control characters
/// that no terminal is sent. In JSON, each of those takes six bytes.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let begin = &bytes[..bytes.len().min(1024)];
    let is_control = |byte: &&u8| {
        let is_known = matches!(byte, 0x07 | 0x08 | b'\t' | b'\n' | 0x0c | b'\r' | 0x1b);
        **byte < b' ' && !is_known
    };
    begin.iter().filter(is_control).count() <= begin.len() / 3 && str::from_utf8(bytes).is_ok()
}

/// Adds bytes in base64, which JSON escapes nowhere.
pub(super) fn add_base64(bytes: &[u8], to: &mut Vec<u8>) {
    let begin = to.len();
    to.resize(begin + bytes.len().div_ceil(3) * 4, 0);
    let encoded = STANDARD.encode_slice(bytes, &mut to[begin..]);
    encoded.expect("three bytes become four characters");
}

/// Adds bytes as the content of a string in JSON. What is not UTF-8 becomes U+FFFD.
pub(super) fn add(bytes: &[u8], to: &mut Vec<u8>) {
    to.reserve(bytes.len() + bytes.len() / 16);
    match str::from_utf8(bytes) {
        Ok(text) => add_text(text, to),
        Err(_) => add_broken(bytes, to),
    }
}

/// Adds a text as [`serde_json`] does, which takes several times as long, because it decides for
/// each byte by itself.
fn add_text(text: &str, to: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = find_special(rest) {
        to.extend_from_slice(&rest[..at]);
        add_special(rest[at], to);
        rest = &rest[at + 1..];
    }
    to.extend_from_slice(rest);
}

/// Adds bytes that are not all UTF-8, as [`String::from_utf8_lossy`] reads them. In noise a run of
/// text has one character, so it decides for each character by itself.
fn add_broken(bytes: &[u8], to: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        let (length, is_whole) = character(rest);
        match is_whole {
            true if is_special(first) => add_special(first, to),
            true => to.extend_from_slice(&rest[..length]),
            false => to.extend_from_slice("\u{fffd}".as_bytes()),
        }
        rest = &rest[length..];
    }
}

/// Returns the length of the character with which bytes begin, or of its part that is there and
/// `false`. The ranges are those of the Unicode Standard, table 3-7.
fn character(bytes: &[u8]) -> (usize, bool) {
    let (length, second) = match bytes[0] {
        0..=0x7f => return (1, true),
        0xc2..=0xdf => (2, 0x80..=0xbf),
        0xe0 => (3, 0xa0..=0xbf),
        0xed => (3, 0x80..=0x9f),
        0xe1..=0xef => (3, 0x80..=0xbf),
        0xf0 => (4, 0x90..=0xbf),
        0xf1..=0xf3 => (4, 0x80..=0xbf),
        0xf4 => (4, 0x80..=0x8f),
        _ => return (1, false),
    };
    if !bytes.get(1).is_some_and(|byte| second.contains(byte)) {
        return (1, false);
    }
    let is_next = |at: &usize| {
        bytes
            .get(*at)
            .is_some_and(|byte| (0x80..=0xbf).contains(byte))
    };
    let end = (2..length).take_while(is_next).count() + 2;
    (end, end == length)
}

/// Adds an ASCII character that is escaped in JSON.
fn add_special(byte: u8, to: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        8 => b'b',
        12 => b'f',
        _ => {
            let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
            let escape = [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)];
            return to.extend_from_slice(&escape);
        }
    };
    to.extend_from_slice(&[b'\\', short]);
}

/// Returns whether an ASCII character is escaped in JSON.
const fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Returns the place of the first byte that has to be escaped.
fn find_special(bytes: &[u8]) -> Option<usize> {
    // There is no branch for each byte, so the compiler can look at a whole block at once.
    let has_special = |block: &[u8; 16]| {
        let add = |found, byte: &u8| found | is_special(*byte);
        block.iter().fold(false, add)
    };
    let (blocks, _) = bytes.as_chunks();
    let plain = blocks
        .iter()
        .take_while(|block| !has_special(block))
        .count()
        * 16;
    let place = bytes[plain..].iter().position(|byte| is_special(*byte))?;
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
    fn text_is_utf_8_with_few_controls() {
        let colours = "\u{1b}[31mred\u{1b}[0m\r\n".repeat(10);
        for (bytes, expected) in [
            (&b""[..], true),
            (b"plain\ttext\n", true),
            (colours.as_bytes(), true),
            ("\u{43f}\u{20ac}".as_bytes(), true),
            (b"aaaa\0\0", true),
            (b"aaa\0\0", false),
            (&[0; 9], false),
            (b"a\0b\0c\0", false),
            (b"caf\xe9", false),
            (&[vec![b'a'; 2000], vec![0xff]].concat(), false),
        ] {
            assert_eq!(is_text(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn bytes_are_added_in_base64() {
        for length in 0..10 {
            let bytes = vec![0xff; length];
            let mut added = b"[".to_vec();
            add_base64(&bytes, &mut added);
            assert_eq!(STANDARD.decode(&added[1..]).unwrap(), bytes);
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
    }

    #[test]
    fn what_is_not_utf_8_is_read_as_by_the_standard_library() {
        let (leads, others) = (
            [0x61, 0xc2, 0xe0, 0xed, 0xee, 0xf0, 0xf1, 0xf4],
            [
                0x0a, 0x22, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xdf, 0xef, 0xf5,
                0xff,
            ],
        );
        let all: Vec<u8> = leads.into_iter().chain(others).collect();
        for (first, second) in all
            .iter()
            .flat_map(|one| all.iter().map(move |two| (*one, *two)))
        {
            for third in &all {
                let bytes = [first, second, *third, 0x80, 0xbf, 0x41];
                for bytes in [&bytes[..], &bytes[..3]] {
                    let mut added = Vec::new();
                    add_broken(bytes, &mut added);
                    let text = serde_json::to_string(&String::from_utf8_lossy(bytes)).unwrap();
                    let added = String::from_utf8(added).unwrap();
                    assert_eq!(format!("\"{added}\""), text, "{bytes:x?}");
                }
            }
        }
    }
}
