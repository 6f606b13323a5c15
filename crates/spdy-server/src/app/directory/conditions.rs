//! Parts of a file, where ServeDir alone would go wrong: `If-Range`, which it does not know, units other than bytes, and
//! redirects.

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Uri,
        header::{ETAG, IF_RANGE, LAST_MODIFIED, RANGE},
    },
};

/// The rest of a download: a part of the file, wanted only if the file is what it was.
#[derive(Debug)]
pub(super) struct Resumption {
    range: HeaderValue,
    known: HeaderValue,
}

impl Resumption {
    /// Takes the range out of a request that has a condition for it. Without the condition the range stays, unless it
    /// counts in something other than bytes: then there is no range
    /// ([RFC 9110, section 14.2](https://www.rfc-editor.org/rfc/rfc9110#section-14.2)).
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

    /// Whether the client has the beginning of the file that these fields are about. A weak tag is never the same
    /// ([RFC 9110, section 13.1.5](https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5)).
    pub(super) fn is_possible(&self, fields: &HeaderMap) -> bool {
        let is_weak = self.known.as_bytes().starts_with(b"W/");
        let is_known = |name| fields.get(name) == Some(&self.known);
        !is_weak && (is_known(ETAG) || is_known(LAST_MODIFIED))
    }

    /// Asks for the part after all.
    pub(super) fn put_back(self, request: &mut Request) {
        request.headers_mut().insert(RANGE, self.range);
    }
}

/// Where the index of a directory is, seen from the directory's name without its slash.
///
/// Relative, and with a dot in front: `//host` at the beginning, or `a:` in a name, would lead to another place.
pub(super) fn with_slash(uri: &Uri) -> Option<HeaderValue> {
    let (_, name) = uri.path().rsplit_once('/')?;
    let query = uri.query().map(|query| format!("?{query}"));
    let location = format!("./{name}/{}", query.unwrap_or_default());
    HeaderValue::try_from(location).ok()
}
