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
#[inline]
pub(super) fn check_name(name: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if any_octet(name, |word| below_0e(word) | upper_case(word)) {
        return check_octets(name);
    }
    Ok(())
}

/// Judges a name octet by octet.
#[cold]
fn check_octets(name: &[u8]) -> Result<(), NameError> {
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
#[inline]
pub(super) fn count_values(value: &[u8]) -> Result<usize, HeaderError> {
    // Nearly all values have nothing below 0x0e.
    if any_octet(value, below_0e) {
        return count_parts(value);
    }
    Ok(1)
}

/// Judges a value octet by octet.
#[cold]
fn count_parts(value: &[u8]) -> Result<usize, HeaderError> {
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

/// Whether something is true of any octet, found out for eight octets at a time: `marks` sets the highest bit of
/// an octet for which it is. Some octets are looked at twice, and spaces with a few of them.
#[inline]
fn any_octet(octets: &[u8], marks: impl Fn(u64) -> u64) -> bool {
    let found = if let Some(last) = octets.last_chunk::<8>() {
        let mut found = marks(u64::from_le_bytes(*last));
        let mut rest = octets;
        while let Some((word, behind)) = rest.split_first_chunk() {
            found |= marks(u64::from_le_bytes(*word));
            rest = behind;
        }
        found
    } else if let (Some(first), Some(last)) = (octets.first_chunk::<4>(), octets.last_chunk::<4>())
    {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        marks(u64::from(first) | u64::from(last) << 32)
    } else if let (Some(&first), Some(&last)) = (octets.first(), octets.last()) {
        let middle = octets[octets.len() / 2];
        let [a, b, c] = [first, middle, last].map(u64::from);
        marks((EIGHT * b' ' as u64) << 24 | a | b << 8 | c << 16)
    } else {
        0
    };
    found & HIGH_BITS != 0
}

/// Marks octets below 0x0e: NUL, CR and LF are. Octets above a marked one may be marked without a cause.
#[inline]
fn below_0e(word: u64) -> u64 {
    // A borrow reaches the highest bit of an octet only if that octet, or one that is below as well, is the cause.
    word.wrapping_sub(EIGHT * 0x0e) & !word
}

/// Marks upper-case letters of US-ASCII.
#[inline]
fn upper_case(word: u64) -> u64 {
    // No octet overflows: the highest bit of each stands for a comparison of the other seven.
    let low = word & !HIGH_BITS;
    let from_a = low + EIGHT * (0x80 - b'A' as u64);
    let above_z = low + EIGHT * (0x7f - b'Z' as u64);
    from_a & !above_z & !word
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
                    assert_eq!(any_octet(&octets, below_0e), octet < 0x0e);
                    let is_upper_case = octet.is_ascii_uppercase();
                    assert_eq!(any_octet(&octets, upper_case), is_upper_case);
                }
            }
        }
    }
}
