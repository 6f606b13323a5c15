//! Long conversations of random frames: encoded and decoded, cut at any place, and damaged.

use spdy_frame::{DecodeLimits, Frame, Version, parse};

mod support;

use support::{Random, decode_at_once, decode_in_pieces, encode, strict};

const FRAMES: usize = 400;

fn conversation(version: Version, random: &mut Random) -> Vec<Frame> {
    (0..FRAMES).map(|_| random.frame(version)).collect()
}

#[test]
fn c017_what_is_written_is_read_again_in_order() {
    for (seed, version) in (0..24).zip(Version::ALL.into_iter().cycle()) {
        let frames = conversation(version, &mut Random::new(seed));
        let decoded = decode_at_once(version, &encode(version, &frames));
        assert_eq!(decoded.fatal, None, "seed {seed}");
        assert!(!decoded.mid_frame);
        assert_eq!(decoded.frames, frames, "seed {seed}");
    }
}

#[test]
fn borrowed_frames_are_the_same_as_shared_ones() {
    for version in Version::ALL {
        let frames = conversation(version, &mut Random::new(1));
        let bytes = encode(version, &frames);
        let mut rest = &bytes[..];
        for frame in &frames {
            let (borrowed, length) = parse(version, rest).unwrap().unwrap();
            assert_eq!(borrowed.to_string(), frame.to_string());
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
    }
}

#[test]
fn c016_byte_by_byte_is_the_same_as_at_once() {
    for version in Version::ALL {
        let frames = conversation(version, &mut Random::new(2));
        let bytes = encode(version, &frames);
        let decoded = decode_in_pieces(version, DecodeLimits::default(), &bytes, |_| 1);
        assert_eq!(decoded.fatal, None);
        assert_eq!(decoded.frames, frames);
    }
}

#[test]
fn c016_pieces_of_any_size_are_the_same_as_at_once() {
    for (seed, version) in (0..60).zip(Version::ALL.into_iter().cycle()) {
        let mut random = Random::new(seed);
        let frames = conversation(version, &mut random);
        let bytes = encode(version, &frames);
        let longest = [3, 20, 500, 10_000][seed as usize % 4];
        let decoded = decode_in_pieces(version, DecodeLimits::default(), &bytes, |_| {
            1 + random.below(longest)
        });
        assert_eq!(decoded.fatal, None, "seed {seed}");
        assert_eq!(decoded.frames, frames, "seed {seed}");
    }
}

#[test]
fn c030_a_conversation_cut_anywhere_ends_inside_a_frame_or_between_two() {
    let version = Version::V3_1;
    let mut random = Random::new(3);
    let frames: Vec<Frame> = (0..30).map(|_| random.frame(version)).collect();
    let borders: Vec<usize> = (0..=frames.len())
        .map(|n| encode(version, &frames[..n]).len())
        .collect();
    let bytes = encode(version, &frames);
    for end in 0..=bytes.len() {
        let decoded = decode_at_once(version, &bytes[..end]);
        assert_eq!(decoded.fatal, None);
        assert_eq!(decoded.mid_frame, !borders.contains(&end), "cut at {end}");
    }
}

#[test]
fn c209_random_bytes_are_read_without_a_panic() {
    let mut random = Random::new(4);
    for round in 0..4000 {
        let version = Version::ALL[round % 3];
        let mut bytes = random.bytes(200);
        // Most random bytes would start one long DATA frame, so half of them start as a control
        // frame.
        if round % 2 == 0 && bytes.len() > 6 {
            bytes[..4].copy_from_slice(&[
                0x80,
                version.wire_version() as u8,
                0,
                random.below(12) as u8,
            ]);
            bytes[5..7].fill(0);
        }
        let limits = if random.chance() {
            strict()
        } else {
            DecodeLimits::default()
        };
        let at_once = decode_in_pieces(version, limits.clone(), &bytes, |rest| rest);
        let in_pieces = decode_in_pieces(version, limits, &bytes, |_| 1 + random.below(20));
        assert_eq!(at_once, in_pieces, "{bytes:02x?}");
    }
}

#[test]
fn c209_damaged_conversations_are_read_without_a_panic() {
    let mut random = Random::new(5);
    let mut fatal = 0;
    for round in 0..3000 {
        let version = Version::ALL[round % 3];
        let frames: Vec<Frame> = (0..6).map(|_| random.frame(version)).collect();
        let mut bytes = encode(version, &frames);
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                _ => bytes.truncate(at.max(1)),
            }
        }
        let at_once = decode_at_once(version, &bytes);
        let in_pieces = decode_in_pieces(version, DecodeLimits::default(), &bytes, |_| {
            1 + random.below(50)
        });
        assert_eq!(at_once, in_pieces, "{bytes:02x?}");
        fatal += usize::from(at_once.fatal.is_some());
    }
    assert!(fatal > 100, "damage shows in {fatal} conversations only");
}
