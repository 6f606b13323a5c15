//! Writes the head of an HTTP request to the header block of a SYN_STREAM (protocol.md §9.1, §9.4).

use std::borrow::Cow;

use http::{
    Method,
    header::{CONTENT_LENGTH, HOST, TE},
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use spdy_frame::{HeaderBlock, Version};

use super::{
    InvalidRequest, fields,
    list::has_token,
    names::{Message, Meta},
    origin::Origin,
};

/// Returns the block of a request, and its origin. `size` is the size hint of the body.
pub(crate) fn block(
    version: Version,
    head: &Parts,
    size: Option<u64>,
) -> Result<(HeaderBlock, Origin), InvalidRequest> {
    let asked = origin(head)?;
    let is_connect = head.method == Method::CONNECT;
    let host = asked.host.as_str();
    let target = match head.uri.path_and_query().map(PathAndQuery::as_str) {
        _ if is_connect => Cow::Borrowed(host),
        Some(target) if target.starts_with(['/', '*']) => Cow::Borrowed(target),
        target => Cow::Owned(format!("/{}", target.unwrap_or_default())),
    };

    let count = head.headers.len() + 6;
    let mut block = fields::block_for(count);
    put(&mut block, Meta::Method.name(version), head.method.as_str())?;
    put(&mut block, Meta::Target.name(version), &target)?;
    put(&mut block, Meta::HttpVersion.name(version), "HTTP/1.1")?;
    put(&mut block, Meta::Host.name(version), host)?;
    if !is_connect {
        put(
            &mut block,
            Meta::Scheme.name(version),
            asked.scheme.as_str(),
        )?;
    }
    fields::send(
        &mut block,
        &head.headers,
        Message::Request.reserved(version),
    );
    fields::send_cookies(&mut block, &head.headers).map_err(|_| InvalidRequest::Field)?;
    if has_token(&head.headers, &TE, "trailers") {
        put(&mut block, TE.as_str(), "trailers")?;
    }
    if let Some(bytes) = size.filter(|&bytes| bytes > 0 || has_usually_body(&head.method))
        && !is_connect
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        put(&mut block, CONTENT_LENGTH.as_str(), &bytes.to_string())?;
    }
    if !fields::fits(version, &block) {
        return Err(InvalidRequest::FieldTooLong);
    }
    Ok((block, asked))
}

/// Returns the origin of a request, from the URI or from the `host` field.
fn origin(head: &Parts) -> Result<Origin, InvalidRequest> {
    let host = match (head.uri.authority(), head.headers.get(HOST)) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => {
            Authority::try_from(host.as_bytes()).map_err(|_| InvalidRequest::Host)?
        }
        (None, None) => return Err(InvalidRequest::HostMissing),
    };
    if host.as_str().contains('@') {
        // A URI with a password must not be sent. Passwords belong in `authorization`.
        return Err(InvalidRequest::UserInfo);
    }
    if head.method == Method::CONNECT && host.port().is_none() {
        return Err(InvalidRequest::PortMissing);
    }
    let scheme = head.uri.scheme().cloned().unwrap_or(Scheme::HTTPS);
    Ok(Origin { scheme, host })
}

/// Returns whether a server may need a `content-length` with this method.
fn has_usually_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn put(block: &mut HeaderBlock, name: &str, value: &str) -> Result<(), InvalidRequest> {
    let added = block.append(name, value);
    added.map_err(|_| InvalidRequest::Field)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;
    use crate::http::{ConnectionFields, Heads};

    /// A server has to accept everything that this client sends, even if the server rejects
    /// optional fields.
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
                let mut heads = Heads::new(version, ConnectionFields::Refuse);
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
