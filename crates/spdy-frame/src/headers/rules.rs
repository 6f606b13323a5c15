//! What names and values may contain (protocol.md §7.2): for blocks that are decoded and for those that are made.

use crate::HeaderError;

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameError {
    Empty,
    /// NUL, CR or LF.
    Invalid,
    /// An upper-case letter and nothing worse.
    UpperCase,
}

/// Judges a name (protocol.md §7.2).
pub(super) fn check_name(name: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if !any_word(name, |word| is_below_0e(word) | is_upper_case(word)) {
        return Ok(());
    }
    if name
        .iter()
        .any(|octet| matches!(octet, b'\0' | b'\r' | b'\n'))
    {
        Err(NameError::Invalid)
    } else if name.iter().any(u8::is_ascii_uppercase) {
        Err(NameError::UpperCase)
    } else {
        Ok(())
    }
}

/// Judges a value (protocol.md §7.2), and counts the values that are joined in it.
pub(super) fn count_values(value: &[u8]) -> Result<usize, HeaderError> {
    // Nearly all values have nothing below 0x0e.
    if !any_word(value, is_below_0e) {
        return Ok(1);
    }
    if value.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        return Err(HeaderError::InvalidValue);
    }
    let mut values = 0;
    for part in value.split(|octet| *octet == 0) {
        values += 1;
        // A value that is empty as a whole is fine, and not suspect.
        if part.is_empty() {
            return Err(HeaderError::InvalidValue);
        }
    }
    Ok(values)
}

/// Whether something is true of any octet, found out for eight octets at a time. Some octets may be looked at
/// twice, and spaces with them.
#[inline]
fn any_word(octets: &[u8], is: impl Fn(u64) -> bool) -> bool {
    let (words, rest) = octets.as_chunks::<8>();
    if words.iter().any(|word| is(u64::from_le_bytes(*word))) {
        return true;
    }
    match octets.last_chunk::<8>() {
        Some(last) => !rest.is_empty() && is(u64::from_le_bytes(*last)),
        None => is(rest.iter().fold(EIGHT * b' ' as u64, |word, octet| {
            word << 8 | u64::from(*octet)
        })),
    }
}

/// Whether one of eight octets is below 0x0e: NUL, CR and LF are.
#[inline]
fn is_below_0e(word: u64) -> bool {
    // A borrow reaches the highest bit of an octet only if that octet, or one that is below as well, is the cause.
    word.wrapping_sub(EIGHT * 0x0e) & !word & HIGH_BITS != 0
}

/// Whether one of eight octets is an upper-case letter of US-ASCII.
#[inline]
fn is_upper_case(word: u64) -> bool {
    // No octet overflows: the highest bit of each stands for a comparison of the other seven.
    let low = word & !HIGH_BITS;
    let from_a = low + EIGHT * (0x80 - b'A' as u64);
    let above_z = low + EIGHT * (0x7f - b'Z' as u64);
    from_a & !above_z & !word & HIGH_BITS != 0
}

/// Eight octets of 1.
const EIGHT: u64 = u64::MAX / 0xff;

const HIGH_BITS: u64 = EIGHT << 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_judged_alike_in_words_and_one_by_one() {
        for length in 1..20 {
            for place in 0..length {
                for octet in 0..=u8::MAX {
                    let mut octets = vec![b'a' + octet % 26; length];
                    octets[place] = octet;
                    assert_eq!(any_word(&octets, is_below_0e), octet < 0x0e);
                    let upper_case = octet.is_ascii_uppercase();
                    assert_eq!(any_word(&octets, is_upper_case), upper_case);
                }
            }
        }
    }
}
