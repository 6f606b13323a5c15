//! Header fields of requests, responses and trailers, as they are received and sent.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE},
};
use spdy_frame::{Field, HeaderBlock, HeaderError, Version};

use super::{
    list::{has_token, is_hop_by_hop},
    malformed::Malformed,
};

/// What happens to received fields of a single HTTP/1.1 connection (protocol.md §9.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionFields {
    /// They are dropped.
    Drop,
    /// They make the message malformed.
    Refuse,
}

/// Adds a field of a received block to `map`, value by value, without copying the values. Secret
/// values are marked as sensitive, so that debug output does not show them.
///
/// Several cookies become one `cookie` line. Each value of any other field gets its own line
/// (protocol.md §9.5).
pub(crate) fn receive(
    map: &mut HeaderMap,
    field: Field<'_>,
    connection_fields: ConnectionFields,
) -> Result<(), Malformed> {
    if is_hop_by_hop(field.name()) {
        return match connection_fields {
            ConnectionFields::Drop => Ok(()),
            ConnectionFields::Refuse => Err(Malformed::ConnectionField),
        };
    }
    let name = HeaderName::from_bytes(field.name()).map_err(|_| Malformed::FieldName)?;
    let whole = field.value_bytes();
    let is_secret = field.is_sensitive();
    if !field.is_joined() {
        return add(map, name, whole, is_secret);
    }
    let mut values = whole.split(|&byte| byte == VALUE_SEPARATOR);
    if name == COOKIE {
        let crumbs: Vec<&[u8]> = values.collect();
        return add(map, name, crumbs.join(COOKIE_SEPARATOR).into(), is_secret);
    }
    values.try_for_each(|value| add(map, name.clone(), whole.slice_ref(value), is_secret))
}

/// Adds the fields of a HEADERS frame to `map`. Fields that frame or route a request are too late
/// here, and are errors.
pub(crate) fn receive_trailers(map: &mut HeaderMap, block: &HeaderBlock) -> Result<(), Malformed> {
    for field in block.fields() {
        receive(map, field, ConnectionFields::Drop)?;
    }
    if map.contains_key(CONTENT_LENGTH) || map.contains_key(HOST) {
        return Err(Malformed::FieldName);
    }
    Ok(())
}

/// Checks a value. A value that HTTP/1.1 could not carry unchanged is rejected and not repaired.
pub(crate) fn value(bytes: Bytes) -> Result<HeaderValue, Malformed> {
    let is_padding = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_padding(bytes.first()) || is_padding(bytes.last()) {
        return Err(Malformed::FieldValue);
    }
    HeaderValue::from_maybe_shared(bytes).map_err(|_| Malformed::FieldValue)
}

/// Returns the length of `content-length`: one number, or `None`. Two numbers are rejected even if
/// they are equal, because another parser may read only one.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    if !has(headers, &CONTENT_LENGTH) {
        return Ok(None);
    }
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(bytes), None) => Ok(Some(bytes)),
        _ => Err(Malformed::ContentLength),
    }
}

/// Returns the length that a block to be sent announces, if it is one number.
pub(crate) fn announced(block: &HeaderBlock) -> Option<u64> {
    let digits = block.get(CONTENT_LENGTH.as_str())?;
    str::from_utf8(digits).ok()?.parse().ok()
}

fn add(
    map: &mut HeaderMap,
    name: HeaderName,
    bytes: Bytes,
    is_secret: bool,
) -> Result<(), Malformed> {
    let mut value = value(bytes)?;
    value.set_sensitive(is_secret);
    if name == TE && !value.as_bytes().eq_ignore_ascii_case(b"trailers") {
        // Other transfer codings concern a single HTTP/1.1 connection.
        return Ok(());
    }
    if map.len() >= MAX_FIELDS {
        return Err(Malformed::TooManyFields);
    }
    map.try_append(name, value)
        .map_err(|_| Malformed::TooManyFields)?;
    Ok(())
}

/// Returns an empty map with room for this number of received fields.
pub(super) fn map_for(fields: usize) -> HeaderMap {
    HeaderMap::with_capacity(fields.min(MAX_FIELDS))
}

/// Returns an empty block with room for this number of fields.
pub(super) fn block_for(fields: usize) -> HeaderBlock {
    HeaderBlock::with_capacity(fields, BYTES_OF_A_FIELD * fields)
}

/// Adds the fields of `map` to a block that will be sent. Repeated values are joined with NUL, and
/// secrets are kept away from the compressor. Fields of a single connection, fields that
/// `connection` names (protocol.md §9.4), and the names in `reserved` are left out.
pub(crate) fn send(block: &mut HeaderBlock, map: &HeaderMap, reserved: &[&str]) {
    let has_connection = has(map, &CONNECTION);
    for (name, value) in map {
        if name == TE
            || is_hop_by_hop(name.as_str().as_bytes())
            || reserved.contains(&name.as_str())
            || (has_connection && has_token(map, &CONNECTION, name.as_str()))
        {
            continue;
        }
        let added = if value.is_sensitive() {
            block.append_sensitive(name, value)
        } else {
            block.append(name, value)
        };
        // `http` allows no NUL, CR or LF in names and values, and no empty name.
        debug_assert!(added.is_ok(), "{name} cannot be sent: {added:?}");
    }
}

/// Adds the cookies of a request as one line, as deployed servers expect it (protocol.md §9.5).
pub(super) fn send_cookies(block: &mut HeaderBlock, map: &HeaderMap) -> Result<(), HeaderError> {
    let lines = map.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let lines: Vec<&[u8]> = lines.collect();
    if lines.is_empty() {
        return Ok(());
    }
    block.append_sensitive(COOKIE, lines.join(COOKIE_SEPARATOR))
}

/// Adds a field that this crate writes.
pub(super) fn put(block: &mut HeaderBlock, name: &str, value: &str) {
    let added = block.append(name, value);
    debug_assert!(added.is_ok(), "{name} cannot be sent: {added:?}");
}

/// Adds fields that this crate has put into another block.
pub(super) fn put_block(block: &mut HeaderBlock, other: &HeaderBlock) {
    let added = block.append_block(other);
    debug_assert!(added.is_ok(), "{other:?} cannot be sent: {added:?}");
}

/// Adds a field with a number, without an allocation for its digits.
pub(super) fn put_number(block: &mut HeaderBlock, name: &str, mut number: u64) {
    let mut digits = [b'0'; MAX_DIGITS];
    let mut first = MAX_DIGITS - 1;
    while number > 9 {
        digits[first] += (number % 10) as u8;
        number /= 10;
        first -= 1;
    }
    digits[first] += number as u8;
    let added = block.append(name, &digits[first..]);
    debug_assert!(added.is_ok(), "{name} cannot be sent: {added:?}");
}

/// Returns whether `map` has a field. For a few fields, comparing each is faster than hashing the
/// name.
pub(crate) fn has(map: &HeaderMap, name: &HeaderName) -> bool {
    map.keys().any(|key| key == name)
}

/// Returns whether every value of the block fits into the version's length fields, which have 16
/// bits in SPDY/2.
pub(crate) fn fits(version: Version, block: &HeaderBlock) -> bool {
    let is_short = |bytes: &[u8]| u16::try_from(bytes.len()).is_ok();
    version != Version::V2
        || block
            .fields()
            .all(|field| is_short(field.name()) && is_short(field.value()))
}

/// Returns whether a later block has a field of an earlier one.
pub(crate) fn repeats(first: &HeaderBlock, later: &HeaderBlock) -> bool {
    later
        .fields()
        .any(|field| first.get(field.name()).is_some())
}

/// The most fields of a head or of trailers, whatever the session allows. A map panics that is to
/// have more than 24,576 names, and an application adds some to those that were received.
const MAX_FIELDS: usize = 16 * 1024;

/// Separates the values of one field (protocol.md §7.2).
pub(crate) const VALUE_SEPARATOR: u8 = 0;

/// Separates the cookies of one line.
const COOKIE_SEPARATOR: &[u8] = b"; ";

/// The most digits that a `u64` has.
const MAX_DIGITS: usize = 20;

/// An estimate of the length of a name and a value together, in bytes.
const BYTES_OF_A_FIELD: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_fields_is_more_than_a_map_can_have() {
        for fields in [0, MAX_FIELDS, 24_577, usize::MAX] {
            assert!(map_for(fields).is_empty());
        }
        for (values, is_allowed) in [(MAX_FIELDS, true), (MAX_FIELDS + 1, false)] {
            let mut block = HeaderBlock::new();
            block.append("x", vec!["y"; values].join("\0")).unwrap();
            let field = block.fields().next().unwrap();
            let received = receive(&mut map_for(1), field, ConnectionFields::Drop);
            let expected = is_allowed.then_some(()).ok_or(Malformed::TooManyFields);
            assert_eq!(received, expected, "{values}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for number in [0, 9, 10, 1_000_000, 1_234_567_890, u64::MAX] {
            let mut block = HeaderBlock::new();
            put_number(&mut block, "content-length", number);
            assert_eq!(
                block.get("content-length"),
                Some(number.to_string().as_bytes())
            );
        }
    }
}
