//! From the head of an HTTP request to the header block of a SYN_STREAM (protocol.md §9.1, §9.4).

use std::borrow::Cow;

use http::{
    HeaderMap, Method,
    header::{CONTENT_LENGTH, COOKIE, HOST, TE},
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use spdy_frame::{HeaderBlock, Version};

use super::Error;
use crate::{fields, origin::Origin};

/// The block of a request, and the origin it is for. `size` is what is known of the body's length.
pub(super) fn block(
    version: Version,
    head: &Parts,
    size: Option<u64>,
) -> Result<(HeaderBlock, Origin), Error> {
    let asked = origin(head)?;
    let is_connect = head.method == Method::CONNECT;
    let host = asked.host.as_str();
    let target = match head.uri.path_and_query().map(PathAndQuery::as_str) {
        _ if is_connect => Cow::Borrowed(host),
        Some(target) if target.starts_with(['/', '*']) => Cow::Borrowed(target),
        target => Cow::Owned(format!("/{}", target.unwrap_or_default())),
    };

    let count = head.headers.len() + 6;
    let mut block = HeaderBlock::with_capacity(count, OCTETS_OF_A_FIELD * count);
    let names = names(version);
    put(&mut block, names.method, head.method.as_str())?;
    put(&mut block, names.target, &target)?;
    put(&mut block, names.version, "HTTP/1.1")?;
    put(&mut block, names.host, host)?;
    if !is_connect {
        put(&mut block, names.scheme, asked.scheme.as_str())?;
    }
    fields::send(&mut block, &head.headers, names.reserved);
    put_cookies(&mut block, &head.headers)?;
    if asks_for_trailers(&head.headers) {
        put(&mut block, TE.as_str(), "trailers")?;
    }
    if let Some(octets) = size.filter(|&octets| octets > 0 || has_usually_body(&head.method))
        && !is_connect
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        put(&mut block, CONTENT_LENGTH.as_str(), &octets.to_string())?;
    }
    if !fields::fits(version, &block) {
        return Err(Error::Request("a header is longer than 65535 octets"));
    }
    Ok((block, asked))
}

/// Where a request goes: what the URI says, or the `host` field.
fn origin(head: &Parts) -> Result<Origin, Error> {
    let host = match (head.uri.authority(), head.headers.get(HOST)) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes())
            .map_err(|_| Error::Request("host is not a name with an optional port"))?,
        (None, None) => return Err(Error::Request("neither the URI nor a field names a host")),
    };
    if host.as_str().contains('@') {
        // Secrets in a URI belong in `authorization`, and no server wants them here.
        return Err(Error::Request("URI has a user name"));
    }
    if head.method == Method::CONNECT && host.port().is_none() {
        return Err(Error::Request("CONNECT needs a port"));
    }
    let scheme = head.uri.scheme().cloned().unwrap_or(Scheme::HTTPS);
    Ok(Origin { scheme, host })
}

/// One line, as servers in the field expect it (protocol.md §9.5).
fn put_cookies(block: &mut HeaderBlock, headers: &HeaderMap) -> Result<(), Error> {
    let lines: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(|line| line.as_bytes())
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let added = block.append_sensitive(COOKIE, lines.join(&b"; "[..]));
    added.map_err(|_| Error::Request("a cookie cannot be sent"))
}

fn asks_for_trailers(headers: &HeaderMap) -> bool {
    let is_trailers = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"trailers");
    let mut lines = headers.get_all(TE).iter();
    lines.any(|line| {
        line.as_bytes()
            .split(|&octet| octet == b',')
            .any(is_trailers)
    })
}

/// Whether a server may be surprised by a request without a `content-length`.
fn has_usually_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// What the meta headers are called.
pub(super) struct Names {
    pub(super) method: &'static str,
    pub(super) target: &'static str,
    pub(super) version: &'static str,
    pub(super) host: &'static str,
    pub(super) scheme: &'static str,
    /// Fields that do not go as they are. In SPDY/2 the meta headers look like others.
    reserved: &'static [&'static str],
}

pub(super) const fn names(version: Version) -> Names {
    match version {
        Version::V2 => Names {
            method: "method",
            target: "url",
            version: "version",
            host: "host",
            scheme: "scheme",
            reserved: &["method", "url", "version", "host", "scheme", "cookie"],
        },
        Version::V3 | Version::V3_1 => Names {
            method: ":method",
            target: ":path",
            version: ":version",
            host: ":host",
            scheme: ":scheme",
            reserved: &["host", "cookie"],
        },
    }
}

fn put(block: &mut HeaderBlock, name: &str, value: &str) -> Result<(), Error> {
    let added = block.append(name, value);
    added.map_err(|_| Error::Request("a header cannot be sent"))
}

/// A guess at the octets of a name and a value together.
const OCTETS_OF_A_FIELD: usize = 40;

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;
    use crate::{fields::ConnectionFields, request};

    /// What a client sends is what a server reads, also one that refuses what need not be there.
    #[test]
    fn a_server_reads_the_request_that_was_written() {
        for version in Version::ALL {
            for (method, uri) in [
                ("GET", "https://a.test/"),
                ("GET", "http://a.test:8080/x/y?q=%20&r"),
                ("POST", "https://[::1]:443/x"),
                ("OPTIONS", "https://a.test/*"),
                ("CONNECT", "a.test:443"),
                ("M-SEARCH", "https://a.test/?"),
            ] {
                let mut written = Request::builder().method(method).uri(uri).body(()).unwrap();
                for (name, value) in [
                    ("accept", "a"),
                    ("accept", "b"),
                    ("cookie", "c=1"),
                    ("cookie", "d=2"),
                    ("connection", "x-hop"),
                    ("x-hop", "1"),
                    ("x-empty", ""),
                    ("x-text", "\u{e9}"),
                    ("te", "trailers"),
                ] {
                    let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                    written.headers_mut().append(name, value);
                }
                let (head, ()) = written.into_parts();
                let (block, _) = block(version, &head, None).unwrap();
                let mut heads = request::Heads::new(version, ConnectionFields::Refuse);
                let read = heads.read(&block, true).unwrap();
                assert_eq!(read.request.method(), method);
                assert_eq!(read.request.uri(), uri);
                let mut expected = head.headers;
                expected.remove("connection");
                expected.remove("x-hop");
                expected.insert("cookie", HeaderValue::from_static("c=1; d=2"));
                let host = head.uri.authority().unwrap().as_str();
                expected.insert(HOST, HeaderValue::from_str(host).unwrap());
                assert_eq!(read.request.headers(), &expected, "{method} {uri}");
            }
        }
    }
}
