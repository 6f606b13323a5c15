//! The checksum of a PROXY protocol header of version 2, which a proxy can add as a field.

use ppp::v2::{Type, TypeLengthValues};

use super::{Invalid, facts::once};

/// Compares the checksum with the header, if the header has one.
///
/// `header` is all of it, and ends with `fields`. The checksum is that of the header with four
/// zeros in its own place.
pub(super) fn verify(header: &[u8], fields: &[u8]) -> Result<(), Invalid> {
    let mut end = header.len() - fields.len();
    let mut seen = None;
    for field in TypeLengthValues::from(fields) {
        let field = field?;
        let start = end + FIELD_HEAD;
        end = start + field.value.len();
        if field.kind != CRC32C {
            continue;
        }
        once(CRC32C, &mut seen, ())?;
        let value = <[u8; 4]>::try_from(&*field.value).map_err(|_| Invalid::Value(CRC32C))?;
        let (said, is) = (
            u32::from_be_bytes(value),
            crc32c([&header[..start], &[0; 4], &header[end..]]),
        );
        if said != is {
            return Err(Invalid::Checksum { said, is });
        }
    }
    Ok(())
}

/// Returns the CRC-32C (Castagnoli) of these bytes.
fn crc32c<const N: usize>(parts: [&[u8]; N]) -> u32 {
    let bytes = parts.into_iter().flatten();
    !bytes.fold(!0, |crc, byte| {
        (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)]
    })
}

/// What each value of a byte adds.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// That of Castagnoli, with its lowest power first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const CRC32C: u8 = Type::CRC32C as u8;

/// The type and the length of a field.
const FIELD_HEAD: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 3720, B.4, and the check value of the algorithm.
    #[test]
    fn the_algorithm_is_that_of_castagnoli() {
        assert_eq!(crc32c([b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c([&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc32c([&[0xff; 16], &[0xff; 16]]), 0x62a8_ab43);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c([&up[..]]), 0x46dd_794e);
    }

    /// A header of which only the fields matter here.
    fn verified(before: &[u8], fields: &[u8]) -> Result<(), Invalid> {
        verify(&[before, fields].concat(), fields)
    }

    #[test]
    fn a_header_is_compared_with_its_checksum_wherever_that_is() {
        let before = b"signature and addresses";
        for (first, last) in [
            (&b""[..], &b""[..]),
            (b"\x01\0\x02h2", b""),
            (b"", b"\x05\0\x01u"),
            (b"\x01\0\x02h2", b"\x05\0\x01u"),
        ] {
            let with = |crc: u32| [first, &[CRC32C, 0, 4], &crc.to_be_bytes(), last].concat();
            let is = crc32c([&before[..], &with(0)]);
            assert_eq!(verified(before, &with(is)), Ok(()));
            let error = verified(before, &with(is ^ 1)).unwrap_err();
            assert_eq!(error, Invalid::Checksum { said: is ^ 1, is });
            let mut other = before.to_vec();
            other[3] ^= 0x10;
            assert!(verified(&other, &with(is)).is_err());
        }
    }

    #[test]
    fn what_is_no_checksum_is_named() {
        let short = [CRC32C, 0, 3, 1, 2, 3];
        assert_eq!(verified(b"", &short), Err(Invalid::Value(CRC32C)));
        let one = [CRC32C, 0, 4, 0, 0, 0, 0];
        let is = crc32c([&one[..], &one]);
        let two = [&[CRC32C, 0, 4][..], &is.to_be_bytes(), &one].concat();
        assert!(verified(b"", &two).is_err());
        assert_eq!(verified(b"", b"\x01\0\x02h2"), Ok(()));
    }
}
