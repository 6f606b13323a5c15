//! The rules for names and values (protocol.md §7.2), in blocks that are decoded and in blocks that
//! are made.

use crate::HeaderError;

/// The error in a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameError {
    Empty,
    /// It contains NUL, CR or LF.
    Invalid,
    /// It contains an upper-case letter, and no invalid byte.
    UpperCase,
}

/// Checks a name (protocol.md §7.2).
#[inline]
pub(super) fn check_name(name: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if any_byte(name, |word| below_0e(word) | upper_case(word)) {
        return check_bytes(name);
    }
    Ok(())
}

/// Checks a name byte by byte.
#[cold]
fn check_bytes(name: &[u8]) -> Result<(), NameError> {
    if name
        .iter()
        .any(|byte| matches!(byte, b'\0' | b'\r' | b'\n'))
    {
        Err(NameError::Invalid)
    } else if name.iter().any(u8::is_ascii_uppercase) {
        Err(NameError::UpperCase)
    } else {
        Ok(())
    }
}

/// Checks a value (protocol.md §7.2). Returns the number of values that are joined in it.
#[inline]
pub(super) fn count_values(value: &[u8]) -> Result<usize, HeaderError> {
    // Nearly all values have no byte below 0x0e.
    if any_byte(value, below_0e) {
        return count_parts(value);
    }
    Ok(1)
}

/// Checks a value byte by byte.
#[cold]
fn count_parts(value: &[u8]) -> Result<usize, HeaderError> {
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return Err(HeaderError::InvalidValue);
    }
    let mut values = 0;
    for part in value.split(|byte| *byte == 0) {
        values += 1;
        // The part of an empty value is empty too, but that value has no byte below 0x0e and does
        // not get here.
        if part.is_empty() {
            return Err(HeaderError::InvalidValue);
        }
    }
    Ok(values)
}

/// Returns whether a predicate is true for any byte, testing eight bytes at a time. `marks` sets
/// the highest bit of each byte for which it is true. Some bytes are tested twice, and a few bytes
/// are tested together with spaces.
#[inline]
fn any_byte(bytes: &[u8], marks: impl Fn(u64) -> u64) -> bool {
    let found = if let Some(last) = bytes.last_chunk::<8>() {
        let mut found = marks(u64::from_le_bytes(*last));
        let mut rest = bytes;
        while let Some((word, behind)) = rest.split_first_chunk() {
            found |= marks(u64::from_le_bytes(*word));
            rest = behind;
        }
        found
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        marks(u64::from(first) | u64::from(last) << 32)
    } else if let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) {
        let middle = bytes[bytes.len() / 2];
        let [a, b, c] = [first, middle, last].map(u64::from);
        marks((EIGHT * b' ' as u64) << 24 | a | b << 8 | c << 16)
    } else {
        0
    };
    found & HIGH_BITS != 0
}

/// Marks bytes below 0x0e, which include NUL, CR and LF. A byte above a marked one in the word
/// might be marked too.
#[inline]
fn below_0e(word: u64) -> u64 {
    // A borrow sets the highest bit of a byte only if this byte or a lower one is below 0x0e.
    word.wrapping_sub(EIGHT * 0x0e) & !word
}

/// Marks upper-case letters of US-ASCII.
#[inline]
fn upper_case(word: u64) -> u64 {
    // No byte overflows, because only its lower seven bits are added. Its highest bit is the
    // result.
    let low = word & !HIGH_BITS;
    let from_a = low + EIGHT * (0x80 - b'A' as u64);
    let above_z = low + EIGHT * (0x7f - b'Z' as u64);
    from_a & !above_z & !word
}

/// The word whose eight bytes are all 1.
const EIGHT: u64 = u64::MAX / 0xff;

const HIGH_BITS: u64 = EIGHT << 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checking_words_gives_the_same_result_as_checking_bytes() {
        for length in 1..20 {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'a' + byte % 26; length];
                    bytes[place] = byte;
                    assert_eq!(any_byte(&bytes, below_0e), byte < 0x0e);
                    let is_upper_case = byte.is_ascii_uppercase();
                    assert_eq!(any_byte(&bytes, upper_case), is_upper_case);
                }
            }
        }
    }
}
