//! Requests that are like one before them.

use super::{
    random::{ROUNDS, Random, plain_request},
    *,
};

/// A session in which all requests but the last are alike, so that the last may go the short way.
#[test]
fn a_similar_request_has_the_same_result_as_in_a_new_session() {
    let mut random = Random(0x1f83_d9ab);
    let mut accepted = 0;
    for round in 0..ROUNDS {
        let version = Version::ALL[round % 3];
        let (usual, changed) = (plain_request(version), random.request(version));
        let mut heads = Heads::new(version, ConnectionFields::Drop);
        for _ in 0..3 {
            heads.read(&usual, true).unwrap();
        }
        let first = Heads::new(version, ConnectionFields::Drop).read(&changed, true);
        let last = heads.read(&changed, true);
        assert_eq!(format!("{last:?}"), format!("{first:?}"), "{changed:?}");
        accepted += usize::from(last.is_ok());
    }
    assert!((ROUNDS / 10..ROUNDS * 9 / 10).contains(&accepted));
}

#[test]
fn fields_are_copied_from_the_third_similar_request_on() {
    for version in Version::ALL {
        let mut heads = Heads::new(version, ConnectionFields::Drop);
        let mut agent_of = |path: &'static str, more: [(&'static str, &'static str); 2]| {
            let mut fields = fields(version);
            fields[TARGET].1 = path;
            fields.extend(more);
            let request = heads.read(&block(&fields), true).unwrap().request;
            assert_eq!(request.uri().path(), path);
            for (name, value) in more {
                assert_eq!(request.headers()[name], value);
            }
            request.headers()["user-agent"].clone()
        };
        let is_shared = |one: &HeaderValue, other: &HeaderValue| {
            one.as_bytes().as_ptr() == other.as_bytes().as_ptr()
        };
        let agent = ("user-agent", "a");
        let [first, second, third] =
            ["/a", "/b", "/c"].map(|path| agent_of(path, [agent, ("accept", "*/*")]));
        assert!(!is_shared(&first, &second) && is_shared(&second, &third));
        let other_value = agent_of("/d", [agent, ("accept", "image/png")]);
        assert!(is_shared(&second, &other_value));
        // Those that follow are held against one with other fields.
        let [other, first, second] =
            ["/d", "/e", "/f"].map(|path| agent_of(path, [("accept", "*/*"), agent]));
        assert!(!is_shared(&third, &other) && !is_shared(&other, &first));
        assert!(is_shared(&first, &second));
    }
}

#[test]
fn a_changed_field_of_a_similar_request_is_checked() {
    let usual = [
        ("te", "trailers"),
        ("connection", "close"),
        ("cookie", "a=1\0b=2"),
        ("content-length", "5"),
        ("x-multi", "a\0b"),
        ("user-agent", "a"),
        ("x-a", "1"),
        ("x-b", "2"),
        ("x-c", "3"),
    ];
    let values = [
        "", "0", "7", "gzip", "trailers", "close", "x\0y", "c=3", "a.test", " x", "\x01", "5",
        "GET", "http", "HTTP/1.0", "/z", "*", "CONNECT", "OPTIONS",
    ];
    for version in Version::ALL {
        let usual = [&fields(version)[..], &usual[..], &[("host", "a.test")][..]].concat();
        let usual = &usual[..usual.len() - usize::from(version == Version::V2)];
        for changes in 1..=usual.len() {
            for first in 0..=usual.len() - changes {
                for value in values {
                    let mut changed = usual.to_vec();
                    changed[first..first + changes]
                        .iter_mut()
                        .for_each(|field| field.1 = value);
                    let (usual, changed) = (block(usual), block(&changed));
                    let mut heads = Heads::new(version, ConnectionFields::Drop);
                    for _ in 0..2 {
                        heads.read(&usual, true).unwrap();
                    }
                    let fresh = Heads::new(version, ConnectionFields::Drop).read(&changed, true);
                    let last = heads.read(&changed, true);
                    assert_eq!(format!("{last:?}"), format!("{fresh:?}"), "{changed:?}");
                    let again = heads.read(&usual, true).unwrap();
                    assert_eq!(again.content_length, Some(5));
                    assert_eq!(again.request.headers()["x-c"], "3");
                }
            }
        }
    }
}

#[test]
fn a_similar_request_without_its_announced_body_is_malformed() {
    let mut fields = fields(Version::V3_1);
    fields.push(("content-length", "5"));
    let block = block(&fields);
    let mut heads = Heads::new(Version::V3_1, ConnectionFields::Drop);
    for _ in 0..3 {
        assert_eq!(heads.read(&block, true).unwrap().content_length, Some(5));
        assert_eq!(
            heads.read(&block, false).unwrap_err(),
            Malformed::BodyMissing
        );
    }
}

#[test]
fn a_large_request_is_not_kept() {
    for (name, value) in [("x-long", "a".repeat(2048)), ("x-short", "a".into())] {
        let mut fields: Vec<_> = fields(Version::V3_1)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if value.len() == 1 {
            fields.extend((0..12).map(|number| (format!("{name}{number}"), value.clone())));
        } else {
            fields.push((name.to_owned(), value));
        }
        let name = fields.last().unwrap().0.clone();
        let pairs = fields.iter().map(|(name, value)| (&name[..], &value[..]));
        let block = HeaderBlock::from_pairs(pairs).unwrap();
        let mut heads = Heads::new(Version::V3_1, ConnectionFields::Drop);
        let mut read = || {
            let head = heads.read(&block, true).unwrap();
            head.request.headers()[&name].clone()
        };
        let values = [read(), read(), read()];
        assert_ne!(values[1].as_bytes().as_ptr(), values[2].as_bytes().as_ptr());
    }
}
