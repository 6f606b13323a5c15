//! Text in gzip: which files are text, how they are compressed, and which clients accept it.

use std::{
    io::{self, Read},
    path::Path,
};

use axum::http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, VARY},
    response::Parts,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use spdy_tower::tokens;

use super::entry::Entry;

/// Returns whether a file is likely text, by the end of its name.
pub(super) fn is_text(path: &Path) -> bool {
    let kind = mime_guess::from_path(path).first_raw().unwrap_or_default();
    let named = [
        "application/javascript",
        "application/json",
        "application/xml",
    ];
    kind.starts_with("text/")
        || kind.ends_with("+xml")
        || kind.ends_with("+json")
        || named.contains(&kind)
}

/// Compresses `len` bytes. Returns `None` if that does not make them shorter, or if there are
/// fewer.
pub(super) fn gzip(mut text: impl Read, len: u64) -> io::Result<Option<Bytes>> {
    let mut encoder = GzEncoder::new(Vec::new(), LEVEL);
    let read = io::copy(&mut text, &mut encoder)?;
    let mut compressed = encoder.finish()?;
    compressed.shrink_to_fit();
    let is_of_use = read == len && (compressed.len() as u64) < len;
    Ok(is_of_use.then(|| compressed.into()))
}

/// A file is compressed once for many responses. A higher level takes longer and saves little.
const LEVEL: Compression = Compression::new(6);

/// Returns whether a client accepts gzip, which it must name ([RFC 9110, section
/// 12.5.3](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3)).
pub(super) fn is_accepted(fields: &HeaderMap) -> bool {
    let weight = |name: &[u8]| {
        let mut codings = tokens(fields, &ACCEPT_ENCODING).map(Coding::parse);
        let coding = codings.find(|coding| coding.name.eq_ignore_ascii_case(name));
        coding.map(|coding| coding.is_accepted)
    };
    let named = weight(b"gzip").or_else(|| weight(b"x-gzip"));
    named.or_else(|| weight(b"*")).unwrap_or(false)
}

struct Coding<'a> {
    name: &'a [u8],
    is_accepted: bool,
}

impl<'a> Coding<'a> {
    fn parse(token: &'a [u8]) -> Self {
        let mut parts = token.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let is_zero = |part: &[u8]| {
            let digits = part
                .strip_prefix(b"q=")
                .or_else(|| part.strip_prefix(b"Q="));
            digits.is_some_and(|digits| {
                digits.starts_with(b"0") && digits[1..].iter().all(|it| b".0".contains(it))
            })
        };
        Self {
            name,
            is_accepted: !parts.any(is_zero),
        }
    }
}

/// Turns the head of a response with a whole file into the head of the same file in gzip, if there
/// is one and the client accepts it. Returns whether it did.
///
/// The tag becomes a weak one, since the bytes differ from those of the file. That also keeps a
/// client from joining parts of both.
pub(super) fn apply(head: &mut Parts, entry: &Entry, is_accepted: bool) -> bool {
    let Some(compressed) = entry.compressed() else {
        return false;
    };
    if head.headers.contains_key(CONTENT_ENCODING) {
        return false;
    }
    head.headers
        .insert(VARY, HeaderValue::from_static("accept-encoding"));
    let is_whole = matches!(head.status, StatusCode::OK | StatusCode::NOT_MODIFIED);
    if !is_accepted || !is_whole {
        return false;
    }
    if let Some(tag) = head.headers.get_mut(ETAG) {
        let weak = [b"W/", tag.as_bytes()].concat();
        *tag = HeaderValue::from_bytes(&weak).expect("a tag with two more letters is a value");
    }
    if head.status == StatusCode::NOT_MODIFIED {
        return false;
    }
    head.headers.remove(ACCEPT_RANGES);
    head.headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(compressed.len()));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_accepts_gzip_that_names_it_and_does_not_weigh_it_with_zero() {
        for (line, expected) in [
            ("gzip", true),
            ("br, GZIP;q=0.1", true),
            ("x-gzip", true),
            ("*", true),
            ("gzip;q=1.000", true),
            ("gzip;q=0.001", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip ; Q=0.000, *", false),
            ("*;q=0", false),
            ("gzipped", false),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(ACCEPT_ENCODING, HeaderValue::from_static(line));
            assert_eq!(is_accepted(&fields), expected, "{line}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[test]
    fn text_is_known_by_its_name() {
        for name in [
            "a.html", "a.js", "a.css", "a.json", "a.svg", "a.txt", "a.xml",
        ] {
            assert!(is_text(Path::new(name)), "{name}");
        }
        for name in ["a.png", "a.zip", "a.gz", "a", "a.woff2"] {
            assert!(!is_text(Path::new(name)), "{name}");
        }
    }
}
