//! Valid and malformed requests.

mod alike;
mod fields;
mod http_1;
mod line;
mod random;

use super::*;

/// A GET of `https://a.test/x?y` as a browser sends it.
fn fields(version: Version) -> Vec<(&'static str, &'static str)> {
    let names = meta_names(version);
    let values = ["GET", "/x?y", "HTTP/1.1", "a.test", "https"];
    names.into_iter().zip(values).collect()
}

fn meta_names(version: Version) -> [&'static str; 5] {
    match version {
        Version::V2 => ["method", "url", "version", "host", "scheme"],
        Version::V3 | Version::V3_1 => [":method", ":path", ":version", ":host", ":scheme"],
    }
}

fn block<V: AsRef<[u8]>>(fields: &[(&str, V)]) -> HeaderBlock {
    let mut block = HeaderBlock::new();
    for (name, value) in fields {
        block.append(name, value).unwrap();
    }
    block
}

/// Reads a block as the first of its session, and as a later one. Both must have the same result.
fn read(
    version: Version,
    block: &HeaderBlock,
    has_body: bool,
    connection_fields: ConnectionFields,
) -> Result<Head, Malformed> {
    let heads = || Heads::new(version, connection_fields);
    let first = heads().read(block, has_body);
    for before in [block, &self::block(&fields(version))] {
        let mut heads = heads();
        for _ in 0..3 {
            _ = heads.read(before, true);
        }
        assert_eq!(
            format!("{:?}", heads.read(block, has_body)),
            format!("{first:?}")
        );
    }
    first
}

/// Reads the request with `changes` to its fields: another value for a field, or a further field.
fn read_changed(
    version: Version,
    changes: &[(&'static str, &'static str)],
) -> Result<Head, Malformed> {
    let mut fields = fields(version);
    for change in changes {
        match fields.iter_mut().find(|field| field.0 == change.0) {
            Some(field) => *field = *change,
            None => fields.push(*change),
        }
    }
    read(version, &block(&fields), true, ConnectionFields::Drop)
}

/// Places in [`meta_names`].
const METHOD: usize = 0;
const TARGET: usize = 1;
const HTTP_VERSION: usize = 2;
const AUTHORITY: usize = 3;
const SCHEME: usize = 4;
