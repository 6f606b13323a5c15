//! Parts of a file, where `ServeDir` alone would be wrong: `If-Range`, which it does not support,
//! units other than bytes, and redirects.

use std::ops::Range;

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Uri,
        header::{ACCEPT_RANGES, ETAG, IF_RANGE, LAST_MODIFIED, RANGE},
    },
};

/// The rest of a download: a part of the file, which the client wants only if the file is
/// unchanged.
#[derive(Debug)]
pub(super) struct Resumption {
    range: HeaderValue,
    known: HeaderValue,
}

impl Resumption {
    /// Takes the range out of a request that has a condition for it. Without a condition the range
    /// stays, unless its unit is not bytes: then the range is ignored ([RFC 9110, section
    /// 14.2](https://www.rfc-editor.org/rfc/rfc9110#section-14.2)).
    pub(super) fn take(request: &mut Request) -> Option<Self> {
        let fields = request.headers_mut();
        let range = fields.get(RANGE)?.clone();
        let counts_bytes = range.as_bytes().starts_with(b"bytes=");
        let known = fields.remove(IF_RANGE);
        if known.is_some() || !counts_bytes {
            fields.remove(RANGE);
        }
        let known = known.filter(|_| counts_bytes)?;
        Some(Self { range, known })
    }

    /// Returns whether the client has the beginning of the file that these fields describe. A weak
    /// tag never matches ([RFC 9110, section
    /// 13.1.5](https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5)). A file that would be
    /// compressed for the client has no parts.
    pub(super) fn is_possible(&self, fields: &HeaderMap) -> bool {
        let has_parts = fields.contains_key(ACCEPT_RANGES);
        let is_weak = self.known.as_bytes().starts_with(b"W/");
        let is_known = |name| fields.get(name) == Some(&self.known);
        has_parts && !is_weak && (is_known(ETAG) || is_known(LAST_MODIFIED))
    }

    /// Puts the range back into the request.
    pub(super) fn put_back(&self, request: &mut Request) {
        let range = self.range.clone();
        request.headers_mut().insert(RANGE, range);
    }
}

/// The range of a request, in a form that `ServeDir` accepts. It does not accept numbers above 64
/// bits, which are valid ([RFC 9110, section
/// 14.1.2](https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2)), and no suffix that is longer
/// than the file, which means the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// The last bytes.
    Suffix(u64),
    /// From one byte to another, or to the end.
    Bytes(u64, Option<u64>),
}

impl Span {
    /// Returns the range of a request. Returns `None` for other ranges, which `ServeDir` handles.
    pub(super) fn of(fields: &HeaderMap) -> Option<Self> {
        let range = fields.get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
        Self::parse(range).filter(|range| *range != Self::Suffix(0))
    }

    /// Parses a range of bytes without its unit.
    pub(super) fn parse(range: &str) -> Option<Self> {
        match range.split_once('-')? {
            ("", length) => Some(Self::Suffix(number(length)?)),
            (first, "") => Some(Self::Bytes(number(first)?, None)),
            (first, last) => Some(Self::Bytes(number(first)?, Some(number(last)?))),
        }
    }

    /// Returns the bytes that it means in a file of this length, if there are any.
    pub(super) fn within(self, len: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Suffix(length) => len.saturating_sub(length)..len,
            Self::Bytes(first, None) => first..len,
            Self::Bytes(first, Some(last)) => first..last.saturating_add(1).min(len),
        };
        (!range.is_empty()).then_some(range)
    }

    pub(super) fn put(self, fields: &mut HeaderMap) {
        let range = match self {
            Self::Suffix(length) => format!("bytes=-{length}"),
            Self::Bytes(first, None) => format!("bytes={first}-"),
            Self::Bytes(first, Some(last)) => format!("bytes={first}-{last}"),
        };
        let range = HeaderValue::try_from(range).expect("it is of digits and signs");
        fields.insert(RANGE, range);
    }
}

/// Returns a number, or the largest one if it is too large.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Returns whether a path leads below the file that it names although it does not end with a slash:
/// there is nothing below a file.
pub(super) fn leads_below(path: &str) -> bool {
    const SLASHES: [&str; 3] = ["/", "%2f", "%2F"];
    const DOTS: [&str; 3] = [".", "%2e", "%2E"];
    let before_dot = DOTS.iter().find_map(|dot| path.strip_suffix(dot));
    let ends_with_slash = |path: &str| SLASHES.iter().any(|slash| path.ends_with(slash));
    ends_with_slash(path) || before_dot.is_some_and(ends_with_slash)
}

/// Returns the location of the index of a directory, relative to the name of the directory without
/// its slash.
///
/// It is relative and begins with a dot, because `//host` at the beginning, or `a:` in a name,
/// would lead to another place.
pub(super) fn with_slash(uri: &Uri) -> Option<HeaderValue> {
    let (_, name) = uri.path().rsplit_once('/')?;
    let query = uri.query().map(|query| format!("?{query}"));
    let location = format!("./{name}/{}", query.unwrap_or_default());
    HeaderValue::try_from(location).ok()
}
