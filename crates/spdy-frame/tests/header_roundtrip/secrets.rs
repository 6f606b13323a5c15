//! What the encoder does with fields whose values are secret.

use std::ops::Range;

use spdy_frame::{HeaderBlock, HeaderEncoder, Version};

use crate::{
    Indexed,
    blocks::Blocks,
    inflater::Inflater,
    support::{encode_block, pairs, serialized},
};

/// Returns the positions of the values of sensitive fields, in a serialized block that starts at
/// `at`.
fn secrets(version: Version, block: &HeaderBlock, mut at: isize) -> Vec<Range<isize>> {
    let width = if version == Version::V2 { 2 } else { 4 };
    at += width;
    let mut secrets = Vec::new();
    for field in block {
        at += width + field.name().len() as isize + width;
        let end = at + field.value().len() as isize;
        if field.is_sensitive() {
            secrets.push(at..end);
        }
        at = end;
    }
    secrets
}

#[test]
fn compressed_blocks_never_refer_to_a_secret() {
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let mut inflater = Inflater::new(version);
        let mut blocks = Blocks::new(version, 12);
        let mut is_secret = Vec::new();
        let mut count = 0;
        for _ in 0..1500 {
            let block = blocks.next();
            let start = is_secret.len();
            let bytes = inflater.block(&encode_block(&mut encoder, version, &block));
            assert!(bytes == serialized(version, &pairs(&block)));
            is_secret.resize(start + bytes.len(), false);
            for secret in secrets(version, &block, start as isize) {
                is_secret[secret.start as usize..secret.end as usize].fill(true);
                count += usize::from(!secret.is_empty());
            }
        }
        println!(
            "{version}: {count} secrets, {} matches",
            inflater.matches.len()
        );
        assert!(count > 1000 && inflater.matches.len() > 1500);
        for (from, to) in inflater.matches {
            for place in from.clone().chain(to.clone()) {
                let secret = usize::try_from(place).is_ok_and(|place| is_secret[place]);
                assert!(!secret, "{version}: {from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn c148_the_length_does_not_tell_how_much_of_a_guess_is_right() {
    let secret = "session=7f3a9c51d2e84b60";
    for version in Version::ALL {
        for name in ["set-cookie", "cookie", "authorization", "x-marked"] {
            let mut lengths = Vec::new();
            for right in 0..=secret.len() {
                let guess = format!("{}{}", &secret[..right], "!".repeat(secret.len() - right));
                let mut encoder = HeaderEncoder::new(version, Indexed);
                let mut length = Vec::new();
                // The guess comes after the secret, then before it, then in a later block.
                for order in [true, false, true] {
                    let mut block = HeaderBlock::new();
                    block.append(":status", "200 OK").unwrap();
                    if order {
                        block.append_sensitive(name, secret).unwrap();
                    }
                    block.append("x-reflected", &guess).unwrap();
                    if !order {
                        block.append_sensitive(name, secret).unwrap();
                    }
                    length.push(encode_block(&mut encoder, version, &block).len());
                }
                lengths.push(length);
            }
            lengths.dedup();
            assert_eq!(lengths.len(), 1, "{version} {name}: {lengths:?}");
        }
    }
}
